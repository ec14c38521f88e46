"""The peer layer over real sockets on loopback: what it promises, and what strangers do to it."""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.rsa import create_new_key_pair as create_rsa_key_pair
from libp2p.exceptions import BaseLibp2pError
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.peer.id import ID
from libp2p.protocol_muxer.exceptions import MultiselectClientError
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamError

from dipnet.effects import PROTOCOLS, Connected, DialFailed, Disconnected, Received
from dipnet.errors import Invalid
from dipnet.libp2p_host import SERVED
from dipnet.libp2p_link import (
    MUX_BYTES_MAX,
    Mux,
    Socket,
    Stream,
    accept_stream,
    key_pair,
    negotiate,
    noise,
    open_stream,
    parse_address,
    upgrade,
)
from dipnet.mailbox import Event
from dipnet.net import Limits, Net, peer_id

PATIENCE_S = 30  # only a hang waits so long
THROWN_OUT = (BaseLibp2pError, trio.ClosedResourceError, trio.BrokenResourceError)
IDLE_TASKS = 5  # trio's two, the host, its server, its listener
LOOPBACK = "/ip4/127.0.0.1/tcp/0"
KEYS = sorted(
    (bytes([n]) * 32 for n in range(1, 9)), key=lambda k: ID.from_base58(peer_id(k))._bytes
)


