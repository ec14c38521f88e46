"""Every method that takes a block takes every tag, and reads the block that the tag names now."""

from typing import Any, Final

import pytest

from dipnet.consensus.finality.votes import BallotKind
from dipnet.consensus.staking.idpos import DPOS_ADDRESS
from dipnet.consensus.staking.idpos import METHODS as IDPOS
from dipnet.primitives.codec import to_hex
from dipnet.rpc.method import REQUIRED, RpcMethod
from dipnet.rpc.server import METHODS
from tests.fixtures.chain_builder import USERS, address_of, transfer
from tests.fixtures.fake_contract import DPOS
from tests.fixtures.rpc_node import Node, ask

BOB: Final = to_hex(address_of(USERS[1]))
HEIGHTS: Final = {"earliest": 0, "finalized": 1, "safe": 2, "latest": 3}
OTHERS: Final[dict[str, Any]] = {
    "address": BOB, "slot": "0x0", "slots": ["0x0"], "blockCount": 1, "index": "0x0",
    "call": {"to": DPOS, "input": to_hex(IDPOS["rewardsOf"].call_data(address_of("delegate 0")))},
    "transaction": {"from": to_hex(address_of(USERS[0])), "to": BOB, "value": "0x1"},
}  # fmt: skip
"""Values of the required parameters other than the block."""
WITH_BLOCK: Final = [
    method
    for method in METHODS.values()
    if any(param.kind.name in ("BLOCK", "NUMBER") for param in method.params)
]


@pytest.fixture(name="node", scope="module")
def _node() -> Node:
    """A node with three blocks, each with a payment and a log; the first is final, the second
    safe."""
    found = Node(delegates=4)
    headers = []
    stake = IDPOS["stake"].call_data()
    for nonce in range(3):
        for tx in (
            transfer(USERS[0], nonce, address_of(USERS[1])),
            transfer(USERS[2], nonce, DPOS_ADDRESS, 1 + nonce, data=stake, gas=200_000),
        ):
            ask(found, "eth_sendRawTransaction", to_hex(tx.raw))
        headers.append(found.produce(certified=False).header)
    found.net.certify(found.chain, found.disk, headers[0])
    found.net.certify(found.chain, found.disk, headers[1], BallotKind.PREVOTE)
    return found


def asked(node: Node, method: RpcMethod, block: object) -> Any:
    """The method's answer at ``block``; other parameters are filled from ``OTHERS``."""
    given = []
    for param in method.params:
        if param.kind.name in ("BLOCK", "NUMBER"):
            given.append(block)
        elif param.default is REQUIRED:
            given.append(OTHERS[param.name])
    return ask(node, method.name, *given)


def test_the_methods_with_a_block_are_these() -> None:
    assert {method.name for method in WITH_BLOCK} == {
        "eth_getBalance", "eth_getTransactionCount", "eth_getCode", "eth_getStorageAt",
        "eth_getProof", "eth_call", "eth_estimateGas", "eth_feeHistory", "eth_getBlockByNumber",
        "eth_getBlockReceipts", "eth_getBlockTransactionCountByNumber",
        "eth_getTransactionByBlockNumberAndIndex", "dpos_account", "dipnet_account",
    }  # fmt: skip


@pytest.mark.parametrize("tag", HEIGHTS)
@pytest.mark.parametrize("method", WITH_BLOCK, ids=lambda method: method.name)
def test_a_tag_is_the_height_that_it_names(node: Node, method: RpcMethod, tag: str) -> None:
    assert asked(node, method, tag) == asked(node, method, hex(HEIGHTS[tag]))


def test_tags_name_different_blocks(node: Node) -> None:
    balances = [int(ask(node, "eth_getBalance", BOB, tag), 16) for tag in HEIGHTS]
    assert [later - balances[0] for later in balances] == [0, 1, 2, 3]


def test_logs_between_tags(node: Node) -> None:
    for first, last, heights in (
        ("earliest", "finalized", [1]),
        ("finalized", "safe", [1, 2]),
        ("safe", "latest", [2, 3]),
        ("earliest", "earliest", []),
    ):
        found = ask(node, "eth_getLogs", {"fromBlock": first, "toBlock": last})
        assert [int(log["blockNumber"], 16) for log in found] == heights
        assert [int(log["data"], 16) for log in found] == heights, (
            "wei staked, as many as the height"
        )
