"""genesis.json: what a network agrees on before its first block, and the only protocol constants.

Two rules bind this file. A file says every parameter itself, so that a later program cannot read
an old network differently. And ``encode`` has one spelling for a network however its file was
written, so that the digest of it can name the network (docs/spec/bytes.md "Roots").

The text is foreign: size, depth, digits and duplicate keys are refused before a model is built, and
every refusal is ``Invalid("genesis")`` with the field and what to write there.
"""

import difflib
import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from dipnet.primitives import crypto, jsontext
from dipnet.primitives.codec import BIG_MAX, UINT_MAX, to_hex
from dipnet.primitives.errors import Invalid

GENESIS_BYTES_MAX: Final = 4 * 1024 * 1024
DELEGATES_MAX: Final = 101  # docs/spec/consensus.md "The protocol"
CANDIDATES_MAX: Final = 1_000  # a boundary looks at each of them
VOTES_MAX: Final = 32  # delegates that one account votes for
EPOCHS_MAX: Final = 1_000_000
BPS_ALL: Final = 10_000  # basis points: all of it
SUPPLY_MAX: Final = 2**128
BLOCK_BYTES_MAX: Final = 8 * 1024 * 1024
"""What a frame between peers holds."""
RULES_KNOWN: Final = 1
"""The newest version of the protocol's rules (field ``rules``) that this program follows."""
ERRORS_MAX: Final = 5  # told at once
QUOTE_MAX: Final = 60  # characters of a foreign text that an error repeats

AMENDABLE: Final = (
    "slot_ms", "epoch_slots", "delegates_active", "delegates_standby", "backoff_slots",
    "gas_limit", "elasticity", "base_fee_floor", "base_fee_change_denominator", "block_bytes_max",
    "block_reward", "delegate_stake_min", "candidates_max", "votes_per_account_max",
    "vote_expiry_epochs", "unbonding_epochs", "evidence_epochs", "jail_epochs", "slash_bps",
    "reporter_bps", "commission_bps_max", "seats_per_organisation_max", "parameter_delay_epochs",
    "rules", "dpos_gas_call", "dpos_gas_plain", "dpos_gas_text", "dpos_gas_array", "dpos_gas_judge",
)  # fmt: skip
"""The fields that the delegates may change by vote (staking/parameters.py)."""

# A genesis.json is read before anything depends on it; a vote may be a typing error, and with what
# it put in force the delegates must be able to take it back (ADR 76). No set in which one absence
# stops finality, room and money for the call that proposes, fees that fall within hours, stake and
# seats that come back. What is not here is bound for everybody by the model below.
AMENDED_WITHIN: Final[Mapping[str, tuple[int, int]]] = MappingProxyType({
    "epoch_slots": (1, 100_000),
    "delegates_active": (4, DELEGATES_MAX),
    "backoff_slots": (8, 1_024),
    "gas_limit": (2**24, 4 * 10**9),  # at least: the most that one transaction may have
    "elasticity": (1, 16),
    "base_fee_floor": (0, 10**12),
    "base_fee_change_denominator": (1, 1_024),
    "block_reward": (0, 1_000 * 10**18),
    "delegate_stake_min": (10**18, 10**24),  # for less, strangers would fill the list for good
    "vote_expiry_epochs": (2, 10_000),
    "unbonding_epochs": (1, 10_000),
    "evidence_epochs": (1, 10_000),
    "jail_epochs": (1, 1_024),
    "parameter_delay_epochs": (1, 1_024),
})  # fmt: skip
"""What a vote may give a field, ends included; of the others what a genesis.json may say."""
EPOCH_MS_MIN: Final = 10_000  # a proposal is open for an hour of these
CHANGE_MS_MAX: Final = 90 * 24 * 3_600 * 1_000
FLOOR_TIMES_MAX: Final = 1_000  # the first base fee: at that price everybody was to pay

