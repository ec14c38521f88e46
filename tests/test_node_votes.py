"""A node among voters: what it signs, relays and keeps when signatures, votes and blocks cross."""

from collections.abc import Sequence

from dipnet.consensus.votes import Kind
from dipnet.effects import Effect, Sign
from dipnet.p2p import messages as m
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
