"""eth_call and eth_estimateGas on a system contract: answers, reverts, gas, and nothing changes.

The contract is IDpos, except in the tests that take ``chosen``.
"""

from typing import Any

import pytest

from dipnet.consensus.staking.idpos import METHODS as IDPOS
from dipnet.primitives.codec import to_hex
from dipnet.primitives.errors import Invalid
from dipnet.rpc.calls import reason_of
from dipnet.sdk.client import refusal
from dipnet.vm.system import error_data
from tests.fixtures import fake_contract
from tests.fixtures.chain_builder import ETHER, STAKE, USERS, address_of, state_records
from tests.fixtures.fake_contract import WORK_GAS
from tests.fixtures.rpc_node import DPOS, Node, ask, error, raw_answer

ALICE = to_hex(address_of(USERS[0]))
STAKING = IDPOS["stake"].call_data()
READING = IDPOS["burned"].call_data()


def stake_of(name: str) -> bytes:
    """The input that asks IDpos for a stake."""
    return IDPOS["stakeOf"].call_data(address_of(name))


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Node:
    """A node whose contract is ``fake_contract``, which says why."""
    fake_contract.install(monkeypatch)
    return Node()


def to_contract(data: bytes, **more: Any) -> dict[str, Any]:
    return {"to": DPOS, "input": to_hex(data)} | more


def test_a_call_returns_and_leaves_no_trace(node: Node) -> None:
    held = to_hex(STAKE.to_bytes(32))
    asked = to_contract(stake_of("delegate 0"))
    assert ask(node, "eth_call", asked) == held
    assert ask(node, "eth_call", asked | {"from": ALICE}, "finalized") == held
    before, records = ask(node, "eth_getBalance", ALICE), state_records(node.disk)
    staking = to_contract(STAKING, **{"from": ALICE, "value": hex(ETHER)})
    assert ask(node, "eth_call", staking) == "0x"
    assert ask(node, "eth_call", to_contract(stake_of(USERS[0]))) == to_hex(bytes(32))
    assert ask(node, "eth_getBalance", ALICE) == before
    assert state_records(node.disk) == records


def test_other_addresses_return_nothing(node: Node) -> None:
    assert ask(node, "eth_call", {"to": ALICE, "data": "0x1234"}) == "0x"
    assert error(node, "eth_call", {"data": "0x1234"})[0] == "no_vm"


def test_a_revert_has_ethereums_number_text_and_data(chosen: Node) -> None:
    data = error_data("vote for nobody")
    refused = raw_answer(chosen, "eth_call", [to_contract(b"R" + data)])["error"]
    assert refused == {
        "code": 3, "message": "execution reverted: vote for nobody", "data": to_hex(data),
    }  # fmt: skip
    bare = raw_answer(chosen, "eth_estimateGas", [to_contract(b"R\1\2\3\4")])["error"]
    assert bare == {"code": 3, "message": "execution reverted", "data": "0x01020304"}
    empty = raw_answer(chosen, "eth_call", [to_contract(b"R")])["error"]
    assert empty == {"code": 3, "message": "execution reverted", "data": "0x"}


def test_reasons_are_read_from_any_bytes() -> None:
    assert reason_of(error_data("why")) == "why"
    assert reason_of(error_data("bell \a")) == "bell \N{REPLACEMENT CHARACTER}"
    assert len(reason_of(error_data("x" * 5000))) == 256
    for cut in range(len(error_data("why"))):
        reason_of(error_data("why")[:cut])
    assert reason_of(error_data("y")[:36] + b"\xff" * 64) is not None


def test_gas(chosen: Node) -> None:
    used = WORK_GAS + WORK_GAS // 8
    assert int(ask(chosen, "eth_estimateGas", to_contract(b"E")), 16) == 21_016 + used
    tx = fake_contract.sent(USERS[0], 0, b"E")
    ask(chosen, "eth_sendRawTransaction", to_hex(tx.raw))
    chosen.produce()
    receipt = ask(chosen, "eth_getTransactionReceipt", to_hex(tx.hash))
    assert int(receipt["gasUsed"], 16) == 21_016 + WORK_GAS
    assert error(chosen, "eth_call", to_contract(b"G"))[0] == "out_of_gas"
    assert error(chosen, "eth_estimateGas", to_contract(b"G"))[0] == "allowance"
    enough = to_contract(b"E", gas=hex(21_016 + WORK_GAS))
    assert int(ask(chosen, "eth_estimateGas", enough), 16) == 21_016 + WORK_GAS
    assert ask(chosen, "eth_call", enough) == "0x"
    short = to_contract(b"E", gas=hex(21_016 + WORK_GAS - 1))
    assert error(chosen, "eth_estimateGas", short)[0] == "allowance"
    assert error(chosen, "eth_call", short)[0] == "out_of_gas"
    assert error(chosen, "eth_call", to_contract(b"E", gas="0x1"))[0] == "intrinsic_gas"


def test_money_is_looked_at(node: Node) -> None:
    poor = {"from": "0x" + "99" * 20, "value": "0x1"}
    assert error(node, "eth_call", to_contract(READING, **poor))[0] == "funds"
    assert error(node, "eth_estimateGas", to_contract(READING, **poor))[0] == "funds"
    assert error(node, "eth_call", to_contract(READING, maxFeePerGas="0x1"))[0] == "fee_cap_low"
    dear = {"from": ALICE, "maxFeePerGas": hex(ETHER)}
    assert error(node, "eth_estimateGas", to_contract(READING, **dear))[0] == "allowance"


def test_a_client_knows_a_revert() -> None:
    found = refusal({"code": 3, "message": "execution reverted: no", "data": "0x08c379a0"})
    assert isinstance(found, Invalid)
    assert (found.code, found.detail) == ("reverted", "no")
