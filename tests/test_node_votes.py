"""A node among voters: what it signs, relays and keeps when signatures, votes and blocks cross."""

from collections.abc import Sequence

from dipnet import crypto
from dipnet.consensus.block import Block
from dipnet.consensus.votes import Kind
from dipnet.effects import Effect, Sign
from dipnet.p2p import messages as m
from tests.chain_builder import Net
from tests.sim_scenario import network
from tests.test_node import Bench, block_requests


def votes_asked(effects: Sequence[Effect]) -> list[Sign]:
    signs = [effect for effect in effects if isinstance(effect, Sign)]
    return [one for one in signs if one.ballot.kind is not Kind.PROPOSAL]


def grown(slots: range) -> Bench:
    """The only delegate of a network, and what he has made final."""
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


# --- what we sign


def test_a_signature_that_comes_epochs_later_is_of_no_use_and_no_harm() -> None:
    """It was asked for before the node learned that it is epochs behind."""
    far, near = grown(range(2, 50)), Bench()
    near.start()
    (proposal,) = [one for one in near.at_slot(1) if isinstance(one, Sign)]
    (vote,) = votes_asked(near.step(near.signed(proposal)))
    late = near.signed(vote)
    catch_up(near, far)
    assert near.node.chain.final.hash == far.node.chain.final.hash
    assert near.node.chain.sets.get(vote.ballot.epoch) is None
    head = near.node.chain.head
    near.step(late)
    assert near.node.chain.head is head


# --- who keeps us from it


class Liar:
    """A peer that claims what nobody has and answers late, each time with a block that is new."""

    def __init__(self, node: Bench) -> None:
        self.node = node
        self.request = 0

    def claim(self) -> list[Effect]:
        """Its heads are of another name each slot; the highest certificate is always his."""
        named = self.node.now_ms.to_bytes(32, "big")
        genesis = self.node.node.chain.genesis_hash
        status = m.Status(1 << 40, named, 0, genesis, 1 << 40, 1 << 40, 0, 0, self.node.now_ms)
        return self.asked(self.node.receive(status))

    def asked(self, effects: list[Effect]) -> list[Effect]:
        for request in block_requests(effects):
            self.request = request.request
        return effects

    def deliver(self, block: Block) -> list[Effect]:
        """As the answer that it owes, then as anybody would."""
        told: list[m.Message] = [m.Items(m.Lane.BLOCK, (block.raw,))]
        if self.request:
            told.insert(0, m.Blocks(self.request, (block.raw,), False))
            self.request = 0
        return [e for one in told for e in self.asked(self.node.answered(self.node.receive(one)))]


def test_a_peer_with_every_new_block_before_all_others_stops_no_delegate() -> None:
    """It is believed once, at the start; afterwards only who leads an old head on would be."""
    bench = Bench(4)
    _, keys, _ = network(4)
    others = Net(bench.genesis, {crypto.address(crypto.public_key(key)): key for key in keys})
    bench.start()
    bench.greet()
    liar, signs = Liar(bench), list[Effect]()
    for slot in range(1, 60):
        signs += liar.asked(bench.answered(bench.at_slot(slot)))
        chain = bench.node.chain
        if chain.head.slot < slot:
            signs += liar.deliver(others.child(chain, chain.head.hash, slot))
        kinds = (Kind.PREVOTE, Kind.COMMIT)
        for proof in [others.certificate(chain, chain.head, kind) for kind in kinds]:
            signs += liar.asked(bench.answered(bench.receive(m.Certificates((proof.raw,)))))
        for late_ms in (300, 600, 900):
            liar.asked(bench.at_slot(slot, late_ms))
            liar.claim()
    slots: dict[Kind, list[int]] = {kind: [] for kind in Kind}
    for one in signs:
        if isinstance(one, Sign):
            slots[one.ballot.kind].append(one.ballot.slot)
    assert slots[Kind.PREVOTE][-30:] == slots[Kind.COMMIT][-30:] == list(range(30, 60))
    assert len(slots[Kind.PROPOSAL]) >= 10
