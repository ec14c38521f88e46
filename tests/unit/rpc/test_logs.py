"""eth_getLogs and the logs stream: filters, ranges, their bounds, and logs that a reorg removes."""

from typing import Any

import pytest

from dipnet.consensus.chain.block import Block
from dipnet.primitives.codec import to_hex
from dipnet.primitives.crypto import keccak256
from dipnet.rpc import logs
from dipnet.rpc.filters import LogFilter, may_hold
from dipnet.rpc.logs import LogStream
from tests.fixtures import fake_contract
from tests.fixtures.chain_builder import USERS, add, address_of
from tests.fixtures.fake_contract import DPOS, sent
from tests.fixtures.rpc_node import Node, ask, error

ALICE = to_hex(address_of(USERS[0]).rjust(32, b"\0"))
NOWHERE = "0x" + "77" * 32


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    fake_contract.install(monkeypatch)
    return Node()


def topic(text: bytes) -> str:
    return to_hex(keccak256(text))


def filled(node: Node) -> list[Block]:
    """Makes three blocks: with two logs, without logs, with a log of another user."""
    blocks = []
    for txs in (
        [sent(USERS[0], 0, b"Lone"), sent(USERS[0], 1, b"Ltwo")],
        [],
        [sent(USERS[0], 2, b"E"), sent(USERS[1], 0, b"Lone")],
    ):
        for tx in txs:
            ask(node, "eth_sendRawTransaction", to_hex(tx.raw))
        blocks.append(node.produce())
    return blocks


def found(node: Node, **query: Any) -> list[tuple[int, bytes]]:
    """(height, data) of each log that the query finds."""
    shown = ask(node, "eth_getLogs", query)
    return [(int(log["blockNumber"], 16), bytes.fromhex(log["data"][2:])) for log in shown]


def test_a_range_and_its_filters(node: Node) -> None:
    blocks = filled(node)
    everything = [(1, b"one"), (1, b"two"), (3, b"one")]
    assert found(node, fromBlock="earliest") == everything
    assert found(node, fromBlock="0x0", toBlock="0xffff") == everything
    assert found(node) == [(3, b"one")]
    assert found(node, fromBlock="0x1", toBlock="0x2") == everything[:2]
    assert found(node, fromBlock="0x1", toBlock="finalized", address=DPOS) == everything
    assert found(node, fromBlock="0x1", address=["0x" + "11" * 20]) == []
    assert found(node, fromBlock="0x1", topics=[topic(b"two")]) == [(1, b"two")]
    assert found(node, fromBlock="0x1", topics=[[topic(b"two"), topic(b"none")], None]) == [
        (1, b"two")
    ]
    assert found(node, fromBlock="0x1", topics=[None, ALICE]) == everything[:2]
    assert found(node, fromBlock="0x1", topics=[None, None, None]) == []
    assert found(node, blockHash=to_hex(blocks[0].hash)) == everything[:2]
    assert found(node, fromBlock="0x9") == found(node, fromBlock="0x9", toBlock="0xa") == []


def test_a_log_says_where_it_stands(node: Node) -> None:
    block = filled(node)[0]
    first, second = ask(node, "eth_getLogs", {"blockHash": to_hex(block.hash)})
    assert second == {
        "address": DPOS, "topics": [topic(b"two"), ALICE], "data": to_hex(b"two"),
        "blockHash": to_hex(block.hash), "blockNumber": "0x1", "transactionIndex": "0x1",
        "transactionHash": to_hex(block.txs[1].hash), "logIndex": "0x1", "removed": False,
    }  # fmt: skip
    receipts = ask(node, "eth_getBlockReceipts", "0x1")
    assert [log for receipt in receipts for log in receipt["logs"]] == [first, second]


def test_too_large_queries_are_refused(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(node)
    assert error(node, "eth_getLogs", {"blockHash": NOWHERE})[0] == "not_found"
    assert error(node, "eth_getLogs", {"fromBlock": "0x2", "toBlock": "0x1"})[0] == "params"
    monkeypatch.setattr(logs, "LOGS_MAX", 2)
    assert error(node, "eth_getLogs", {"fromBlock": "0x1"})[0] == "limit"
    monkeypatch.setattr(logs, "LOG_BLOCKS_MAX", 3)
    assert found(node, fromBlock="0x2", toBlock="0x3") == [(3, b"one")]
    assert error(node, "eth_getLogs", {"fromBlock": "0x0"})[0] == "limit"


def test_a_bloom_never_hides_a_log(node: Node) -> None:
    for block in filled(node):
        for receipt in node.chain.receipts(block.hash) or ():
            for log in receipt.logs:
                wanted = LogFilter((log.address,), ((log.topics[0],), (), ()))
                assert may_hold(block.header.logs_bloom, wanted.masks())
    assert not may_hold(node.chain.head.logs_bloom, LogFilter((b"\7" * 20,)).masks())
    assert not may_hold(bytes(256), LogFilter().masks())


def shown(stream: LogStream, block: Block) -> list[tuple[str, bool]]:
    return [(str(log["data"]), bool(log["removed"])) for log in stream.show(block)]


def test_a_stream_takes_back_what_leaves_the_chain(node: Node) -> None:
    stream = LogStream(node, LogFilter())
    start = node.produce()
    assert shown(stream, start) == []
    ask(node, "eth_sendRawTransaction", to_hex(sent(USERS[0], 0, b"Lone").raw))
    left = node.produce(certified=False)
    assert shown(stream, left) == [(to_hex(b"one"), False)]
    rival = node.net.child(node.chain, start.hash, left.header.slot + 1)
    add(node.chain, node.disk, rival)
    above = node.net.child(
        node.chain, rival.hash, left.header.slot + 2, [sent(USERS[0], 0, b"Ltwo")]
    )
    add(node.chain, node.disk, above)
    assert node.chain.head.hash == above.hash
    assert shown(stream, rival) == [(to_hex(b"one"), True)]
    assert shown(stream, above) == [(to_hex(b"two"), False)]


def test_a_late_subscriber_is_told_nothing_twice(node: Node) -> None:
    ask(node, "eth_sendRawTransaction", to_hex(sent(USERS[0], 0, b"Lone").raw))
    block = node.produce()
    # the block is the head already; its announcement comes only now
    stream = LogStream(node, LogFilter())
    assert shown(stream, block) == [(to_hex(b"one"), False)]
