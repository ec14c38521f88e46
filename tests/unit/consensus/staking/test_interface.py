"""The ABI: its files, its encodings, arbitrary call data, and the cost of the longest calls."""

import re
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipnet.consensus.finality.votes import Ballot, BallotKind
from dipnet.consensus.staking import evidence
from dipnet.consensus.staking.actions import EVENTS
from dipnet.consensus.staking.idpos import METHODS
from dipnet.ledger.parameters import AMENDABLE
from dipnet.primitives.crypto import keccak256, sign
from dipnet.primitives.errors import Invalid
from dipnet.vm.abi import INPUT_BYTES_MAX
from dipnet.vm.transaction import TX_GAS_MAX
from tests import ROOT
from tests.fixtures.staking import CHAIN_ID, STAKE, World, address_of, network, secret

U1 = address_of("u1")
FILES = ROOT / "dipnet" / "contracts"
VYPER = {"String": "string", "Bytes": "bytes"}


def declared(text: str) -> str:
    """``string calldata name`` as ``string name``, without data locations and line breaks."""
    words = [word for word in text.split() if word not in ("calldata", "memory", "indexed")]
    return re.sub(r" ?, ?", ", ", " ".join(words)).strip()


def test_the_solidity_interface() -> None:
    text = re.sub(r"//.*", "", (FILES / "IDpos.sol").read_text())
    found = {}
    for name, takes, rest in re.findall(r"function (\w+)\(([^)]*)\)([^;]*);", text):
        gives = re.search(r"returns \(([^)]*)\)", rest)
        found[name] = (
            declared(takes), declared(gives[1]) if gives else "",
            "payable" in rest.split(), "view" in rest.split(),
        )  # fmt: skip
    assert found == {
        method.name: (method.takes, method.gives, method.payable, method.view)
        for method in METHODS.values()
    }
    events = {name: declared(args) for name, args in re.findall(r"event (\w+)\(([^)]*)\);", text)}
    assert events == {
        event.name: ", ".join(part for part in (event.indexed, event.rest) if part)
        for event in EVENTS
    }


def vyper_types(text: str) -> tuple[str, ...]:
    """The ABI types of ``String[32], DynArray[address, 4]``."""
    text = re.sub(r"DynArray\[(\w+), \d+\]", r"\1[]", text)
    text = re.sub(r"(String|Bytes)\[\d+\]", lambda found: VYPER[found[1]], text)
    return tuple(part.split(":")[-1].strip() for part in text.split(",") if part.strip())


def test_the_vyper_interface() -> None:
    text = (FILES / "IDpos.vyi").read_text()
    found = {}
    for marks, name, takes, gives in re.findall(
        r"((?:@\w+\n)+)def (\w+)\(([^)]*)\)(?: -> \(?([^:]*?)\)?)?: \.\.\.", text
    ):
        found[name] = (
            vyper_types(takes), vyper_types(gives or ""), "@payable" in marks, "@view" in marks
        )  # fmt: skip
    assert found == {
        method.name: (method.inputs, method.outputs, method.payable, method.view)
        for method in METHODS.values()
    }
    events = {
        name: vyper_types(re.sub(r"indexed\((\w+)\)", r"\1", body).replace("\n", ","))
        for name, body in re.findall(r"event (\w+):\n((?:    .*\n)+)", text)
    }
    signatures = {name: f"{name}({','.join(kinds)})" for name, kinds in events.items()}
    assert {event.name: event.topic for event in EVENTS} == {
        name: keccak256(text.encode()) for name, text in signatures.items()
    }


def test_a_wheel_has_the_files() -> None:
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    globs = setup["package-data"]["dipnet"]
    there = {path for pattern in globs for path in (ROOT / "dipnet").glob(pattern)}
    assert there == {*FILES.iterdir()}
    assert len(there) == 3


def test_selectors_are_known_to_the_world() -> None:
    assert METHODS["stake"].selector.hex() == "3a4b66f1"
    assert METHODS["claim"].selector.hex() == "4e71d92d"
    assert len({method.selector for method in METHODS.values()}) == len(METHODS)


# --- encodings


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + bytes(32),
        lambda data: data + b"\0",
        lambda data: data[:-1],
        lambda data: data[:35] + b"\x40" + data[36:],
        lambda data: data[:36] + b"\xff" * 32 + data[68:],
        lambda data: data[:68] + b"\1" + data[69:],
        lambda data: data[:4] + b"\xff" * 32 + data[36:],
    ],
    ids=["a word more", "a byte more", "a byte less", "offset", "length", "dirty address",
         "far offset"],
)  # fmt: skip
def test_arguments_have_one_encoding(change: Any) -> None:
    world = World(network())
    world.send("u1", "stake", value=10)
    data = METHODS["vote"].call_data([address_of("d0")])
    outcome = world.run(U1, change(data))
    assert not outcome.ok
    assert b"dpos_call" in outcome.output
    assert world.run(U1, data).ok


def test_texts_are_utf8() -> None:
    world = World(network())
    data = METHODS["register"].call_data(*world.register("u1", name="abcd"))
    assert b"dpos_call" in world.run(U1, data.replace(b"abcd", b"ab\xff\xff")).output


def test_clients_read_what_the_contract_returns() -> None:
    for method in METHODS.values():
        with pytest.raises(Invalid, match="malformed call"):
            method.values(b"\1") if method.outputs else method.arguments(b"\1")


