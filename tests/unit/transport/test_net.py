"""The peer layer over real sockets on loopback: its promises, its limits, its addresses."""

import asyncio
import os
import secrets
import socket
from functools import partial

import pytest
import trio

from dipnet.node.effects import PROTOCOLS, Connected, DialFailed, Disconnected, Received
from dipnet.p2p.address import parse
from dipnet.primitives.errors import Invalid
from dipnet.transport.mailbox import Event
from dipnet.transport.net import Limits, Net, peer_id
from tests.fixtures.net_nodes import (
    IDLE_TASKS,
    KEYS,
    LOOPBACK,
    PATIENCE_S,
    Node,
    connect,
    nodes,
    run,
)

# --- what it promises


@run
async def test_frames_of_each_protocol_arrive_in_order_both_ways() -> None:
    async with nodes(2) as (a, b):
        await connect(a, b)
        assert a.id == peer_id(KEYS[0])
        assert a.events == [Connected(b.id, b.address, True)]
        (inbound,) = b.events
        assert isinstance(inbound, Connected)
        assert (inbound.peer, inbound.outbound) == (a.id, False)
        came_from = parse(inbound.address)
        assert (came_from.host, came_from.peer) == ("127.0.0.1", a.id)
        for n in range(300):
            for protocol in PROTOCOLS:
                assert a.net.send(b.id, protocol, b"%d %s" % (n, protocol.encode()))
        assert b.net.send(a.id, "sync", b"back")
        await a.until(Received, data=b"back", protocol="sync")
        await b.until(Received, 300 * len(PROTOCOLS))
        for protocol in PROTOCOLS:
            frames = [e.data for e in b.seen(Received, protocol=protocol, peer=a.id)]
            assert frames == [b"%d %s" % (n, protocol.encode()) for n in range(300)]


@run
async def test_the_longest_frames_arrive_whole() -> None:
    async with nodes(2) as (a, b):
        await connect(a, b)
        for protocol, size in Limits().frame_bytes_max.items():
            data = secrets.token_bytes(size)
            assert a.net.send(b.id, protocol, data)
            assert (await b.until(Received, protocol=protocol)).data == data
            with pytest.raises(ValueError, match="at most"):
                a.net.send(b.id, protocol, data + b"1")
        with pytest.raises(ValueError, match="0 bytes"):
            a.net.send(b.id, "gossip", b"")


@run
async def test_peers_that_dial_each_other_at_once_are_connected_once() -> None:
    async with nodes(2) as (a, b):
        for n in range(1, 11):
            a.net.dial(b.address)
            b.net.dial(a.address)
            await a.until(Connected, n)
            await b.until(Connected, n)
            for here, there in ((a, b), (b, a)):
                assert here.net.send(there.id, "hello", b"%d" % n)
                await there.until(Received, peer=here.id, data=b"%d" % n)
            # Each dial has one outcome, so both are settled before the next round.
            for node in (a, b):
                while True:
                    outcomes = node.seen(DialFailed) + node.seen(Connected, outbound=True)
                    if len(outcomes) == n:
                        break
                    await asyncio.sleep(0.01)
            assert len(a.seen(Connected)) == len(b.seen(Connected)) == n
            reasons = {e.reason for e in a.seen(DialFailed) + b.seen(DialFailed)}
            assert reasons <= {"already connected", "connection closed"}
            a.net.drop(b.id, "next round")
            await a.until(Disconnected, n)
            await b.until(Disconnected, n)
        assert len(a.seen(Disconnected)) == len(b.seen(Disconnected)) == 10


@run
async def test_drop_sends_what_is_queued_and_ends_once() -> None:
    async with nodes(2) as (a, b):
        await connect(a, b)
        assert a.net.send(b.id, "hello", b"last words")
        a.net.drop(b.id, "not one of us")
        a.net.drop(b.id, "again")
        assert not a.net.send(b.id, "hello", b"too late")
        await b.until(Received, data=b"last words")
        await b.until(Disconnected)
        assert (await a.until(Disconnected)).reason == "not one of us"
        assert not a.net.send(b.id, "hello", b"gone")
        assert not a.net.send("16Uiu2HAkNobody", "hello", b"x")
        a.net.drop(b.id, "nobody there")
        await connect(b, a, 2)
        assert len(a.seen(Disconnected)) == 1


