"""Costly work is done once on its way through the node. Calls are counted, not timed."""

from collections.abc import Callable
from typing import Any

import pytest

from dipnet.consensus.chain import block
from dipnet.consensus.chain.chain import Chain
from dipnet.node.effects import Verify
from dipnet.p2p import messages as m
from dipnet.p2p.messages import Topic
from dipnet.p2p.votepush import VotePush
from tests.fixtures.node_bench import PEER, Bench, of, proposals
from tests.unit.node.test_votes import BOTH, OTHER, network_of

Counted = Callable[[object, str], list[tuple[Any, ...]]]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Gives a function that records the arguments of each call of ``owner.name`` from now on."""

    def wrap(owner: object, name: str) -> list[tuple[Any, ...]]:
        calls: list[tuple[Any, ...]] = []
        real = getattr(owner, name)

        def call(*args: Any) -> Any:
            calls.append(args)
            return real(*args)

        monkeypatch.setattr(owner, name, call)
        return calls

    return wrap


def among_four() -> Bench:
    """A delegate of four in slot 1, with two peers."""
    bench = Bench(4)
    bench.start()
    for peer in (PEER, OTHER):
        bench.greet(peer=peer)
    bench.at_slot(1)
    return bench


def test_the_header_of_a_pushed_block_is_decoded_once_and_of_a_known_block_never(
    counted: Counted,
) -> None:
    bench = among_four()
    chain = bench.node.chain
    pushed = network_of(bench).child(chain, chain.head.hash, 1)
    decoded = counted(block, "decode_header")
    frame = m.Items(Topic.BLOCK, (pushed.raw,))
    assert of(bench.answered(bench.receive(frame)), Verify)
    assert chain.head.hash == pushed.hash
    assert decoded == [(pushed.header.raw,)]
    assert not of(bench.receive(frame, OTHER), Verify)
    assert len(decoded) == 1


def test_votes_are_flushed_once_in_a_step(counted: Counted) -> None:
    bench = among_four()
    everybody, chain = network_of(bench), bench.node.chain
    pushed = everybody.child(chain, chain.head.hash, 1)
    bench.answered(bench.receive(m.Items(Topic.BLOCK, (pushed.raw,))))
    flushed = counted(VotePush, "flush")
    for kind in BOTH:
        votes = everybody.votes(chain, pushed.header, kind)
        bench.receive(m.Votes((votes[1].raw,)))
    assert len(flushed) == len(BOTH)


def test_a_leader_looks_once_for_its_place_and_its_certificates(counted: Counted) -> None:
    bench = among_four()
    slot = next(slot for slot in bench.own_slots() if slot > 1)
    bench.at_slot(slot - 1)
    placed, chosen = counted(Chain, "position"), counted(Chain, "section")
    assert proposals(bench.at_slot(slot))
    assert len(placed) == len(chosen) == 1
