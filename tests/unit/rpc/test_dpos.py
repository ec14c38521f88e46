"""dpos_status, dpos_schedule and the numbers of /metrics over a real chain that becomes final."""

import re
from dataclasses import replace
from typing import Any

import pytest

from dipnet.consensus.chain.schedule import shuffle
from dipnet.consensus.finality.tally import Statement
from dipnet.consensus.finality.votes import Ballot, BallotKind
from dipnet.host.metrics import render
from dipnet.primitives.codec import to_hex
from dipnet.primitives.crypto import checksum, sign
from dipnet.rpc import readings
from tests import ROOT
from tests.fixtures.chain_builder import USERS, address_of, transfer
from tests.fixtures.rpc_node import Node, ask, error


@pytest.fixture
def node() -> Node:
    return Node(delegates=4)


def test_tags_follow_certificates(node: Node) -> None:
    def heights() -> list[int]:
        tags = ("latest", "safe", "finalized")
        return [int(ask(node, "eth_getBlockByNumber", tag)["number"], 16) for tag in tags]

    assert heights() == [0, 0, 0]
    first = node.produce(certified=False)
    node.produce(certified=False)
    assert heights() == [2, 0, 0]
    node.net.certify(node.chain, node.disk, first.header, BallotKind.PREVOTE)
    assert heights() == [2, 1, 0]
    node.net.certify(node.chain, node.disk, first.header, BallotKind.COMMIT)
    assert heights() == [2, 1, 1]


def test_balances_at_the_tags(node: Node) -> None:
    bob = to_hex(address_of(USERS[1]))
    node.produce()
    ask(node, "eth_sendRawTransaction", to_hex(transfer(USERS[0], 0, address_of(USERS[1])).raw))
    paid = node.produce(certified=False)
    before, after = (int(ask(node, "eth_getBalance", bob, tag), 16) for tag in ("safe", "latest"))
    assert after == before + 1
    node.certify(paid)
    assert int(ask(node, "eth_getBalance", bob, "finalized"), 16) == after


def test_status_says_how_finality_goes(node: Node) -> None:
    for _ in range(3):
        node.produce()
    status = ask(node, "dpos_status")
    assert status["head"] == status["safe"] == status["finalized"]
    assert status["head"]["ageMs"] == 100
    assert (status["slot"], status["finalityLagSlots"], status["unfinalBlocks"]) == (3, 0, 0)
    assert status["certificateLatencyMs"] == {"blocks": 3, "p50": 100, "p99": 100}
    assert (status["epoch"], status["votingEpoch"], status["endSlot"]) == (0, 0, 30)
    assert (status["members"], status["quorum"], status["backoffStep"]) == (4, 3, 1)
    assert status["complaint"] is status["delegate"]["silent"] is None
    for _ in range(4):
        node.produce(certified=False)
    status = ask(node, "dpos_status")
    assert (status["finalityLagSlots"], status["unfinalBlocks"]) == (4, 4)
    assert "lags 4 slots" in status["complaint"]


def test_status_of_the_nodes_own_delegate(node: Node) -> None:
    own = ask(node, "dpos_status")["delegate"]
    assert own["address"] == checksum(address_of("delegate 0"))
    assert own["voteState"] == {"epoch": 0, "proposed": 0, "prevoted": 0, "committed": 0}
    node.voting.paused = True
    assert ask(node, "dpos_status")["delegate"]["silent"] == "paused"
    node.voting.paused, node.voting.idle = False, "the clock is off by 2 s"
    assert "clock" in ask(node, "dpos_status")["delegate"]["silent"]
    assert node.voting.voter is not None
    node.voting.idle = None
    node.voting.voter = replace(node.voting.voter, public_key=b"\2" * 33)
    own = ask(node, "dpos_status")["delegate"]
    assert (own["address"], own["index"]) == (None, None)  # no delegate registered this key
    assert own["silent"] == "not in the set of this epoch"
    node.voting.voter = None
    assert ask(node, "dpos_status")["delegate"] is None


def test_backoff_is_told() -> None:
    node = Node(delegates=4, backoff_slots=4)
    node.produce(slots=7, certified=False)
    assert ask(node, "dpos_status")["backoffStep"] == 1
    node.produce(slots=1, certified=False)
    assert ask(node, "dpos_status")["backoffStep"] == 2
    node.produce(slots=8, certified=False)
    status = ask(node, "dpos_status")
    assert (status["backoffStep"], status["systemOnly"]) == (4, True)


def test_schedule_of_this_epoch_and_the_next(node: Node) -> None:
    while node.chain.epoch.number < 1:
        node.produce(slots=10)
    boundary = node.chain.head
    now, ahead = ask(node, "dpos_schedule"), ask(node, "dpos_schedule", 2)
    assert now == ask(node, "dpos_schedule", 1)
    assert now["border"] == {
        "height": boundary.height, "hash": to_hex(boundary.hash), "slot": boundary.slot,
    }  # fmt: skip
    assert (now["firstSlot"], now["lastSlot"]) == (boundary.slot + 1, 60)
    assert now["startMs"] == node.genesis.time_ms + 1000 * now["firstSlot"]
    assert (now["quorum"], sorted(now["order"])) == (3, sorted(now["members"]))
    for _ in range(5):
        block = node.produce(slots=2)
        assert now["leaders"][block.header.slot - now["firstSlot"]] == checksum(
            block.header.proposer
        )
    assert (ahead["epoch"], ahead["border"]) == (2, None)
    assert (ahead["firstSlot"], ahead["lastSlot"], len(ahead["leaders"])) == (61, 90, 30)
    epoch = node.chain.epoch
    order = shuffle(epoch.next_members.addresses, epoch.next_seed)
    assert ahead["order"] == [checksum(address) for address in order]
    while node.chain.epoch.number < 2:
        node.produce(slots=10)
    assert ask(node, "dpos_schedule")["order"] == ahead["order"]
    assert error(node, "dpos_schedule", 1)[0] == "not_found"
    assert error(node, "dpos_schedule", 4)[0] == "not_found"
    assert error(node, "dpos_schedule", -1)[0] == "params"


