"""No message and no clock makes ``Node.step`` raise, sign an offence or keep unbounded data."""

from collections.abc import Iterator
from typing import Any

import pytest

from dipnet.consensus.chain.schedule import seed_key, slot_start_ms
from dipnet.consensus.finality.votes import BallotKind, Voter, VoteState
from dipnet.node.effects import (
    Connected,
    Disconnected,
    Drop,
    Effect,
    Received,
    Send,
    Sign,
    Signed,
    Verified,
    Verify,
    Woke,
    Write,
)
from dipnet.node.node import Node
from dipnet.node.queues import LIMITS, Queue
from dipnet.node.work import GossipBlocks
from dipnet.p2p import messages as m
from dipnet.p2p.blocksync import BELIEF_MS
from dipnet.p2p.gossip import FETCH_MS_MAX
from dipnet.p2p.hello import CAPABILITIES
from dipnet.p2p.scores import BLOCK_IDS_MAX
from dipnet.primitives.crypto import public_key, sign
from tests.fixtures.chain_builder import TIME_MS, USERS, Net, secret, transfer
from tests.fixtures.peer_ids import address, peer_id
from tests.fuzz.node import Fuzz
from tests.fuzz.node_world import US

HOUR_MS = 3_600_000
STEPS = 3_300


def tables(owner: object, name: str = "") -> Iterator[tuple[str, int]]:
    """The size of every container of the objects that serve peers."""
    for field, value in vars(owner).items():
        if isinstance(value, dict | set | list):
            yield f"{name}.{field}", len(value)


@pytest.mark.parametrize("seed", range(9))
def test_whatever_peers_send_the_node_goes_on(seed: int) -> None:
    fuzz = Fuzz(seed)
    fuzz.go(STEPS)
    world, node = fuzz.world, fuzz.world.node
    assert fuzz.replies
    assert fuzz.accepted
    assert len(node.dag)
    assert world.signed
    assert node.chain.head.height
    if world.malice < 1:  # the run was orderly enough for some blocks to become final
        assert node.chain.final.height
        assert node.chain.epoch.number
    if world.malice > 0.1:
        assert sum(code.startswith(("vote_", "certificate_")) for code in fuzz.refused) >= 4
    fuzz.leave()
    peers = node.peers
    left = dict(tables(peers, "peers")) | {"checks": len(node._checks)}
    left |= {"asked": len(node.voting._asked), "queues": len(peers._queues)}
    for machine in (
        "vote_push", "gossip", "blocks", "vertices", "exchange", "connections", "scores", "hellos"
    ):  # fmt: skip
        left |= tables(getattr(peers, f"_{machine}"), machine)
    kept = (
        "peers._on",
        "scores._past",
        "scores._bans",
        "connections._called_ms",
        "vote_push._good",
    )
    assert {name: count for name, count in left.items() if count and name not in kept} == {}
    assert peers._gossip.queued_bytes == 0
    world.check_restart()
    world.check_signed()


