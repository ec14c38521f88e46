"""An unmodified web3.py uses the whole ABI of IDpos: sends, reads, events, reverts."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_typing import ChecksumAddress
from web3 import Web3
from web3.exceptions import ContractLogicError
from web3.logs import DISCARD

from dipnet.cli.delegate_views import interface
from dipnet.consensus.finality.votes import Ballot, BallotKind
from dipnet.consensus.staking.candidates import registration_digest
from dipnet.consensus.staking.evidence import record
from dipnet.consensus.staking.idpos import METHODS
from dipnet.primitives.crypto import public_key, sign
from tests.fixtures.chain_builder import CHAIN_ID, ETHER, STAKE, USERS, address_of, secret
from tests.fixtures.fake_contract import DPOS
from tests.fixtures.rpc_running import Running

FIRST = address_of("delegate 0")


class Caller:
    """An account of web3.py that sends to the contract."""

    def __init__(self, web3: Web3, name: str) -> None:
        self.web3 = web3
        self.signer = web3.eth.account.from_key(secret(name))
        self.contract = web3.eth.contract(Web3.to_checksum_address(DPOS), abi=interface())

    @property
    def address(self) -> ChecksumAddress:
        return Web3.to_checksum_address(self.signer.address)

    def sends(self, method: str, *arguments: Any, value: int = 0) -> dict[str, Any]:
        """Sends a transaction; returns the arguments of its events, by the event's name."""
        function = getattr(self.contract.functions, method)(*arguments)
        nonce = self.web3.eth.get_transaction_count(self.signer.address)
        tx = function.build_transaction(
            {"from": self.signer.address, "value": value, "nonce": nonce}
        )
        raw = self.signer.sign_transaction(tx).raw_transaction
        receipt = self.web3.eth.wait_for_transaction_receipt(
            self.web3.eth.send_raw_transaction(raw), timeout=5, poll_latency=0.02
        )
        assert receipt["status"] == 1
        told: dict[str, Any] = {}
        events: Any = self.contract.events
        for event in events:
            for log in event().process_receipt(receipt, errors=DISCARD):
                told[log["event"]] = dict(log["args"])
        return told

    def reads(self, method: str, *arguments: Any, at: Any = "latest") -> Any:
        function = getattr(self.contract.functions, method)(*arguments)
        return function.call({"from": self.signer.address}, block_identifier=at)

    def refused(self, method: str, *arguments: Any) -> str:
        """The reason of the revert of a call."""
        function = getattr(self.contract.functions, method)(*arguments)
        with pytest.raises(ContractLogicError) as caught:
            function.call({"from": self.signer.address})
        return str(caught.value.message)


@pytest.fixture(name="running", scope="module")
def _running() -> Iterator[Running]:
    found = Running(
        mining=True, delegates=4, delegate_stake_min=100 * ETHER, delegates_standby=1,
        unbonding_epochs=1, evidence_epochs=1,
    )  # fmt: skip
    yield found
    found.stop()


@pytest.fixture(name="web3", scope="module")
def _web3(running: Running) -> Web3:
    return Web3(Web3.HTTPProvider(running.url))


def registration(owner: str, name: str) -> tuple[Any, ...]:
    key = secret(name)
    digest = registration_digest(CHAIN_ID, bytes.fromhex(owner[2:]))
    organisation = b"Works".ljust(32, b"\0")
    return (
        name,
        "https://x.example",
        250,
        public_key(key),
        bytes(32),
        organisation,
        sign(digest, key),
    )


def test_stake_register_vote_and_read(web3: Web3) -> None:
    alice, bob = Caller(web3, USERS[0]), Caller(web3, USERS[1])
    assert alice.sends("stake", value=200 * ETHER) == {
        "Staked": {"account": alice.address, "amount": 200 * ETHER}
    }
    assert alice.reads("stakeOf", alice.address) == 200 * ETHER
    assert alice.reads("stakeOf", alice.address, at=0) == 0
    told = alice.sends("register", *registration(alice.address, "works"))
    assert told["Registered"]["name"] == "works"
    key = public_key(secret("works"))
    assert alice.reads("delegate", alice.address) == [
        "works", "https://x.example", 250, key, b"Works".ljust(32, b"\0"), 0, 0, 0, 0, False, True,
    ]  # fmt: skip
    bob.sends("stake", value=10 * ETHER)
    first = web3.to_checksum_address(FIRST)
    voted = bob.sends("vote", [alice.address, first])["Voted"]
    assert voted["delegates"] in ([alice.address, first], (alice.address, first))
    assert bob.reads("votesOf", bob.address) == [[alice.address, first], voted["expiresEpoch"]]
    addresses, votes = bob.reads("delegates", 0, 100)
    by_delegate = dict(zip(addresses, votes, strict=True))
    assert (by_delegate[alice.address], by_delegate[first]) == (5 * ETHER, STAKE + 5 * ETHER)
    members, standby = bob.reads("activeSet", 0)
    assert (len(members), standby) == (4, [])
    told = bob.sends("unstake", 4 * ETHER)
    assert bob.reads("unbondingOf", bob.address) == [4 * ETHER, told["Unstaked"]["releaseEpoch"]]


def test_rewards_are_claimed(web3: Web3, running: Running) -> None:
    bob = Caller(web3, USERS[1])
    while not bob.reads("rewardsOf", bob.address):
        running.produce()
    balance = web3.eth.get_balance(bob.address)
    claimed = bob.sends("claim")["Claimed"]
    assert claimed["rewards"] > 0
    assert web3.eth.get_balance(bob.address) > balance