def twice(node: Node) -> bytes:
    """A delegate proposes two blocks in a slot; returns the address of its key."""
    node.produce()
    name = node.chain.epoch.members.addresses[2]
    for block_id in (b"\1" * 32, b"\2" * 32):
        ballot = Ballot(BallotKind.PROPOSAL, 0, 1, block_id, 0)
        signature = sign(ballot.digest(node.genesis.chain_id), node.net.secrets[name])
        node.voting.tally.add_proposal(Statement(ballot, signature), name, 1)
    return name


def test_evidence_is_ready_to_be_sent(node: Node) -> None:
    assert ask(node, "dpos_evidence") == []
    signer = twice(node)
    (found,) = ask(node, "dpos_evidence")
    assert (found["offence"], found["signer"]) == ("E0", checksum(signer))
    first, second = found["statements"]
    assert (first["kind"], first["slot"], first["blockId"]) == ("proposal", 1, "0x" + "01" * 32)
    assert second["blockId"] == "0x" + "02" * 32
    assert len(second["signature"]) == 2 + 2 * 65


def metrics(node: Node) -> dict[str, float]:
    lines = render(lambda: readings.all_of(node)).decode().splitlines()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))
    }


def test_metrics(node: Node) -> None:
    for _ in range(2):
        node.produce()
    node.produce(certified=False)
    found = metrics(node)
    assert found["dipnet_finality_lag_slots"] == found["dipnet_unfinal_blocks"] == 1
    assert found["dipnet_finalized_height"] == found["dipnet_safe_height"] == 2
    assert found["dipnet_backoff_step"] == found["dipnet_own_active"] == 1
    own = node.net.secrets[address_of("delegate 0")]
    made = sum(
        node.net.secrets[header.proposer] == own
        for height in (1, 2, 3)
        for header in [node.chain.need(node.chain.hash_at(height) or b"")]
    )
    assert (found["dipnet_own_produced_total"], found["dipnet_own_missed_total"]) == (made, 0)
    assert found["dipnet_own_unsigned_total"] == 0
    assert found["dipnet_certificate_latency_seconds_count"] == 2
    assert found['dipnet_certificate_latency_seconds_bucket{le="0.05"}'] == 0
    assert found['dipnet_certificate_latency_seconds_bucket{le="0.1"}'] == 2
    assert found['dipnet_certificate_latency_seconds_bucket{le="+Inf"}'] == 2
    assert found["dipnet_certificate_latency_seconds_sum"] == pytest.approx(0.2)
    assert "dipnet_clock_offset_seconds" not in found
    node.clock_offset = -1500
    twice(node)
    found = metrics(node)
    assert found["dipnet_clock_offset_seconds"] == -1.5
    assert found["dipnet_offenders"] == 1


def test_every_metric_is_in_the_operators_page(node: Node) -> None:
    node.clock_offset = 0
    node.produce()
    page = set(re.findall(r"\w+", (ROOT / "docs" / "operating.md").read_text()))
    parts = re.compile(r"^dipnet_(\w+?)(_bucket|_count|_sum)?($|{)")
    names = {found[1] for name in metrics(node) if (found := parts.match(name))}
    assert len(names) > 30
    assert not names - page


def test_delegates_have_their_numbers(node: Node) -> None:
    for _ in range(5):
        node.produce(slots=2)
    found = metrics(node)
    told = ask(node, "dpos_delegates")
    assert found["dipnet_candidates"] == len(told) == 4
    for delegate in told:
        label = f'{{delegate="{delegate["address"]}"}}'
        assert found["dipnet_delegate_votes_wei" + label] == int(delegate["votes"], 16)
        assert found["dipnet_delegate_share" + label] == delegate["share"] == 0.25
        assert found["dipnet_delegate_produced_total" + label] == delegate["produced"]
        assert found["dipnet_delegate_missed_total" + label] == delegate["missed"]
        assert found["dipnet_delegate_jailed" + label] == delegate["jailed"] == 0
    assert (
        sum(delegate["produced"] for delegate in told)
        == sum(delegate["missed"] for delegate in told)
        == 5
    )


def test_participation_has_a_label_for_each_member(node: Node) -> None:
    members = node.chain.epoch.members
    for _ in range(12):
        block = node.produce(certified=False)
        slot = block.header.slot
        for kind, voters in ((BallotKind.PREVOTE, 4), (BallotKind.COMMIT, 3)):
            for vote in node.net.votes(node.chain, block.header, kind)[:voters]:
                certificate = node.voting.tally.add(vote, slot)
        assert certificate is not None
        node.certify(block)
        node.voting.on_final(node.now_ms())
    found: dict[str, Any] = metrics(node)
    first, last = (checksum(members.addresses[index]) for index in (0, 3))
    slots = found[f'dipnet_delegate_slots{{delegate="{first}"}}']
    assert slots == found[f'dipnet_delegate_commits{{delegate="{first}"}}'] >= 4
    assert found[f'dipnet_delegate_prevotes{{delegate="{last}"}}'] == slots
    assert found[f'dipnet_delegate_commits{{delegate="{last}"}}'] == 0
    assert sum("dipnet_delegate_slots" in name for name in found) == 4
    node.voting.results["vote_slot"] += 2
    assert metrics(node)['dipnet_votes_total{error="vote_slot"}'] == 2
