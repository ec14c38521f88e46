"""Every method over a real chain, pool and DAG: its answers and its refusals."""

from dataclasses import replace
from typing import Any

import pytest

from dipnet.dag import senml
from dipnet.dag.vertex import PAYLOAD_SENML, VertexDraft, decode, sign_vertex, topic_of
from dipnet.ledger.tx import sign_tx
from dipnet.primitives.codec import to_hex
from dipnet.primitives.crypto import address, checksum, public_key
from dipnet.rpc import dag, gas
from tests.fixtures.chain_builder import CHAIN_ID, ETHER, USERS, address_of, secret, transfer
from tests.fixtures.rpc_node import Node, ask, error

ALICE, BOB = (to_hex(address_of(name)) for name in USERS[:2])
NOBODY = "0x" + "99" * 20
UNKNOWN = "0x" + "77" * 32
DEVICE = secret("device")
ISSUER = to_hex(address(public_key(DEVICE)))


@pytest.fixture
def node() -> Node:
    return Node()


def pay(node: Node, nonce: int, **more: Any) -> str:
    tx = transfer(USERS[0], nonce, address_of(USERS[1]), **more)
    assert ask(node, "eth_sendRawTransaction", to_hex(tx.raw)) == to_hex(tx.hash)
    return to_hex(tx.hash)


def wire(node: Node, **changes: Any) -> bytes:
    """The wire bytes of the device's next vertex, by the node's template."""
    template = ask(node, "dag_template", ISSUER)
    draft = VertexDraft(
        template["chainId"],
        template["refHeight"],
        bytes.fromhex(template["refHash"][2:]),
        template["seq"],
        bytes.fromhex(template["prev"][2:]),
        template["timestampMs"],
        topic_of("t"),
        b"payload",
        parents=tuple(bytes.fromhex(parent[2:]) for parent in template["parents"]),
    )
    return sign_vertex(DEVICE, replace(draft, **changes))


# --- Ethereum's


def test_names_and_numbers(node: Node) -> None:
    assert ask(node, "web3_clientVersion").startswith("dipnet/v")
    assert ask(node, "net_version") == "2018"
    assert ask(node, "eth_chainId") == "0x7e2"
    assert ask(node, "net_peerCount") == "0x1"
    assert ask(node, "eth_accounts") == []
    assert ask(node, "eth_blockNumber") == "0x0"
    node.produce()
    assert ask(node, "eth_blockNumber") == "0x1"


def test_syncing(node: Node) -> None:
    assert ask(node, "eth_syncing") is False
    node.progress = (5, 300)
    assert ask(node, "eth_syncing") == {
        "startingBlock": "0x0", "currentBlock": "0x5", "highestBlock": "0x12c",
    }  # fmt: skip


def test_a_payment_from_pool_to_receipt(node: Node) -> None:
    tx_hash = pay(node, 0, value=7)
    waiting = ask(node, "eth_getTransactionByHash", tx_hash)
    assert waiting["blockHash"] is waiting["blockNumber"] is waiting["transactionIndex"] is None
    assert ask(node, "eth_getTransactionReceipt", tx_hash) is None
    assert ask(node, "eth_getTransactionCount", ALICE, "latest") == "0x0"
    assert ask(node, "eth_getTransactionCount", ALICE, "pending") == "0x1"
    block = node.produce()
    found = ask(node, "eth_getTransactionByHash", tx_hash)
    assert found["blockHash"] == to_hex(block.hash)
    assert (found["from"], found["to"], found["value"]) == (ALICE, BOB, "0x7")
    assert (found["type"], found["chainId"], found["input"]) == ("0x2", "0x7e2", "0x")
    price = int(found["gasPrice"], 16)
    assert price == block.header.base_fee + 10**9
    receipt = ask(node, "eth_getTransactionReceipt", tx_hash)
    assert (receipt["status"], receipt["gasUsed"], receipt["logs"]) == ("0x1", "0x5208", [])
    assert receipt["effectiveGasPrice"] == found["gasPrice"]
    assert receipt["contractAddress"] is None
    assert ask(node, "eth_getBlockReceipts", "latest") == [receipt]
    balance = int(ask(node, "eth_getBalance", ALICE), 16)
    assert balance == 1000 * ETHER - 7 - 21000 * price
    assert int(ask(node, "eth_getBalance", BOB, "latest"), 16) == 1000 * ETHER + 7
    assert int(ask(node, "eth_getBalance", ALICE, "earliest"), 16) == 1000 * ETHER
    assert ask(node, "eth_getBalance", NOBODY) == "0x0"
    assert ask(node, "eth_getCode", ALICE) == "0x"


