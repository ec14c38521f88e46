"""The answers of JSON-RPC about IDpos, after transactions by its ABI on a real chain."""

from typing import Any

import pytest

from dipnet.consensus.staking.candidates import registration_digest
from dipnet.consensus.staking.idpos import DPOS_ADDRESS, METHODS
from dipnet.ledger.parameters import AMENDABLE
from dipnet.ledger.rules import RULES_KNOWN
from dipnet.primitives.codec import to_hex
from dipnet.primitives.crypto import checksum, public_key, sign
from tests.fixtures.chain_builder import CHAIN_ID, ETHER, STAKE, USERS, address_of, secret, transfer
from tests.fixtures.rpc_node import Node, ask, error

ALICE, BOB = (address_of(name) for name in USERS[:2])
FIRST = address_of("delegate 0")


@pytest.fixture
def node() -> Node:
    return Node(delegates=4, delegates_standby=1, delegate_stake_min=100 * ETHER)


class Sender:
    """Sends calls of an account, each in a block of its own."""

    def __init__(self, node: Node, name: str) -> None:
        self.node, self.name, self.nonce = node, name, 0

    def __call__(self, method: str, *arguments: Any, value: int = 0) -> dict[str, Any]:
        data = METHODS[method].call_data(*arguments)
        tx = transfer(self.name, self.nonce, DPOS_ADDRESS, value, data=data, gas=1_000_000)
        self.nonce += 1
        ask(self.node, "eth_sendRawTransaction", to_hex(tx.raw))
        self.node.produce()
        receipt: dict[str, Any] = ask(self.node, "eth_getTransactionReceipt", to_hex(tx.hash))
        assert receipt["status"] == "0x1"
        return receipt


def fund(node: Node, account: bytes) -> None:
    nonce = int(ask(node, "eth_getTransactionCount", to_hex(ALICE)), 16)
    ask(node, "eth_sendRawTransaction", to_hex(transfer(USERS[0], nonce, account, ETHER).raw))
    node.produce()


def registration(
    owner: bytes, key: bytes, name: str = "newcomer", bps: int = 500
) -> tuple[Any, ...]:
    proof = sign(registration_digest(CHAIN_ID, owner), key)
    organisation = b"Works Ltd".ljust(32, b"\0")
    return name, "https://x.example", bps, public_key(key), bytes(32), organisation, proof


def named(node: Node, name: str) -> dict[str, Any]:
    (found,) = [delegate for delegate in ask(node, "dpos_delegates") if delegate["name"] == name]
    return dict(found)


def test_genesis_delegates(node: Node) -> None:
    found = ask(node, "dpos_delegates")
    assert [delegate["name"] for delegate in found] == sorted(
        (delegate["name"] for delegate in found), key=lambda name: address_of(name)
    )
    first = named(node, "delegate 0")
    assert first["address"] == checksum(FIRST)
    assert first["publicKey"] == to_hex(public_key(secret("delegate 0")))
    assert first["votes"] == first["stake"] == hex(STAKE)
    assert (first["share"], first["status"], first["organisation"]) == (0.25, "registered", "")
    assert first["active"] is first["next"] is True
    assert first["jailed"] is first["tombstoned"] is False
    assert first["participation"] is first["standby"] is None
    assert ask(node, "dpos_delegate", to_hex(FIRST)) == {
        name: value for name, value in first.items() if name not in ("share", "standby")
    }
    assert error(node, "dpos_delegate", to_hex(ALICE))[0] == "not_found"


def test_produced_and_missed_are_counted(node: Node) -> None:
    node.produce(slots=3)
    blocks = [node.produce() for _ in range(4)]
    found = ask(node, "dpos_delegates")
    assert sum(delegate["produced"] for delegate in found) == 5
    assert sum(delegate["missed"] for delegate in found) == 2
    assert named(node, "delegate 0")["produced"] >= sum(
        block.header.proposer == FIRST for block in blocks
    )


