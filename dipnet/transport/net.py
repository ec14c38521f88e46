"""The seam between the asyncio main thread and libp2p in its trio thread: bytes and events only.

This is the only file that knows both loops (docs/design.md "Peers"). Rules that bind it:
* No trio or libp2p type crosses. ``send``, ``dial`` and ``drop`` never wait.
* Crossings are coalesced: at most one call is scheduled in each direction, over bounded queues.
  When the inbound queue is full, the trio side stops reading the peer that filled it.
* Peers take turns, an event each, and votes overtake other events (``Inbox``). Events wait in the
  inbox, where they are counted: ``on_event`` handles an event at once and queues nothing.
* An unexpected failure in the thread is reported to the main thread, which ends the process.
"""

import asyncio
import contextlib
import errno
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Final

import trio

from dipnet.node.effects import FIRST, Connected, DialFailed, Disconnected
from dipnet.p2p.address import Multiaddr, parse_endpoint
from dipnet.primitives.errors import Invalid
from dipnet.transport.libp2p_connection import peer_id
from dipnet.transport.libp2p_host import Host
from dipnet.transport.mailbox import Inbox, Limits, Mailbox, TransportEvent

__all__ = ["Limits", "Net", "peer_id"]

log = logging.getLogger("dipnet.net")

PEERS_MAX: Final = 50
EVENTS_PER_TURN: Final = 256  # handed over before the main loop does other work
TURN_MS_MAX: Final = 10  # a turn ends after this time, too
START_S: Final = 30.0
STOP_S: Final = 5.0
QUOTE_MAX: Final = 120


def _endpoint(listen: str) -> Multiaddr:
    try:
        return parse_endpoint(listen)
    except Invalid as error:
        raise Invalid("config", f"listen = {listen[:QUOTE_MAX]!r}: {error.detail}") from None