class Alone:
    """A node of a network of ``delegates``; peers are added by hand, ``sent`` is what it said."""

    def __init__(self, delegates: int = 1, **parameters: Any) -> None:
        self.net = Net.of(delegates, **parameters)
        self.chain, self.disk = self.net.chain()
        self.now_ms = TIME_MS + 1_000
        self.state = VoteState()
        self.node = self.born()
        self.out: list[Effect] = []
        self.do(self.node.start(self.now_ms))

    def born(self) -> Node:
        voter = Voter(public_key(secret(US)), seed_key(secret(US)), self.state)
        return Node(
            self.net.genesis, self.disk, peer_id=peer_id(999), addresses=[], bootstrap=(),
            voter=voter, local=True, seed=1,
        )  # fmt: skip

    def do(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Write):
                self.disk.apply(effect.puts)
            self.out.append(effect)

    def step(self, event: Any) -> list[Effect]:
        before = len(self.out)
        self.do(self.node.step(self.now_ms, event))
        return self.out[before:]

    def take(self, kind: type) -> list[Any]:
        """Effects of this kind since the last ``take``."""
        taken = [effect for effect in self.out if isinstance(effect, kind)]
        self.out = [effect for effect in self.out if not isinstance(effect, kind)]
        return taken

    def sign(self) -> int:
        """Signs all ballots that wait and that follow; returns the number of proposals."""
        proposals = 0
        while asked := self.take(Sign):
            for effect in asked:
                proposals += effect.ballot.kind is BallotKind.PROPOSAL
                self.step(self.signed(effect))
        return proposals

    def signed(self, asked: Sign) -> Signed:
        """The signer's answer."""
        assert not self.state.refuse(asked.ballot)
        self.state = self.state.after(asked.ballot)
        digest = asked.ballot.digest(self.net.genesis.chain_id)
        return Signed(asked.ticket, sign(digest, secret(US)), self.state)

    def judge(self) -> int:
        """Judges all frames that wait; returns their number."""
        asked = self.take(Verify)
        for effect in asked:
            self.step(Verified(effect.ticket, self.node.check(effect.work)))
        return len(asked)

    def meet(self, number: int, height: int = 0) -> str:
        peer = peer_id(number)
        self.step(Connected(peer, address(number), False))
        genesis = self.node.chain.genesis_hash
        hello = m.Hello(
            "x/1", self.net.genesis.chain_id, genesis, CAPABILITIES, (), b"8" * 8, height,
            bytes(32), 0, genesis, 0, 0, 0, 0, self.now_ms,
        )  # fmt: skip
        self.receive(peer, hello)
        return peer

    def receive(self, peer: str, message: m.Message) -> list[Effect]:
        return self.step(Received(peer, m.protocol_of(message), m.encode(message)))

    def next_slot(self, times: int = 1) -> None:
        genesis = self.net.genesis
        for _ in range(times):
            slot = (self.now_ms - genesis.time_ms) // genesis.parameters.slot_ms + 1
            self.now_ms = slot_start_ms(genesis.parameters, slot)
            self.step(Woke())


def test_a_clock_set_back_between_draft_and_signature_is_survived() -> None:
    alone = Alone()
    alone.next_slot()
    (asked,) = alone.take(Sign)[-1:]
    height = alone.node.chain.head.height
    alone.now_ms -= HOUR_MS // 2
    alone.step(alone.signed(asked))
    assert alone.node.chain.head.height == height  # a block of the future by the node's own key


