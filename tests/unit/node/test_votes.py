"""A node among voters: what it signs, relays and keeps when signatures, votes and blocks cross."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from dipnet.consensus.chain import rules
from dipnet.consensus.chain.block import Block
from dipnet.consensus.chain.schedule import slot_start_ms
from dipnet.consensus.finality.votes import BallotKind
from dipnet.ledger import rules as protocol_rules
from dipnet.ledger.tx import decode
from dipnet.node.effects import (
    Barrier,
    Drop,
    Effect,
    Halt,
    Reply,
    Send,
    Sign,
    Submitted,
    Verified,
    Verify,
    Write,
)
from dipnet.node.peers import FLUSH_MS
from dipnet.node.work import ClientVertices
from dipnet.p2p import messages as m
from dipnet.p2p.blocksync import PAUSE_MS, TRIES_MAX
from dipnet.p2p.gossip import MENTION_MS
from dipnet.p2p.scores import PeerOffence
from dipnet.primitives import crypto
from tests.fixtures.chain_builder import Net
from tests.fixtures.node_bench import PEER, Bench, block_requests
from tests.sim.load import secret
from tests.sim.scenario import network
from tests.sim.world import peer_id

OTHER = peer_id(crypto.public_key(secret("another peer")))
BOTH = (BallotKind.PREVOTE, BallotKind.COMMIT)


def votes_asked(effects: Sequence[Effect]) -> list[Sign]:
    signs = [effect for effect in effects if isinstance(effect, Sign)]
    return [one for one in signs if one.ballot.kind is not BallotKind.PROPOSAL]


def grown(slots: range) -> Bench:
    """The only delegate of a network, after it has made blocks final."""
    bench = Bench()
    bench.start()
    for slot in slots:
        bench.propose(slot)
    return bench


def catch_up(behind: Bench, ahead: Bench) -> list[Effect]:
    behind.now_ms = ahead.now_ms
    effects = behind.greet(head_height=ahead.node.chain.head.height)
    (ask,) = block_requests(effects)
    raws = tuple(ahead.node.view.blocks_after(ask.locator))
    return behind.answered(behind.receive(m.Blocks(ask.request, raws, False)))


def network_of(bench: Bench) -> Net:
    """To make the blocks and certificates of all delegates of a bench."""
    _, keys, _ = network(len(bench.genesis.delegates))
    return Net(bench.genesis, {crypto.address(crypto.public_key(key)): key for key in keys})


# --- what we sign


def test_a_signature_that_comes_epochs_later_is_of_no_use_and_no_harm() -> None:
    """It was asked for before the node learned that it is epochs behind."""
    far, near = grown(range(2, 50)), Bench()
    near.start()
    (proposal,) = [one for one in near.at_slot(1) if isinstance(one, Sign)]
    (vote,) = votes_asked(near.step(near.signed(proposal)))
    late = near.signed(vote)
    catch_up(near, far)
    assert near.node.chain.final.height >= far.node.chain.final.height - 1
    assert near.node.chain.sets.get(vote.ballot.epoch) is None
    head = near.node.chain.head
    near.step(late)
    assert near.node.chain.head is head


def test_a_commit_waits_until_its_certificate_is_on_disk_and_a_prevote_does_not() -> None:
    """Else a power cut could leave all delegates locked on a certificate that no disk has."""
    bench, barrier = Bench(4), Barrier()
    everybody, chain = network_of(bench), bench.node.chain
    bench.start()
    bench.greet()
    bench.at_slot(1)
    block = everybody.child(chain, chain.head.hash, 1)
    taken = bench.receive(m.Items(m.Topic.BLOCK, (block.raw,)))
    (check,) = [one for one in taken if isinstance(one, Verify)]
    verdict = Verified(check.ticket, bench.node.check(check.work))
    out = list(barrier.admit(bench.step(verdict)))
    assert [one.ballot.kind for one in out if isinstance(one, Sign)] == [BallotKind.PREVOTE]
    proof = everybody.certificate(chain, block.header, BallotKind.PREVOTE)
    (check,) = [
        one for one in bench.receive(m.Certificates((proof.raw,))) if isinstance(one, Verify)
    ]
    verdict = Verified(check.ticket, bench.node.check(check.work))
    out = list(barrier.admit(bench.step(verdict)))
    assert proof.raw in [raw for one in out if isinstance(one, Write) for raw in one.puts.values()]
    assert not [one for one in out if isinstance(one, Sign)]
    out = list(barrier.durable(barrier.staged))
    assert [one.ballot.kind for one in out if isinstance(one, Sign)] == [BallotKind.COMMIT]


def test_a_node_ends_before_rules_that_it_has_not_also_when_it_is_started_again() -> None:
    bench = grown(range(1, 3))
    (proposal,) = [one for one in bench.at_slot(3) if isinstance(one, Sign)]
    voted = bench.step(bench.signed(proposal))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol_rules, "RULES", {})
        (halt,) = [one for one in bench.answered(voted) if isinstance(one, Halt)]
        assert halt.reason.startswith("rules unknown")
        again = Bench(disk=bench.disk, state=bench.state)
        again.now_ms = slot_start_ms(bench.genesis.parameters, 4)
        assert halt in again.start()
    assert halt not in Bench(disk=bench.disk, state=bench.state).start()


# --- peers that keep us from it


class Liar:
    """A peer that claims heads that do not exist and answers late, each time with a new block."""

    def __init__(self, node: Bench) -> None:
        self.node = node
        self.request = 0

    def claim(self) -> list[Effect]:
        """Its heads have another name each slot, and always the highest certificate."""
        named = self.node.now_ms.to_bytes(32, "big")
        genesis = self.node.node.chain.genesis_hash
        status = m.Status(1 << 40, named, 0, genesis, 1 << 40, 1 << 40, 0, 0, self.node.now_ms)
        return self.asked(self.node.receive(status))

    def asked(self, effects: list[Effect]) -> list[Effect]:
        for request in block_requests(effects):
            self.request = request.request
        return effects

    def deliver(self, block: Block) -> list[Effect]:
        """As the answer that it owes, then pushed, as any peer would."""
        told: list[m.Message] = [m.Items(m.Topic.BLOCK, (block.raw,))]
        if self.request:
            told.insert(0, m.Blocks(self.request, (block.raw,), False))
            self.request = 0
        return [e for one in told for e in self.asked(self.node.answered(self.node.receive(one)))]


def test_a_peer_with_every_new_block_before_all_others_stops_no_delegate() -> None:
    """It is believed once, at the start; later only a peer that moves an old head would be."""
    bench = Bench(4)
    others = network_of(bench)
    bench.start()
    bench.greet()
    liar, signs = Liar(bench), list[Effect]()
    for slot in range(1, 60):
        signs += liar.asked(bench.answered(bench.at_slot(slot)))
        chain = bench.node.chain
        if chain.head.slot < slot and chain.epoch.order[slot % 4] != bench.proposer:
            signs += liar.deliver(others.child(chain, chain.head.hash, slot))
        for proof in [others.certificate(chain, chain.head, kind) for kind in BOTH]:
            signs += liar.asked(bench.answered(bench.receive(m.Certificates((proof.raw,)))))
        for late_ms in (300, 600, 900):
            liar.asked(bench.at_slot(slot, late_ms))
            liar.claim()
    slots: dict[BallotKind, list[int]] = {kind: [] for kind in BallotKind}
    for one in signs:
        if isinstance(one, Sign):
            slots[one.ballot.kind].append(one.ballot.slot)
    assert slots[BallotKind.PREVOTE][-30:] == slots[BallotKind.COMMIT][-30:] == list(range(30, 60))
    assert len(slots[BallotKind.PROPOSAL]) >= 10


def test_an_answer_of_many_blocks_for_one_slot_ends_with_the_first() -> None:
    bench = Bench(4)
    everybody, chain = network_of(bench), bench.node.chain
    bench.start()
    (ask,) = block_requests(bench.greet(head_height=50))
    bench.at_slot(9)
    payments = [decode(bench.payment(value=n), bench.genesis.chain_id) for n in range(9)]
    forks = [everybody.child(chain, chain.genesis_hash, 1, [one]) for one in payments]
    raws = tuple(one.raw for one in forks)
    effects = bench.answered(bench.receive(m.Blocks(ask.request, raws, False)))
    assert [chain.header(one.hash) is not None for one in forks] == [True] + 8 * [False]
    assert [one.peer for one in effects if isinstance(one, Drop)] == [PEER]


def forks_of_slot_1(bench: Bench, count: int) -> list[Block]:
    """Blocks of one leader on genesis; the bench's clock is in slot 9 afterwards."""
    bench.start()
    everybody, chain = network_of(bench), bench.node.chain
    payments = [decode(bench.payment(value=n), bench.genesis.chain_id) for n in range(count)]
    bench.at_slot(9)
    return [everybody.child(chain, chain.genesis_hash, 1, [one]) for one in payments]


