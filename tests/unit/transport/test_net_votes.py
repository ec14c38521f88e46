"""Votes travel first: past a large queue of other frames, on both sides of the wire, in order."""

import secrets
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipnet.node.effects import Connected, Disconnected, Received
from dipnet.p2p.messages import FRAME_BYTES_MAX
from dipnet.transport.mailbox import EVENT_OVERHEAD_BYTES, Event, Inbox, Limits, Mailbox
from tests.fixtures.net_nodes import PATIENCE_S, connect, nodes, run

BLOCK = secrets.token_bytes(FRAME_BYTES_MAX["gossip"])


def inbox_of(limits: Limits, events: Sequence[Event]) -> Inbox:
    inbox, boxes = Inbox(limits), {name: Mailbox(name, limits) for name in "abc"}
    for event in events:
        assert inbox.put(event, boxes[event.peer])  # type: ignore[union-attr]
    return inbox


def taken(inbox: Inbox) -> list[Event]:
    events = []
    while inbox:
        events.append(inbox.take()[0])
    return events


# --- over the wire


@run
async def test_a_vote_overtakes_blocks_that_are_being_sent() -> None:
    """A vote sent when the first of three blocks of 10 MiB has come arrives before the third."""
    limits = Limits(outbox_bytes_max=64 << 20, write_s=PATIENCE_S)
    async with nodes(2, limits=limits) as (a, b):
        await connect(a, b)
        assert a.net.send(b.id, "votes", b"opens the stream")
        await b.until(Received, protocol="votes")
        for _ in range(3):
            assert a.net.send(b.id, "gossip", BLOCK)
        await b.until(Received, protocol="gossip")
        assert a.net.send(b.id, "votes", b"vote")
        await b.until(Received, 3, protocol="gossip")
        order = [event.protocol for event in b.seen(Received)]
        assert order.index("votes", 1) <= order.index("gossip") + 2 < len(order) - 1


@run
async def test_votes_are_sent_when_all_other_queues_are_full() -> None:
    limits = Limits(
        outbox_all_bytes_max=64 << 10, outbox_fair_bytes=32 << 10, inbox_peer_bytes_max=1,
        write_s=PATIENCE_S,
    )  # fmt: skip
    async with nodes(2, limits=limits) as (a, b):
        await connect(a, b)
        b.net.pause()
        while a.net.send(b.id, "gossip", bytes(32 << 10)):
            await a.in_trio(lambda: None)
        assert not a.net.send(b.id, "sync", bytes(1))
        assert a.net.send(b.id, "votes", b"vote")

        async def arrived() -> bool:
            return bool(b.net._inbox._votes)

        await b.poll(arrived)  # although other frames of this peer are not read any more
        b.net.resume()
        await b.until(Received, protocol="votes")


@run
async def test_a_vote_passes_what_waits_for_the_main_thread() -> None:
    async with nodes(3) as (hub, loud, quiet):
        for node in (loud, quiet):
            await connect(node, hub)
        hub.net.pause()
        for n in range(1_000):
            assert loud.net.send(hub.id, "gossip", b"%d" % n)
        assert quiet.net.send(hub.id, "votes", b"vote")
        assert loud.net.send(hub.id, "votes", b"another")

        async def all_wait() -> bool:
            waiting = hub.net._inbox
            return (len(waiting._plain.get(loud.id, ())), len(waiting._votes)) == (1_000, 2)

        await hub.poll(all_wait)
        hub.net.resume()
        await hub.until(Received, 1_002)
        order = [event.protocol for event in hub.seen(Received)]
        assert [at for at, name in enumerate(order) if name == "votes"][-1] <= 3