WORLD = World(network())
SELECTORS = st.sampled_from([method.selector for method in METHODS.values()]) | st.binary(
    max_size=5
)
WORDS = st.lists(
    st.binary(min_size=32, max_size=32)
    | st.integers(0, 512).map(lambda n: n.to_bytes(32, "big"))
    | st.sampled_from([address_of("d0").rjust(32, b"\0"), b"gas_limit".ljust(32, b"\0")]),
    max_size=12,
).map(b"".join)


@given(SELECTORS, WORDS | st.binary(max_size=300), st.integers(0, 2**20), st.integers(0, 3),
       st.sampled_from(["u1", "d0"]))  # fmt: skip
def test_any_call_data(selector: bytes, rest: bytes, gas: int, value: int, caller: str) -> None:
    """Any call data gives an outcome and no exception; a failed call changes nothing."""
    mark = WORLD.journal.snapshot()
    outcome = WORLD.run(address_of(caller), selector + rest, value, gas)
    assert 0 <= outcome.gas_used <= gas
    if not outcome.ok:
        assert WORLD.journal.snapshot() == mark
        assert not outcome.output or outcome.output.startswith(bytes.fromhex("08c379a0"))
    WORLD.journal.rollback(mark)


VALUES = {
    "address": st.sampled_from([address_of("d0"), U1, bytes(20)]),
    "address[]": st.lists(
        st.sampled_from([*(address_of(f"d{n}") for n in range(4)), U1]), max_size=6
    ),
    "uint256": st.integers(0, 2**256 - 1) | st.integers(0, 10),
    "uint16": st.integers(0, 2**16 - 1),
    "bytes32": st.binary(min_size=32, max_size=32) | st.just(b"slot_ms".ljust(32, b"\0")),
    "bytes": st.binary(max_size=150),
    "string": st.text(max_size=40),
}  # fmt: skip


@given(st.data(), st.sampled_from(list(METHODS.values())), st.sampled_from(["u1", "d0"]))
def test_any_arguments(data: st.DataObject, method: Any, caller: str) -> None:
    arguments = [data.draw(VALUES[kind]) for kind in method.inputs]
    mark = WORLD.journal.snapshot()
    outcome = WORLD.run(address_of(caller), method.call_data(*arguments), int(method.payable))
    if outcome.ok:
        method.values(outcome.output)
    else:
        assert b"dpos_" in outcome.output
    WORLD.journal.rollback(mark)


# --- the longest calls


def crowded() -> World:
    """A world with as many delegates and votes per account as the parameters allow."""
    world = World(network(101, users=3, delegates_active=101, delegates_standby=0,
                          votes_per_account_max=32, candidates_max=101))  # fmt: skip
    return world


def test_genesis_prices_every_method() -> None:
    """When a method's price parameter rises, a call costs exactly that much more."""
    prices = {method.gas for method in METHODS.values()}
    assert prices | {"dpos_gas_call"} == {
        name for name in AMENDABLE if name.startswith("dpos_gas_")
    }

    def paid(**changes: int) -> list[int]:
        world = World(network(**changes))
        world.send("u1", "stake", value=10)
        calls = (("burned",), ("delegate", address_of("d0")), ("vote", [address_of("d0")]))
        data = [METHODS[name].call_data(*arguments) for name, *arguments in calls]
        return [world.run(U1, call).gas_used for call in data]

    usual = paid()
    more = paid(dpos_gas_call=600, dpos_gas_plain=2_003, dpos_gas_text=5_005, dpos_gas_array=10_007)
    assert [now - before for now, before in zip(more, usual, strict=True)] == [103, 105, 107]


def test_the_longest_calls_fit_a_transaction() -> None:
    world = crowded()
    delegates = [address_of(f"d{n}") for n in range(101)]
    commit = Ballot(BallotKind.COMMIT, 0, 9, b"\1" * 32, 0)
    records = [
        evidence.record(each, sign(each.digest(CHAIN_ID), secret("d0")))
        for each in (commit, Ballot(BallotKind.COMMIT, 0, 9, b"\2" * 32, 0))
    ]

    def fits(account: str, name: str, *arguments: Any) -> None:
        outcome = world.run(address_of(account), METHODS[name].call_data(*arguments))
        assert outcome.ok, name
        assert outcome.gas_used + 21_000 + 40 * INPUT_BYTES_MAX < TX_GAS_MAX // 2, name

    world.send("u1", "stake", value=STAKE + 5)
    world.send("d0", "stake", value=STAKE)
    fits("u1", "vote", delegates[:32])
    world.boundary()
    fits("u1", "vote", delegates[32:64])
    fits("u1", "unstake", 5)
    fits("u1", "votesOf", U1)
    fits("u1", "rewardsOf", U1)
    fits("u1", "activeSet", 1)
    fits("u1", "delegates", 0, 256)
    fits("d0", "proposeParameters", b"gas_limit".ljust(32, b"\0"), 10**8)
    fits("u1", "proposal", 1)
    fits("d0", "vote", delegates[:32])
    fits("u1", "submitEvidence", *records)
    world.send("d1", "resign")
    fits("u1", "register", *world.register("u1", name="n" * 32, url="u" * 128))
    for delegate in delegates[32:64]:
        world.block(delegate)
    world.boundaries(4)
    fits("u1", "claim")