def asked_at_once(bench: Bench, head: bytes) -> list[m.GetBlocks]:
    """What a peer is asked that claims this head and more than all others."""
    standing = bench.node.view.status()
    claim = replace(standing, safe_slot=1 << 40, head_height=1 << 20, head_hash=head)
    bench.now_ms += FLUSH_MS
    return block_requests(bench.receive(claim))


@pytest.mark.parametrize("promised", [True, False])
@pytest.mark.parametrize("more", [True, False])
@pytest.mark.parametrize("early", [True, False])
def test_who_gives_only_surplus_blocks_of_a_slot_is_left_alone(
    promised: bool, more: bool, early: bool
) -> None:
    """A leader signs blocks of its slot without end; each answer of its peer has one of them."""
    bench = Bench(4)
    forks = forks_of_slot_1(bench, 40)
    bench.greet()
    chain, everybody = bench.node.chain, network_of(bench)
    child = everybody.child(chain, chain.genesis_hash, 40)
    ends, given, asks = bench.now_ms + PAUSE_MS, 0, list[m.GetBlocks]()
    while bench.now_ms < ends and given < len(forks):
        block = forks[given]
        head = block.hash if promised else given.to_bytes(32, "big")
        for ask in asks or asked_at_once(bench, head):
            later = everybody.forged(child, parent=block.hash, height=2)
            raws = (block.raw, later.raw) if early else (block.raw,)
            asks = block_requests(bench.answered(bench.receive(m.Blocks(ask.request, raws, more))))
            given += 1
    kept = [one for one in forks if chain.header(one.hash) is not None]
    assert len(kept) == rules.SLOT_BLOCKS_MAX + TRIES_MAX
    (peer,) = bench.node.peers.described(bench.node.steady_ms)
    blamed = not (
        promised or early or more
    )  # a peer that delivers as promised is not asked again, but not charged
    assert (peer["score"] <= PeerOffence.USELESS.points * TRIES_MAX) == blamed