@run
async def test_a_peer_that_floods_with_votes_waits_alone() -> None:
    """Its votes fill their own share of the queue; its gossip and other peers' votes arrive."""
    small = Limits(inbox_votes_bytes_max=64 << 10, write_s=PATIENCE_S)
    async with nodes(3, limits=small) as (hub, loud, quiet):
        for node in (loud, quiet):
            await connect(node, hub)
        hub.net.pause()
        for n in range(1_000):
            assert loud.net.send(hub.id, "votes", n.to_bytes(4, "big") * 1_024)
        assert loud.net.send(hub.id, "gossip", b"gossip")
        assert quiet.net.send(hub.id, "votes", b"vote")

        async def others_wait() -> bool:
            waiting = hub.net._inbox
            return quiet.id in waiting._votes and loud.id in waiting._plain

        await hub.poll(others_wait)
        frame = 4_096 + EVENT_OVERHEAD_BYTES
        assert len(hub.net._inbox._votes[loud.id]) <= (64 << 10) // frame + 1
        hub.net.resume()
        await hub.until(Received, 1_002)
        votes = [e.data[:4] for e in hub.seen(Received, peer=loud.id, protocol="votes")]
        assert votes == [n.to_bytes(4, "big") for n in range(1_000)]
        assert all(not each for each in (hub.net._inbox._plain, hub.net._inbox._votes))


@pytest.mark.parametrize("count", [1, 5])
def test_frames_are_counted_out_as_they_are_counted_in(count: int) -> None:
    limits, box = Limits(), Mailbox("a", Limits())
    inbox = Inbox(limits)
    for _ in range(count):
        inbox.put(Received("a", "votes", bytes(10)), box)
        inbox.put(Received("a", "gossip", bytes(20)), box)
    assert box.inbound_votes_bytes == count * (10 + EVENT_OVERHEAD_BYTES)
    assert box.inbound_bytes == count * (20 + EVENT_OVERHEAD_BYTES) == inbox._bytes
    taken(inbox)
    assert box.inbound_votes_bytes == box.inbound_bytes == inbox._bytes == 0


# --- the queue alone


def test_votes_take_every_other_turn() -> None:
    inbox = inbox_of(
        Limits(),
        [Received(p, n, b"1") for p in "ab" for n in ("gossip", "gossip", "votes", "votes")],
    )
    order = [(e.peer, e.protocol) for e in taken(inbox) if isinstance(e, Received)]
    assert [protocol for _, protocol in order] == ["votes", "gossip"] * 4
    assert [peer for peer, _ in order] == [p for p in "abab" for _ in range(2)]


def test_votes_pass_neither_their_connection_nor_its_end() -> None:
    vote = Received("a", "votes", b"1")
    come, go = Connected("a", "/ip4/10.0.0.1/tcp/1", False), Disconnected("a", "gone")
    data = Received("a", "sync", b"2")
    many: tuple[list[Event], ...] = ([come, vote, go], [come, data, vote, vote, go])
    for events in many:
        order = taken(inbox_of(Limits(), events))
        assert order[0] is come
        assert order[-1] is go
    order = taken(inbox_of(Limits(), [come, vote, go, come, vote]))
    assert order == [come, vote, go, come, vote] or order == [come, go, come, vote, vote]


EVENTS = st.one_of(
    st.builds(Received, st.sampled_from("abc"), st.sampled_from(["votes", "gossip"]), st.binary()),
    st.builds(Connected, st.sampled_from("abc"), st.just("/ip4/10.0.0.1/tcp/1"), st.booleans()),
    st.builds(Disconnected, st.sampled_from("abc"), st.just("gone")),
)


@given(st.lists(EVENTS, max_size=40))
def test_nothing_is_lost_and_each_protocol_keeps_its_order(events: list[Event]) -> None:
    inbox = inbox_of(Limits(), events)
    out = taken(inbox)
    for peer in "abc":
        for votes in (False, True):
            lanes = [
                [
                    id(e)
                    for e in those
                    if getattr(e, "peer", "") == peer
                    and (isinstance(e, Received) and e.protocol == "votes") is votes
                ]
                for those in (events, out)
            ]
            assert lanes[0] == lanes[1]
    assert inbox._bytes == 0
    assert not inbox._connecting
