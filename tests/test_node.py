"""``node.step``: which effects follow from an event, and in which order."""

from collections.abc import Iterator, Sequence

import pytest

from dipnet import crypto
from dipnet.consensus import produce
from dipnet.consensus.records import KEY_BLOCK
from dipnet.consensus.schedule import seed_key, slot_start_ms
from dipnet.consensus.votes import Kind, Voter, VoteState
from dipnet.dag.graph import KEY_VERTEX
from dipnet.dag.vertex import Draft, sign_vertex, topic_of
from dipnet.effects import (
    Connected,
    DialFailed,
    Disconnected,
    Drop,
    Effect,
    Event,
    Publish,
    Received,
    Reply,
    Send,
    Sign,
    Signed,
    Submitted,
    Verified,
    Verify,
    Wake,
    Woke,
    Write,
)
from dipnet.errors import Invalid
from dipnet.peering import UNJUDGED
from dipnet.node import Node, first_puts
from dipnet.p2p import messages as m
from dipnet.p2p.blocksync import BELIEF_MS
from dipnet.p2p.hello import CAPABILITIES
from dipnet.p2p.messages import Lane
from dipnet.p2p.vertexsync import TRIES_MAX
from dipnet.tx import sign_tx
from tests.memory import Memory
from tests.sim import peer_id
from tests.sim_load import secret
from tests.sim_scenario import network

PEER = peer_id(crypto.public_key(secret("peer")))
ADDRESS = f"/ip4/127.0.0.1/tcp/30999/p2p/{PEER}"