def test_legacy_and_access_list_transactions_keep_their_shape(node: Node) -> None:
    legacy = sign_tx(
        secret(USERS[0]), type=0, chain_id=CHAIN_ID, nonce=0, gas=21_000, to=b"\1" * 20, value=1,
        max_fee=10**10,
    )  # fmt: skip
    listed = sign_tx(
        secret(USERS[0]), type=1, chain_id=CHAIN_ID, nonce=1, gas=40_000, to=b"\1" * 20, value=1,
        max_fee=10**10, access_list=((b"\2" * 20, (b"\3" * 32,)),),
    )  # fmt: skip
    hashes = [ask(node, "eth_sendRawTransaction", to_hex(raw)) for raw in (legacy, listed)]
    node.produce()
    old, new = (ask(node, "eth_getTransactionByHash", tx_hash) for tx_hash in hashes)
    assert (old["type"], old["gasPrice"]) == ("0x0", hex(10**10))
    assert int(old["v"], 16) in (CHAIN_ID * 2 + 35, CHAIN_ID * 2 + 36)
    assert not {"accessList", "yParity", "maxFeePerGas"} & set(old)
    assert new["accessList"] == [{"address": "0x" + "02" * 20, "storageKeys": ["0x" + "03" * 32]}]
    assert new["yParity"] == new["v"]


def test_ethereums_refusals(node: Node) -> None:
    pay(node, 0)

    def refused(**more: Any) -> tuple[str, str]:
        tx = transfer(USERS[0], more.pop("nonce", 1), **more)
        return error(node, "eth_sendRawTransaction", to_hex(tx.raw))

    node.produce()
    assert refused(nonce=0)[1].startswith("nonce too low: ")
    assert refused(value=10**30)[1].startswith("insufficient funds for gas * price + value: ")
    assert refused(gas=20_999)[1].startswith("intrinsic gas too low: ")
    assert refused(gas=2**24 + 1)[1].startswith("transaction gas limit too high")
    pay(node, 1)
    assert refused(value=2)[1] == "replacement transaction underpriced"
    again = to_hex(transfer(USERS[0], 1, address_of(USERS[1])).raw)
    assert error(node, "eth_sendRawTransaction", again)[1] == "already known"
    alien = sign_tx(
        secret(USERS[0]), type=2, chain_id=CHAIN_ID + 1, nonce=2, gas=21_000, to=b"\1" * 20,
        value=1, max_priority_fee=1, max_fee=10**10,
    )  # fmt: skip
    assert error(node, "eth_sendRawTransaction", to_hex(alien))[0] == "chain_id"
    creation = sign_tx(
        secret(USERS[0]), type=2, chain_id=CHAIN_ID, nonce=2, gas=100_000, data=b"\0",
        max_priority_fee=1, max_fee=10**10,
    )  # fmt: skip
    assert error(node, "eth_sendRawTransaction", to_hex(creation))[0] == "no_vm"
    for garbage in ("0x", "0x00", "0x02", "0xc0", "0x03f8", "0x" + "ff" * 200):
        code, _ = error(node, "eth_sendRawTransaction", garbage)
        assert code in ("tx_form", "tx_type", "rlp", "oversized"), garbage


def test_blocks(node: Node) -> None:
    tx_hash = pay(node, 0)
    block = node.produce(slots=3)
    header = block.header
    view = ask(node, "eth_getBlockByNumber", "latest")
    assert view["transactions"] == [tx_hash]
    assert view == ask(node, "eth_getBlockByNumber", "0x1", False)
    assert view == ask(node, "eth_getBlockByHash", to_hex(block.hash), False)
    assert view == ask(node, "eth_getBlockByNumber", "finalized")
    full = ask(node, "eth_getBlockByNumber", "0x1", True)
    assert full["transactions"] == [ask(node, "eth_getTransactionByHash", tx_hash)]
    assert view["extraData"] == "0x"
    assert int(view["timestamp"], 16) == header.timestamp_ms // 1000
    assert (view["slot"], view["epoch"], view["timestampMs"]) == (3, 0, header.timestamp_ms)
    assert view["proposer"] == view["miner"] == to_hex(header.proposer)
    assert int(view["size"], 16) == len(block.raw)
    assert ask(node, "eth_getBlockByNumber", "earliest")["parentHash"] == "0x" + "00" * 32
    for absent in ("0x2", "0x7fffffffffffffff"):
        assert ask(node, "eth_getBlockByNumber", absent) is None
        assert ask(node, "eth_getBlockReceipts", absent) is None
    assert ask(node, "eth_getBlockByHash", UNKNOWN) is None
    assert ask(node, "eth_getTransactionByHash", UNKNOWN) is None
    assert ask(node, "eth_getTransactionReceipt", UNKNOWN) is None


