"""The trio side of the peers: it listens, dials, keeps a connection for each peer, moves frames.

``net.Net`` runs a ``Host`` in a thread of its own. Rules that bind this file (docs/design.md
"Peers", ADR 20):
* All tasks of a connection run in the connection's nursery and end with it.
* An action of a peer ends at most that peer's connection; any other failure ends the thread.
* Of two connected nodes the node with the lower peer id decides which of their connections is used;
  the other node waits for its first stream. So frames never change from connection to connection.
* Every wait for a peer has a deadline, every queue a limit (``Limits``).
* A vote waits for at most a piece of 64 KiB of other protocols and for the bytes that the kernel
  has not sent yet, which trio keeps at 16 KiB (TCP_NOTSENT_LOWAT).
"""

import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

import trio
from libp2p.identity.identify.identify import ID as IDENTIFY_ID
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.io.exceptions import ConnectionClosedError, IncompleteReadError, IOException
from libp2p.peer.id import ID
from libp2p.protocol_muxer.exceptions import MultiselectError
from libp2p.security.noise.exceptions import PeerIDMismatchesPubkey
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamEOF, MuxedStreamError
from libp2p.utils.varint import encode_varint_prefixed

from dipnet import __version__
from dipnet.node.effects import FIRST, PROTOCOLS, Connected, DialFailed, Disconnected, Received
from dipnet.p2p.address import Multiaddr, parse_endpoint
from dipnet.primitives.errors import Invalid
from dipnet.transport.libp2p_connection import (
    PIECE_BYTES_MAX,
    Mux,
    Socket,
    Stream,
    accept_stream,
    binary_address,
    key_pair,
    negotiate,
    noise,
    open_stream,
    upgrade,
)
from dipnet.transport.mailbox import Limits, Mailbox, TransportEvent

log = logging.getLogger("dipnet.net")

PING_ID: Final = "/ipfs/ping/1.0.0"
PING_BYTES: Final = 32
STREAM_IDS: Final = {name: f"/dipnet/{name}/1" for name in PROTOCOLS}
SERVED: Final = (*STREAM_IDS.values(), PING_ID, str(IDENTIFY_ID))
NAMES: Final = {stream_id: name for name, stream_id in STREAM_IDS.items()}

STREAMS_MAX: Final = 32  # that a peer may have open towards us
FRAME_LARGE_BYTES: Final = 256 << 10  # a longer frame takes a place of Limits.large_frames_max
CLOSED: Final = (ConnectionClosedError, IncompleteReadError, MuxedStreamEOF)
REASON_CHARS_MAX: Final = 200
FLUSH_S: Final = 0.5  # for the queued frames of a peer that we drop
FAREWELL_S: Final = 1.0


class Put(Protocol):
    """Passes an event to the main thread.

    False when there is no room, so that the caller tries again later; the events that end a
    connection or a dial always fit.
    """

    def __call__(self, event: TransportEvent, mailbox: Mailbox) -> bool: ...


@dataclass(slots=True, eq=False)
class HostConnection:
    """A connection that has passed its handshake."""

    peer: ID
    address: str
    outbound: bool
    mux: Mux
    mailbox: Mailbox
    place: trio.CancelScope  # its entry among the strangers until it is chosen
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    born: float = field(default_factory=trio.current_time)
    chosen: trio.Event = field(default_factory=trio.Event)
    flushed: trio.Event = field(default_factory=trio.Event)
    turn: trio.Lock = field(
        default_factory=trio.Lock
    )  # held to write a piece; votes do not take it
    wake: dict[str, trio.Event] = field(
        default_factory=lambda: {name: trio.Event() for name in PROTOCOLS}
    )
    streams: int = 0
    reading: set[str] = field(default_factory=set)
    dropped: bool = False
    reason: str = ""

    def end(self, reason: str) -> None:
        """Cancels all tasks of the connection; the first reason is kept."""
        self.reason = self.reason or reason
        self.scope.cancel()


def why(error: Exception) -> str:
    """A short text for the error that ended a connection."""
    match error:
        case Invalid():
            return str(error)
        case trio.TooSlowError():
            return "no answer in time"
        case PeerIDMismatchesPubkey():
            return "another peer answered: its identity does not match the address"
        case OSError():
            return error.strerror or str(error) or type(error).__name__
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, CLOSED):
            return "connection closed"
        cause = cause.__cause__
    return f"{type(error).__name__}: {error}"[:REASON_CHARS_MAX]


