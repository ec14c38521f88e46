"""A delegate whose clock leaps: after a signature for a slot far ahead it is silent until then."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import pytest

from dipnet.consensus.chain import rules
from dipnet.consensus.chain.block import Block
from dipnet.consensus.finality.votes import BallotKind
from dipnet.node.effects import Effect, Sign, Woke
from dipnet.p2p import messages as m
from dipnet.primitives import crypto
from tests.fixtures.chain_builder import Net
from tests.fixtures.node_bench import Bench, proposals
from tests.sim.load import secret
from tests.sim.scenario import network
from tests.sim.world import peer_id

PEERS = tuple(peer_id(crypto.public_key(secret(f"peer {n}"))) for n in range(3))
PAST = 12  # slots
LEAPT = "the clock has leapt, and too few peers have told theirs since"


class Delegate(Bench):
    """The bench of one delegate of four, or of the only delegate; at first all clocks agree."""

    def __init__(self, delegates: int = 4) -> None:
        super().__init__(delegates)
        self.asked: list[Sign] = []
        self.ahead_ms = 0  # of the true time
        self.start()
        for peer in PEERS:
            self.greet(peer=peer)
        self.live(PAST)
        self.asked.clear()

    def live(self, slots: int) -> None:
        """Blocks come and become final; all peers send their status at the end of each slot."""
        chain = self.node.chain
        for slot in range(self.node.slot + 1, self.node.slot + 1 + slots):
            self.do(self.at_slot(slot))
            if chain.head.slot < slot and self.leader(slot) not in (None, self.proposer):
                self.see(self.block(slot))
            for kind in (BallotKind.PREVOTE, BallotKind.COMMIT):
                self.certify(kind)
            self.tell(*PEERS)

    @property
    def everybody(self) -> Net:
        """The keys of all delegates, to make their blocks and certificates."""
        _, keys, _ = network(len(self.genesis.delegates))
        return Net(self.genesis, {crypto.address(crypto.public_key(key)): key for key in keys})

    def certify(self, kind: BallotKind) -> None:
        chain = self.node.chain
        proof = self.everybody.certificate(chain, chain.head, kind)
        self.do(self.receive(m.Certificates((proof.raw,)), PEERS[0]))

    def do(self, effects: Sequence[Effect]) -> list[Effect]:
        out = self.answered(effects)
        self.asked += [effect for effect in out if isinstance(effect, Sign)]
        return out

    def tell(self, *peers: str, ahead_ms: int = 0) -> None:
        """These peers send their status, by a clock that is ``slots`` ahead of the true time."""
        status = replace(self.node.view.status(), time_ms=self.now_ms - self.ahead_ms + ahead_ms)
        for peer in peers:
            self.do(self.receive(status, peer))

    def leap(self, slot: int) -> None:
        """The node's clock is set forward to this slot; the node sees it at the next wake-up."""
        self.ahead_ms += (slot - self.node.slot) * self.genesis.parameters.slot_ms
        self.do(self.at_slot(slot, leap=True))

    def leader(self, slot: int) -> bytes | None:
        """The leader of ``slot`` on the node's head; None where the back-off leaves the slot
        empty."""
        chain = self.node.chain
        above = chain.need(chain.head.hash)
        position = chain.position(above, slot, chain.section(above))
        return rules.leader(position.epoch, slot, position.links.final[1])

    def turn(self, slot: int, ours: bool) -> int:
        """The first slot from ``slot`` on that this delegate, or another delegate, leads."""
        return next(
            number
            for number in count(slot)
            if (leader := self.leader(number)) and (leader == self.proposer) is ours
        )

    def block(self, slot: int) -> Block:
        """The block of the slot's leader on the node's head."""
        chain = self.node.chain
        return self.everybody.child(chain, chain.head.hash, slot)

    def see(self, block: Block) -> None:
        self.do(self.receive(m.Items(m.Topic.BLOCK, (block.raw,)), PEERS[0]))
        assert self.node.chain.head.hash == block.hash

    def prevoted(self) -> list[int]:
        return [sign.ballot.slot for sign in self.asked if sign.ballot.kind is BallotKind.PREVOTE]


@pytest.mark.parametrize("slots", [2, 3, 86, 86_400])
@pytest.mark.parametrize("told", [0, 1, 2, 3])
def test_a_clock_that_is_set_forward_signs_nothing_ahead(slots: int, told: int) -> None:
    """It signs nothing, however late and however few of its peers send their status."""
    bench = Delegate()
    ours = bench.turn(PAST + slots + 1, ours=True)
    bench.leap(ours - 1)
    for _ in range(4):
        bench.do(bench.at_slot(bench.node.slot + 1))
        bench.tell(*PEERS[:told])
    assert not bench.asked
    ahead = f"the clock is {bench.ahead_ms} ms ahead of peers"
    assert bench.node.voting.idle == (ahead if told >= 2 else LEAPT)
    true_ms, bench.ahead_ms = bench.now_ms - bench.ahead_ms, 0
    bench.do(bench.step(Woke(), true_ms))  # the clock is set right
    bench.live(12)
    assert len(proposals(bench.asked)) >= 2
    assert len(bench.prevoted()) >= 2


