"""An unmodified web3.py against a node that listens: the calls that every wallet makes."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
from web3 import Web3
from web3.exceptions import TransactionNotFound, Web3RPCError
from web3.types import RPCEndpoint, TxParams

from dipnet.node.work import ClientTxs
from tests.fixtures.chain_builder import ETHER, USERS, address_of, secret
from tests.fixtures.rpc_running import Running


@pytest.fixture
def running() -> Iterator[Running]:
    found = Running()
    yield found
    found.stop()


def test_web3_pays_and_reads(running: Running) -> None:
    web3 = Web3(Web3.HTTPProvider(f"http://127.0.0.1:{running.listener.port}"))
    assert web3.is_connected()
    assert web3.eth.chain_id == 2018
    assert web3.eth.syncing is False
    alice = web3.eth.account.from_key(secret(USERS[0]))
    bob = web3.to_checksum_address(address_of(USERS[1]))
    running.produce()

    transaction = {
        "from": alice.address,
        "to": bob,
        "value": web3.to_wei(1, "ether"),
        "nonce": web3.eth.get_transaction_count(alice.address, "pending"),
        "chainId": web3.eth.chain_id,
        "maxPriorityFeePerGas": web3.eth.max_priority_fee,
        "maxFeePerGas": 2 * web3.eth.get_block("latest")["baseFeePerGas"] + 10**9,
    }
    transaction["gas"] = web3.eth.estimate_gas(cast(TxParams, transaction))
    signed = alice.sign_transaction(transaction)
    tx_hash = web3.eth.send_raw_transaction(signed.raw_transaction)
    assert web3.eth.get_transaction(tx_hash)["blockHash"] is None
    with pytest.raises(TransactionNotFound):
        web3.eth.get_transaction_receipt(tx_hash)
    running.produce()
    receipt = web3.eth.wait_for_transaction_receipt(tx_hash, timeout=5, poll_latency=0.05)
    assert (receipt["status"], receipt["blockNumber"]) == (1, 2)
    assert receipt["from"] == alice.address
    assert receipt["to"] == bob
    assert web3.eth.get_balance(bob) == 1001 * ETHER
    block: Any = web3.eth.get_block("latest", full_transactions=True)
    assert block["transactions"][0]["hash"] == tx_hash
    assert block["hash"] == web3.eth.get_block(2)["hash"] == receipt["blockHash"]
    again: Any = web3.eth.get_block(block["hash"])
    assert again["slot"] == 2
    assert web3.eth.get_block_receipts("latest")[0]["transactionHash"] == tx_hash
    assert web3.eth.get_block("pending")["number"] == 3
    assert web3.eth.gas_price > block["baseFeePerGas"] * 8 // 10
    history = web3.eth.fee_history(2, "latest", [50])
    assert history["reward"][-1] == [transaction["maxPriorityFeePerGas"]]
    assert web3.eth.get_code(bob) == b""
    with pytest.raises(Web3RPCError, match="nonce too low"):
        web3.eth.send_raw_transaction(signed.raw_transaction)


def test_web3_batches(running: Running) -> None:
    provider = Web3.HTTPProvider(f"http://127.0.0.1:{running.listener.port}")
    signer = Web3().eth.account.from_key(secret(USERS[0]))
    payment = {
        "to": Web3.to_checksum_address(address_of(USERS[1])), "value": 1, "gas": 21_000,
        "chainId": 2018, "maxFeePerGas": 10**10, "maxPriorityFeePerGas": 10**9,
    }  # fmt: skip
    raws = [signer.sign_transaction(payment | {"nonce": n}).raw_transaction for n in range(5)]
    sent = provider.make_batch_request(
        [(RPCEndpoint("eth_sendRawTransaction"), [Web3.to_hex(raw)]) for raw in raws]
    )
    assert isinstance(sent, list)
    assert all("result" in answer for answer in sent)
    assert running.node.submitted == [(ClientTxs, 5)]
    running.produce()
    web3 = Web3(provider)
    with web3.batch_requests() as batch:
        batch.add(web3.eth.get_block("latest"))
        batch.add(web3.eth.get_block(0))
        answers: list[Any] = batch.execute()
    latest, first = answers
    assert len(latest["transactions"]) == 5
    assert latest["parentHash"] == first["hash"]