def test_a_clock_set_back_stops_no_deadline_and_signs_no_slot_again() -> None:
    alone = Alone()
    for _ in range(5):
        alone.next_slot()
        alone.sign()
    head = alone.node.chain.head
    peer, other = alone.meet(1), alone.meet(2)
    wanted = b"\7" * 32
    for sender in (peer, other):
        alone.receive(sender, m.Announce(m.Topic.VERTEX, (wanted,)))
    alone.now_ms -= HOUR_MS // 60
    alone.take(Send)
    asked: list[str] = []
    for _ in range(2 * FETCH_MS_MAX // 50):
        alone.now_ms += 50
        alone.step(Woke())
        for send in alone.take(Send):
            message = m.decode(send.protocol, send.data)
            if isinstance(message, m.Fetch) and wanted in message.ids:
                asked.append(send.peer)
    assert {peer, other} <= {*asked}  # the first peer was given up, the second peer was asked
    assert alone.sign() == 0
    assert alone.node.chain.head == head
    alone.now_ms += HOUR_MS // 60
    alone.next_slot()
    assert alone.sign() == 1
    assert alone.node.chain.head.height == head.height + 1


def test_peers_get_statuses_while_the_clock_is_behind() -> None:
    alone = Alone()
    peer = alone.meet(1)
    alone.now_ms -= 500_000  # before genesis, even
    alone.step(Woke())
    alone.now_ms += 1_000
    alone.take(Send)
    alone.now_ms += 600_000
    alone.next_slot(2)
    told = [m.decode(s.protocol, s.data) for s in alone.take(Send) if s.peer == peer]
    assert sum(isinstance(message, m.Status) for message in told) >= 2


def test_peers_that_claim_to_be_ahead_stop_no_production() -> None:
    """Liars connect in sequence and never answer: at most the first liar costs a slot."""
    alone = Alone()
    lost = 0
    for number in range(60):
        peer = alone.meet(number, height=2**60)
        alone.next_slot()
        lost += not alone.sign()
        if number % 4 == 0:
            alone.step(Disconnected(peer, "gone"))
    assert lost * alone.net.genesis.parameters.slot_ms <= BELIEF_MS
    assert alone.node.chain.head.height >= 60 - lost


def test_frames_that_wait_for_judgement_are_bounded_over_reconnections() -> None:
    alone = Alone()
    wire = bytes(8 << 20)
    sizes = []
    for _ in range(40):
        peer = alone.meet(7)
        for _ in range(3):
            alone.receive(peer, m.Vertices(wire))
        alone.step(Disconnected(peer, "gone"))
        sizes.append(len(alone.node.peers._queues))
    assert max(sizes) <= 2 * len(wire)  # the share of a single peer
    for number in range(100, 140):
        peer = alone.meet(number)
        for _ in range(3):
            alone.receive(peer, m.Vertices(wire))
    assert len(alone.node.peers._queues) <= LIMITS[Queue.OTHERS].all_bytes_max
    late = peer_id(110)
    assert not any(isinstance(e, Verify) for e in alone.receive(late, m.Vertices(wire)))
    pushed = alone.receive(late, m.Items(m.Topic.BLOCK, (wire[:300],)))
    (check,) = [e.work for e in pushed if isinstance(e, Verify)]  # blocks have their own queue
    assert isinstance(check, GossipBlocks)
    alone.judge()
    assert len(alone.node.peers._queues) == 0
    peer = alone.meet(500)
    frames_max = LIMITS[Queue.OTHERS].frames_max
    taken = [alone.receive(peer, m.Vertices(b"0" * 300)) for _ in range(2 * frames_max)]
    assert sum(isinstance(e, Verify) for effects in taken for e in effects) == frames_max


def test_a_dropped_peer_is_heard_no_more() -> None:
    alone = Alone()
    peer = alone.meet(1)
    alone.step(Received(peer, "gossip", b"\xff garbage"))
    assert [drop.peer for drop in alone.take(Drop)] == [peer]
    alone.take(Send)
    good = m.Items(m.Topic.TX, (transfer(USERS[0], 0).raw,))
    alone.receive(peer, good)
    alone.step(Received(peer, "gossip", b"\xff more garbage"))
    alone.next_slot()
    assert alone.take(Drop) == alone.take(Verify) == alone.take(Send) == []
    alone.step(Disconnected(peer, "dropped"))
    assert alone.step(Connected(peer, address(1), False))[0] == Drop(
        peer, "peer limit exceeded: banned"
    )


def test_a_late_hello_is_charged_once() -> None:
    alone = Alone()
    alone.step(Connected(peer_id(1), address(1), False))
    for _ in range(30):
        alone.now_ms += 1_000
        alone.step(Woke())
    assert [drop.reason for drop in alone.take(Drop)] == ["no hello"]


def test_ids_of_blocks_are_few_in_a_message() -> None:
    """Looking up an id may read a whole block from the disk."""
    alone = Alone()
    messages: tuple[type[m.Announce | m.Fetch], ...] = (m.Announce, m.Fetch)
    for number, message in enumerate(messages):
        peer = alone.meet(number)
        ids = tuple(n.to_bytes(32, "big") for n in range(BLOCK_IDS_MAX + 1))
        alone.receive(peer, message(m.Topic.BLOCK, ids[1:]))
        assert alone.node.peers._scores.score(alone.now_ms, peer) == 0
        alone.receive(peer, message(m.Topic.BLOCK, ids))
        assert alone.node.peers._scores.score(alone.now_ms, peer) < 0
        alone.step(Disconnected(peer, ""))


def test_a_block_that_is_here_is_not_judged_again() -> None:
    alone = Alone()
    alone.next_slot(2)
    alone.sign()
    alone.next_slot()
    alone.sign()
    raw = alone.node.view.raw(m.Topic.BLOCK, alone.node.chain.head.hash)
    assert raw is not None
    peer = alone.meet(1)
    assert not any(
        isinstance(e, Verify) for e in alone.receive(peer, m.Items(m.Topic.BLOCK, (raw,)))
    )
    spoilt = raw[:-1] + bytes([raw[-1] ^ 1])
    effects = alone.receive(peer, m.Items(m.Topic.BLOCK, (raw, spoilt[:40])))
    assert any(isinstance(e, Verify) for e in effects)