class Bench:
    """One node whose effects a test looks at; writes go to its disk, checks and keys answer."""

    def __init__(
        self,
        delegates: int = 1,
        me: int = 0,
        disk: Memory | None = None,
        state: VoteState | None = None,
    ) -> None:
        self.genesis, keys, self.payers = network(delegates)
        self.key = keys[me]
        self.disk = Memory() if disk is None else disk
        self.disk.apply(first_puts(self.genesis, self.disk))
        self.state = state or VoteState()
        self.proposer = crypto.address(crypto.public_key(self.key))
        voter = Voter(crypto.public_key(self.key), seed_key(self.key), self.state)
        self.node = Node(
            self.genesis,
            self.disk,
            peer_id=peer_id(crypto.public_key(self.key)),
            addresses=["/ip4/127.0.0.1/tcp/30000"],
            voter=voter,
            bootstrap=[],
            local=True,
            seed=7,
        )
        self.now_ms = self.genesis.time_ms

    def start(self) -> list[Effect]:
        return self._written(self.node.start(self.now_ms))

    def step(self, event: Event, now_ms: int | None = None) -> list[Effect]:
        self.now_ms = self.now_ms if now_ms is None else now_ms
        return self._written(self.node.step(self.now_ms, event))

    def _written(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            if isinstance(effect, Write):
                self.disk.apply(effect.puts)
        return effects

    def answered(self, effects: Sequence[Effect]) -> list[Effect]:
        """All that follows once every check and signature asked for has been given."""
        out: list[Effect] = []
        for effect in effects:
            out.append(effect)
            if isinstance(effect, Verify):
                result = self.node.check(effect.kind, effect.items)
                out += self.answered(self.step(Verified(effect.ticket, result)))
            elif isinstance(effect, Sign):
                out += self.answered(self.step(self.signed(effect)))
        return out

    def signed(self, effect: Sign) -> Signed:
        """What the signer answers: the rules, then the state is kept, then the signature."""
        if self.state.refuse(effect.ballot):
            return Signed(effect.ticket, b"", self.state)
        self.state = self.state.after(effect.ballot)
        digest = effect.ballot.digest(self.genesis.chain_id)
        return Signed(effect.ticket, crypto.sign(digest, self.key), self.state)

    def at_slot(self, slot: int, late_ms: int = 0) -> list[Effect]:
        return self.step(Woke(), slot_start_ms(self.genesis, slot) + late_ms)

    def own_slots(self) -> Iterator[int]:
        """The slots after the head's that this node leads."""
        slot = self.node.chain.head.slot
        while True:
            slot += 1
            voter = self.node.voting.voter
            assert voter is not None
            if produce.proposer(self.node.chain, slot, voter) == self.proposer:
                yield slot

    def propose(self, slot: int) -> list[Effect]:
        return self.answered(self.at_slot(slot))

    def greet(self, head_height: int = 0, peer: str = PEER) -> list[Effect]:
        """A peer connects and says hello."""
        out = self.step(Connected(peer, ADDRESS.replace(PEER, peer), False))
        hello = m.Hello(
            "test", self.genesis.chain_id, self.node.chain.genesis_hash,
            CAPABILITIES, (), b"12345678", head_height, bytes(32), 0,
            self.node.chain.genesis_hash, 0, 0, 0, 0, self.now_ms,
        )  # fmt: skip
        return out + self.receive(hello, peer)

    def receive(self, message: m.Message, peer: str = PEER) -> list[Effect]:
        return self.step(Received(peer, m.protocol_of(message), m.encode(message)))

    def vertex(self, key: bytes, **fields: object) -> bytes:
        usual: dict[str, object] = {
            "chain_id": self.genesis.chain_id, "ref_height": 0, "ref_hash": bytes(8), "seq": 1,
            "prev": bytes(32), "timestamp_ms": self.now_ms, "topic": topic_of("t"),
            "payload": b"data",
        }  # fmt: skip
        return sign_vertex(key, Draft(**(usual | fields)))  # type: ignore[arg-type]

    def payment(self, **fields: object) -> bytes:
        usual: dict[str, object] = {
            "type": 2, "chain_id": self.genesis.chain_id, "nonce": 0, "max_priority_fee": 1,
            "max_fee": 10**11, "gas": 21_000, "to": b"\x01" * 20, "value": 1,
        }  # fmt: skip
        return sign_tx(self.payers[0], **(usual | fields))  # type: ignore[arg-type]


def kinds(effects: Sequence[Effect]) -> list[type]:
    return [type(effect) for effect in effects]


def of(effects: Sequence[Effect], kind: type) -> list[Effect]:
    return [effect for effect in effects if isinstance(effect, kind)]


# --- time and proposals


def test_start_asks_to_be_woken_at_the_next_slot() -> None:
    bench = Bench()
    assert bench.start() == [Wake(slot_start_ms(bench.genesis, 1))]


def proposals(effects: Sequence[Effect]) -> list[Sign]:
    signs = [effect for effect in effects if isinstance(effect, Sign)]
    return [sign for sign in signs if sign.ballot.kind is Kind.PROPOSAL]


def test_a_proposal_waits_for_its_signature() -> None:
    bench = Bench()
    bench.start()
    slot = next(bench.own_slots())
    effects = bench.at_slot(slot)
    (sign,) = proposals(effects)
    assert (sign.ballot.epoch, sign.ballot.slot) == (0, slot)
    assert not of(effects, Publish)
    assert bench.node.chain.head.height == 0


def test_one_delegate_makes_its_block_final_at_once() -> None:
    bench = Bench()
    bench.start()
    effects = bench.propose(next(bench.own_slots()))
    signs = [effect.ballot.kind for effect in effects if isinstance(effect, Sign)]
    assert signs == [Kind.PROPOSAL, Kind.PREVOTE, Kind.COMMIT]
    assert bench.node.chain.final.hash == bench.node.chain.head.hash
    topics = [effect.topic for effect in effects if isinstance(effect, Publish)]
    assert topics == ["newHeads", "finalizedHeads"]


def test_what_the_signer_refuses_is_not_asked_again() -> None:
    bench = Bench()
    bench.start()
    slot = next(bench.own_slots())
    (sign,) = proposals(bench.at_slot(slot))
    refused = Signed(sign.ticket, b"", VoteState())
    assert not proposals(bench.step(refused))
    assert not proposals(bench.step(Woke(), bench.now_ms + 100))
    assert proposals(bench.at_slot(slot + 1))


def test_a_signed_block_is_written_before_it_is_told() -> None:
    bench = Bench()
    bench.start()
    bench.greet()
    (sign,) = proposals(bench.at_slot(next(bench.own_slots())))
    effects = bench.step(bench.signed(sign))
    told = kinds(effects).index(Publish)
    written = [key for effect in effects[:told] if isinstance(effect, Write) for key in effect.puts]
    assert any(key.startswith(KEY_BLOCK) for key in written)
    assert bench.node.chain.head.height == 1
    later = bench.step(Woke(), bench.now_ms + 100)
    assert any(isinstance(e, Send) and e.protocol == "gossip" for e in [*effects, *later])


def test_a_restart_signs_no_slot_again() -> None:
    first = Bench()
    first.start()
    slot = next(first.own_slots())
    (sign,) = proposals(first.at_slot(slot))
    first.signed(sign)  # the signature is lost with the process, the state is not
    again = Bench(disk=first.disk, state=first.state)
    again.now_ms = slot_start_ms(first.genesis, slot - 1)  # and the clock is behind
    again.start()
    assert not proposals(again.at_slot(slot))
    assert proposals(again.at_slot(slot + 1))


@pytest.mark.parametrize(("late_ms", "signs"), [(0, 1), (500, 1), (501, 0), (999, 0)])
def test_a_late_slot_is_left_out(late_ms: int, signs: int) -> None:
    bench = Bench()
    bench.start()
    slot = next(bench.own_slots())
    assert len(proposals(bench.at_slot(slot, late_ms))) == signs


def test_only_the_leader_proposes_and_once() -> None:
    bench = Bench(delegates=4)
    bench.start()
    assert not any(proposals(bench.at_slot(slot)) for slot in range(1, 8))  # nobody is there
    bench = Bench(delegates=4)
    bench.start()
    bench.greet()
    order = bench.node.chain.epoch.order
    signed = [slot for slot in range(1, 8) if proposals(bench.at_slot(slot))]
    assert signed == [slot for slot in range(1, 8) if order[slot % 4] == bench.proposer]
    assert not proposals(bench.at_slot(signed[-1]))


def test_own_block_refused_after_the_clock_was_set_back() -> None:
    bench = Bench()
    bench.start()
    (sign,) = proposals(bench.at_slot(15))
    effects = bench.step(bench.signed(sign), bench.now_ms - 10_000)
    assert not of(effects, Publish)
    assert bench.node.chain.head.height == 0
    assert not proposals(bench.at_slot(15))
    assert proposals(bench.at_slot(16))


def test_a_clock_set_back_stops_no_gossip_and_no_slot() -> None:
    bench = Bench()
    bench.start()
    bench.greet()
    bench.at_slot(3_600)
    back = slot_start_ms(bench.genesis, 10)
    effects = bench.step(Woke(), back)
    assert any(isinstance(e, Send) and e.protocol == "hello" for e in effects)  # a slot began
    bench.answered(bench.step(Submitted(1, "txs", (bench.payment(),))))
    sent = [e for ms in (30, 60) for e in bench.step(Woke(), back + ms)]
    assert any(isinstance(e, Send) and e.protocol == "gossip" for e in sent)
    wakes = [effect.at_ms for effect in [*effects, *sent] if isinstance(effect, Wake)]
    assert wakes
    assert max(wakes) <= back + 1_000


def test_two_nodes_with_one_key_agree_on_a_head() -> None:
    one, other = Bench(delegates=4), Bench(delegates=4)
    slot = next(one.own_slots())
    other.start()
    other.answered(other.step(Submitted(1, "txs", (other.payment(),))))
    for bench in (one, other):
        bench.start()
        bench.greet()
        bench.propose(slot)
    blocks = [bench.node.view.raw(Lane.BLOCK, bench.node.chain.head.hash) for bench in (one, other)]
    assert blocks[0] != blocks[1]
    for bench, raw in zip((one, other), blocks[::-1], strict=True):
        assert raw is not None
        bench.answered(bench.receive(m.Items(Lane.BLOCK, (raw,))))
    heads = {bench.node.chain.head.hash for bench in (one, other)}
    assert heads == {min(map(block_hash, (one, other)))}


def block_hash(bench: Bench) -> bytes:
    hashes = [key[1:] for key, _ in bench.disk.scan(KEY_BLOCK)]
    return min(h for h in hashes if h != bench.node.chain.genesis_hash)


# --- what clients hand in


def test_a_vertex_is_written_before_it_is_acknowledged() -> None:
    bench = Bench()
    bench.start()
    effects = bench.answered(bench.step(Submitted(9, "vertices", (bench.vertex(bench.key),))))
    seen = [kind for kind in kinds(effects) if kind in (Verify, Write, Publish, Reply)]
    assert seen == [Verify, Write, Publish, Reply]
    (reply,) = of(effects, Reply)
    assert isinstance(reply, Reply)
    (result,) = reply.results
    assert result == (bench.node.dag.id_at(0), "accepted")
    assert next(bench.disk.scan(KEY_VERTEX))
    again = Bench(disk=bench.disk)
    assert len(again.node.dag) == 1


def test_wrong_items_are_refused_in_order_and_spoil_no_other() -> None:
    bench = Bench()
    bench.start()
    good = bench.payment()
    items = (
        b"", good, bench.payment(chain_id=1), b"\x03" + good[1:], good,
        bench.payment(nonce=1, value=10**30), bench.payment(nonce=1), b"\xff" * 9,
    )  # fmt: skip
    (reply,) = of(bench.answered(bench.step(Submitted(1, "txs", items))), Reply)
    assert isinstance(reply, Reply)
    codes = [r.code if isinstance(r, Invalid) else r[1] for r in reply.results]
    expected = ["tx_form", "accepted", "chain_id", "tx_type", "known", "funds", "accepted", "rlp"]
    assert codes == expected


def test_wrong_vertices_are_refused_in_order_and_spoil_no_other() -> None:
    bench = Bench()
    bench.start()
    good = bench.vertex(bench.key)
    items = (
        good, b"", bench.vertex(bench.key, chain_id=1), good[:-1] + b"X", good,
        good[:-5] + bytes([good[-5] ^ 1]) + good[-4:], good[:-30] + bytes(26) + good[-4:],
        bench.vertex(bench.key, parents=(bytes(32),)), bench.vertex(bench.key, seq=2),
    )  # fmt: skip
    (reply,) = of(bench.answered(bench.step(Submitted(1, "vertices", items))), Reply)
    assert isinstance(reply, Reply)
    codes = [r.code if isinstance(r, Invalid) else r[1] for r in reply.results]
    assert codes == [
        "accepted", "vertex_form", "vertex_chain", "vertex_payload", "known",
        "known",  # the recovery id is a hint
        "vertex_signature", "pending", "accepted",
    ]  # fmt: skip
    assert len(bench.node.dag) == 2


def test_a_payment_is_in_the_next_block_and_leaves_the_pool() -> None:
    bench = Bench()
    bench.start()
    effects = bench.answered(bench.step(Submitted(1, "txs", (bench.payment(),))))
    assert kinds(of(effects, Publish)) == [Publish]
    assert len(bench.node.pool) == 1
    bench.propose(1)
    assert len(bench.node.pool) == 0
    assert bench.node.chain.account(b"\x01" * 20).balance == 1


# --- what peers send


def test_unjudged_frames_of_one_peer_are_bounded() -> None:
    bench = Bench()
    bench.start()
    bench.greet()
    frame = m.Items(Lane.TX, (bench.payment(),))
    asked = [effect for _ in range(UNJUDGED.frames_max + 20) for effect in bench.receive(frame)]
    verifies = of(asked, Verify)
    assert len(verifies) == UNJUDGED.frames_max
    other = peer_id(crypto.public_key(secret("other")))
    bench.greet(peer=other)
    assert of(bench.receive(frame, other), Verify)
    bench.answered(verifies[:1])
    assert of(bench.receive(frame), Verify)
    assert not of(bench.receive(frame), Verify)


def test_a_verdict_after_its_peer_left_is_harmless() -> None:
    bench = Bench()
    bench.start()
    bench.greet()
    effects = bench.receive(m.Items(Lane.TX, (bench.payment(), b"\xff")))
    effects += bench.receive(m.Vertices(1, bench.vertex(bench.key)))
    bench.step(Disconnected(PEER, "gone"))
    done = bench.answered(of(effects, Verify))
    assert len(bench.node.pool) == 1
    assert len(bench.node.dag) == 1
    assert not of(done, Reply)
    assert not of(done, Send)


@pytest.mark.parametrize("protocol", ["hello", "gossip", "sync", "peers"])
def test_malformed_bytes_end_the_connection_and_the_peer_is_kept_out(protocol: str) -> None:
    bench = Bench()
    bench.start()
    bench.greet()
    assert of(bench.step(Received(PEER, protocol, b"\xc1garbage")), Drop)
    bench.step(Disconnected(PEER, "dropped"))
    effects = bench.step(Connected(PEER, ADDRESS, False))
    assert of(effects, Drop)
    assert not of(effects, Send)


def test_nothing_is_done_for_a_peer_before_its_hello() -> None:
    bench = Bench()
    bench.start()
    bench.step(Connected(PEER, ADDRESS, False))
    effects = bench.receive(m.Items(Lane.TX, (bench.payment(),)))
    effects += bench.receive(m.GetBlocks(1, (bench.node.chain.genesis_hash,), 1))
    assert not of(effects, Verify)
    assert not of(effects, Send)


def test_blocks_from_the_future_are_no_offence() -> None:
    """One of the two clocks is wrong, and it may be ours."""
    ahead, behind = Bench(), Bench()
    ahead.start()
    ahead.propose(3_584)  # the back-off leaves every 64th slot
    raw = ahead.node.view.raw(Lane.BLOCK, ahead.node.chain.head.hash)
    assert raw is not None
    behind.start()
    effects = behind.greet(head_height=2)
    asked = 0
    for tick in range(1, 300):
        requests, effects = block_requests(effects), []
        for request in requests:
            effects += behind.answered(behind.receive(m.Blocks(request.request, (raw,), False)))
            assert not of(effects, Drop)
        asked += len(requests)
        effects += behind.step(Woke(), behind.genesis.time_ms + tick * 100)
    assert 20 < asked <= 31  # again each second, and no faster
    score = behind.node.links.peers(behind.now_ms)[0]["score"]
    assert score >= -TRIES_MAX  # it never spoke of vertices


def block_requests(effects: Sequence[Effect]) -> list[m.GetBlocks]:
    sync = [e for e in effects if isinstance(e, Send) and e.protocol == "sync"]
    requests = [m.decode(e.protocol, e.data) for e in sync]
    return [request for request in requests if isinstance(request, m.GetBlocks)]


def test_a_dial_that_crossed_is_no_failure() -> None:
    bench = Bench()
    bench.start()
    bench.greet()
    assert not of(bench.step(DialFailed(ADDRESS, "already connected")), Write)
    bench.step(Disconnected(PEER, "reset"))
    book = bench.node.links._book
    book.learn("", "127.0.0.1", [ADDRESS])
    assert book.to_dial(bench.now_ms + 1, bench.node.links.slots, 1) == [ADDRESS]
    bench.step(DialFailed(ADDRESS, "refused"))
    assert book.to_dial(bench.now_ms + 1, bench.node.links.slots, 1) == []


# --- catching up


def test_nothing_is_proposed_while_blocks_are_fetched() -> None:
    bench = Bench()
    bench.start()
    effects = bench.greet(head_height=50)
    assert block_requests(effects)
    assert bench.node.links.syncing(bench.now_ms) == (0, 50)
    assert not of(bench.at_slot(1), Sign)
    assert not of(bench.at_slot(9), Sign)


def test_a_peer_that_lies_about_its_head_holds_us_up_once_and_not_for_long() -> None:
    bench = Bench()
    bench.start()
    bench.greet(head_height=1 << 40)
    signed = [
        slot
        for slot in range(1, 60)
        for part in range(0, 1_000, 100)
        if of(bench.answered(bench.at_slot(slot, part)), Sign)
    ]
    assert signed == list(range(BELIEF_MS // 1_000, 60))


def test_blocks_of_a_peer_bring_us_to_its_head() -> None:
    far = Bench()
    far.start()
    for slot in range(1, 8):
        far.propose(slot)
    near = Bench(state=far.state)
    near.start()
    near.now_ms = far.now_ms
    out = near.greet(head_height=7)
    (ask,) = block_requests(out)
    raws = tuple(far.node.view.blocks_after(ask.locator))
    near.answered(near.receive(m.Blocks(ask.request, raws, False)))
    assert near.node.chain.head.hash == far.node.chain.head.hash
    assert near.node.links.syncing(near.now_ms) is None
    assert of(near.at_slot(8), Sign)


def test_an_unknown_check_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        Bench().node.check("nonsense", ())