def test_a_candidate_comes_and_is_voted_for(node: Node) -> None:
    alice, bob = Sender(node, USERS[0]), Sender(node, USERS[1])
    alice("stake", value=100 * ETHER)
    alice("register", *registration(ALICE, secret("signing")))
    newcomer = named(node, "newcomer")
    assert newcomer["address"] == checksum(ALICE)
    assert newcomer["publicKey"] == to_hex(public_key(secret("signing")))
    assert (newcomer["url"], newcomer["commissionBps"]) == ("https://x.example", 500)
    assert newcomer["commissionNext"] is None
    assert (newcomer["organisation"], newcomer["votes"]) == ("Works Ltd", "0x0")
    assert newcomer["active"] is newcomer["next"] is False
    bob("stake", value=3 * ETHER)
    bob("vote", [ALICE, FIRST])
    newcomer = named(node, "newcomer")
    assert int(newcomer["votes"], 16) == 3 * ETHER // 2
    assert newcomer["share"] == pytest.approx(1.5 / 4003, abs=1e-6)
    account = ask(node, "dpos_account", to_hex(BOB))
    assert account["votes"] == [checksum(ALICE), checksum(FIRST)]
    assert (account["stake"], account["unbonding"]) == (hex(3 * ETHER), "0x0")
    assert account["expires"] == node.genesis.parameters.vote_expiry_epochs
    assert account["release"] is None
    assert ask(node, "dpos_account", to_hex(BOB), "earliest")["stake"] == "0x0"
    bob("unstake", ETHER)
    account = ask(node, "dpos_account", to_hex(BOB))
    assert (account["stake"], account["unbonding"]) == (hex(2 * ETHER), hex(ETHER))
    assert account["release"] == node.genesis.parameters.unbonding_epochs


def test_a_raised_commission_is_told_before_it_acts(node: Node) -> None:
    alice = Sender(node, USERS[0])
    alice("stake", value=100 * ETHER)
    alice("register", *registration(ALICE, secret("signing")))
    alice("register", *registration(ALICE, secret("signing"), bps=700))
    newcomer = named(node, "newcomer")
    assert newcomer["commissionBps"] == 500
    assert newcomer["commissionNext"] == {"bps": 700, "epoch": 2}


def test_rewards_can_be_claimed(node: Node) -> None:
    node.produce()
    (producer,) = [d for d in ask(node, "dpos_delegates") if d["produced"]]
    account = ask(node, "dpos_account", producer["address"])
    assert account["rewards"] == account["claimable"]
    reward = node.genesis.parameters.block_reward
    assert reward - 10**4 <= int(account["rewards"], 16) <= reward


def test_parameters_and_proposals(node: Node) -> None:
    found = ask(node, "dpos_parameters")
    assert (found["epoch"], list(found["inForce"])) == (0, list(AMENDABLE))
    assert found["inForce"]["slot_ms"] == 1000
    assert found["inForce"]["block_reward"] == hex(node.genesis.parameters.block_reward)
    assert (found["proposals"], found["rulesKnown"]) == ([], RULES_KNOWN)
    fund(node, FIRST)
    delegate = Sender(node, "delegate 0")
    delegate("proposeParameters", b"block_reward".ljust(32, b"\0"), ETHER)
    (proposal,) = ask(node, "dpos_parameters")["proposals"]
    assert proposal == {
        "id": 1, "name": "block_reward", "value": hex(ETHER), "proposer": checksum(FIRST),
        "state": "open", "votes": 1, "quorum": 3, "expires": proposal["expires"], "starts": None,
    }  # fmt: skip
    for name in ("delegate 1", "delegate 2"):
        fund(node, address_of(name))
        Sender(node, name)("voteParameters", 1)
    while node.chain.epoch.number < 1:
        node.produce(slots=10)
    (proposal,) = ask(node, "dpos_parameters")["proposals"]
    assert (proposal["state"], proposal["votes"]) == ("passed", 3)
    assert proposal["starts"] == 1 + node.genesis.parameters.parameter_delay_epochs


def test_a_delegate_that_keeps_a_seat_is_shown_without_being_a_candidate(node: Node) -> None:
    fund(node, FIRST)
    Sender(node, "delegate 0")("resign")
    gone = named(node, "delegate 0")
    assert (gone["status"], gone["active"], gone["votes"]) == ("resigned", True, "0x0")
    assert len(ask(node, "dpos_delegates")) == 4
