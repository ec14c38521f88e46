"""The protocol's parameters: the table of them, and the values in force for a block.

Each field of ``Parameters`` is one row of the table: its bounds, its default, the number of the
rules that it came with, and the limits of votes. The first values are those of genesis.json
(``genesis.py``); votes amend them at epoch boundaries (``staking/parameters.py``).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, Final, Literal, Self

from dipnet.ledger.rules import RULES_FIRST, ProtocolRules, rules_of
from dipnet.ledger.tx import TX_GAS
from dipnet.primitives.codec import UINT_MAX
from dipnet.primitives.errors import Invalid

DELEGATES_MAX: Final = 101  # docs/spec/consensus.md "The protocol"
CANDIDATES_MAX: Final = 1_000  # a boundary looks at each of them
VOTES_MAX: Final = 32  # delegates that one account votes for
EPOCHS_MAX: Final = 1_000_000
TIME_MS_MAX: Final = 2**53 - 1
BPS_ALL: Final = 10_000  # basis points: all of it
SUPPLY_MAX: Final = 2**128
BLOCK_BYTES_MAX: Final = 8 * 1024 * 1024
"""The most bytes that a frame between peers holds."""

EPOCH_MS_MIN: Final = 10_000
"""Votes make epochs no shorter. A proposal stays open for 336 epochs: here for about an hour."""
CHANGE_MS_MAX: Final = 90 * 24 * 3_600 * 1_000
"""Votes make the time from a proposal to its effect no longer."""
FLOOR_TIMES_MAX: Final = 1_000
"""Votes raise ``base_fee_floor`` to at most this multiple of ``base_fee_initial``. At a higher
price perhaps no delegate could pay for the vote that lowers the floor again."""

ERRORS_MAX: Final = 5  # told at once

_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,77}", re.ASCII)
_HEX_NUMBER: Final = re.compile(r"0x[0-9a-fA-F]{1,64}", re.ASCII)
_ROW: Final = "row"


# --- rows


@dataclass(frozen=True, slots=True)
class ParameterRow:
    """The definition of one parameter.

    ``low`` and ``high`` bound the value in a genesis.json, ``votes`` the value that a vote sets;
    ends are included. ``votes`` is None where votes cannot change the parameter. ``rules`` is the
    number of the rules that introduced it. ``wei``: genesis.json has the value as a decimal string.
    ``words``: the allowed texts, for a parameter that is not a number. ``key``: the name in
    genesis.json, where it differs from the field name. ``default`` is None where a genesis.json
    must give the value.
    """

    default: int | str | None
    low: int = 0
    high: int = 0
    votes: tuple[int, int] | None = None
    rules: int = RULES_FIRST
    wei: bool = False
    words: tuple[str, ...] = ()
    key: str = ""

    def __post_init__(self) -> None:
        assert self.low <= self.high
        assert self.votes is None or self.low <= self.votes[0] <= self.votes[1] <= self.high

    def value(self, given: Any) -> int | str:
        """The value in a genesis.json, checked; ``ValueError`` with the fault and its remedy."""
        if self.words:
            if given not in self.words:
                raise ValueError(f"should be {' or '.join(map(repr, self.words))}; correct it")
            return str(given)
        number = amount(given) if self.wei else given
        if type(number) is not int:
            raise ValueError("should be a valid integer; correct it")
        if number < self.low:
            raise ValueError(f"should be greater than or equal to {self.low}; correct it")
        if number > self.high:
            raise ValueError(f"should be less than or equal to {self.high}; correct it")
        return number

    def written(self, value: int | str) -> int | str:
        """The value as genesis.json has it."""
        return str(value) if self.wei else value


def parameter(
    default: int | str,
    low: int = 0,
    high: int = 0,
    votes: tuple[int, int] | bool = False,
    *,
    rules: int = RULES_FIRST,
    wei: bool = False,
    words: tuple[str, ...] = (),
) -> Any:
    """A field of ``Parameters``: a row with a default. ``votes=True``: within ``low, high``."""
    limits = ((low, high) if votes else None) if isinstance(votes, bool) else votes
    row = ParameterRow(default, low, high, limits, rules, wei, words)
    return field(default=default, metadata={_ROW: row})


def amount(given: Any) -> Any:
    """wei from an integer, a decimal string or a hex string (JavaScript's numbers end at 2^53).

    Values of other types are given back for the caller to judge; ``ValueError`` for other texts.
    """
    if isinstance(given, str):
        if _DECIMAL.fullmatch(given):
            return int(given)
        if _HEX_NUMBER.fullmatch(given):
            return int(given, 16)
        raise ValueError('write an amount of wei as "1000" or "0x3e8"')
    return given


# --- values


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The parameters in force for a block. Times are milliseconds, amounts wei, sizes bytes.

    Build from untrusted values with ``checked``; the constructor judges nothing.
    """

    chain_id: int = field(metadata={_ROW: ParameterRow(None, 1, 2**32 - 1)})
    # Slot s begins at slot_zero_ms + s * slot_ms (Unix time). genesis.json says when slot 0 does;
    # after a change of slot_ms it is the time at which slot 0 would have begun.
    slot_zero_ms: int = field(metadata={_ROW: ParameterRow(None, 0, TIME_MS_MAX, key="time_ms")})
    rules: int = parameter(RULES_FIRST, RULES_FIRST, 2**32 - 1, True)
    base_fee_initial: int = parameter(1_000_000_000, 0, UINT_MAX, wei=True)
    # A genesis.json is read before anything depends on it. A vote may be a typing error, and with
    # the value in force the delegates must be able to vote again (ADR 76). So votes make no set in
    # which one absence stops finality, no block without room for a proposal and no price that its
    # sender cannot pay, no fee that takes days to fall, no stake or seat that never comes back.
    slot_ms: int = parameter(1_000, 100, 60_000, True)
    epoch_slots: int = parameter(3_600, 1, 10_000_000, (1, 100_000))
    delegates_active: int = parameter(21, 1, DELEGATES_MAX, (4, DELEGATES_MAX))
    delegates_standby: int = parameter(5, 0, DELEGATES_MAX, True)
    backoff_slots: int = parameter(64, 1, 10_000_000, (8, 1_024))
    # Votes: at least the most gas that one transaction may have (EIP-7825).
    gas_limit: int = parameter(400_000_000, TX_GAS, 10**12, (2**24, 4 * 10**9))
    elasticity: int = parameter(2, 1, 1_000, (1, 16))
    base_fee_floor: int = parameter(1_000_000, 0, UINT_MAX, (0, 10**12), wei=True)
    base_fee_change_denominator: int = parameter(8, 1, 1_000_000, (1, 1_024))
    # At least one transaction of the greatest size, with room for the header and a certificate.
    block_bytes_max: int = parameter(BLOCK_BYTES_MAX, 256 * 1024, BLOCK_BYTES_MAX, True)
    pool_txs_max: int = parameter(50_000, 1, 10_000_000)
    pool_account_txs_max: int = parameter(16_384, 1, 10_000_000)
    pool_replacement_percent: int = parameter(10, 1, 1_000)
    # With the supply below 2^128, 2^64 blocks of the highest reward leave all balances together
    # below 2^161, and their share of one wei of stake, scaled by 10^18, below 2^256 (rewards.py).
    block_reward: int = parameter(2 * 10**18, 0, 2**96 - 1, (0, 1_000 * 10**18), wei=True)
    # Votes: for less than 10^18, strangers would fill the list of candidates for good.
    delegate_stake_min: int = parameter(
        1_000 * 10**18, 1, SUPPLY_MAX - 1, (10**18, 10**24), wei=True
    )
    candidates_max: int = parameter(500, 1, CANDIDATES_MAX, True)
    votes_per_account_max: int = parameter(16, 1, VOTES_MAX, True)
    # A vote that lapsed before the second boundary after it would never be counted.
    vote_expiry_epochs: int = parameter(2_160, 2, EPOCHS_MAX, (2, 10_000))
    unbonding_epochs: int = parameter(336, 1, EPOCHS_MAX, (1, 10_000))
    evidence_epochs: int = parameter(336, 1, EPOCHS_MAX, (1, 10_000))
    jail_epochs: int = parameter(24, 1, EPOCHS_MAX, (1, 1_024))
    slash_bps: int = parameter(1_000, 0, BPS_ALL, True)
    # Never more than burns: a delegate must not get its stake back by a report of itself.
    reporter_bps: int = parameter(1_000, 0, BPS_ALL // 2, True)
    commission_bps_max: int = parameter(5_000, 0, BPS_ALL, True)
    seats_per_organisation_max: int = parameter(6, 1, DELEGATES_MAX, True)
    parameter_delay_epochs: int = parameter(24, 1, EPOCHS_MAX, (1, 1_024))
    # The gas of an IDpos call beside its storage, transfers and events (staking/idpos.py). The
    # bound leaves room in a transaction for the call that lowers the price again.
    dpos_gas_call: int = parameter(500, 100, 200_000, True)
    dpos_gas_plain: int = parameter(2_000, 100, 200_000, True)
    dpos_gas_text: int = parameter(5_000, 100, 200_000, True)
    dpos_gas_array: int = parameter(10_000, 100, 200_000, True)
    dpos_gas_judge: int = parameter(20_000, 100, 200_000, True)
    dag_window_blocks: int = parameter(86_400, 1, 100_000_000)
    dag_anchor_vertices_max: int = parameter(10_000, 1, 1_000_000)
    dag_anchor_bytes_max: int = parameter(8 * 1024 * 1024, 65_536, 64 * 1024 * 1024)
    dag_frontier_max: int = parameter(4_096, 1, 65_536)
    dag_max_age: int = parameter(200, 1, 1_000_000)
    dag_max_parent_age: int = parameter(60, 1, 1_000_000)
    dag_admission_age: int = parameter(20, 1, 1_000_000)
    registration: Literal["open", "closed"] = parameter("open", words=("open", "closed"))
    undo_blocks_max: int = parameter(1_024, 1, 1_000_000)
    overlays_max: int = parameter(128, 1, 10_000)

    @property
    def rules_in_force(self) -> ProtocolRules:
        """The version of the rules; ``Invalid("rules_unknown")`` if this program lacks it."""
        return rules_of(self.rules)

    @property
    def epoch_ms(self) -> int:
        """The length of an epoch that nothing prolongs."""
        return self.epoch_slots * self.slot_ms

    @property
    def change_ms(self) -> int:
        """The longest time from a proposal that all delegates agree with to its effect."""
        return (self.parameter_delay_epochs + 2) * self.epoch_ms

    @classmethod
    def checked(cls, given: Mapping[str, Any]) -> Self:
        """The parameters of a genesis.json by its keys, defaults for the keys that are not there.

        Raises ``Invalid("genesis")``, which names each wrong value and its remedy.
        """
        values: dict[str, Any] = {}
        faults = []
        for name, row in rows(cls).items():
            key = row.key or name
            try:
                if key in given:
                    values[name] = row.value(given[key])
                elif row.default is None:
                    raise ValueError("missing; add it")
            except ValueError as wrong:
                faults.append(f"{key}: {wrong}")
        if faults:
            raise Invalid("genesis", "; ".join(faults[:ERRORS_MAX]))
        made = cls(**values)
        made._agree()
        return made

    def _agree(self) -> None:
        """Check the parameters against one another."""
        _need((
            (self.delegates_active + self.delegates_standby <= DELEGATES_MAX,
             f"delegates_standby: with delegates_active more than {DELEGATES_MAX}; lower it"),
            (self.elasticity * TX_GAS <= self.gas_limit,
             "elasticity: gas_limit / elasticity does not hold one payment; lower it"),
            (self.dag_max_parent_age <= self.dag_max_age,
             "dag_max_parent_age: above dag_max_age; lower it"),
            (self.dag_admission_age <= self.dag_max_age,
             "dag_admission_age: above dag_max_age; lower it"),
            (self.evidence_epochs <= self.unbonding_epochs,
             "unbonding_epochs: below evidence_epochs, stake would flee its penalty; raise it"),
            (0 <= self.slot_zero_ms <= TIME_MS_MAX,
             "slot_ms: slot 0 would begin before 1970 or too late; choose a smaller change"),
        ))  # fmt: skip
        for name, row in rows(type(self)).items():
            # Else genesis.json could not tell two networks apart: it leaves these out.
            if row.rules > self.rules and getattr(self, name) != row.default:
                raise Invalid("genesis", f"{name}: came with rules {row.rules}; remove it")

    # --- votes

    @property
    def amendable(self) -> tuple[str, ...]:
        """The names that votes may change under the rules in force, in the order of the table."""
        return tuple(name for name in rows(type(self)) if self.is_amendable(name))

    def is_amendable(self, name: str) -> bool:
        """Whether votes may change the parameter of this name under the rules in force."""
        row = rows(type(self)).get(name)
        return row is not None and row.votes is not None and row.rules <= self.rules

    def amended(self, slot: int, name: str, value: int) -> Self:
        """These parameters with one changed, in force above the boundary block in ``slot``.

        Raises ``Invalid("genesis")``, also for a value that later votes could not change back
        (ADR 76). The first delegates and balances do not bind later values.
        """
        if not self.is_amendable(name):
            raise Invalid("genesis", f"{name}: votes do not change it under rules {self.rules}")
        limits = rows(type(self))[name].votes
        assert limits is not None
        low, high = limits
        if not low <= value <= high:
            raise Invalid("genesis", f"{name}: votes may make it {low} to {high}")
        changes: dict[str, Any] = {name: value}
        changed = self.with_slot_ms(slot, value) if name == "slot_ms" else replace(self, **changes)
        changed._agree()
        changed._leaves_a_way_back(self)
        return changed

    def with_slot_ms(self, slot: int, slot_ms: int) -> Self:
        """Slots of another length, where ``slot`` begins when it did before."""
        zero_ms = self.slot_zero_ms + slot * (self.slot_ms - slot_ms)
        return replace(self, slot_ms=slot_ms, slot_zero_ms=zero_ms)

    def _leaves_a_way_back(self, before: Self) -> None:
        """Check limits of votes on several fields together; a value beyond may stay, not grow."""
        _need((
            (self.epoch_ms >= min(EPOCH_MS_MIN, before.epoch_ms),
             f"epoch_slots: epochs of less than {EPOCH_MS_MIN} ms; raise it"),
            (self.change_ms <= max(CHANGE_MS_MAX, before.change_ms),
             f"parameter_delay_epochs: a change would take more than {CHANGE_MS_MAX} ms; lower it"),
            (self.base_fee_floor <= max(FLOOR_TIMES_MAX * self.base_fee_initial,
                                        before.base_fee_floor),
             f"base_fee_floor: above {FLOOR_TIMES_MAX} times base_fee_initial; lower it"),
        ))  # fmt: skip


def _need(claims: Iterable[tuple[bool, str]]) -> None:
    for holds, fault in claims:
        if not holds:
            raise Invalid("genesis", fault)


@cache
def _rows(table: Any) -> Mapping[str, ParameterRow]:
    return {known.name: known.metadata[_ROW] for known in fields(table)}


def rows(table: type[Parameters]) -> Mapping[str, ParameterRow]:
    """The rows of a table by field name, in the order of genesis.json."""
    known: Any = table  # mypy takes a class of a dataclass for unhashable
    return _rows(known)


AMENDABLE: Final = tuple(name for name, row in rows(Parameters).items() if row.votes is not None)
"""The parameters that votes may change under the newest known rules."""