def test_parameters_and_rules(web3: Web3, running: Running) -> None:
    rich, delegate, second = (Caller(web3, name) for name in (USERS[2], "delegate 1", "delegate 3"))
    for receiver in (delegate, second):
        payment = {
            "to": receiver.address, "value": ETHER, "gas": 21_000, "chainId": CHAIN_ID,
            "maxFeePerGas": 10**10, "maxPriorityFeePerGas": 10**9,
            "nonce": web3.eth.get_transaction_count(rich.signer.address),
        }  # fmt: skip
        paid = web3.eth.send_raw_transaction(rich.signer.sign_transaction(payment).raw_transaction)
        web3.eth.wait_for_transaction_receipt(paid, timeout=5, poll_latency=0.02)
    name = b"block_reward".ljust(32, b"\0")
    assert rich.reads("parameters", name) == running.node.genesis.parameters.block_reward
    proposed = delegate.sends("proposeParameters", name, ETHER)["ParameterProposed"]
    found = rich.reads("proposal", proposed["id"])
    assert found[:3] == [name, ETHER, delegate.address]
    assert delegate.sends("signalReady", 1)["ReadySignalled"]["rules"] == 1
    assert "already" in delegate.refused("voteParameters", proposed["id"])
    voted = second.sends("voteParameters", proposed["id"])["ParameterVoted"]
    assert voted == {"id": proposed["id"], "delegate": second.address}
    assert rich.reads("proposal", proposed["id"])[-1] == found[-1] + 1


def test_evidence(web3: Web3, running: Running) -> None:
    bob, burned = Caller(web3, USERS[1]), 0
    epoch = running.node.chain.epoch.number
    ballots = [Ballot(BallotKind.COMMIT, epoch, 9, bytes((n,)) * 32, 0) for n in (1, 2)]
    records = [
        record(ballot, sign(ballot.digest(CHAIN_ID), secret("delegate 2"))) for ballot in ballots
    ]
    assert bob.reads("burned") == burned
    slashed = bob.sends("submitEvidence", *records)["Slashed"]
    assert (slashed["offence"], slashed["reporter"]) == ("E2", bob.address)
    assert bob.reads("burned") == slashed["burned"] > 0
    assert bob.reads("delegate", slashed["delegate"])[9:] == [True, False]
    reason = bob.refused("submitEvidence", *records)
    assert reason.startswith("execution reverted: dpos_tombstoned")


def test_reverts_are_contract_logic_errors_with_reasons(web3: Web3) -> None:
    eve = Caller(web3, USERS[3])
    first = web3.to_checksum_address(FIRST)
    for reason, method, arguments in (
        ("dpos_stake", "vote", ([first],)),
        ("dpos_unknown", "vote", ([eve.address],)),
        ("dpos_votes", "vote", ([first, first],)),
        ("dpos_stake", "unstake", (1,)),
        ("dpos_claim", "claim", ()),
        ("dpos_stake", "register", registration(eve.address, "eve")),
        ("dpos_key", "register", (*registration(eve.address, "eve")[:-1], bytes(65))),
        ("dpos_unknown", "resign", ()),
        ("dpos_member", "proposeParameters", (b"slot_ms".ljust(32, b"\0"), 500)),
        ("dpos_unknown", "delegate", (eve.address,)),
        ("dpos_parameter", "parameters", (b"chain_id".ljust(32, b"\0"),)),
        ("dpos_proposal", "proposal", (77,)),
        ("dpos_offence", "submitEvidence", (b"one", b"other")),
    ):
        text = eve.refused(method, *arguments)
        assert text.startswith(f"execution reverted: {reason}: "), text
    with pytest.raises(ContractLogicError, match="nothing to claim"):
        eve.contract.functions.claim().estimate_gas({"from": eve.address})


def test_events_are_found_by_their_filters(web3: Web3) -> None:
    first, second = Caller(web3, USERS[4]), Caller(web3, USERS[5])
    for caller, amount in ((first, 2), (second, 1), (first, 3)):
        caller.sends("stake", value=amount * ETHER)
    found = first.contract.events.Staked().get_logs(
        from_block=0, argument_filters={"account": first.address}
    )
    assert [log["args"]["amount"] for log in found] == [2 * ETHER, 3 * ETHER]
    everything = first.contract.events.Staked().get_logs(from_block=0)
    assert {log["args"]["account"] for log in everything} >= {first.address, second.address}
    first.sends("unstake", ETHER)  # makes a later block without a Staked event
    last = first.contract.events.Staked().get_logs(from_block="latest")
    assert last == []


def test_a_delegate_resigns(web3: Web3) -> None:
    gone = Caller(web3, USERS[6])
    gone.sends("stake", value=200 * ETHER)
    gone.sends("register", *registration(gone.address, "gone"))
    assert gone.reads("delegate", gone.address)[-1] is True
    assert gone.sends("resign") == {"Resigned": {"delegate": gone.address}}
    assert gone.reads("delegate", gone.address)[-1] is False


def test_every_method_of_the_abi_is_used() -> None:
    """The methods that the tests of this file name when they call ``sends`` or ``reads``."""
    used = {
        node.args[0].value
        for node in ast.walk(ast.parse(Path(__file__).read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("sends", "reads")
        and isinstance(node.args[0], ast.Constant)
    }
    assert used == set(METHODS)
