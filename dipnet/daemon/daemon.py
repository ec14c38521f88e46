"""The loop of a running node: inbox -> ``node.step`` -> effects, performed in order.

The only place where a clock is read for the node and where its effects touch the world. The thread
of the event loop owns the node. Other threads only post events back:

* ``dipnet-store``: the commits of ``host/store.py``.
* one thread for each ``work.Thread``: decoding and checking of signatures.
* ``dipnet-signer``: the signatures of our delegate (``duty.py``).
* ``dipnet-net``: libp2p (``transport/net.py``).

Events of our own (times, results, clients) wait in ``_inbox``, which is bounded by our own
requests. Events of peers wait in ``Net``, which bounds their bytes, and are handled as ``Net``
delivers them, so that no flood of them delays our own events. While the disk is behind, events of
peers are not handled.
"""

import asyncio
import contextlib
import logging
import secrets
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from dipnet.consensus.chain.block import Block
from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.chain.pool import Pool
from dipnet.consensus.chain.schedule import slot_at
from dipnet.daemon.admin import AdminSocket
from dipnet.daemon.duty import EXIT_BUG, EXIT_STORAGE, Duty
from dipnet.dag.graph import Dag
from dipnet.dag.vertex import Vertex
from dipnet.host.config import Config
from dipnet.host.store import Store
from dipnet.ledger.genesis import Genesis
from dipnet.ledger.tx import Tx
from dipnet.node.effects import (
    Barrier,
    Dial,
    Drop,
    Effect,
    Event,
    Halt,
    Publish,
    Reply,
    Report,
    Send,
    Sign,
    Signed,
    StreamName,
    Submitted,
    Verified,
    Verify,
    Wake,
    Woke,
    Write,
)
from dipnet.node.node import Node
from dipnet.node.voting import Voting
from dipnet.node.work import ClientWork, Thread
from dipnet.p2p.address import parse as parse_address
from dipnet.primitives.errors import Corrupt, Invalid
from dipnet.rpc.backend import Accepted
from dipnet.rpc.feed import Feed, Feeds
from dipnet.rpc.listen import serve
from dipnet.rpc.server import Access, application
from dipnet.rpc.watch import FinalityWatch
from dipnet.sdk.admin_client import SOCKET_NAME
from dipnet.signing.signer import Signer
from dipnet.transport.net import Net

log = logging.getLogger("dipnet")

Results = tuple[Accepted | Invalid, ...]