def test_a_surplus_block_on_which_an_honest_leader_builds_is_taken() -> None:
    """Else a leader that gives each node another block of its slot parts them for good."""
    bench = Bench(4)
    *full, surplus = forks_of_slot_1(bench, rules.SLOT_BLOCKS_MAX + 1)
    other = Bench(4)
    other.start()
    other.at_slot(9)
    other.answered(other.greet())
    other.answered(other.receive(m.Items(m.Topic.BLOCK, (surplus.raw,))))
    child = network_of(bench).child(other.node.chain, surplus.hash, 2)
    bench.greet()
    for block in [*full, surplus]:
        bench.answered(bench.receive(m.Items(m.Topic.BLOCK, (block.raw,))))
    chain = bench.node.chain
    assert [chain.header(one.hash) is None for one in [*full, surplus]] == [False] * 4 + [True]
    (ask,) = asked_at_once(bench, child.hash)
    bench.answered(bench.receive(m.Blocks(ask.request, (surplus.raw, child.raw), False)))
    assert chain.head.hash == child.hash
    assert bench.node.peers.described(bench.node.steady_ms)[0]["score"] == 0
    assert asked_at_once(bench, bytes(32))  # and its peer is no failure


# --- what we relay


def sent_to(peer: str, effects: Sequence[Effect]) -> list[Any]:
    sends = [one for one in effects if isinstance(one, Send) and one.peer == peer]
    return [m.decode(one.protocol, one.data) for one in sends]