@run
async def test_a_dial_that_fails_says_why() -> None:
    async with nodes(2, limits=Limits(handshake_s=1, dials_max=8)) as (a, b):
        nowhere = socket.create_server(("127.0.0.1", 0))
        silent = f"/ip4/127.0.0.1/tcp/{nowhere.getsockname()[1]}/p2p/{b.id}"
        free = socket.create_server(("127.0.0.1", 0))
        refused = f"/ip4/127.0.0.1/tcp/{free.getsockname()[1]}/p2p/{peer_id(KEYS[5])}"
        free.close()
        mismatched = b.address.replace(b.id, peer_id(KEYS[7]))
        long = f"/dns4/{'a' * 63}.invalid/tcp/1/p2p/{peer_id(KEYS[6])}"
        reasons = {
            refused: "connect",
            silent: "no answer in time",
            mismatched: "identity does not match",
            a.address: "our own",
            b.address.rpartition("/p2p/")[0]: "names no peer",
            "rubbish": "is not /ip4/",
            long: "",
        }
        for address in reasons:
            a.net.dial(address)
        for address, text in reasons.items():
            assert text in (await a.until(DialFailed, address=address)).reason
        for _ in range(9):
            a.net.dial(silent)
        await a.until(DialFailed, reason="more than 8 dials at once")
        await a.until(DialFailed, 7, reason="already dialling")
        await a.until(DialFailed, 10, address=silent)
        await connect(a, b)
        a.net.dial(b.address)
        assert (await a.until(DialFailed, address=b.address)).reason == "already connected"
        nowhere.close()


@run
async def test_a_busy_port_is_said_and_the_thread_ends() -> None:
    async with nodes(1) as (a,):
        taken = a.address.split("/p2p/")[0]
        with pytest.raises(Invalid, match=r"port \d+ on 127.0.0.1 is busy"):
            Node(KEYS[1], listen=taken)
        with pytest.raises(Invalid, match="cannot listen"):
            Node(KEYS[1], listen="/ip4/192.0.2.1/tcp/0")
    with pytest.raises(Invalid, match="is not /ip4"):
        Node(KEYS[1], listen="0.0.0.0:30303")
    for key in (b"", bytes(32), b"\xff" * 32, b"1" * 31):
        with pytest.raises(Invalid, match="secp256k1"):
            peer_id(key)


@run
async def test_no_event_follows_stop_and_peers_are_told() -> None:
    async with nodes(2) as (a, b):
        await connect(a, b)
        before = list(a.events)
        await asyncio.to_thread(a.net.stop)
        assert not a.net._thread.is_alive()
        await b.until(Disconnected, peer=a.id)
        await asyncio.to_thread(a.net.stop)
        a.net.dial(b.address)
        a.net.send(b.id, "gossip", b"x")
        await asyncio.sleep(0)
        assert a.events == before
        never = Net(secret=KEYS[3], listen=LOOPBACK, on_event=a.tell, on_failure=print)
        never.stop()


@run
async def test_a_failure_in_the_thread_reaches_the_main_thread() -> None:
    node = Node(KEYS[0])

    async def bug() -> None:
        raise ZeroDivisionError

    node.net._in_trio(partial(node.net._host._orders.send_nowait, bug))

    async def failed() -> bool:
        return bool(node.failures)

    await node.poll(failed)
    (reason,) = node.failures
    assert "ZeroDivisionError" in reason
    node.net.dial(node.address)
    await asyncio.to_thread(node.net.stop)


@run
async def test_a_failing_on_event_is_reported_and_loses_no_other_event() -> None:
    async with nodes(2) as (a, b):
        await connect(a, b)
        reported: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reported.append(context["exception"])
        )
        tell = b.tell

        def fail_once(event: Event) -> None:
            b.net._on_event = tell
            raise RuntimeError(event)

        b.net._on_event = fail_once
        for n in range(5):
            assert a.net.send(b.id, "gossip", b"%d" % n)
        await b.until(Received, data=b"4")
        assert [e.data for e in b.seen(Received)] == [b"1", b"2", b"3", b"4"]
        assert len(reported) == 1


# --- back-pressure and limits


@run
async def test_a_full_inbox_makes_the_peer_wait_and_loses_nothing() -> None:
    small = Limits(inbox_peer_bytes_max=64 << 10, outbox_bytes_max=1 << 20, write_s=PATIENCE_S)
    async with nodes(2, limits=small) as (a, b):
        await connect(a, b)
        b.net.pause()
        sent = 0
        for _ in range(100):  # until every buffer on the way is full
            while a.net.send(b.id, "gossip", sent.to_bytes(4, "big") * 2048):
                sent += 1
            await asyncio.sleep(0.01)
        assert b.seen(Received) == []
        assert b.net._inbox._bytes < (64 << 10) + 3 * (8192 + 256)
        assert not a.net.send(b.id, "gossip", bytes(8192))
        assert a.net.send(b.id, "hello", b"there is room for other protocols")
        b.net.resume()
        await b.until(Received, sent, protocol="gossip")
        assert [e.data[:4] for e in b.seen(Received, protocol="gossip")] == [
            n.to_bytes(4, "big") for n in range(sent)
        ]
        await b.until(Received, protocol="hello")


