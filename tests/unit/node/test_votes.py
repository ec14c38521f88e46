"""A node among delegates: its signatures, relays and records when votes and blocks cross."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from dipnet.consensus.chain import rules
from dipnet.consensus.chain.block import Block
from dipnet.consensus.chain.schedule import slot_start_ms
from dipnet.consensus.finality.votes import BallotKind
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
from dipnet.p2p.scores import OFFENCES
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
    return [sign for sign in signs if sign.ballot.kind is not BallotKind.PROPOSAL]


def grown(slots: range) -> Bench:
    """The bench of the only delegate of a network, which has made blocks final."""
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
    """The keys of all delegates of a bench's network, to make their blocks and certificates."""
    _, keys, _ = network(len(bench.genesis.delegates))
    return Net(bench.genesis, {crypto.address(crypto.public_key(key)): key for key in keys})


# --- what we sign


def test_a_signature_that_comes_epochs_later_is_of_no_use_and_no_harm() -> None:
    """The node asked for the signature before it learned that it is epochs behind."""
    far, near = grown(range(2, 50)), Bench()
    near.start()
    (proposal,) = [effect for effect in near.at_slot(1) if isinstance(effect, Sign)]
    (vote,) = votes_asked(near.step(near.signed(proposal)))
    late = near.signed(vote)
    catch_up(near, far)
    assert near.node.chain.final.height >= far.node.chain.final.height - 1
    assert near.node.chain.sets.get(vote.ballot.epoch) is None
    head = near.node.chain.head
    near.step(late)
    assert near.node.chain.head is head


def test_a_commit_waits_until_its_certificate_is_on_disk_and_a_prevote_does_not() -> None:
    """Otherwise a power cut could leave all delegates locked on a certificate that no disk has."""
    bench, barrier = Bench(4), Barrier()
    everybody, chain = network_of(bench), bench.node.chain
    bench.start()
    bench.greet()
    bench.at_slot(1)
    block = everybody.child(chain, chain.head.hash, 1)
    taken = bench.receive(m.Items(m.Topic.BLOCK, (block.raw,)))
    (check,) = [effect for effect in taken if isinstance(effect, Verify)]
    verdict = Verified(check.ticket, bench.node.check(check.work))
    out = list(barrier.admit(bench.step(verdict)))
    assert [effect.ballot.kind for effect in out if isinstance(effect, Sign)] == [
        BallotKind.PREVOTE
    ]
    proof = everybody.certificate(chain, block.header, BallotKind.PREVOTE)
    (check,) = [
        effect
        for effect in bench.receive(m.Certificates((proof.raw,)))
        if isinstance(effect, Verify)
    ]
    verdict = Verified(check.ticket, bench.node.check(check.work))
    out = list(barrier.admit(bench.step(verdict)))
    assert proof.raw in [
        raw for effect in out if isinstance(effect, Write) for raw in effect.puts.values()
    ]
    assert not [effect for effect in out if isinstance(effect, Sign)]
    out = list(barrier.durable(barrier.staged))
    assert [effect.ballot.kind for effect in out if isinstance(effect, Sign)] == [BallotKind.COMMIT]


def test_a_node_ends_before_rules_that_it_has_not_also_when_it_is_started_again() -> None:
    bench = grown(range(1, 3))
    (proposal,) = [effect for effect in bench.at_slot(3) if isinstance(effect, Sign)]
    voted = bench.step(bench.signed(proposal))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "RULES", {})
        (halt,) = [effect for effect in bench.answered(voted) if isinstance(effect, Halt)]
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
        """Claims a head with a new hash each slot, always with the highest certificate."""
        named = self.node.now_ms.to_bytes(32, "big")
        genesis = self.node.node.chain.genesis_hash
        status = m.Status(1 << 40, named, 0, genesis, 1 << 40, 1 << 40, 0, 0, self.node.now_ms)
        return self.asked(self.node.receive(status))

    def asked(self, effects: list[Effect]) -> list[Effect]:
        for request in block_requests(effects):
            self.request = request.request
        return effects

    def deliver(self, block: Block) -> list[Effect]:
        """Sends the block as the answer that it owes, then pushes it like any peer."""
        told: list[m.Message] = [m.Items(m.Topic.BLOCK, (block.raw,))]
        if self.request:
            told.insert(0, m.Blocks(self.request, (block.raw,), False))
            self.request = 0
        return [
            e
            for message in told
            for e in self.asked(self.node.answered(self.node.receive(message)))
        ]


def test_a_peer_with_every_new_block_before_all_others_stops_no_delegate() -> None:
    """The node believes the liar's claim once, at the start, and never again."""
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
    for sign in signs:
        if isinstance(sign, Sign):
            slots[sign.ballot.kind].append(sign.ballot.slot)
    assert slots[BallotKind.PREVOTE][-30:] == slots[BallotKind.COMMIT][-30:] == list(range(30, 60))
    assert len(slots[BallotKind.PROPOSAL]) >= 10