def test_certificates_of_what_is_settled_are_not_judged_and_go_no_further() -> None:
    """A peer can keep those of two epochs: sent again, they would run through the network."""
    bench = Bench(4)
    everybody, chain = network_of(bench), bench.node.chain
    bench.start()
    bench.greet()
    bench.greet(peer=OTHER)
    kept = []
    for slot in range(1, 6):
        bench.at_slot(slot)
        block = everybody.child(chain, chain.head.hash, slot)
        bench.answered(bench.receive(m.Items(m.Topic.BLOCK, (block.raw,))))
        assert chain.head.hash == block.hash
        kept += [everybody.certificate(chain, block.header, kind) for kind in BOTH]
        if slot >= 4:
            told = m.Certificates((kept[-1].raw,))
            out = bench.answered(bench.receive(told))
            assert told in sent_to(OTHER, out)
    assert chain.final.slot == 5
    for one in kept:
        spoilt = replace(one, signatures=bytes(len(one.signatures)))
        for sent in (one, spoilt):
            out = bench.answered(bench.receive(m.Certificates((sent.raw,))))
            assert not [said for said in sent_to(OTHER, out) if isinstance(said, m.Certificates)]
    assert bench.node.peers._scores.score(bench.now_ms, PEER) > -10


@pytest.mark.parametrize("certified", [True, False])
def test_a_certified_block_that_does_not_come_is_fetched(certified: bool) -> None:
    """Not at once: votes are faster than their block. Nor for a vote alone: no peer may have it."""
    there, bench = Bench(4), Bench(4)
    for one in (there, bench):
        one.start()
    everybody, chain = network_of(there), there.node.chain
    block = everybody.child(chain, chain.head.hash, 1)
    there.at_slot(1)
    there.answered(there.receive(m.Items(m.Topic.BLOCK, (block.raw,))))
    bench.at_slot(1)
    bench.greet()
    vote = everybody.votes(chain, block.header, BallotKind.PREVOTE)[1]
    proof = everybody.certificate(chain, block.header, BallotKind.PREVOTE)
    fetch = m.Fetch(m.Topic.BLOCK, (block.hash,))
    early = bench.answered(bench.receive(m.Votes((vote.raw,))))
    if certified:
        early += bench.answered(bench.receive(m.Certificates((proof.raw,))))
    early += bench.answered(bench.at_slot(1, MENTION_MS - 100))
    assert fetch not in sent_to(PEER, early)
    late = [e for ms in (0, 100, 200) for e in bench.answered(bench.at_slot(1, MENTION_MS + ms))]
    assert (fetch in sent_to(PEER, late)) is certified


def test_a_flood_of_readings_holds_no_vote_up() -> None:
    """On a disk that keeps none of them for now, and with all of them before it."""
    bench, barrier = Bench(4), Barrier()
    everybody, chain = network_of(bench), bench.node.chain
    bench.start()
    bench.greet()
    bench.greet(peer=OTHER)
    bench.at_slot(1)
    block = everybody.child(chain, chain.head.hash, 1)
    bench.answered(bench.receive(m.Items(m.Topic.BLOCK, (block.raw,))))
    for number in range(50):
        reading = bench.vertex(secret(f"device {number}"))
        flood = bench.answered(bench.step(Submitted(number, ClientVertices((reading,)))))
        flood += bench.at_slot(1, 15 * number)
        assert not [one for one in barrier.admit(flood) if isinstance(one, Send | Reply)]
    vote = everybody.votes(chain, block.header, BallotKind.PREVOTE)[1]
    out = list(barrier.admit(bench.answered(bench.receive(m.Votes((vote.raw,))))))
    assert sent_to(OTHER, out) == [m.Votes((vote.raw,))]
    later = [
        m.decode(one.protocol, one.data) for one in barrier.durable(50) if isinstance(one, Send)
    ]
    assert later
    assert not [said for said in later if isinstance(said, m.Votes | m.Certificates)]
