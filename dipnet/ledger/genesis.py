"""genesis.json: the values that a network agrees on before its first block.

Two rules bind this file. A genesis.json names every parameter of its rules, so that a later program
cannot read an old network differently. ``encode`` has one spelling for a network, however its file
was written, so that the digest of the encoding can name the network (docs/spec/bytes.md "Roots").

The text is foreign: size, depth, digits and duplicate keys are refused before a model is built.
Every refusal is ``Invalid("genesis")`` with the field and the remedy.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    ValidationError,
    model_validator,
)

from dipnet.ledger.parameters import (
    DELEGATES_MAX,
    ERRORS_MAX,
    SUPPLY_MAX,
    Parameters,
    amount,
    rows,
)
from dipnet.ledger.rules import RULES_FIRST, RULES_KNOWN
from dipnet.primitives import crypto, jsontext
from dipnet.primitives.codec import BIG_MAX, to_hex
from dipnet.primitives.errors import Invalid

GENESIS_BYTES_MAX: Final = 4 * 1024 * 1024

NAME_FORM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,31}", re.ASCII)
# As many digits as 2^256 - 1 has. The model bounds the strings, field by field.
_FILE: Final = jsontext.JsonBounds(
    GENESIS_BYTES_MAX, depth_max=8, digits_max=78, floats=False, lone_surrogates=True
)


# --- the kinds of values


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
    """Decode addresses here: two spellings of one address must not give two entries."""
    if not isinstance(value, Mapping):
        raise ValueError("write an object of addresses and amounts")
    balances: dict[bytes, Any] = {}
    for key, given in value.items():
        try:
            address = _address(key)
            wei = amount(given)
        except ValueError as error:
            raise ValueError(f"{_quoted(key)}: {error}") from None
        if type(wei) is not int or not 0 <= wei <= BIG_MAX:
            raise ValueError(f"{_quoted(key)}: write an amount of wei from 0 to 2^256 - 1")
        if address in balances:
            raise ValueError(f"{_quoted(key)}: this address is there twice; keep one")
        balances[address] = wei
    return {address: balances[address] for address in sorted(balances)}


HexAddress = Annotated[bytes, BeforeValidator(_address)]
PublicKey = Annotated[bytes, BeforeValidator(_public_key)]
Name = Annotated[str, AfterValidator(_name)]
Stake = Annotated[int, BeforeValidator(amount), Field(ge=1, lt=SUPPLY_MAX)]
Balances = Annotated[
    Mapping[bytes, int], BeforeValidator(_balances), AfterValidator(MappingProxyType)
]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Delegate(_Model):
    """A delegate of the first set. ``address`` is that of ``public_key`` (33 bytes, compressed).

    ``stake`` (wei) is held by IDpos from the first block on and votes for the delegate itself.
    """

    name: Name
    address: HexAddress
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
    """A network before its first block: its delegates, balances and first parameters.

    ``delegates`` are in the order in which they take the first seats; ``balances`` are wei by
    address. Build from untrusted fields with ``checked`` or ``decode``.
    """

    table: ClassVar[type[Parameters]] = Parameters
    rules_known: ClassVar[int] = RULES_KNOWN

    delegates: Annotated[tuple[Delegate, ...], BeforeValidator(_array)] = Field(
        min_length=1, max_length=DELEGATES_MAX
    )
    balances: Balances
    parameters: InstanceOf[Parameters]
    """The parameters of epoch 0. Those of later epochs are in ``Epoch.parameters``."""

    @property
    def chain_id(self) -> int:
        """The number that signatures name the network by (EIP-155)."""
        return self.parameters.chain_id

    @property
    def time_ms(self) -> int:
        """Unix time (ms) at which slot 0 begins."""
        return self.parameters.slot_zero_ms

    @property
    def base_fee_initial(self) -> int:
        """The base fee of the first block, in wei for a unit of gas."""
        return self.parameters.base_fee_initial

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        """Check the fields against one another."""
        for name in ("name", "address", "public_key"):
            values = [getattr(delegate, name) for delegate in self.delegates]
            if len(values) != len({*values}):
                raise ValueError(f"delegates: two have the same {name}; change one")
        first = self.parameters
        claims = (
            (first.base_fee_floor <= first.base_fee_initial,
             "base_fee_initial: below base_fee_floor; raise it"),
            (len(self.delegates) <= first.candidates_max,
             "candidates_max: fewer than there are delegates; raise it"),
            (all(delegate.stake >= first.delegate_stake_min for delegate in self.delegates),
             "delegates: a stake is below delegate_stake_min; raise it"),
            (self.supply() < SUPPLY_MAX,
             "balances: their sum with the stakes reaches 2^128; lower them"),
        )  # fmt: skip
        for holds, fault in claims:
            if not holds:
                raise ValueError(fault)
        return self

    def supply(self) -> int:
        """The sum (wei) of all balances before the first block and of the stakes of delegates."""
        return sum(self.balances.values()) + sum(delegate.stake for delegate in self.delegates)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """All keys of a genesis.json under the newest known rules, in their order."""
        return (
            *(row.key or name for name, row in rows(cls.table).items()),
            "delegates",
            "balances",
        )

    @classmethod
    def checked(cls, fields: Mapping[str, Any]) -> Self:
        """The network of these fields by the keys of genesis.json; defaults for parameters.

        Raises ``Invalid("genesis")``, which names each wrong field and its remedy.
        """
        parameters = cls.table.checked(fields)
        parsed = {row.key or name for name, row in rows(cls.table).items()}
        own = {name: value for name, value in fields.items() if name not in parsed}
        try:
            return cls.model_validate(own | {"parameters": parameters})
        except ValidationError as error:
            told = error.errors(include_url=False)[:ERRORS_MAX]
            faults = "; ".join(_told(fault, cls.names()) for fault in told)
            raise Invalid("genesis", faults) from None

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """The network that the JSON file ``raw`` describes in full; ``Invalid("genesis")``.

        Parameters that came with later rules than the file's have their default, and are refused
        in the file: ``encode`` leaves them out.
        """
        fields = _parse(raw)
        if not isinstance(fields, dict):
            raise Invalid("genesis", "write one JSON object")
        given = fields.get("rules")
        rules = given if type(given) is int and given > 0 else cls.rules_known
        if rules < RULES_FIRST:
            raise Invalid(
                "genesis",
                f"rules: a network of rules {rules} was made by an earlier program, and this one "
                "does not follow it; make a new network in another directory: dipnetd init --data, "
                "dipnetd testnet --out or dipnetd dev --data",
            )
        if rules > cls.rules_known:
            raise Invalid(
                "genesis",
                f"rules: the network has rules {rules}, and this dipnetd follows rules up to "
                f"{cls.rules_known}; take a newer dipnetd",
            )
        for name in fields:
            if name not in cls.names():
                raise Invalid("genesis", _unknown(name, cls.names()))
        for name, row in rows(cls.table).items():
            key = row.key or name
            if row.rules > rules and key in fields:
                raise Invalid(
                    "genesis",
                    f"{key}: came with rules {row.rules}, the file has {rules}; remove it",
                )
            if row.rules <= rules and key not in fields:
                usual = "" if row.default is None else f" (usual value: {row.default})"
                raise Invalid("genesis", f"{key}: missing; add it{usual}")
        for key in ("delegates", "balances"):
            if key not in fields:
                raise Invalid("genesis", f"{key}: missing; add it")
        return cls.checked(fields)

    def encode(self) -> bytes:
        """The canonical file: fields in order, balances by address, amounts in decimal strings.

        Parameters that came with later rules are left out, so that a later program, which knows
        more of them, gives the same bytes (ADR 99).
        """
        first = self.parameters
        fields: dict[str, Any] = {
            row.key or name: row.written(getattr(first, name))
            for name, row in rows(self.table).items()
            if row.rules <= first.rules
        }
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
            crypto.checksum(address): str(wei) for address, wei in self.balances.items()
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


def _told(error: Any, keys: Iterable[str]) -> str:
    """An error of pydantic as ``field: fault``."""
    place = ".".join(_quoted(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"{place}: missing; add it"
    if error["type"] == "extra_forbidden":
        return _unknown(place, keys if len(error["loc"]) == 1 else Delegate.model_fields)
    if error["type"] == "value_error":
        fault = str(error["ctx"]["error"])
        return f"{place}: {fault}" if place else fault
    return f"{place}: {error['msg'].removeprefix('Input ')}; correct it"


def _unknown(place: str, keys: Iterable[str]) -> str:
    name = _quoted(place.rpartition(".")[2])
    near = difflib.get_close_matches(name, list(keys), 1)
    return f"{_quoted(place)}: no such field; " + (
        f"did you mean {near[0]}?" if near else "remove it"
    )


def _quoted(text: object) -> str:
    """A foreign text short and printable."""
    short = str(text)[: jsontext.QUOTE_MAX + 1].encode("ascii", "backslashreplace").decode()
    return "".join(c if c.isprintable() else "?" for c in short)[: jsontext.QUOTE_MAX]