def test_an_answer_of_many_blocks_for_one_slot_ends_with_the_first() -> None:
    bench = Bench(4)
    everybody, chain = network_of(bench), bench.node.chain
    bench.start()
    (ask,) = block_requests(bench.greet(head_height=50))
    bench.at_slot(9)
    payments = [decode(bench.payment(value=n), bench.genesis.chain_id) for n in range(9)]
    forks = [everybody.child(chain, chain.genesis_hash, 1, [payment]) for payment in payments]
    raws = tuple(fork.raw for fork in forks)
    effects = bench.answered(bench.receive(m.Blocks(ask.request, raws, False)))
    assert [chain.header(fork.hash) is not None for fork in forks] == [True] + 8 * [False]
    assert [effect.peer for effect in effects if isinstance(effect, Drop)] == [PEER]


def forks_of_slot_1(bench: Bench, count: int) -> list[Block]:
    """Blocks of slot 1 by its leader, on genesis; the bench's clock is in slot 9 afterwards."""
    bench.start()
    everybody, chain = network_of(bench), bench.node.chain
    payments = [decode(bench.payment(value=n), bench.genesis.chain_id) for n in range(count)]
    bench.at_slot(9)
    return [everybody.child(chain, chain.genesis_hash, 1, [payment]) for payment in payments]


def asked_at_once(bench: Bench, head: bytes) -> list[m.GetBlocks]:
    """The requests to a peer whose status has this head and the highest certificate of all."""
    standing = bench.node.view.status()
    claim = replace(standing, safe_slot=1 << 40, head_height=1 << 20, head_hash=head)
    bench.now_ms += FLUSH_MS
    return block_requests(bench.receive(claim))


@pytest.mark.parametrize("promised", [True, False])
@pytest.mark.parametrize("more", [True, False])
@pytest.mark.parametrize("early", [True, False])
def test_a_peer_that_gives_only_surplus_blocks_of_a_slot_is_left_alone(
    promised: bool, more: bool, early: bool
) -> None:
    """A leader signs endless blocks of its slot; each answer of its peer has another such block."""
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
    kept = [fork for fork in forks if chain.header(fork.hash) is not None]
    assert len(kept) == rules.SLOT_BLOCKS_MAX + TRIES_MAX
    (peer,) = bench.node.peers.described(bench.node.steady_ms)
    # the peer delivered as promised: it is not asked again, and not charged
    blamed = not (promised or early or more)
    assert (peer["score"] <= OFFENCES["useless"] * TRIES_MAX) == blamed


def test_a_surplus_block_on_which_an_honest_leader_builds_is_taken() -> None:
    """Otherwise a leader that gives each node another block of its slot would part them for
    good."""
    bench = Bench(4)
    *full, surplus = forks_of_slot_1(bench, rules.SLOT_BLOCKS_MAX + 1)
    second = Bench(4)
    second.start()
    second.at_slot(9)
    second.answered(second.greet())
    second.answered(second.receive(m.Items(m.Topic.BLOCK, (surplus.raw,))))
    child = network_of(bench).child(second.node.chain, surplus.hash, 2)
    bench.greet()
    for block in [*full, surplus]:
        bench.answered(bench.receive(m.Items(m.Topic.BLOCK, (block.raw,))))
    chain = bench.node.chain
    assert [chain.header(block.hash) is None for block in [*full, surplus]] == [False] * 4 + [True]
    (ask,) = asked_at_once(bench, child.hash)
    bench.answered(bench.receive(m.Blocks(ask.request, (surplus.raw, child.raw), False)))
    assert chain.head.hash == child.hash
    assert bench.node.peers.described(bench.node.steady_ms)[0]["score"] == 0
    assert asked_at_once(bench, bytes(32))  # the peer's answer does not count as a failure


# --- what we relay


def sent_to(peer: str, effects: Sequence[Effect]) -> list[Any]:
    sends = [send for send in effects if isinstance(send, Send) and send.peer == peer]
    return [m.decode(send.protocol, send.data) for send in sends]


def test_certificates_of_settled_blocks_are_neither_judged_nor_relayed() -> None:
    """A peer can replay the certificates of two epochs; the network must not relay them again."""
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
    for certificate in kept:
        spoilt = replace(certificate, signatures=bytes(len(certificate.signatures)))
        for sent in (certificate, spoilt):
            out = bench.answered(bench.receive(m.Certificates((sent.raw,))))
            assert not [said for said in sent_to(OTHER, out) if isinstance(said, m.Certificates)]
    assert bench.node.peers._scores.score(bench.now_ms, PEER) > -10


@pytest.mark.parametrize("certified", [True, False])
def test_a_certified_block_that_does_not_come_is_fetched(certified: bool) -> None:
    """It is not fetched at once, for votes outrun their block, nor for one vote, which may be
    false."""
    there, bench = Bench(4), Bench(4)
    for started in (there, bench):
        started.start()
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
    """The vertices come before the vote, and no write of them is durable yet."""
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
        assert not [effect for effect in barrier.admit(flood) if isinstance(effect, Send | Reply)]
    vote = everybody.votes(chain, block.header, BallotKind.PREVOTE)[1]
    out = list(barrier.admit(bench.answered(bench.receive(m.Votes((vote.raw,))))))
    assert sent_to(OTHER, out) == [m.Votes((vote.raw,))]
    later = [
        m.decode(effect.protocol, effect.data)
        for effect in barrier.durable(50)
        if isinstance(effect, Send)
    ]
    assert later
    assert not [said for said in later if isinstance(said, m.Votes | m.Certificates)]