@pytest.mark.parametrize("first", range(3))
def test_a_peer_that_has_leapt_as_far_vouches_for_nothing(first: int) -> None:
    """Two delegates of four have leapt, one more than may be faulty; the order of statuses is
    free."""
    bench = Delegate()
    bench.leap(bench.turn(PAST + 86, ours=True) - 1)
    order = [PEERS[1], PEERS[2]]
    order.insert(first, PEERS[0])
    for _ in range(3):
        for peer in order:
            bench.tell(peer, ahead_ms=bench.ahead_ms if peer == PEERS[0] else 0)
            bench.do(bench.at_slot(bench.node.slot + 1))
    assert not bench.asked


@pytest.mark.parametrize("told", [0, 3])
def test_a_block_that_is_timely_by_our_clock_only_is_not_prevoted_but_committed(told: int) -> None:
    """The block's leader has leapt as far as the node; its certificate shows that a quorum has."""
    bench = Delegate()
    slot = bench.turn(PAST + 86, ours=False)
    bench.leap(slot)
    bench.tell(*PEERS[:told])
    bench.see(bench.block(slot))
    bench.do(bench.at_slot(slot, 100))
    assert not bench.asked
    bench.certify(BallotKind.PREVOTE)
    assert [sign.ballot.kind for sign in bench.asked] == [BallotKind.COMMIT]


def test_a_leap_is_seen_whatever_comes_first() -> None:
    """Statuses of peers arrive before the first wake-up after the leap."""
    bench = Delegate()
    slot = bench.turn(PAST + 86, ours=False)
    bench.now_ms += (slot - PAST) * bench.genesis.parameters.slot_ms
    bench.see(bench.block(slot))
    assert not bench.asked


def test_a_block_waits_for_the_time_of_the_peers() -> None:
    """The node's clock is a slot ahead, which is no leap: it prevotes when the peers' clocks
    allow."""
    bench = Delegate()
    bench.ahead_ms = bench.genesis.parameters.slot_ms
    bench.do(bench.at_slot(PAST + 1))
    for _ in range(8):  # as many samples as the clock keeps
        bench.tell(*PEERS)
    bench.asked.clear()
    slot = bench.turn(bench.node.slot + 1, ours=False)
    bench.do(bench.at_slot(slot))
    bench.see(bench.block(slot))
    bench.do(bench.at_slot(slot, bench.genesis.parameters.slot_ms // 2 - 1))
    assert not bench.prevoted()
    bench.do(bench.at_slot(slot, bench.genesis.parameters.slot_ms // 2))
    assert bench.prevoted() == [slot]


@pytest.mark.parametrize(("told", "goes_on"), [(1, False), (2, True), (3, True)])
def test_a_node_that_stood_still_goes_on_after_the_next_status_of_most_peers(
    told: int, goes_on: bool
) -> None:
    """A process that was suspended, or got no processor time, looks like a clock that was set."""
    bench = Delegate()
    slot = bench.turn(PAST + 5, ours=False)
    bench.leap(slot)
    bench.ahead_ms = 0  # the clock was not set
    assert not bench.asked
    assert bench.node.voting.idle == LEAPT
    bench.see(bench.block(slot))
    assert not bench.asked
    bench.tell(*PEERS[:told])
    assert bench.prevoted() == ([slot] if goes_on else [])
    bench.do(bench.at_slot(bench.turn(slot + 1, ours=True)))
    assert bool(proposals(bench.asked)) is goes_on
    assert bench.node.voting.idle == (None if goes_on else LEAPT)


def test_a_delegate_that_is_a_quorum_asks_no_peer() -> None:
    bench = Delegate(delegates=1)
    slot = PAST + 5
    bench.leap(slot)
    assert [sign.ballot.slot for sign in proposals(bench.asked)] == [slot]
    assert bench.prevoted() == [slot]


def test_a_wake_up_that_is_a_little_late_is_no_leap() -> None:
    bench = Delegate()
    bench.do(bench.at_slot(bench.node.slot + 1, leap=True))  # a whole slot without a step
    assert bench.node.peers.clock_offset_ms() == 0
    late = bench.now_ms + bench.genesis.parameters.slot_ms + 1
    bench.step(Woke(), late)
    assert bench.node.peers.clock_offset_ms() is None