def test_transactions_by_their_place(node: Node) -> None:
    hashes = [pay(node, 0), pay(node, 1)]
    by_hash = to_hex(node.produce().hash)
    for way, name in (("Number", "0x1"), ("Hash", by_hash)):
        assert ask(node, f"eth_getBlockTransactionCountBy{way}", name) == "0x2"
        for index, tx_hash in enumerate(hashes):
            found = ask(node, f"eth_getTransactionByBlock{way}AndIndex", name, hex(index))
            assert found == ask(node, "eth_getTransactionByHash", tx_hash)
        assert ask(node, f"eth_getTransactionByBlock{way}AndIndex", name, "0x2") is None
    assert ask(node, "eth_getBlockTransactionCountByNumber", "pending") == "0x0"
    assert ask(node, "eth_getTransactionByBlockNumberAndIndex", "pending", 0) is None
    assert ask(node, "eth_getBlockTransactionCountByHash", UNKNOWN) is None
    assert ask(node, "eth_getTransactionByBlockHashAndIndex", UNKNOWN, 0) is None


def test_the_pending_block_names_nobody(node: Node) -> None:
    node.produce()
    pending = ask(node, "eth_getBlockByNumber", "pending")
    following = node.produce()
    assert (pending["number"], pending["hash"], pending["nonce"]) == ("0x2", None, None)
    assert pending["parentHash"] == to_hex(following.header.parent)
    assert pending["baseFeePerGas"] == hex(following.header.base_fee)


def test_blocks_by_eip_1898(node: Node) -> None:
    block = node.produce(certified=False)
    by_hash = {"blockHash": to_hex(block.hash), "requireCanonical": True}
    assert ask(node, "eth_getBalance", ALICE, by_hash) == hex(1000 * ETHER)
    assert ask(node, "eth_getBalance", ALICE, {"blockNumber": "0x0"}) == hex(1000 * ETHER)
    assert error(node, "eth_getBalance", ALICE, {"blockHash": UNKNOWN})[0] == "not_found"
    assert error(node, "eth_getBalance", ALICE, "0x9")[0] == "not_found"
    slot = node.chain.head.slot + 2
    rival = node.net.child(node.chain, block.header.parent, slot)
    node.disk.apply(node.chain.on_block(rival, 2**52).puts)
    assert node.chain.head.hash == block.hash
    branch = {"blockHash": to_hex(rival.hash)}
    assert ask(node, "eth_getBalance", ALICE, branch) == hex(1000 * ETHER)
    refused = error(node, "eth_getBalance", ALICE, branch | {"requireCanonical": True})
    assert refused[1].startswith("hash is not currently canonical")


def test_state_that_is_not_kept() -> None:
    node = Node(undo_blocks_max=1, overlays_max=1)
    for _ in range(6):
        node.produce()
    code, text = error(node, "eth_getBalance", ALICE, "0x0")
    assert code == "no_state"
    assert text.startswith("missing trie node")
    assert ask(node, "eth_getBalance", ALICE, "latest")


# --- gas


def test_prices_follow_the_chain(node: Node) -> None:
    assert ask(node, "eth_maxPriorityFeePerGas") == hex(gas.TIP_IDLE_WEI)
    for nonce, tip in enumerate((5, 1, 2, 3, 4)):
        pay(node, nonce, tip=tip * 10**9)
    node.produce()
    assert ask(node, "eth_maxPriorityFeePerGas") == hex(2 * 10**9)
    following = int(ask(node, "eth_getBlockByNumber", "pending")["baseFeePerGas"], 16)
    assert ask(node, "eth_gasPrice") == hex(following + 2 * 10**9)