_AMOUNTS: Final = ("base_fee_initial", "base_fee_floor", "block_reward", "delegate_stake_min")
NAME_FORM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,31}", re.ASCII)
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,77}", re.ASCII)
# As many digits as 2^256 - 1 has. What a string may hold is the model's to say, by field.
_FILE: Final = jsontext.JsonBounds(
    GENESIS_BYTES_MAX, depth_max=8, digits_max=78, floats=False, lone_surrogates=True
)
_HEX_NUMBER: Final = re.compile(r"0x[0-9a-fA-F]{1,64}", re.ASCII)


# --- the kinds of values


def _amount(value: Any) -> Any:
    """wei as an integer, a decimal string or a hex string (JavaScript's numbers end at 2^53)."""
    if isinstance(value, str):
        if _DECIMAL.fullmatch(value):
            return int(value)
        if _HEX_NUMBER.fullmatch(value):
            return int(value, 16)
        raise ValueError('write an amount of wei as "1000" or "0x3e8"')
    return value


def _address(value: Any) -> Any:
    if isinstance(value, bytes) and len(value) == 20:
        return value
    if not (isinstance(value, str) and re.fullmatch(r"0x[0-9a-fA-F]{40}", value, re.ASCII)):
        raise ValueError("write an address as 0x and 40 hex digits")
    address = bytes.fromhex(value[2:])
    letters = value[2:]
    if letters not in (letters.lower(), letters.upper()) and value != crypto.checksum(address):
        # EIP-55: mixed case is a checksum
        raise ValueError(f"the address has a typing error, or write it in lower case ({value})")
    return address


def _public_key(value: Any) -> Any:
    if isinstance(value, bytes) and len(value) == 33:
        return value
    if not (isinstance(value, str) and re.fullmatch(r"0x[0-9a-fA-F]{66}", value, re.ASCII)):
        raise ValueError("write a compressed public key as 0x and 66 hex digits")
    return bytes.fromhex(value[2:])


def _name(value: str) -> str:
    if not NAME_FORM.fullmatch(value):
        raise ValueError("write 1 to 32 letters, digits, spaces, dots, hyphens or underscores")
    return value


