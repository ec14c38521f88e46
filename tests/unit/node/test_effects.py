"""The barrier: an effect that others can see leaves after the writes before it are durable."""

from hypothesis import given
from hypothesis import strategies as st

from dipnet.consensus.finality.votes import Ballot, BallotKind
from dipnet.node.effects import (
    Barrier,
    Dial,
    Drop,
    Effect,
    Publish,
    Reply,
    Send,
    Sign,
    Verify,
    Wake,
    Write,
)
from dipnet.node.work import ClientTxs

WRITE = Write({b"k": b"v"})
SEEN: tuple[Effect, ...] = (
    Send("p", "gossip", b""), Drop("p", ""), Reply(1, ()), Publish("newHeads", ()),
    *(Sign(1, Ballot(kind, 1, 2, bytes(32), 0))
      for kind in (BallotKind.PROPOSAL, BallotKind.COMMIT)),
)  # fmt: skip
FREE: tuple[Effect, ...] = (
    Wake(1), Verify(1, ClientTxs(())), Dial("a"), Send("p", "votes", b"vote"),
    Sign(2, Ballot(BallotKind.PREVOTE, 1, 2, bytes(32), 1)),
)  # fmt: skip


def test_without_writes_all_leaves_at_once() -> None:
    assert list(Barrier().admit([*SEEN, *FREE])) == [*SEEN, *FREE]


def test_a_visible_effect_waits_for_the_write_before_it() -> None:
    barrier = Barrier()
    first, *rest = SEEN
    assert list(barrier.admit([first, WRITE, *rest])) == [first, WRITE]
    assert barrier.staged == 1
    assert list(barrier.durable(1)) == rest


def test_what_nobody_sees_and_votes_do_not_wait() -> None:
    barrier = Barrier()
    list(barrier.admit([WRITE, SEEN[0]]))
    assert list(barrier.admit([*FREE])) == [*FREE]
    assert list(barrier.durable(1)) == [SEEN[0]]
    assert list(barrier.admit([WRITE, *FREE])) == [WRITE, *FREE]
    assert not list(barrier.durable(2))


def test_group_commit_releases_in_order() -> None:
    barrier = Barrier()
    sends = [Send("p", "gossip", bytes([n])) for n in range(6)]
    for send in sends:
        assert list(barrier.admit([WRITE, send])) == [WRITE]
    assert list(barrier.durable(2)) == sends[:2]
    assert list(barrier.durable(2)) == []
    assert list(barrier.durable(6)) == sends[2:]


def test_a_later_effect_does_not_overtake_a_held_effect() -> None:
    barrier = Barrier()
    first, second = Send("p", "gossip", b"1"), Send("p", "gossip", b"2")
    list(barrier.admit([WRITE, first]))
    assert list(barrier.admit([second])) == []
    released = barrier.durable(1)
    assert next(released) == first
    # in the middle of the release: the second effect is still held behind the first
    assert list(barrier.admit([Send("p", "gossip", b"3")])) == []
    assert list(released) == [second, Send("p", "gossip", b"3")]
    assert list(barrier.admit([first])) == [first]


@given(st.lists(st.one_of(st.sampled_from([WRITE, *SEEN, *FREE]), st.just(None)), max_size=60))
def test_every_seen_effect_leaves_once_in_order_and_after_its_writes(
    steps: list[Effect | None],
) -> None:
    """``None``: all writes so far become durable."""
    barrier, done, asked = Barrier(), [], []
    staged = durable = 0
    # each effect, with the number of writes that were durable when it left
    left: list[tuple[int, Effect]] = []
    for number, step in enumerate([*steps, None]):
        if step is None:
            durable = staged
            left += [(durable, effect) for effect in barrier.durable(durable)]
            continue
        staged += isinstance(step, Write)
        if step == WRITE or step in FREE:
            assert list(barrier.admit([step])) == [step]
            done.append(step)
        else:
            marked = Send("p", "gossip", b"%d" % number)
            asked.append((staged, marked))
            left += [(durable, effect) for effect in barrier.admit([marked])]
    assert [effect for _, effect in left] == [effect for _, effect in asked]
    for (durable_then, _), (staged_before, _) in zip(left, asked, strict=True):
        assert durable_then >= staged_before