def test_fee_history(node: Node) -> None:
    for nonce in range(4):
        pay(node, nonce, tip=(nonce + 1) * 10**9)
    block = node.produce()
    history = ask(node, "eth_feeHistory", "0x5", "latest", [0, 25, 50, 75, 100])
    assert history["oldestBlock"] == "0x0"
    assert history["gasUsedRatio"] == [0, block.header.gas_used / block.header.gas_limit]
    fees = [int(fee, 16) for fee in history["baseFeePerGas"]]
    assert fees[:2] == [node.genesis.base_fee_initial, block.header.base_fee]
    assert fees[2] == node.produce().header.base_fee
    paid = [[hex(tip * 10**9) for tip in (1, 1, 2, 3, 4)]]
    assert history["reward"] == [["0x0"] * 5, *paid]
    short = ask(node, "eth_feeHistory", 1, "0x1", None)
    assert short["oldestBlock"] == "0x1"
    assert "reward" not in short
    assert len(short["baseFeePerGas"]) == 2
    assert ask(node, "eth_feeHistory", 0, "latest")["baseFeePerGas"] == []
    assert error(node, "eth_feeHistory", 1, "0x9")[0] == "not_found"
    assert error(node, "eth_feeHistory", 1, "latest", [2, 1])[0] == "params"


def test_estimates(node: Node) -> None:
    assert ask(node, "eth_estimateGas", {"to": BOB}) == "0x5208"
    assert ask(node, "eth_estimateGas", {"from": ALICE, "to": BOB, "value": "0x1"}) == "0x5208"
    for name in ("input", "data"):
        assert ask(node, "eth_estimateGas", {"to": BOB, name: "0x0001"}) == hex(21000 + 10 * 5)
    listed = [{"address": BOB, "storageKeys": [UNKNOWN]}]
    assert ask(node, "eth_estimateGas", {"to": BOB, "accessList": listed}) == hex(21000 + 4300)
    rich = {"from": ALICE, "to": BOB}
    assert error(node, "eth_estimateGas", {"from": ALICE})[0] == "no_vm"
    assert error(node, "eth_estimateGas", rich | {"value": hex(10**22)})[0] == "funds"
    assert error(node, "eth_estimateGas", {"from": NOBODY, "to": BOB, "value": "0x1"})[0] == "funds"
    assert error(node, "eth_estimateGas", rich | {"gas": "0x5207"})[0] == "allowance"
    assert error(node, "eth_estimateGas", rich | {"gasPrice": "0x1"})[0] == "fee_cap_low"
    priced = {"maxFeePerGas": hex(10**10), "maxPriorityFeePerGas": hex(10**11)}
    assert error(node, "eth_estimateGas", rich | priced)[0] == "tip_above_cap"
    poor = {"from": NOBODY, "to": BOB, "gasPrice": hex(10**10)}
    assert error(node, "eth_estimateGas", poor)[1].startswith("gas required exceeds allowance: 0,")


def test_an_estimate_is_what_the_transaction_uses(node: Node) -> None:
    data = bytes(range(100))
    estimate = int(ask(node, "eth_estimateGas", {"to": BOB, "input": to_hex(data)}), 16)
    tx_hash = pay(node, 0, data=data, gas=estimate)
    node.produce()
    assert ask(node, "eth_getTransactionReceipt", tx_hash)["gasUsed"] == hex(estimate)


# --- the DAG's


def test_a_vertex_from_template_to_range(node: Node) -> None:
    node.produce()
    template = ask(node, "dag_template", ISSUER)
    assert template == {
        "chainId": 2018, "refHeight": 1, "refHash": to_hex(node.chain.head.hash[:8]),
        "parents": [], "seq": 1, "prev": "0x" + "00" * 32, "timestampMs": node.now_ms(),
    }  # fmt: skip
    first = wire(node)
    first_id = to_hex(decode(first).id)
    assert ask(node, "dag_status", first_id) == "unknown"
    assert ask(node, "dag_get", first_id) is None
    assert ask(node, "dag_submit", [to_hex(first)]) == [{"id": first_id, "status": "accepted"}]
    assert ask(node, "dag_submit", [to_hex(first)]) == [{"id": first_id, "status": "known"}]
    template = ask(node, "dag_template", ISSUER, 2)
    assert (template["seq"], template["prev"], template["parents"]) == (2, first_id, [first_id])
    reading = senml.Reading("urn:dev:1", 1_700_000_000, 21.5, "Cel")
    second = wire(node, payload=senml.encode([reading]), payload_type=PAYLOAD_SENML)
    ask(node, "dag_submit", [to_hex(second)])
    view = ask(node, "dag_latest", ISSUER)
    assert (view["issuer"], view["seq"], view["prev"]) == (
        checksum(bytes.fromhex(ISSUER[2:])), 2, first_id,
    )  # fmt: skip
    assert view["readings"] == [
        {"name": "urn:dev:1", "unit": "Cel", "time": 1_700_000_000, "value": 21.5}
    ]
    assert view == ask(node, "dag_get", view["id"])
    assert view == ask(node, "dag_latest", ISSUER, to_hex(topic_of("t")))
    assert ask(node, "dag_latest", ISSUER, to_hex(topic_of("other"))) is None
    assert ask(node, "dag_latest", NOBODY) is None
    assert [vertex["seq"] for vertex in ask(node, "dag_range", ISSUER, 0)] == [1, 2]
    assert ask(node, "dag_range", ISSUER, "0x2", 1) == [view]
    assert ask(node, "dag_range", ISSUER, 3) == []
    assert ask(node, "dag_stats")["vertices"] == 2


