"""A network of nodes on a virtual clock, network and disk; the nodes are the shipping ones.

One heap of (virtual ms, number, action) drives everything. Each ``Host`` runs the shipping
``node.step`` behind the shipping ``Barrier`` and performs effects against a simulated world: links
with delay, loss, duplication, reordering, breaks and partitions, clocks that are wrong, disks that
crash, fail or are wiped, signers whose processes end. Seed + commit = replay: ``trace`` hashes
every event and its time.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from dipnet.consensus.finality.tally import Offence
from dipnet.ledger.genesis import Genesis
from dipnet.node.checks import Checked
from dipnet.node.effects import (
    Barrier,
    Dial,
    Drop,
    Effect,
    Event,
    Publish,
    Received,
    Reply,
    Report,
    Send,
    Sign,
    Signed,
    Submitted,
    Verified,
    Verify,
    Wake,
    Woke,
    Write,
)
from dipnet.node.node import Node, first_puts
from dipnet.node.voting import signed_state
from dipnet.node.work import ClientWork, Work
from dipnet.primitives import crypto
from dipnet.signing.votefile import check_not_older
from tests.sim.disk import Disk
from tests.sim.signer import Ballots, Signer
from tests.sim.wires import End, Faults, Wires, pair_of

SYNC_MS = (1, 30)  # a batch becomes durable after this long
CHECK_MS = (0, 4)  # a signature check takes this long
CHECKS_KEPT = 4_096
TRACE_BYTES = 16


@dataclass
class Host(End):
    """A machine: a disk that outlives its node, a node while it is up."""

    secret: bytes = b""
    signer: Signer | None = None
    disk: Disk = field(default_factory=Disk)
    node: Node | None = None
    barrier: Barrier = field(default_factory=Barrier)
    durable: int = 0
    wake_at: int = 0
    skew_ms: int = 0  # the error of its clock, ms

    @property
    def proposer(self) -> bytes | None:
        """The address of its delegate's key."""
        return self.signer.address if self.signer else None

    @property
    def running(self) -> Node:
        """Its node, which must be up."""
        assert self.node is not None
        return self.node


def peer_id(key: bytes) -> str:
    """libp2p's id of a secp256k1 key: base58 of the identity multihash of its protobuf."""
    digits = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    raw = bytes((0x00, 0x25, 0x08, 0x02, 0x12, 0x21)) + key
    number, text = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = digits[digit] + text
    return "1" + text  # the leading zero byte


def _seen(event: Event) -> bytes:
    """The part of an event that two runs of a seed must share: all but results of pure checks."""
    match event:
        case Received(peer, protocol, data):
            return f"R{peer}{protocol}".encode() + data
        case Submitted(ticket, work):
            return f"S{ticket}{type(work).__name__}".encode() + b"".join(work.raws)
        case Verified(ticket, _):
            return b"V%d" % ticket
        case Signed(ticket, signature, _):
            return b"G%d" % ticket + signature
        case _:
            return repr(event).encode()