def _array(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _balances(value: Any) -> Any:
    """Addresses become bytes here, because two spellings of one must not become one entry."""
    if not isinstance(value, Mapping):
        raise ValueError("write an object of addresses and amounts")
    balances: dict[bytes, Any] = {}
    for key, given in value.items():
        try:
            address = _address(key)
            amount = _amount(given)
        except ValueError as error:
            raise ValueError(f"{_quoted(key)}: {error}") from None
        if type(amount) is not int or not 0 <= amount <= BIG_MAX:
            raise ValueError(f"{_quoted(key)}: write an amount of wei from 0 to 2^256 - 1")
        if address in balances:
            raise ValueError(f"{_quoted(key)}: this address is there twice; keep one")
        balances[address] = amount
    return {address: balances[address] for address in sorted(balances)}


Address = Annotated[bytes, BeforeValidator(_address)]
PublicKey = Annotated[bytes, BeforeValidator(_public_key)]
Name = Annotated[str, AfterValidator(_name)]
Price = Annotated[int, BeforeValidator(_amount), Field(ge=0, le=UINT_MAX)]
# With the supply below 2^128, 2^64 blocks of this reward leave all balances together below 2^161,
# and their share of one wei of stake, scaled by 10^18, below 2^256 (staking/rewards.py).
Reward = Annotated[int, BeforeValidator(_amount), Field(ge=0, lt=2**96)]
Stake = Annotated[int, BeforeValidator(_amount), Field(ge=1, lt=SUPPLY_MAX)]
Epochs = Annotated[int, Field(ge=1, le=EPOCHS_MAX)]
# Of a method: never so much that nobody could call IDpos to lower it again.
MethodGas = Annotated[int, Field(ge=100, le=200_000)]
BasisPoints = Annotated[int, Field(ge=0, le=BPS_ALL)]
Balances = Annotated[
    Mapping[bytes, int], BeforeValidator(_balances), AfterValidator(MappingProxyType)
]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Delegate(_Model):
    """Who may produce blocks. ``address`` is that of ``public_key`` (33 bytes, compressed).

    ``stake`` (wei) is held by IDpos from the first block on and votes for the delegate itself.
    """

    name: Name
    address: Address
    public_key: PublicKey
    stake: Stake

    @model_validator(mode="after")
    def _key_matches(self) -> Self:
        try:
            address = crypto.address(self.public_key)
        except ValueError:
            raise ValueError("public_key is not a point of secp256k1; export it again") from None
        if address != self.address:
            raise ValueError(f"address must be that of public_key: {crypto.checksum(address)}")
        return self


class Genesis(_Model):
    """Every parameter of the protocol. Times are milliseconds, amounts wei, sizes bytes.

    The defaults (docs/spec/bytes.md "Defaults") are for whoever makes a network; ``decode`` accepts
    none of them silently. Build from untrusted fields with ``checked``; the constructor raises
    pydantic's error.
    """

    chain_id: int = Field(ge=1, lt=2**32)
    time_ms: int = Field(ge=0, lt=2**53)
    slot_ms: int = Field(default=1_000, ge=100, le=60_000)
    epoch_slots: int = Field(default=3_600, ge=1, le=10_000_000)
    delegates: Annotated[tuple[Delegate, ...], BeforeValidator(_array)] = Field(
        min_length=1, max_length=DELEGATES_MAX
    )
    delegates_active: int = Field(default=21, ge=1, le=DELEGATES_MAX)
    delegates_standby: int = Field(default=5, ge=0, le=DELEGATES_MAX)
    backoff_slots: int = Field(default=64, ge=1, le=10_000_000)
    gas_limit: int = Field(default=400_000_000, ge=21_000, le=10**12)
    elasticity: int = Field(default=2, ge=1, le=1_000)
    base_fee_initial: Price = 1_000_000_000
    base_fee_floor: Price = 1_000_000
    base_fee_change_denominator: int = Field(default=8, ge=1, le=1_000_000)
    # At least: one transaction of the greatest size, with room for the header and a certificate.
    block_bytes_max: int = Field(default=BLOCK_BYTES_MAX, ge=256 * 1024, le=BLOCK_BYTES_MAX)
    pool_txs_max: int = Field(default=50_000, ge=1, le=10_000_000)
    pool_account_txs_max: int = Field(default=16_384, ge=1, le=10_000_000)
    pool_replacement_percent: int = Field(default=10, ge=1, le=1_000)
    block_reward: Reward = 2 * 10**18
    delegate_stake_min: Stake = 1_000 * 10**18
    candidates_max: int = Field(default=500, ge=1, le=CANDIDATES_MAX)
    votes_per_account_max: int = Field(default=16, ge=1, le=VOTES_MAX)
    # A vote that lapsed before the second boundary after it would never be counted.
    vote_expiry_epochs: int = Field(default=2_160, ge=2, le=EPOCHS_MAX)
    unbonding_epochs: Epochs = 336
    evidence_epochs: Epochs = 336
    jail_epochs: Epochs = 24
    slash_bps: BasisPoints = 1_000
    # Never more than burns: who reports himself must not have his stake back by it.
    reporter_bps: int = Field(default=1_000, ge=0, le=BPS_ALL // 2)
    commission_bps_max: BasisPoints = 5_000
    seats_per_organisation_max: int = Field(default=6, ge=1, le=DELEGATES_MAX)
    parameter_delay_epochs: Epochs = 24
    rules: int = Field(default=1, ge=1, lt=2**32)
    # What a call of IDpos pays besides its storage, transfers and events (staking/idpos.py).
    dpos_gas_call: MethodGas = 500
    dpos_gas_plain: MethodGas = 2_000
    dpos_gas_text: MethodGas = 5_000
    dpos_gas_array: MethodGas = 10_000
    dpos_gas_judge: MethodGas = 20_000
    dag_window_blocks: int = Field(default=86_400, ge=1, le=100_000_000)
    dag_anchor_vertices_max: int = Field(default=10_000, ge=1, le=1_000_000)
    dag_anchor_bytes_max: int = Field(default=8 * 1024 * 1024, ge=65_536, le=64 * 1024 * 1024)
    dag_frontier_max: int = Field(default=4_096, ge=1, le=65_536)
    dag_max_age: int = Field(default=200, ge=1, le=1_000_000)
    dag_max_parent_age: int = Field(default=60, ge=1, le=1_000_000)
    dag_admission_age: int = Field(default=20, ge=1, le=1_000_000)
    registration: Literal["open", "closed"] = "open"
    undo_blocks_max: int = Field(default=1_024, ge=1, le=1_000_000)
    overlays_max: int = Field(default=128, ge=1, le=10_000)
    balances: Balances

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        """What one field says about another."""
        for field in ("name", "address", "public_key"):
            values = [getattr(delegate, field) for delegate in self.delegates]
            if len(values) != len({*values}):
                raise ValueError(f"delegates: two have the same {field}; change one")
        rules = (
            (self.delegates_active + self.delegates_standby <= DELEGATES_MAX,
             f"delegates_standby: with delegates_active more than {DELEGATES_MAX}; lower it"),
            (self.base_fee_floor <= self.base_fee_initial,
             "base_fee_initial: below base_fee_floor; raise it"),
            (self.elasticity * 21_000 <= self.gas_limit,
             "elasticity: gas_limit / elasticity does not hold one payment; lower it"),
            (self.dag_max_parent_age <= self.dag_max_age,
             "dag_max_parent_age: above dag_max_age; lower it"),
            (self.dag_admission_age <= self.dag_max_age,
             "dag_admission_age: above dag_max_age; lower it"),
            (self.evidence_epochs <= self.unbonding_epochs,
             "unbonding_epochs: below evidence_epochs, stake would flee its penalty; raise it"),
            (len(self.delegates) <= self.candidates_max,
             "candidates_max: fewer than there are delegates; raise it"),
            (all(one.stake >= self.delegate_stake_min for one in self.delegates),
             "delegates: one has a stake below delegate_stake_min; raise it"),
            (self.supply() < SUPPLY_MAX,
             "balances: their sum with the stakes reaches 2^128; lower them"),
        )  # fmt: skip
        for holds, fault in rules:
            if not holds:
                raise ValueError(fault)
        return self

    def supply(self) -> int:
        """The sum of all balances before the first block, the stakes that IDpos holds included."""
        return sum(self.balances.values()) + sum(one.stake for one in self.delegates)

    @property
    def epoch_ms(self) -> int:
        """How long an epoch is, where nothing prolongs it."""
        return self.epoch_slots * self.slot_ms

    @property
    def change_ms(self) -> int:
        """From a proposal that all agree with to its effect, at most."""
        return (self.parameter_delay_epochs + 2) * self.epoch_ms

    def amended(self, slot: int, name: str, value: int) -> Self:
        """The parameters that hold from the boundary block in ``slot`` on, with one changed.

        Other lengths of slots leave the beginning of that slot where it is. Raises
        ``Invalid("genesis")``, also for what could not be taken back (``AMENDED_WITHIN``). What
        holds of a network's first block only is not asked again: its delegates, balances and first
        base fee.
        """
        low, high = AMENDED_WITHIN.get(name, (0, BIG_MAX))
        if not low <= value <= high:
            raise Invalid("genesis", f"{name}: votes may make it {low} to {high}")
        changes = {name: value}
        if name == "slot_ms":
            changes["time_ms"] = self.time_ms + slot * (self.slot_ms - value)
        fields = {field: getattr(self, field) for field in type(self).model_fields}
        first = self.delegates[0].model_copy(update={"stake": SUPPLY_MAX - 1})
        beginning = {"delegates": (first,), "balances": {}, "base_fee_initial": UINT_MAX}
        self.checked(fields | beginning | changes)
        changed = self.model_copy(update=changes)
        changed._leaves_a_way_back(self)
        return changed

    def _leaves_a_way_back(self, before: Self) -> None:
        """What votes may not do to several fields together; nothing is worse than it was before."""
        rules = (
            (self.epoch_ms >= min(EPOCH_MS_MIN, before.epoch_ms),
             f"epoch_slots: epochs of less than {EPOCH_MS_MIN} ms; raise it"),
            (self.change_ms <= max(CHANGE_MS_MAX, before.change_ms),
             f"parameter_delay_epochs: a change would take more than {CHANGE_MS_MAX} ms; lower it"),
            (self.base_fee_floor <= max(FLOOR_TIMES_MAX * self.base_fee_initial,
                                        before.base_fee_floor),
             f"base_fee_floor: above {FLOOR_TIMES_MAX} times base_fee_initial; lower it"),
        )  # fmt: skip
        for holds, fault in rules:
            if not holds:
                raise Invalid("genesis", fault)

    @classmethod
    def checked(cls, fields: Mapping[str, Any]) -> Self:
        """The model of ``fields``; ``Invalid("genesis")`` names each wrong one and its remedy."""
        try:
            return cls.model_validate(dict(fields))
        except ValidationError as error:
            told = error.errors(include_url=False)[:ERRORS_MAX]
            raise Invalid("genesis", "; ".join(_told(one) for one in told)) from None

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """The network that the JSON file ``raw`` describes in full; ``Invalid("genesis")``."""
        fields = _parse(raw)
        if not isinstance(fields, dict):
            raise Invalid("genesis", "write one JSON object")
        for name in fields:
            if name not in cls.model_fields:
                raise Invalid("genesis", _unknown(name, cls))
        for name, field in cls.model_fields.items():
            if name not in fields:
                usual = "" if field.is_required() else f" (usual value: {field.default})"
                raise Invalid("genesis", f"{name}: missing; add it{usual}")
        return cls.checked(fields)

    def encode(self) -> bytes:
        """The one file of this network: fields in order, balances by address, amounts decimal."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        for name in _AMOUNTS:
            fields[name] = str(fields[name])
        fields["delegates"] = [
            {
                "name": delegate.name,
                "address": crypto.checksum(delegate.address),
                "public_key": to_hex(delegate.public_key),
                "stake": str(delegate.stake),
            }
            for delegate in self.delegates
        ]
        fields["balances"] = {
            crypto.checksum(address): str(amount) for address, amount in self.balances.items()
        }
        return json.dumps(fields, indent=2).encode() + b"\n"


# --- strict JSON


def _parse(raw: bytes) -> Any:
    """JSON of bounded size, depth and digits, without floats, constants or duplicate keys."""
    try:
        return jsontext.load(raw, _FILE)
    except (UnicodeError, json.JSONDecodeError) as error:
        raise Invalid("genesis", f"not JSON: {error}") from None
    except ValueError as error:
        raise Invalid("genesis", str(error)) from None


# --- the words of a refusal


def _told(error: Any) -> str:
    """One of pydantic's errors as ``field: what is wrong``."""
    place = ".".join(_quoted(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"{place}: missing; add it"
    if error["type"] == "extra_forbidden":
        return _unknown(place, Genesis if len(error["loc"]) == 1 else Delegate)
    if error["type"] == "value_error":
        fault = str(error["ctx"]["error"])
        return f"{place}: {fault}" if place else fault
    return f"{place}: {error['msg'].removeprefix('Input ')}; correct it"


def _unknown(place: str, model: type[_Model]) -> str:
    name = _quoted(place.rpartition(".")[2])
    near = difflib.get_close_matches(name, list(model.model_fields), 1)
    return f"{_quoted(place)}: no such field; " + (
        f"did you mean {near[0]}?" if near else "remove it"
    )


def _quoted(text: object) -> str:
    """A foreign text short and printable."""
    short = str(text)[: QUOTE_MAX + 1].encode("ascii", "backslashreplace").decode()
    return "".join(c if c.isprintable() else "?" for c in short)[:QUOTE_MAX]