def test_a_pending_vertex_and_refused_vertices(node: Node) -> None:
    first = wire(node)
    child = wire(node, parents=(decode(first).id,), seq=2, prev=decode(first).id)
    forged = bytearray(wire(node))
    forged[-len(b"payload") - 60] ^= 1  # a byte of the signature's s
    alien = wire(node, chain_id=1)
    answers = ask(node, "dag_submit", [to_hex(raw) for raw in (child, bytes(forged), alien, b"")])
    child_id = to_hex(decode(child).id)
    assert answers[0] == {"id": child_id, "status": "pending"}
    codes = [answer["error"]["data"]["code"] for answer in answers[1:]]
    assert codes == ["vertex_signature", "vertex_chain", "vertex_form"]
    assert all(answer["error"]["message"] for answer in answers[1:])
    assert ask(node, "dag_status", child_id) == "pending"
    ask(node, "dag_submit", [to_hex(first)])
    assert ask(node, "dag_status", child_id) == "accepted"


def test_a_payload_that_is_not_senml_is_no_error(node: Node) -> None:
    vertex = wire(node, payload=b"\xff\x00", payload_type=PAYLOAD_SENML)
    ask(node, "dag_submit", [to_hex(vertex)])
    view = ask(node, "dag_get", to_hex(decode(vertex).id))
    assert view["readings"] is None
    assert view["payload"] == "0xff00"


def test_integers_past_64_bits_in_readings_can_be_shown(node: Node) -> None:
    pack = bytes.fromhex("81a5") + b"\x21\x61d" + b"\x20\x0a" + b"\x22\x1a\x65\x53\xf1\x00"
    pack += b"\x24\x1b" + b"\xff" * 8 + b"\x02\x1b" + b"\xff" * 8
    vertex = wire(node, payload=pack, payload_type=PAYLOAD_SENML)
    ask(node, "dag_submit", [to_hex(vertex)])
    view = ask(node, "dag_get", to_hex(decode(vertex).id))
    assert view["readings"][0]["value"] == pytest.approx(2.0**65)


def test_a_range_is_bounded_in_bytes(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(node, "dag_submit", [to_hex(wire(node))])
    ask(node, "dag_submit", [to_hex(wire(node))])
    ask(node, "dag_submit", [to_hex(wire(node))])
    monkeypatch.setattr(dag, "RANGE_BYTES_MAX", 700)
    assert [vertex["seq"] for vertex in ask(node, "dag_range", ISSUER, 0)] == [1, 2]
    monkeypatch.setattr(dag, "RANGE_BYTES_MAX", 1)
    assert [vertex["seq"] for vertex in ask(node, "dag_range", ISSUER, 2)] == [2]


# --- the node's


def test_status_and_account(node: Node) -> None:
    pay(node, 0)
    status = ask(node, "dipnet_status")
    assert status["ready"] is True
    assert (
        status["finalized"]
        == status["safe"]
        == {"height": 0, "slot": 0} | {"hash": status["genesisHash"]}
    )
    assert status["pool"] == {"pending": 1, "queued": 0}
    assert status["genesisHash"] == status["head"]["hash"]
    assert ask(node, "dipnet_account", ALICE) == {
        "address": checksum(address_of(USERS[0])), "kind": "common",
        "balance": hex(1000 * ETHER), "nonce": 0, "pendingNonce": 1,
    }  # fmt: skip
    node.complaints["store"] = "disk is full"
    status = ask(node, "dipnet_status")
    assert (status["ready"], status["components"]["store"]) == (False, "disk is full")


def test_subscriptions_need_a_websocket(node: Node) -> None:
    assert error(node, "eth_subscribe", "newHeads")[1] == "notifications not supported"