class World(Wires):
    """The clock, the hosts and the network between them."""

    def __init__(
        self,
        genesis: Genesis,
        secrets: list[tuple[bytes, bytes | None]],
        seed: int,
        faults: Faults,
    ) -> None:
        """``secrets`` has a node's and its delegate's for each host. Nothing is started."""
        self.genesis = genesis
        self.hosts = [
            Host(index, peer_id(crypto.public_key(secret)), secret=secret)
            for index, (secret, _) in enumerate(secrets)
        ]
        super().__init__(genesis.time_ms, seed, faults, self.hosts)
        self.ballots = Ballots()
        for host, (_, key) in zip(self.hosts, secrets, strict=True):
            if key is not None:
                host.signer = Signer(self, key, genesis.chain_id, self.ballots)
        self.events = 0
        self.on_reply: dict[int, Callable[[tuple[object, ...]], None]] = {}
        self.watch: Callable[[Host], None] = lambda _: None
        """Called after each step of a node."""
        self.on_publish: Callable[[Host, str, tuple[object, ...]], None] = lambda *_: None
        self.on_report: Callable[[Host, Offence], None] = lambda *_: None
        self._checks: OrderedDict[Work, Checked] = OrderedDict()
        self._tickets = 0
        self._trace = hashlib.blake2b(digest_size=TRACE_BYTES)

    @property
    def trace(self) -> str:
        return self._trace.hexdigest()

    # --- hosts

    def start(self, index: int) -> None:
        host = self.hosts[index]
        host.life += 1
        host.barrier = Barrier()
        host.durable = host.wake_at = 0
        if puts := first_puts(self.genesis, host.disk.view):
            host.disk.stage(puts)
            host.disk.sync(1)
        host.node = self.load(host, self.rng.getrandbits(64))
        host.up = True
        self._perform(host, host.node.start(self.now_ms + host.skew_ms))

    def load(self, host: Host, seed: int) -> Node:
        """A node as it starts from the records on the host's disk."""
        if host.signer is not None and host.signer.honest and not host.signer.lost:
            check_not_older(host.signer.state, signed_state(host.disk.view, host.signer.public_key))
        node = Node(
            self.genesis,
            host.disk.view,
            peer_id=host.name,
            addresses=[host.address],
            voter=host.signer.voter if host.signer else None,
            paused=False,
            bootstrap=tuple(h.address for h in self.hosts if h is not host),
            local=True,
            seed=seed,
        )
        if host.signer is not None and not host.signer.honest:
            node.voting._hear = lambda ballot: None  # type: ignore[method-assign]
        return node

    def crash(self, index: int, wipe: bool = False, lose_votes: bool = False) -> None:
        """The process ends at once; ``wipe``: its disk is replaced by an empty one.

        ``lose_votes``: the file of the signer, which is on another disk, is lost too.
        """
        host = self.hosts[index]
        host.life += 1
        host.node = None
        host.up = False
        host.disk.crash(self.rng)
        if host.signer is not None:
            host.signer.crash(self.rng, lose_votes)
        if wipe:
            host.disk = Disk()
        for pair in sorted(self.links):
            if index in pair:
                self.disconnect(pair, "gone")

    def alive(self) -> Iterator[Host]:
        return (host for host in self.hosts if host.node is not None)

    def deliver(self, index: int, event: Event) -> None:
        """A step of the host's node, if it is up."""
        host = self.hosts[index]
        if host.node is None:
            return
        self.events += 1
        self._trace.update(b"%d %d " % (self.now_ms, index))
        self._trace.update(_seen(event))
        self._perform(host, host.node.step(self.now_ms + host.skew_ms, event))

    def submit(
        self,
        index: int,
        work: ClientWork,
        on_reply: Callable[[tuple[object, ...]], None],
    ) -> None:
        """Submits items of a local client to the host's node."""
        self._tickets += 1
        self.on_reply[self._tickets] = on_reply
        self.deliver(index, Submitted(self._tickets, work))

    # --- effects

    def _perform(self, host: Host, effects: list[Effect]) -> None:
        self.watch(host)
        wrote = False
        for effect in host.barrier.admit(effects):
            if isinstance(effect, Write):
                host.disk.stage(effect.puts)
                wrote = True
            else:
                self._do(host, effect)
        if wrote:
            self.after(SYNC_MS, self.in_life(host, lambda: self._sync(host)))

    def _sync(self, host: Host) -> None:
        if host.disk.failing:
            self.crash(host.index)
            return
        count = host.disk.unsynced
        host.disk.sync(count)
        host.durable += count
        for effect in host.barrier.durable(host.durable):
            self._do(host, effect)

    def _do(self, host: Host, effect: Effect) -> None:
        match effect:
            case Send(peer, protocol, data):
                self.send(host, self.named[peer], protocol, data)
            case Wake(at_ms):
                self._wake(host, at_ms - host.skew_ms)
            case Verify(ticket, work):
                self._later(host, CHECK_MS, Verified(ticket, self._check(host, work)))
            case Sign():
                self._sign(host, effect)
            case Dial(address):
                self.dial(host, address)
            case Drop(peer, reason):
                self.disconnect(pair_of(host, self.named[peer]), reason)
            case Reply(ticket, results):
                self.on_reply.pop(ticket)(results)
            case Publish(stream, values):
                self.on_publish(host, stream, values)
            case Report(offence):
                self.on_report(host, offence)
            case _:
                raise AssertionError(effect)

    def _sign(self, host: Host, effect: Sign) -> None:
        assert host.signer is not None
        host.signer.ask(
            effect.ballot,
            partial(self.in_life, host),
            lambda signature, state: self.deliver(
                host.index, Signed(effect.ticket, signature, state)
            ),
        )

    def _check(self, host: Host, work: Work) -> Checked:
        """Work without a refusal is good on every node: ``Node.check`` does it once.

        Work that a node refuses may be good on a node that knows a later set of delegates.
        """
        known = self._checks.get(work)
        if known is None:
            known = host.running.check(work)
            if known.refused:
                return known
            self._checks[work] = known
            if len(self._checks) > CHECKS_KEPT:
                self._checks.popitem(last=False)
        return known

    def _wake(self, host: Host, at_ms: int) -> None:
        """A timer for each host, the earliest asked for, as in the daemon."""
        if host.wake_at and host.wake_at <= at_ms:
            return
        host.wake_at = at_ms

        def wake() -> None:
            if host.wake_at == at_ms:
                host.wake_at = 0
                self.deliver(host.index, Woke())

        self.at(at_ms, self.in_life(host, wake))

    def _later(self, host: Host, span: tuple[int, int], event: Event) -> None:
        self.after(span, self.in_life(host, lambda: self.deliver(host.index, event)))