class Node:
    """A Net, what it told, and waits for it."""

    def __init__(self, key: bytes, **options: Any) -> None:
        self.events: list[Event] = []
        self.failures: list[str] = []
        self._told = asyncio.Event()
        self.net = Net(
            secret=key,
            listen=options.pop("listen", LOOPBACK),
            on_event=self.tell,
            on_failure=self.failures.append,
            **options,
        )
        self.id, addresses = self.net.start()
        (self.address,) = addresses

    def tell(self, event: Event) -> None:
        self.events.append(event)
        self._told.set()

    def seen(self, kind: type[Event], **fields: object) -> list[Any]:
        return [
            e
            for e in self.events
            if isinstance(e, kind) and all(getattr(e, k) == v for k, v in fields.items())
        ]

    async def until(self, kind: type[Event], count: int = 1, **fields: object) -> Any:
        """The ``count``-th such event."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.seen(kind, **fields)) < count:
                self._told.clear()
                await self._told.wait()
        return self.seen(kind, **fields)[count - 1]

    async def poll(self, done: Callable[[], Awaitable[bool]]) -> None:
        """For what no event tells."""
        async with asyncio.timeout(PATIENCE_S):
            while not await done():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def in_trio(self, ask: Callable[[], Any]) -> Any:
        answer = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()
        self.net._in_trio(lambda: loop.call_soon_threadsafe(answer.set_result, ask()) and None)
        return await asyncio.wait_for(answer, PATIENCE_S)


@asynccontextmanager
async def nodes(count: int, **options: Any) -> AsyncIterator[list[Node]]:
    """``count`` nodes, in rising order of their peer ids."""
    started: list[Node] = []
    try:
        started.extend(Node(key, **options) for key in KEYS[:count])
        yield started
    finally:
        for node in started:
            await asyncio.to_thread(node.net.stop)
            assert not node.net._thread.is_alive()
            assert node.failures == []


async def connect(a: Node, b: Node, count: int = 1) -> None:
    a.net.dial(b.address)
    await a.until(Connected, count, peer=b.id)
    await b.until(Connected, count, peer=a.id)


def run(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def wrapped() -> None:
        asyncio.run(test())  # type: ignore[arg-type]

    wrapped.__name__ = test.__name__
    wrapped.__doc__ = test.__doc__
    return wrapped


Script = Callable[[Mux], Awaitable[Any]]


async def agree_to_all(mux: Mux, nursery: trio.Nursery) -> None:
    while True:
        try:
            stream = await accept_stream(mux)
        except MuxedConnUnavailable:
            return
        nursery.start_soon(agree, stream)


async def agree(stream: Stream) -> None:
    with contextlib.suppress(BaseLibp2pError):
        await negotiate(stream, SERVED, ask=False)


async def rude(node: Node, script: Script, key: bytes | None = None) -> None:
    """A ``stranger`` that expects to be thrown out at any moment."""

    async def until_thrown_out(mux: Mux) -> None:
        with contextlib.suppress(*THROWN_OUT):
            try:
                await script(mux)
            except ExceptionGroup as group:
                if group.split(THROWN_OUT)[1] is not None:
                    raise

    with contextlib.suppress(*THROWN_OUT):
        await stranger(node, until_thrown_out, key)


async def stranger(node: Node, script: Script, key: bytes | None = None) -> Any:
    """Runs ``script`` on an authenticated libp2p connection to ``node``, in a thread of its own."""
    host, port, peer = parse_address(node.address)

    async def main() -> Any:
        tcp = await trio.open_tcp_stream(host, port)
        security = noise(key_pair(key or secrets.token_bytes(32)))
        async with tcp:
            mux = await upgrade(Socket(tcp, True), security, ID.from_base58(peer))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(mux.start)
                nursery.start_soon(agree_to_all, mux, nursery)
                await mux.event_started.wait()
                result = await script(mux)
                nursery.cancel_scope.cancel()
        return result

    return await asyncio.to_thread(trio.run, main)


async def closed(mux: Mux) -> None:
    with trio.fail_after(PATIENCE_S):
        await mux.event_shutting_down.wait()


# --- what it promises


@run
async def test_frames_of_each_protocol_arrive_in_order_both_ways() -> None:
    async with nodes(2) as (a, b):
        await connect(a, b)
        assert a.id == peer_id(KEYS[0])
        assert a.events == [Connected(b.id, b.address, True)]
        (inbound,) = b.events
        assert (inbound.peer, inbound.outbound) == (a.id, False)
        assert parse_address(inbound.address)[0::2] == ("127.0.0.1", a.id)
        for n in range(300):
            for protocol in PROTOCOLS:
                assert a.net.send(b.id, protocol, b"%d %s" % (n, protocol.encode()))
        assert b.net.send(a.id, "sync", b"back")
        await a.until(Received, data=b"back", protocol="sync")
        await b.until(Received, 1200)
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
async def test_who_dial_each_other_at_once_are_connected_once() -> None:
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
        other = b.address.replace(b.id, peer_id(KEYS[7]))
        long = f"/dns4/{'a' * 63}.invalid/tcp/1/p2p/{peer_id(KEYS[6])}"
        reasons = {
            refused: "connect",
            silent: "no answer in time",
            other: "identity does not match",
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
        assert b.net._inbox_bytes < (64 << 10) + 3 * (8192 + 256)
        assert not a.net.send(b.id, "gossip", bytes(8192))
        assert a.net.send(b.id, "hello", b"there is room for other protocols")
        b.net.resume()
        await b.until(Received, sent, protocol="gossip")
        assert [e.data[:4] for e in b.seen(Received, protocol="gossip")] == [
            n.to_bytes(4, "big") for n in range(sent)
        ]
        await b.until(Received, protocol="hello")


@run
async def test_who_floods_delays_another_by_an_event() -> None:
    async with nodes(3) as (hub, loud, quiet):
        await connect(loud, hub)
        await connect(quiet, hub)
        hub.net.pause()
        for n in range(1000):
            assert loud.net.send(hub.id, "gossip", b"noise %d" % n)

        def waiting(node: Node) -> int:
            return len(hub.net._inbox.get(node.id, ()))

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
async def test_connections_past_peers_max_are_refused() -> None:
    async with nodes(4, peers_max=2) as (hub, *others):
        for node in others[:2]:
            await connect(node, hub)
        others[2].net.dial(hub.address)
        await others[2].until(DialFailed)
        assert len(hub.seen(Connected)) == 2
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
        assert b.net._host._links == {} == b.net._host._strangers
        assert b.net._mailboxes == {}


# --- strangers


@run
async def test_garbage_and_silence_keep_nobody_out() -> None:
    limits = Limits(strangers_max=4, handshake_s=5)
    async with nodes(2, limits=limits) as (a, b):
        _, port, _ = parse_address(a.address)
        open_sockets = []
        for n in range(100):
            stream = socket.create_connection(("127.0.0.1", port))
            if n % 2:
                stream.sendall(secrets.token_bytes(1 + n * 7))
            else:
                stream.sendall(b"\x13/multistream/1.0.0\n"[: n % 21])
            open_sockets.append(stream)
        await connect(b, a)
        assert await a.in_trio(lambda: len(a.net._host._strangers)) <= 4
        for stream in open_sockets:
            stream.close()
        assert a.net.send(b.id, "hello", b"served")
        await b.until(Received)


@run
async def test_a_silent_connection_is_closed() -> None:
    async with nodes(1, limits=Limits(handshake_s=0.3)) as (a,):
        _, port, _ = parse_address(a.address)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b"\x13/multistream/1.0.0\n"
        writer.close()
    # Such that have an identity and open no stream, where they are the ones to choose.
    node = Node(KEYS[7], limits=Limits(handshake_s=0.3))
    await rude(node, closed, KEYS[0])
    assert node.events == []
    await asyncio.to_thread(node.net.stop)
    node = Node(KEYS[7], limits=Limits(handshake_s=PATIENCE_S, strangers_max=2))
    dalliers = [asyncio.create_task(stranger(node, closed, KEYS[n])) for n in range(3)]
    await asyncio.wait(dalliers, return_when=asyncio.FIRST_COMPLETED)
    assert node.events == []
    await asyncio.to_thread(node.net.stop)
    await asyncio.gather(*dalliers, return_exceptions=True)


@run
async def test_lengths_without_end_are_refused_before_they_are_read() -> None:
    async with nodes(1) as (a,):
        _, port, _ = parse_address(a.address)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\xff" * 9 + b"\x01")  # 2^64 - 1 bytes of multistream-select follow
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b"\x13/multistream/1.0.0\n"
        writer.close()

        async def endless_name(mux: Mux) -> None:
            stream = Stream(await mux.open_stream())
            await stream.write(b"\x80\x80\x80\x01")
            with pytest.raises(MuxedStreamError):
                await stream.read(1000)

        await stranger(a, endless_name, KEYS[0 if a.id != peer_id(KEYS[0]) else 1])


def frame_cases() -> list[tuple[bytes, str]]:
    above = Limits().frame_bytes_max["hello"] + 1
    return [
        (b"\xff\xff\xff\xff", "malformed peer message: a hello frame of 4294967295 bytes"),
        (above.to_bytes(4, "big"), f"malformed peer message: a hello frame of {above} bytes"),
        (b"\x00\x00\x00\x00", "malformed peer message: a hello frame of 0 bytes"),
        (b"\x00\x00\x00\x05half", "malformed peer message: half a hello frame"),
        (b"\x00\x00", "malformed peer message: half a hello frame"),
    ]


@run
async def test_bad_frames_end_the_connection_with_a_reason() -> None:
    async with nodes(1) as (a,):

        async def script(mux: Mux, data: bytes) -> None:
            stream = await open_stream(mux, "/dipnet/hello/1")
            await stream.write(b"\x00\x00\x00\x02ok" + data)
            await stream.close()
            await closed(mux)

        for n, (data, reason) in enumerate(frame_cases(), 1):
            await rude(a, partial(script, data=data))
            assert (await a.until(Disconnected, n)).reason == reason
            assert len(a.seen(Received, data=b"ok")) == n


@run
async def test_a_large_frame_that_dribbles_in_is_given_up() -> None:
    async with nodes(1, limits=Limits(frame_s=0.3, large_frames_max=1)) as (a,):

        async def script(mux: Mux) -> None:
            stream = await open_stream(mux, "/dipnet/sync/1")
            await stream.write((1 << 20).to_bytes(4, "big") + bytes(1000))
            await closed(mux)

        await rude(a, script)
        assert "took longer than 0.3 s" in (await a.until(Disconnected)).reason


@run
async def test_writing_past_the_window_ends_the_connection() -> None:
    async with nodes(1, limits=Limits(inbox_peer_bytes_max=1)) as (a,):

        async def script(mux: Mux) -> None:
            stream = await open_stream(mux, "/dipnet/gossip/1")
            stream._stream.send_window = 1 << 30  # what a rogue grants itself
            data = (1000).to_bytes(4, "big") + bytes(1000)
            for _ in range(MUX_BYTES_MAX // 60_000 * 3):
                await stream.write(data * 60)
            await closed(mux)

        a.net.pause()
        attack = asyncio.create_task(rude(a, script))

        async def ended() -> bool:
            waiting = [one for queue in list(a.net._inbox.values()) for one, _, _ in list(queue)]
            return any(isinstance(event, Disconnected) for event in waiting)

        await a.poll(ended)
        a.net.resume()
        assert "past its window" in (await a.until(Disconnected)).reason
        await attack


@run
async def test_streams_of_other_protocols_are_declined_and_bounded() -> None:
    async with nodes(1) as (a,):

        async def declined(mux: Mux) -> None:
            await open_stream(mux, "/dipnet/hello/1")
            for name in ("/dipnet/hello/2", "/meshsub/1.1.0", "/x" * 100):
                with pytest.raises(MultiselectClientError):
                    await open_stream(mux, name)
            for _ in range(100):  # closed ones do not count
                stream = await open_stream(mux, "/ipfs/ping/1.0.0")
                await stream.reset()
            question = secrets.token_bytes(32)
            stream = await open_stream(mux, "/ipfs/ping/1.0.0")
            await stream.write(question)
            assert await stream.read(32) == question

        async def hoard(mux: Mux) -> None:
            async with trio.open_nursery() as nursery:
                for _ in range(64):
                    nursery.start_soon(mux.open_stream)
            await closed(mux)

        await stranger(a, declined)
        assert (await a.until(Disconnected)).reason == "connection closed"
        await rude(a, hoard)


@run
async def test_a_second_stream_of_a_protocol_ends_the_connection() -> None:
    """Or one peer would take every place for large frames."""
    async with nodes(1) as (a,):

        async def script(mux: Mux) -> None:
            for _ in range(2):
                await open_stream(mux, "/dipnet/sync/1")
            await closed(mux)

        await rude(a, script)
        assert "two streams of sync" in (await a.until(Disconnected)).reason


@run
async def test_identify_tells_who_we_are() -> None:
    async with nodes(1) as (a,):

        async def script(mux: Mux) -> Identify:
            stream = await open_stream(mux, "/ipfs/id/1.0.0")
            size = await stream.read(2)
            length = (size[0] & 127) | size[1] << 7
            return Identify.FromString(await stream.read(length))

        told = await stranger(a, script)
        assert ID.from_pubkey(key_pair(KEYS[0]).public_key).to_base58() == a.id
        assert told.public_key == key_pair(KEYS[0]).public_key.serialize()
        assert "/dipnet/gossip/1" in told.protocols
        assert told.agent_version.startswith("dipnet/")
        (listen,) = told.listen_addrs
        port = parse_address(a.address)[1]
        assert listen == b"\x04\x7f\x00\x00\x01\x06" + port.to_bytes(2, "big")


@run
async def test_an_rsa_identity_is_refused() -> None:
    async with nodes(1) as (a,):
        host, port, peer = parse_address(a.address)

        async def main() -> None:
            tcp = await trio.open_tcp_stream(host, port)
            security = noise(create_rsa_key_pair(2048))
            async with tcp:
                with pytest.raises(BaseLibp2pError):
                    await upgrade(Socket(tcp, True), security, ID.from_base58(peer))

        await asyncio.to_thread(trio.run, main)
        assert a.events == []


@run
async def test_a_second_connection_of_a_peer_replaces_the_first() -> None:
    """A peer that dials again has lost its connection, whether we notice yet or not."""

    async def quiet(mux: Mux) -> None:
        await open_stream(mux, "/dipnet/hello/1")
        await closed(mux)

    for node_key, peer_key in ((KEYS[0], KEYS[7]), (KEYS[7], KEYS[0])):
        node = Node(node_key)
        first = asyncio.create_task(rude(node, quiet, peer_key))
        await node.until(Connected)
        second = asyncio.create_task(rude(node, quiet, peer_key))
        await node.until(Connected, 2)
        assert [type(e) for e in node.events] == [Connected, Disconnected, Connected]
        assert node.seen(Disconnected)[0].reason == "replaced by a newer connection"
        await first
        await asyncio.to_thread(node.net.stop)
        await second


def child(key_byte: int, mode: str = "") -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.net_pair", str(key_byte), mode]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@run
async def test_killed_and_frozen_processes_are_noticed() -> None:
    async with nodes(1, limits=Limits(ping_s=0.5)) as (a,):
        with child(20) as killed, child(21) as frozen:
            try:
                for process in (killed, frozen):
                    assert process.stdout is not None
                    a.net.dial(process.stdout.readline().strip())
                await a.until(Connected, 2)
                for e in a.seen(Connected):
                    assert a.net.send(e.peer, "gossip", b"echo")
                await a.until(Received, 2)
                killed.kill()
                frozen.send_signal(signal.SIGSTOP)
                reasons = {
                    (await a.until(Disconnected, peer=e.peer)).reason for e in a.seen(Connected)
                }
                assert "no answer to a ping in 0.5 s" in reasons
                assert len(reasons) == 2
            finally:
                killed.kill()
                frozen.kill()


@run
async def test_random_bytes_at_every_layer_end_in_a_disconnection() -> None:
    """Fuzz: behind TCP, behind Noise, on a stream. The node answers the next one."""
    async with nodes(1, limits=Limits(handshake_s=2)) as (a,):

        async def on_stream(mux: Mux, data: bytes, name: str) -> None:
            stream = await open_stream(mux, f"/dipnet/{name}/1")
            await stream.write(data)
            await stream.close()

        async def on_noise(mux: Mux, data: bytes) -> None:
            await mux.secured_conn.write(data)
            with trio.move_on_after(0.2):
                await closed(mux)

        for n in range(12):
            data = secrets.token_bytes(1 + 37 * n)
            name = PROTOCOLS[n % 4]
            await rude(a, partial(on_stream, data=data, name=name))
            header = bytes([0, n % 5, 0, 1 << n % 4]) + n.to_bytes(4, "big") + b"\x00\x00\x00\x40"
            await rude(a, partial(on_noise, data=header + data))
        ups, downs = len(a.seen(Connected)), len(a.seen(Disconnected))
        assert ups >= 12
        await a.until(Disconnected, ups)
        assert downs <= ups


# --- addresses


@given(st.text() | st.from_regex(r"/(ip4|ip6|dns4)/[0-9a-z.:]+/tcp/[0-9]+(/p2p/\w+)?"))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        host, port, peer = parse_address(text)
    except Invalid:
        pass
    else:
        assert 0 <= port <= 65535
        assert text.split("/")[2] == host
        assert text.endswith(peer)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("/ip4/10.0.0.1/tcp/30303", ("10.0.0.1", 30303, "")),
        ("/ip6/::1/tcp/0", ("::1", 0, "")),
        ("/dns4/node-1.example.org/tcp/1", ("node-1.example.org", 1, "")),
    ],
)
def test_addresses(text: str, parsed: tuple[str, int, str]) -> None:
    assert parse_address(text) == parsed
    peer = peer_id(KEYS[0])
    assert parse_address(f"{text}/p2p/{peer}") == (*parsed[:2], peer)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "/ip4/10.0.0.1",
        "/ip4/10.0.0.1/tcp/65536",
        "/ip4/10.0.0.1/udp/1",
        "/ip4/10.0.0.256/tcp/1",
        "/ip4/::1/tcp/1",
        "/dns9/x/tcp/1",
        "/dns4/-x/tcp/1",
        f"/dns4/{'a' * 64}/tcp/1",
        "/ip4/10.0.0.1/tcp/1/p2p/0OIl",
        "/ip4/10.0.0.1/tcp/1/p2p/",
        "/ip4/10.0.0.1/tcp/١",
        "/ip4/10.0.0.1/tcp/1/ws",
        "/ip4/10.0.0.1/tcp/1/p2p/" + "1" * 300,
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(Invalid):
        parse_address(text)