@run
async def test_a_flooding_peer_delays_another_peer_by_an_event() -> None:
    async with nodes(3) as (hub, loud, quiet):
        await connect(loud, hub)
        await connect(quiet, hub)
        hub.net.pause()
        for n in range(1000):
            assert loud.net.send(hub.id, "gossip", b"noise %d" % n)

        def waiting(node: Node) -> int:
            return len(hub.net._inbox._plain.get(node.id, ()))

        async def all_wait() -> bool:
            return waiting(loud) == 1000

        await hub.poll(all_wait)
        assert quiet.net.send(hub.id, "gossip", b"a block")

        async def both_wait() -> bool:
            return waiting(quiet) == 1

        await hub.poll(both_wait)
        hub.net.resume()
        await hub.until(Received, 1001)
        order = [event.peer for event in hub.seen(Received)]
        assert order.index(quiet.id) <= 1


@run
async def test_a_peer_that_never_reads_is_dropped() -> None:
    limits = Limits(inbox_peer_bytes_max=1, write_s=0.5)
    async with nodes(2, limits=limits) as (a, b):
        await connect(a, b)
        b.net.pause()
        while not a.seen(Disconnected):
            a.net.send(b.id, "gossip", bytes(64 << 10))
            await asyncio.sleep(0.001)
        assert a.events[-1] == Disconnected(b.id, "did not read gossip for 0.5 s")
        b.net.resume()
        await b.until(Disconnected)


@run
async def test_the_outbox_counts_frames_too() -> None:
    async with nodes(2, limits=Limits(outbox_frames_max=100)) as (a, b):
        await connect(a, b)
        accepted = [a.net.send(b.id, "sync", b"1") for _ in range(5000)].count(True)
        assert 100 <= accepted < 5000
        await b.until(Received, accepted)


@run
async def test_peers_that_do_not_read_share_a_limit_and_harm_no_other_peer() -> None:
    limits = Limits(
        outbox_all_bytes_max=256 << 10, outbox_fair_bytes=64 << 10, inbox_peer_bytes_max=1,
        write_s=PATIENCE_S,
    )  # fmt: skip
    async with nodes(4, limits=limits) as (hub, *others):
        for node in others:
            await connect(node, hub)
        *deaf, good = others
        for node in deaf:
            node.net.pause()
        frame = bytes(32 << 10)
        for node in deaf:
            for _ in range(400):  # socket buffers take some of the frames
                hub.net.send(node.id, "gossip", frame)
                await asyncio.sleep(0.001)
        waiting = [box.unsent for box in hub.net._mailboxes.values()]
        assert sum(waiting) <= (256 << 10) + 3 * ((64 << 10) + len(frame))
        assert hub.net.send(good.id, "gossip", frame)
        await good.until(Received)
        for node in deaf:
            node.net.resume()


@run
async def test_connections_past_peers_max_are_refused() -> None:
    async with nodes(4, peers_max=2) as (hub, *others):
        for node in others[:2]:
            await connect(node, hub)
        others[2].net.dial(hub.address)
        await others[2].until(DialFailed)
        assert len(hub.seen(Connected)) == 2
        reader, writer = await asyncio.open_connection("127.0.0.1", parse(hub.address).port)
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b""  # before the node sends a byte
        writer.close()
        hub.net.drop(others[0].id, "makes room")
        await hub.until(Disconnected)
        await connect(others[2], hub)


@run
async def test_connections_leave_nothing_behind() -> None:
    async with nodes(2) as (a, b):

        def living() -> int:
            return trio.lowlevel.current_statistics().tasks_living

        async def idle() -> bool:
            return [await node.in_trio(living) for node in (a, b)] == [IDLE_TASKS] * 2

        await a.poll(idle)
        files = len(os.listdir("/proc/self/fd"))
        for n in range(1, 201):
            a.net.dial(b.address)
            await a.until(Connected, n)
            await b.until(Connected, n)
            (a if n % 2 else b).net.drop((b if n % 2 else a).id, "churn")
            await a.until(Disconnected, n)
            await b.until(Disconnected, n)
        await a.poll(idle)
        assert len(os.listdir("/proc/self/fd")) <= files + 1
        assert b.net._host._connections == {} == b.net._host._strangers
        assert b.net._mailboxes == {}