TURN_MS_MAX = 20  # the loop serves peers and clients after this much stepping
WAKE_MS_MAX = 1_000  # a clock that is set during a wait is noticed within this time
SUBMITS_MAX = 4096  # submissions that wait for their reply
SUBMIT_BYTES_MAX = 64 << 20  # of them
STAGED_BYTES_MAX = 64 << 20  # above it, peers are not read and clients get ``busy``
WATCH_S = 1
EXIT_OK, EXIT_MEND = 0, 2


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a started node is reached."""

    peer_id: str
    addresses: list[str]
    rpc_host: str
    rpc_port: int


class Daemon:
    """One node with its store, peers and interface; ``run`` lives as long as the process."""

    def __init__(
        self,
        config: Config,
        genesis: Genesis,
        store: Store,
        identity: bytes,
        signer: Signer | None = None,
    ) -> None:
        """``identity`` is the secret key of 32 bytes by which peers know the node.

        ``signer`` has the delegate's key, none makes an observer; it is closed with ``run``.
        """
        self.config = config
        self.genesis = genesis
        self.store = store
        self.peer_id = ""
        self._addresses: list[str] = []
        self._started_ms = self.now_ms()
        self._duty = Duty(signer, self, self._post_signed, self._fail_from_thread)
        self.finality = FinalityWatch(self._started_ms)
        self._net = Net(
            secret=identity,
            listen=config.listen,
            on_event=self._on_peer_event,
            on_failure=lambda reason: self._fail(EXIT_BUG, f"the peer thread ended: {reason}"),
            peers_max=config.peers_max,
        )
        self._inbox: deque[Event] = deque()
        self._turning = False
        self._barrier = Barrier()
        self._durable_writes = 0
        self._settling: deque[tuple[int, asyncio.Future[None]]] = deque()  # answers, by writes
        self._timer: asyncio.TimerHandle | None = None
        self._tickets = 0
        self._replies: dict[int, tuple[asyncio.Future[Results], int]] = {}  # and its bytes
        self._submitted_bytes = 0
        self._feeds = Feeds()
        self._checks = {
            thread: ThreadPoolExecutor(1, thread_name_prefix=f"dipnet-{thread.value}")
            for thread in Thread
        }
        self._behind = False  # the disk is
        self._exit: asyncio.Future[int] | None = None
        self._low_disk: str | None = None
        self._lag: str | None = None  # of finality
        self._perform: dict[type, Callable[..., None]] = {
            Write: self._write,
            Send: self._send,
            Dial: lambda e: self._net.dial(e.address),
            Drop: lambda e: self._net.drop(e.peer, e.reason),
            Wake: self._wake,
            Reply: self._reply,
            Verify: self._verify,
            Sign: self._duty.sign,
            Report: self._duty.report,
            Halt: lambda e: self._fail(EXIT_MEND, e.reason),
            Publish: self._publish,
        }

    # --- life

    async def run(self, ready: Callable[[Endpoints], None]) -> int:
        """Runs until SIGINT, SIGTERM or a failure; the process's exit code.

        ``ready`` is called once the node serves, and never when the start itself ends the node.
        """
        self._loop = asyncio.get_running_loop()
        self._exit = self._loop.create_future()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._fail, EXIT_OK, "asked to stop")
        self._net.pause()  # until there is a node to hear
        admin = AdminSocket(self.config.data / SOCKET_NAME, self._duty.methods)
        try:
            start = self._loop.run_in_executor(None, self._net.start, self._loop)
            self.peer_id, self._addresses = await start
            self.node = Node(
                self.genesis,
                self.store,
                peer_id=self.peer_id,
                addresses=self._advertised(),
                voter=self._duty.voter(self.store),
                bootstrap=self.config.bootstrap,
                local=self.config.local,
                seed=secrets.randbits(64),
                paused=self.config.paused,
            )
            self.store.start(self._post_durable, self._post_storage_failure)
            app = application(self, Access(self.config.rpc_hosts, self.config.rpc_origins))
            listener = await serve(app, self.config.rpc_host, self.config.rpc_port)
            self._run(lambda: self._barrier.admit(self.node.start(self.now_ms())))
            self._net.resume()
            self._watch()
            await admin.start()
            if not self._exit.done():  # else the reason of the end stays the last line of the log
                at = (self.config.rpc_host, listener.port)
                ready(Endpoints(self.peer_id, self._addresses, *at))
            code = await self._exit
            self._refuse_waiting()
            await listener.stop()
        finally:
            await admin.stop()
            for checks in self._checks.values():
                checks.shutdown(wait=False, cancel_futures=True)
            await self._loop.run_in_executor(None, self._duty.stop)
            await self._loop.run_in_executor(None, self._net.stop)
            self.store.close()
        return code

    def _advertised(self) -> list[str]:
        """Where peers are told to dial: behind a wildcard or a NAT only the operator knows."""
        told = [f"{address}/p2p/{self.peer_id}" for address in self.config.advertise]
        try:
            return [parse_address(address).text for address in told] or self._addresses
        except Invalid as wrong:
            raise Invalid("config", f"advertise: {wrong.detail}") from None

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def _fail(self, code: int, reason: str) -> None:
        """Ends ``run`` with ``code``; the first caller wins."""
        if self._exit is not None and not self._exit.done():
            log.log(logging.INFO if code == EXIT_OK else logging.CRITICAL, "stopping: %s", reason)
            self._exit.set_result(code)

    def _watch(self) -> None:
        """Each second until we stop: is there space, and does finality keep up?"""
        if self._exit is None or self._exit.done():
            return None
        try:
            free = self.store.free_bytes()
        except OSError as error:
            return self._fail(EXIT_STORAGE, f"{self.config.data} is out of reach: {error}")
        if free < self.config.disk_stop_bytes:
            return self._fail(
                EXIT_STORAGE,
                f"{free >> 20} MiB free where {self.config.data} lies; free space, start again",
            )
        self._low_disk = None if free >= self.config.disk_refuse_bytes else f"{free >> 20} MiB free"
        slot = slot_at(self.chain.parameters, self.now_ms())
        if self.syncing() is None:  # else it lags, of course
            self._lag = self.finality.look(slot, self.chain.final)
        self._loop.call_later(WATCH_S, self._watch)
        return None

    # --- events in

    def post(self, event: Event) -> None:
        """Puts an event of our own into the inbox; from the loop's thread."""
        self._inbox.append(event)
        if not self._turning:
            self._turning = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        until = time.monotonic_ns() + TURN_MS_MAX * 1_000_000
        while self._inbox and time.monotonic_ns() < until:
            self._step(self._inbox.popleft())
        self._turning = bool(self._inbox)
        if self._turning:
            self._loop.call_soon(self._turn)

    def _on_peer_event(self, event: Event) -> None:
        self._step(event)

    def _step(self, event: Event) -> None:
        self._run(lambda: self._barrier.admit(self.node.step(self.now_ms(), event)))

    def _post_durable(self, count: int) -> None:
        self._from_thread(self._durable, count)

    def _post_storage_failure(self, reason: str) -> None:
        self._from_thread(self._fail, EXIT_STORAGE, reason)

    def _post_signed(self, event: Signed) -> None:
        self._from_thread(self.post, event)

    def _fail_from_thread(self, code: int, reason: str) -> None:
        self._from_thread(self._fail, code, reason)

    def _from_thread(self, call: Callable[..., None], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nothing waits any more
            self._loop.call_soon_threadsafe(call, *args)

    # --- effects out

    def _run(self, act: Callable[[], Iterable[Effect]]) -> None:
        """Perform the effects that ``act`` gives. A ``Halt`` or a failure ends the process: no
        effect after it is performed."""
        if self._exit is None or self._exit.done():
            return
        try:
            for effect in act():
                self._perform[type(effect)](effect)
                if self._exit.done():
                    return
        except Corrupt as failure:
            self._fail(EXIT_STORAGE, str(failure))
        except Exception:
            log.exception("a bug ends this process; its records are safe, please report it")
            self._fail(EXIT_BUG, "a bug")

    def _durable(self, count: int) -> None:
        self._run(lambda: self._barrier.durable(count))
        self._durable_writes = count
        while self._settling and self._settling[0][0] <= count:
            settled = self._settling.popleft()[1]
            if not settled.done():
                settled.set_result(None)
        if self._behind and self.store.staged_bytes <= STAGED_BYTES_MAX:
            self._behind = False
            self._net.resume()

    def _write(self, effect: Write) -> None:
        self.store.stage(effect.puts)
        if not self._behind and self.store.staged_bytes > STAGED_BYTES_MAX:
            self._behind = True
            self._net.pause()

    def _send(self, effect: Send) -> None:
        # False: the peer is gone or does not read. Tips and sync bring missing objects later.
        self._net.send(effect.peer, effect.protocol, effect.data)

    def _wake(self, effect: Wake) -> None:
        delay_ms = min(max(0, effect.at_ms - self.now_ms()), WAKE_MS_MAX)
        at = self._loop.time() + delay_ms / 1000
        if self._timer is None or at < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(at, self._woke)

    def _woke(self) -> None:
        self._timer = None
        self.post(Woke())

    def _reply(self, effect: Reply) -> None:
        future, size = self._replies.pop(effect.ticket)
        self._submitted_bytes -= size
        if not future.done():  # the client may have gone
            future.set_result(effect.results)

    def _verify(self, effect: Verify) -> None:
        def check() -> None:
            outcome = self.node.check(effect.work)
            self._from_thread(self.post, Verified(effect.ticket, outcome))

        self._checks[effect.work.thread].submit(check).add_done_callback(self._checked)

    def _checked(self, done: "Future[None]") -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None:
            log.error("a check failed", exc_info=error)
            self._from_thread(self._fail, EXIT_BUG, f"a bug in a check: {error!r}")

    def _publish(self, effect: Publish) -> None:
        stream = effect.stream
        if stream == "finalizedHeads" and self.syncing() is None:
            blocks = [block for block in effect.values if isinstance(block, Block)]
            self.finality.on_final(self.now_ms(), [block.header for block in blocks])
        if self._feeds.listeners(stream):
            for value in effect.values:
                self._feeds.publish(stream, self._shown(value))

    def _shown(self, value: Block | Tx | bytes) -> Block | Tx | Vertex | None:
        """Vertices are read only for listeners, because they come by the thousand."""
        return self.node.dag.get(value) if isinstance(value, bytes) else value

    def _refuse_waiting(self) -> None:
        waiting: list[asyncio.Future[Any]] = [future for future, _ in self._replies.values()]
        for future in waiting + [future for _, future in self._settling]:
            if not future.done():
                future.set_exception(Invalid("stopping"))

    # --- rpc.backend.Backend

    @property
    def chain(self) -> Chain:
        return self.node.chain

    @property
    def pool(self) -> Pool:
        return self.node.pool

    @property
    def dag(self) -> Dag:
        return self.node.dag

    @property
    def voting(self) -> Voting:
        return self.node.voting

    def clock_offset_ms(self) -> int | None:
        """How far the clocks of peers are ahead of ours, None before enough peers have told."""
        return self.node.peers.clock_offset_ms()

    def started_ms(self) -> int:
        """``now_ms`` when the process started."""
        return self._started_ms

    def listen_addresses(self) -> Sequence[str]:
        """Multiaddresses that peers can dial."""
        return self._addresses

    def peers(self) -> Sequence[dict[str, object]]:
        """Connected peers that said hello."""
        return self.node.peers.described(self.node.steady_ms)

    def syncing(self) -> tuple[int, int] | None:
        """(our height, highest height claimed) while catching up."""
        return self.node.peers.syncing(self.node.steady_ms)

    def health(self) -> dict[str, str | None]:
        """Each component's complaint."""
        syncing = self.syncing()
        return {
            "disk": "writes are behind" if self._behind else self._low_disk,
            "sync": f"at block {syncing[0]} of {syncing[1]}" if syncing else None,
            "finality": self._lag,
            "signer": self._duty.complaint or self.node.voting.elsewhere,
        }

    async def settled(self) -> None:
        """Returns when all writes up to now are durable."""
        if self._durable_writes < self._barrier.staged:
            if self._exit is None or self._exit.done():
                raise Invalid("stopping")
            future: asyncio.Future[None] = self._loop.create_future()
            self._settling.append((self._barrier.staged, future))
            await future

    def subscribe(self, stream: StreamName) -> Feed:
        """A bounded queue of the items that are published on ``stream``."""
        return self._feeds.subscribe(stream)

    def failed(self, error: Exception) -> None:
        """A bug or ``Corrupt`` met while answering a call: the process ends, records are safe."""
        if isinstance(error, Corrupt):
            self._fail(EXIT_STORAGE, str(error))
        else:
            log.error("a bug in the interface", exc_info=error)
            self._fail(EXIT_BUG, f"a bug: {error!r}")

    async def submit(self, work: ClientWork) -> Sequence[Accepted | Invalid]:
        """Hands transactions or vertices to the node; one result an item, once durable."""
        if self._low_disk is not None:
            raise Invalid("disk", self._low_disk)
        if self._exit is None or self._exit.done():
            raise Invalid("stopping")
        if self._behind:
            raise Invalid("busy", "the disk is behind")
        if (
            len(self._replies) >= SUBMITS_MAX
            or self._submitted_bytes + work.size > SUBMIT_BYTES_MAX
        ):
            raise Invalid("busy", f"{len(self._replies)} submissions are waiting")
        self._tickets += 1
        future: asyncio.Future[Results] = self._loop.create_future()
        self._replies[self._tickets] = (future, work.size)
        self._submitted_bytes += work.size
        self.post(Submitted(self._tickets, work))
        return await future