class Host:
    """All connections of a node. Methods are for the trio thread, ``__init__`` for any thread."""

    def __init__(self, secret: bytes, peers_max: int, limits: Limits, put: Put) -> None:
        identity = key_pair(secret)
        self.id = ID.from_pubkey(identity.public_key)
        self._public_key = identity.public_key.serialize()
        self._noise = noise(identity)
        self._peers_max = peers_max
        self._limits = limits
        self._put = put
        self._connections: dict[str, HostConnection] = {}  # chosen, by peer
        self._strangers: dict[trio.CancelScope, None] = {}  # inbound and not chosen, oldest first
        self._listens: list[tuple[str, int]] = []
        self._nobody = Mailbox("", limits)  # of events without a connection
        self._dialling: set[str] = set()
        self._large = trio.Semaphore(limits.large_frames_max)
        self._room = trio.Event()
        # Bounded by Net: its dials, a drop for each peer, a stop.
        self._orders, self._ordered = trio.open_memory_channel[Callable[[], Awaitable[None]]](
            math.inf
        )

    # --- life

    async def run(self, listeners: Sequence[trio.SocketListener]) -> None:
        """Serves until ``stop``."""
        self._listens += [listener.socket.getsockname()[:2] for listener in listeners]
        async with trio.open_nursery() as nursery:
            serve = partial(trio.serve_listeners, handler_nursery=nursery)
            nursery.start_soon(serve, self._inbound, listeners)
            async for order in self._ordered:
                nursery.start_soon(order)
            await self._farewell()
            nursery.cancel_scope.cancel()

    async def _farewell(self) -> None:
        with trio.move_on_after(FAREWELL_S):
            async with trio.open_nursery() as nursery:
                for connection in self._connections.values():
                    nursery.start_soon(connection.mux.close)  # sends GO_AWAY

    def stop(self) -> None:
        self._orders.close()

    def dial(self, address: str) -> None:
        """Dials; a single outbound ``Connected`` or ``DialFailed`` follows."""
        self._orders.send_nowait(partial(self._dial, address))

    def drop(self, mailbox: Mailbox, reason: str) -> None:
        """Ends the connection of ``mailbox`` when its frames are sent, or after ``FLUSH_S``."""
        connection = self._connections.get(mailbox.peer)
        if connection is not None and connection.mailbox is mailbox:
            connection.dropped = True
            self._orders.send_nowait(partial(self._drop, connection, reason))

    def poke(self, mailbox: Mailbox) -> None:
        """Wakes the tasks that send the frames in ``mailbox``."""
        connection = self._connections.get(mailbox.peer)
        if connection is not None and connection.mailbox is mailbox:
            for event in connection.wake.values():
                event.set()

    def resume(self) -> None:
        """Wakes the tasks whose event ``put`` refused: there may be room again."""
        self._room.set()
        self._room = trio.Event()

    # --- connections

    async def _inbound(self, stream: trio.SocketStream) -> None:
        if len(self._connections) >= self._peers_max:
            await trio.aclose_forcefully(stream)
            return
        try:
            host, port = stream.socket.getpeername()[:2]
        except OSError:  # gone before it was accepted
            await trio.aclose_forcefully(stream)
            return
        family = "ip6" if ":" in host else "ip4"
        await self._run_connection(stream, f"/{family}/{host}/tcp/{port}", None)

    async def _dial(self, address: str) -> None:
        try:
            to = parse_endpoint(address)
            reason = self._no_dial(to.peer)
        except Invalid as error:
            reason = str(error)
        if not reason:
            self._dialling.add(to.peer)
            reason = await self._dial_to(to)
            if reason:  # a connection that was chosen has removed it
                self._dialling.remove(to.peer)
                reason = "already connected" if to.peer in self._connections else reason
        if reason:
            self._put(DialFailed(address, reason), self._nobody)

    def _no_dial(self, peer: str) -> str:
        if not peer:
            return "the address names no peer"
        if peer == self.id.to_base58():
            return "the address is our own"
        if peer in self._connections:
            return "already connected"
        return "already dialling" if peer in self._dialling else ""

    async def _dial_to(self, to: Multiaddr) -> str:
        try:
            with trio.fail_after(self._limits.dial_s):
                stream = await trio.open_tcp_stream(to.host, to.port)
        except (OSError, UnicodeError, trio.TooSlowError) as error:
            return why(error)
        return await self._run_connection(stream, to.text, ID.from_base58(to.peer))

    async def _run_connection(self, stream: trio.SocketStream, address: str, to: ID | None) -> str:
        """Owns a socket to its end; returns why no ``Connected`` followed, "" when it did."""
        place = trio.CancelScope()
        try:
            with place:
                if to is None:
                    self._admit(place)
                with trio.fail_after(self._limits.handshake_s):
                    mux = await upgrade(Socket(stream, to is not None), self._noise, to)
                if to is None:
                    address = f"{address}/p2p/{mux.peer_id.to_base58()}"
                mailbox = Mailbox(mux.peer_id.to_base58(), self._limits)
                connection = HostConnection(
                    mux.peer_id, address, to is not None, mux, mailbox, place
                )
                with connection.scope:
                    await self._live(connection)
                self._forget(connection, connection.reason)
                return "" if connection.chosen.is_set() else connection.reason
        except Exception as error:  # py-libp2p raises any error for a stranger's bytes
            log.debug("connection %s ended", address, exc_info=True)
            return why(error)
        finally:
            self._strangers.pop(place, None)
            await trio.aclose_forcefully(stream)
        return "made room for a newer stranger"

    def _admit(self, place: trio.CancelScope) -> None:
        """Makes room by ending the oldest stranger: an honest handshake is short."""
        while len(self._strangers) >= self._limits.strangers_max:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.cancel()
        self._strangers[place] = None

    async def _live(self, connection: HostConnection) -> None:
        async with trio.open_nursery() as nursery:
            start = partial(nursery.start_soon, self._guard, connection)
            start(self._multiplex)
            start(partial(self._accept, nursery=nursery))
            if self._chooses(connection):
                self._choose(connection)
            with trio.move_on_after(self._limits.handshake_s):
                await connection.chosen.wait()
            if not connection.chosen.is_set():
                connection.end("opened no stream of dipnet")
                return
            for name in PROTOCOLS:
                start(partial(self._write, name=name))
            start(self._ping)

    async def _guard(
        self, connection: HostConnection, run: Callable[[HostConnection], Awaitable[None]]
    ) -> None:
        try:
            await run(connection)
        except Exception as error:  # as in _run_connection: it ends this peer only
            log.debug("%s ended", connection.address, exc_info=True)
            lost = connection.mux.event_shutting_down.is_set() and not isinstance(error, Invalid)
            connection.end(
                connection.mux.violation or ("connection closed" if lost else why(error))
            )

    def _chooses(self, connection: HostConnection) -> bool:
        return self.id.to_bytes() < connection.peer.to_bytes()

    def _choose(self, connection: HostConnection) -> None:
        """Makes ``connection`` the chosen connection of its peer, or ends it."""
        peer = connection.mailbox.peer
        old = self._connections.get(peer)
        if old is not None:
            # When both nodes dialled at once, the first stays. Else the peer has lost the first.
            crossed = connection.outbound != old.outbound
            if (
                self._chooses(connection)
                and crossed
                and connection.born - old.born < self._limits.handshake_s
            ):
                return connection.end("already connected")
            self._forget(old, "replaced by a newer connection")
        elif len(self._connections) >= self._peers_max and not connection.outbound:
            return connection.end("no room for more peers")
        if not self._put(
            Connected(peer, connection.address, connection.outbound), connection.mailbox
        ):
            return connection.end("the node is busy")
        self._connections[peer] = connection
        connection.chosen.set()
        if connection.outbound:
            self._dialling.remove(peer)
        else:
            self._strangers.pop(connection.place, None)
        return None

    def _forget(self, connection: HostConnection, reason: str) -> None:
        """Ends ``connection``; ``Disconnected`` follows if it was chosen."""
        connection.mailbox.close()
        if self._connections.get(connection.mailbox.peer) is connection:
            del self._connections[connection.mailbox.peer]
            self._put(Disconnected(connection.mailbox.peer, reason), connection.mailbox)
        connection.end(reason)

    async def _drop(self, connection: HostConnection, reason: str) -> None:
        with trio.move_on_after(FLUSH_S):
            if connection.mailbox.unsent:
                await connection.flushed.wait()
        self._forget(connection, reason)

    # --- streams

    async def _multiplex(self, connection: HostConnection) -> None:
        await connection.mux.start()
        connection.end(connection.mux.violation or "connection closed")

    async def _accept(self, connection: HostConnection, nursery: trio.Nursery) -> None:
        while True:
            try:
                stream = await accept_stream(connection.mux)
            except MuxedConnUnavailable:
                return
            if connection.streams >= STREAMS_MAX:
                raise Invalid("peer_limit", f"more than {STREAMS_MAX} streams at once")
            connection.streams += 1
            nursery.start_soon(self._guard, connection, partial(self._serve, stream=stream))

    async def _serve(self, connection: HostConnection, stream: Stream) -> None:
        try:
            with trio.fail_after(self._limits.handshake_s):
                protocol = await negotiate(stream, SERVED, ask=False)
            if protocol in NAMES:
                if not connection.chosen.is_set():
                    self._choose(connection)
                await self._frames(connection, stream, NAMES[protocol])
            elif protocol == PING_ID:
                while True:
                    await stream.write(await stream.read(PING_BYTES))
            else:
                await stream.write(encode_varint_prefixed(self._identify(connection)))
            await stream.finish(self._limits.handshake_s)
        except (MuxedStreamError, MultiselectError, IOException, trio.TooSlowError) as error:
            log.debug("stream of %s ended: %s", connection.address, why(error))
            if not stream.connection_lost:
                await stream.reset()
        finally:
            connection.streams -= 1

    def _identify(self, connection: HostConnection) -> bytes:
        """The message of libp2p identify, without a signed record of addresses."""
        observed = parse_endpoint(connection.address)
        return Identify(
            protocol_version="ipfs/0.1.0",
            agent_version=f"dipnet/{__version__}",
            public_key=self._public_key,
            listen_addrs=[binary_address(*name[:2]) for name in self._listens],
            observed_addr=binary_address(observed.host, observed.port),
            protocols=SERVED,
        ).SerializeToString()

    async def _frames(self, connection: HostConnection, stream: Stream, name: str) -> None:
        """Reads a protocol's only stream: with several a peer would take all large_frames_max."""
        if name in connection.reading:
            raise Invalid("peer_limit", f"two streams of {name}")
        connection.reading.add(name)
        try:
            await self._read(connection, stream, name)
        finally:
            connection.reading.remove(name)

    async def _read(self, connection: HostConnection, stream: Stream, name: str) -> None:
        """Reads the frames of a protocol to the end: 4 bytes of length (big-endian), then bytes."""
        await stream.widen()
        limit, peer = self._limits.frame_bytes_max[name], connection.mailbox.peer
        while True:
            try:
                size = int.from_bytes(await stream.read(4), "big")
                if not 0 < size <= limit:
                    raise Invalid("peer_message", f"a {name} frame of {size} bytes")
                data = await self._body(stream, size)
            except MuxedStreamError:
                if stream.unread and not stream.connection_lost:
                    raise Invalid("peer_message", f"half a {name} frame") from None
                return
            event = Received(peer, name, data)
            while True:
                if connection.dropped or self._connections.get(peer) is not connection:
                    return
                if self._put(event, connection.mailbox):
                    break
                await self._room.wait()  # Yamux and TCP make the peer wait too

    async def _body(self, stream: Stream, size: int) -> bytes:
        if size <= FRAME_LARGE_BYTES:
            return await stream.read(size)
        async with self._large:
            with trio.move_on_after(self._limits.frame_s):
                return await stream.read(size)
        raise Invalid("peer_limit", f"{size} bytes took longer than {self._limits.frame_s} s")

    async def _write(self, connection: HostConnection, name: str) -> None:
        """Sends the queued frames of a protocol; protocols take turns by pieces of 64 KiB.

        The stream of hello is opened at once: it tells the peer that the connection is chosen.
        """
        streams: list[Stream] = []
        while True:
            connection.wake[name] = trio.Event()
            frames = connection.mailbox.take(name)
            if not streams and (frames or name == "hello"):
                with trio.fail_after(self._limits.handshake_s):
                    streams.append(await open_stream(connection.mux, STREAM_IDS[name]))
            if not frames:
                await connection.wake[name].wait()
                continue
            joined = b"".join(p for frame in frames for p in (len(frame).to_bytes(4, "big"), frame))
            for start in range(0, len(joined), PIECE_BYTES_MAX):
                piece = joined[start : start + PIECE_BYTES_MAX]
                with trio.move_on_after(self._limits.write_s) as scope:
                    if name == FIRST:
                        await streams[0].write(piece)
                    else:
                        await streams[0].credit(len(piece))
                        async with connection.turn:
                            await streams[0].write(piece)
                if scope.cancelled_caught:
                    return connection.end(f"did not read {name} for {self._limits.write_s} s")
            connection.mailbox.sent(name, sum(map(len, frames)))
            if connection.dropped and not connection.mailbox.unsent:
                connection.flushed.set()

    async def _ping(self, connection: HostConnection) -> None:
        """Pings the peer and ends the connection of a peer that does not answer."""
        await trio.sleep(self._limits.ping_s)
        with trio.move_on_after(self._limits.ping_s) as scope:
            stream = await open_stream(connection.mux, PING_ID)
        while not scope.cancelled_caught:
            with trio.move_on_after(self._limits.ping_s) as scope:
                question = secrets.token_bytes(PING_BYTES)
                await stream.write(question)
                if await stream.read(PING_BYTES) != question:
                    return connection.end("wrong answer to a ping")
            if not scope.cancelled_caught:
                await trio.sleep(self._limits.ping_s)
        return connection.end(f"no answer to a ping in {self._limits.ping_s} s")
