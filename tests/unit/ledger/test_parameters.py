"""The table of parameters, and the rows that a later rules number adds."""

import json
from dataclasses import replace
from typing import Any

import pytest

from dipnet.consensus.chain.block import genesis_block
from dipnet.consensus.chain.schedule import slot_start_ms
from dipnet.ledger.genesis import Genesis
from dipnet.ledger.parameters import AMENDABLE, ParameterRow, Parameters, parameter, rows
from dipnet.ledger.rules import RULES, RULES_FIRST, RULES_KNOWN
from dipnet.primitives.crypto import keccak256
from dipnet.primitives.errors import Invalid
from tests import ROOT
from tests.fixtures.later_rules import NEXT, LaterGenesis

EXAMPLE = (ROOT / "genesis.json").read_bytes()
TODAY = Genesis.decode(EXAMPLE).parameters
LATER = LaterGenesis.decode(EXAMPLE).parameters


def written(**changed: Any) -> bytes:
    return json.dumps(json.loads(EXAMPLE) | changed).encode()


def refusal(genesis: type[Genesis], raw: bytes) -> str:
    with pytest.raises(Invalid) as caught:
        genesis.decode(raw)
    assert caught.value.code == "genesis"
    return caught.value.detail


# --- the tables


@pytest.mark.parametrize(("name", "row"), rows(Parameters).items())
def test_a_row_agrees_with_itself(name: str, row: ParameterRow) -> None:
    assert row.rules in RULES
    if row.default is not None:
        assert row.value(row.written(row.default)) == row.default
    if row.words:
        assert row.votes is None, "a vote gives a number"
        return
    assert row.value(row.low) == row.low
    assert row.value(row.high) == row.high
    for beyond in (row.low - 1, row.high + 1, True, None, 1.0):
        with pytest.raises(ValueError, match="should be"):
            row.value(beyond)


def test_a_row_that_cannot_be() -> None:
    for low, high, votes in ((2, 1, False), (1, 5, (0, 3)), (1, 5, (3, 6)), (1, 5, (4, 3))):
        with pytest.raises(AssertionError):
            parameter(1, low, high, votes)


def test_each_number_of_the_rules_has_one_row() -> None:
    assert [rules.number for rules in RULES.values()] == list(RULES) == sorted(RULES)
    assert (min(RULES), max(RULES)) == (RULES_FIRST, RULES_KNOWN)
    assert all(rules.changes for rules in RULES.values())
    assert TODAY.rules_in_force == RULES[RULES_KNOWN]
    with pytest.raises(Invalid, match=f"number {NEXT}, here are {RULES_KNOWN}"):
        _ = replace(TODAY, rules=NEXT).rules_in_force


def test_nobody_reads_a_parameter_in_force_from_genesis() -> None:
    genesis = Genesis.decode(EXAMPLE)
    of_the_network = {"chain_id", "base_fee_initial"}  # no vote changes these
    assert {name for name in rows(Parameters) if hasattr(genesis, name)} == of_the_network
    assert not of_the_network & set(AMENDABLE)


def test_amendable_are_the_rows_with_limits() -> None:
    assert TODAY.amendable == AMENDABLE
    assert all(rows(Parameters)[name].votes for name in AMENDABLE)
    with pytest.raises(Invalid, match="pool_txs_max: votes do not change it"):
        TODAY.amended(1, "pool_txs_max", 9)


def test_slots_of_another_length_leave_those_before_alone() -> None:
    changed = TODAY.with_slot_ms(100, 4_000).with_slot_ms(150, 500)
    assert slot_start_ms(changed, 150) == TODAY.slot_zero_ms + 100_000 + 50 * 4_000
    assert slot_start_ms(changed, 151) == slot_start_ms(changed, 150) + 500