async def _bind(listen: Multiaddr) -> Sequence[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(listen.port, host=listen.host)
    except OSError as error:
        where = f"port {listen.port} on {listen.host}"
        if error.errno == errno.EADDRINUSE:
            raise Invalid(
                "config", f"{where} is busy: stop what listens there or set another port"
            ) from error
        raise Invalid("config", f"cannot listen to {where}: {error.strerror or error}") from error


class Net:
    """The peers of a node. Call methods in the main thread unless they say otherwise.

    ``on_event`` gets ``Connected``, ``Received``, ``Disconnected`` and ``DialFailed`` in the main
    thread, ``on_failure`` a reason when the thread has ended by itself.
    """

    def __init__(
        self,
        *,
        secret: bytes,
        listen: str,
        on_event: Callable[[TransportEvent], None],
        on_failure: Callable[[str], None],
        peers_max: int = PEERS_MAX,
        limits: Limits | None = None,
    ) -> None:
        """Prepares the thread; ``start`` opens the socket.

        ``secret``: the node key, 32 bytes. ``listen``: a multiaddr such as
        ``/ip4/127.0.0.1/tcp/0``, port 0 for any free port.

        Raises:
            Invalid: ``config`` for a malformed key or address.
        """
        self._listen = _endpoint(listen)
        self._limits = limits or Limits()
        self._host = Host(secret, peers_max, self._limits, self._put)
        self._on_event = on_event
        self._on_failure = on_failure
        self._ready: Future[tuple[trio.lowlevel.TrioToken, list[str]]] = Future()
        self._thread = threading.Thread(target=self._main, name="dipnet-net", daemon=True)
        self._stopped = False
        self._paused = False
        self._mailboxes: dict[str, Mailbox] = {}  # of peers that on_event was told of
        self._nobody = Mailbox("", self._limits)  # for events that are of no connection
        self._dials = 0
        self._lock = threading.Lock()  # guards the fields below
        self._inbox = Inbox(self._limits)
        self._handing = False  # a call of _hand_over is scheduled
        self._starved = False  # the trio side waits for room
        self._orders: deque[Callable[[], None]] = deque()
        self._ordering = False  # a call of _obey is scheduled

    # --- life

    def start(self, loop: asyncio.AbstractEventLoop | None = None) -> tuple[str, list[str]]:
        """Starts the thread and waits until it listens. Any thread may call it with the main loop.

        Returns:
            The peer id, and the multiaddrs that the node listens to, with the id.

        Raises:
            Invalid: ``config`` when the thread cannot listen.
        """
        self._loop = loop or asyncio.get_running_loop()
        self._thread.start()
        _, addresses = self._ready.result(timeout=START_S)
        return self._host.id.to_base58(), addresses

    def stop(self) -> None:
        """Disconnects all peers and ends the thread within 5 s; no event follows.

        Any thread may call it.
        """
        self._stopped = True
        if self._thread.is_alive():
            self._in_trio(self._host.stop)
            self._thread.join(STOP_S)
        if self._thread.is_alive():
            log.error("the peer thread did not end in %s s", STOP_S)

    def _main(self) -> None:
        try:
            trio.run(self._trio)
            reason = "it returned"
        except Invalid as error:  # before it is ready: for the caller of start
            self._ready.set_exception(error)
            return
        except BaseException as error:
            log.debug("the peer thread ended", exc_info=True)
            reason = repr(error)
            if not self._ready.done():
                self._ready.set_exception(error)
                return
        if not self._stopped:
            self._in_main(partial(self._on_failure, reason))

    async def _trio(self) -> None:
        listeners = await _bind(self._listen)
        addresses = [
            f"/{self._listen.kind}/{self._listen.host}/tcp/{listener.socket.getsockname()[1]}/p2p/{self._host.id}"
            for listener in listeners
        ]
        self._ready.set_result((trio.lowlevel.current_trio_token(), addresses))
        await self._host.run(listeners)

    # --- main thread to trio

    def send(self, peer: str, protocol: str, data: bytes) -> bool:
        """Queues a frame; False when the peer is unknown or its queue is full.

        Frames of one protocol arrive in order, or the peer is disconnected.
        """
        limit = self._limits.frame_bytes_max[protocol]
        if not 0 < len(data) <= limit:
            raise ValueError(f"a {protocol} frame of {len(data)} bytes, {limit} at most")
        mailbox = self._mailboxes.get(peer)
        if mailbox is None or (protocol != FIRST and self._crowded(mailbox)):
            return False
        if not mailbox.put(protocol, data):
            return False
        with self._lock:
            poked, mailbox.poked = mailbox.poked, True
        if not poked:
            self._in_trio(partial(self._poke, mailbox))
        return True

    def _crowded(self, mailbox: Mailbox) -> bool:
        """Whether more than its fair part waits for this peer, and too much for all together."""
        return (
            mailbox.unsent > self._limits.outbox_fair_bytes
            and sum(other.unsent for other in self._mailboxes.values())
            > self._limits.outbox_all_bytes_max
        )

    def _poke(self, mailbox: Mailbox) -> None:
        with self._lock:
            mailbox.poked = False
        self._host.poke(mailbox)

    def dial(self, address: str) -> None:
        """Connects to a multiaddr with a peer id; an outbound ``Connected`` or a ``DialFailed``
        follows."""
        self._dials += 1
        if self._dials > self._limits.dials_max:
            failed = DialFailed(address, f"more than {self._limits.dials_max} dials at once")
            self._put(failed, self._nobody)
        else:
            self._in_trio(partial(self._host.dial, address))

    def drop(self, peer: str, reason: str) -> None:
        """Disconnects the peer after its queued frames are written; ``Disconnected`` follows."""
        mailbox = self._mailboxes.get(peer)
        if mailbox is not None and mailbox.close():
            self._in_trio(partial(self._host.drop, mailbox, reason))

    def _in_trio(self, order: Callable[[], None]) -> None:
        with self._lock:
            self._orders.append(order)
            scheduled, self._ordering = self._ordering, True
        if not scheduled:
            token, _ = self._ready.result()
            with contextlib.suppress(trio.RunFinishedError):  # stopped, or on_failure is coming
                token.run_sync_soon(self._obey)

    def _obey(self) -> None:
        with self._lock:
            self._ordering = False
            orders, self._orders = self._orders, deque()
        for order in orders:
            order()

    # --- trio to main thread

    def _put(self, event: TransportEvent, mailbox: Mailbox) -> bool:
        with self._lock:
            if not self._inbox.put(event, mailbox):
                self._starved = True
                return False
            if self._handing or self._paused:
                return True
            self._handing = True
        self._in_main(self._hand_over)
        return True

    def _in_main(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # the main loop is closed, the node has ended
            log.debug("the main loop has ended before the peer thread")

    def _hand_over(self) -> None:
        left = EVENTS_PER_TURN
        until_ns = time.monotonic_ns() + TURN_MS_MAX * 1_000_000
        try:
            while left and self._inbox and not self._paused and not self._stopped:
                with self._lock:
                    event, mailbox = self._inbox.take()
                left -= 1
                self._account(event, mailbox)
                self._on_event(event)
                if time.monotonic_ns() > until_ns:
                    break
        finally:
            with self._lock:
                self._handing = bool(self._inbox) and not self._paused and not self._stopped
                starved = self._starved and left < EVENTS_PER_TURN
                self._starved = self._starved and not starved
            if self._handing:
                self._loop.call_soon(self._hand_over)
            if starved:
                self._in_trio(self._host.resume)

    def _account(self, event: TransportEvent, mailbox: Mailbox) -> None:
        """Keeps the mailboxes of the peers that ``on_event`` knows, and the number of dials."""
        match event:
            case Connected():
                self._mailboxes[event.peer] = mailbox
                self._dials -= event.outbound
            case Disconnected():
                del self._mailboxes[event.peer]
            case DialFailed():
                self._dials -= 1

    def pause(self) -> None:
        """Hands over no event until ``resume``; meanwhile queues fill and then peers wait."""
        self._paused = True

    def resume(self) -> None:
        """Ends ``pause``."""
        with self._lock:
            self._paused = False
            scheduled, self._handing = self._handing, self._handing or bool(self._inbox)
        if self._handing and not scheduled:
            self._loop.call_soon(self._hand_over)