def test_slot_zero_stays_a_time() -> None:
    """Records have no signed times: a vote that moved slot 0 before 1970 would stop every node."""
    last = TODAY.slot_zero_ms // (60_000 - TODAY.slot_ms)
    assert TODAY.amended(last, "slot_ms", 60_000).slot_zero_ms >= 0
    for slot in (last + 1, 10**9):
        with pytest.raises(Invalid, match="slot_ms: slot 0 would begin"):
            TODAY.amended(slot, "slot_ms", 60_000)
    late = replace(TODAY, slot_ms=60_000)
    with pytest.raises(Invalid, match="slot_ms: slot 0 would begin"):
        late.amended(2**53 // 59_000, "slot_ms", 1_000)


# --- earlier and later rules


@pytest.mark.parametrize("number", range(1, RULES_FIRST))
def test_a_network_of_an_earlier_program(number: int) -> None:
    told = refusal(Genesis, written(rules=number))
    assert "made by an earlier program" in told
    for command in ("another directory", "dipnetd init", "dipnetd testnet", "dipnetd dev"):
        assert command in told


def test_a_later_program_finds_the_old_genesis_hash() -> None:
    today, later = Genesis.decode(EXAMPLE), LaterGenesis.decode(EXAMPLE)
    assert (LATER.meters_max, LATER.toll) == (7, 5)
    assert later.encode() == today.encode() == EXAMPLE
    assert genesis_block(later)[0].raw == genesis_block(today)[0].raw


def test_a_file_says_the_parameters_of_its_rules_and_no_others() -> None:
    told = refusal(LaterGenesis, written(meters_max=7))
    assert told == f"meters_max: came with rules {NEXT}, the file has {RULES_KNOWN}; remove it"
    told = refusal(LaterGenesis, written(rules=NEXT, toll="5"))
    assert told == "meters_max: missing; add it (usual value: 7)"
    assert "toll: write an amount" in refusal(
        LaterGenesis, written(rules=NEXT, toll="x", meters_max=7)
    )


def test_a_network_of_the_later_rules() -> None:
    raw = written(rules=NEXT, meters_max=7, toll=5)
    genesis = LaterGenesis.decode(raw)
    shown = json.loads(genesis.encode())
    assert (shown["meters_max"], shown["toll"]) == (7, "5")
    assert LaterGenesis.decode(genesis.encode()) == genesis
    assert keccak256(genesis.encode()) != keccak256(EXAMPLE)
    other = LaterGenesis.decode(written(rules=NEXT, meters_max=8, toll=5))
    assert other.encode() != genesis.encode()


@pytest.mark.parametrize("more", [{}, {"meters_max": 7}])
@pytest.mark.parametrize("number", [NEXT, NEXT + 1, 2**32 - 1, 2**64])
def test_a_network_of_a_later_program(number: int, more: dict[str, int]) -> None:
    """It is refused when the file is read: no directory is made for a chain that cannot start."""
    told = refusal(Genesis, written(rules=number, **more))
    assert told == (
        f"rules: the network has rules {number}, and this dipnetd follows rules up to "
        f"{RULES_KNOWN}; take a newer dipnetd"
    )


def test_a_value_that_the_file_could_not_tell_is_refused() -> None:
    fields = json.loads(EXAMPLE)
    with pytest.raises(Invalid, match=f"meters_max: came with rules {NEXT}"):
        LaterGenesis.checked(fields | {"meters_max": 8})
    assert LaterGenesis.checked(fields | {"meters_max": 7}).encode() == EXAMPLE


def test_votes_change_a_parameter_only_under_its_rules() -> None:
    assert "meters_max" not in LATER.amendable
    with pytest.raises(Invalid, match="meters_max: votes do not change it under rules"):
        LATER.amended(1, "meters_max", 8)
    raised = LATER.amended(1, "rules", NEXT)
    assert raised == replace(LATER, rules=NEXT)
    assert raised.amendable == (*LATER.amendable, "meters_max")
    assert raised.amended(2, "meters_max", 8).meters_max == 8
