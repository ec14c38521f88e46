"""The address book: addresses of peers, which of them were reached, and which to dial next.

Rules that bind this file (docs/design.md "Peers"; "Eclipse attacks", eprint 2015/263 and 2018/236):
* Bootstrap addresses and anchors (the first peers that we reached and keep reaching) are never
  displaced, are dialled first, and have connections reserved for them.
* Hearsay (addresses that peers told) displaces hearsay only: each network that tells addresses has
  its own bounded share, and a full book takes from the largest share. Addresses that we have
  reached are counted apart.
* Only reached addresses go to disk, so a restart forgets hearsay.
* A connection that stood for STOOD_MS and broke is dialled again within REDIAL_LOST_MS, at a drawn
  time, because a delegate must be back within a slot or two. A failed address waits
  REDIAL_KNOWN_MS, hearsay REDIAL_MS, doubling each time. A name is dialled only if the operator
  gave it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from dipnet.p2p.address import Multiaddr, is_loopback, is_public, parse, subnet
from dipnet.p2p.connections import OUTBOUND_RESERVED, Connections
from dipnet.p2p.messages import ADDRESSES_MAX as TOLD_MAX
from dipnet.primitives.codec import UINT, Puts, Uint, pack, unpack
from dipnet.primitives.errors import Corrupt, Invalid
from dipnet.primitives.splitmix import splitmix64

KEY_PEER: Final = b"P"  # + address text -> [1, last success ms, is anchor]

HEARSAY_MAX: Final = 3_072  # addresses that we were told of
SHARE_MAX: Final = 128  # of them from one network
REACHED_MAX: Final = 1_024
ANCHORS_MAX: Final = 4
OUTBOUND_TARGET: Final = 12  # bootstrap and anchors may go on to OUTBOUND_RESERVED
DIALS_MAX: Final = 8  # at a time
DIAL_MS_MAX: Final = 30_000
REDIAL_MS: Final = 30_000
REDIAL_MS_MAX: Final = 3_600_000
REDIAL_KNOWN_MS: Final = 1_000  # trusted or reached before
REDIAL_TRUSTED_MS_MAX: Final = 10_000  # bootstrap and anchors: they are back soon
REDIAL_LOST_MS: Final = 500
STOOD_MS: Final = 10_000  # a connection must have lasted so long to be dialled again at once
FAILURES_MAX: Final = 3  # in a row, then hearsay is dropped
FAILURES_REACHED_MAX: Final = 17  # in a row, then a reached address is dropped: after six hours
_RECORD: Final = (1, UINT, Uint(1))
_RECORD_BYTES_MAX: Final = 16
_T = TypeVar("_T")


@dataclass(slots=True)
class _Entry:
    """An address. ``share`` is the network that told of it, "" once reached or trusted."""

    address: Multiaddr
    share: str
    declared: bool = False  # by the peer itself
    bootstrap: bool = False
    anchor: bool = False
    reached: bool = False
    success_ms: int = 0  # when it last was
    failures: int = 0
    due_ms: int = 0

    @property
    def trusted(self) -> bool:
        return self.bootstrap or self.anchor


class AddressBook:
    """The addresses that one node knows.

    ``records`` are the pairs under KEY_PEER, ``bootstrap`` the operator's addresses
    (``Invalid("config")`` if an address does not parse). ``local`` is for test networks: private
    addresses are taken too.
    """

    def __init__(
        self,
        records: Iterable[tuple[bytes, bytes]],
        own_peer: str,
        bootstrap: Sequence[str],
        local: bool,
    ) -> None:
        self._own_peer = own_peer
        self._local = local
        self._entries: dict[str, _Entry] = {}
        self._shares: dict[str, dict[str, None]] = {}  # network -> hearsay, oldest first
        self._hearsay = 0  # addresses in all shares
        self._lost: dict[str, int] = {}  # address that was lost just now -> when to dial it again
        self._dialling: dict[str, int] = {}  # address -> when it is given up
        for key, raw in records:
            entry = _loaded(key, raw)
            self._entries[entry.address.text] = entry
        for text in bootstrap:
            try:
                address = parse(text)
            except Invalid as wrong:
                raise Invalid("config", f"bootstrap {text}: {wrong}") from None
            if address.peer != own_peer:
                self._entries.setdefault(text, _Entry(address, "")).bootstrap = True

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, text: str) -> bool:
        return text in self._entries

    # --- hearsay

    def learn(self, peer: str, host: str, addresses: Iterable[str]) -> int:
        """``peer`` at ``host`` told ``addresses``; how many are new. Bad addresses are skipped."""
        share = peer if self._local and is_loopback(host) else subnet(host)
        count = 0
        for text in list(addresses)[:TOLD_MAX]:
            try:
                address = parse(text)
            except Invalid:
                continue
            public = self._local or is_public(address.host)
            if address.named or address.peer == self._own_peer or not public:
                continue
            # Only its own host counts: otherwise we would send other nodes to a victim.
            declared = address.peer == peer and (self._local or address.host == host)
            known = self._entries.get(text)
            if known is not None:
                known.declared = known.declared or declared
            elif self._make_room(share):
                self._entries[text] = _Entry(address, share, declared)
                self._shares.setdefault(share, {})[text] = None
                self._hearsay += 1
                count += 1
        return count

    def tell(self, connections: Connections, seed: int) -> tuple[str, ...]:
        """Addresses to tell: those reached, and those that connected peers tell of themselves."""
        good = [
            entry.address.text
            for entry in self._entries.values()
            if not entry.address.named
            and (entry.reached or (entry.declared and entry.address.peer in connections))
        ]
        return tuple(_shuffled(good, seed)[:TOLD_MAX])

    # --- dialling

    def to_dial(self, now_ms: int, connections: Connections, seed: int) -> list[str]:
        """The addresses to dial now; each is under way until its outcome, or DIAL_MS_MAX.

        Trusted addresses come first, then reached addresses and hearsay in turn, in an order that
        ``seed`` determines.
        """
        for text in [text for text, until_ms in self._dialling.items() if until_ms <= now_ms]:
            self._postpone(now_ms, text)
        self._lost = {text: due_ms for text, due_ms in self._lost.items() if due_ms > now_ms}
        chosen: list[str] = []
        if connections.outbound() >= OUTBOUND_RESERVED:
            return chosen
        places = connections.outbound() + len(self._dialling)
        under_way = {self._entries[text].address.peer for text in self._dialling}
        around: dict[str, None] = {}  # at most one of a subnet in a batch
        for entry in self._candidates(now_ms, connections, seed):
            address = entry.address
            limit = OUTBOUND_RESERVED if entry.trusted else OUTBOUND_TARGET
            if len(self._dialling) >= DIALS_MAX or places >= limit:
                break
            exempt = self._local and is_loopback(address.host)
            crowded = not exempt and (
                subnet(address.host) in around or not connections.room_for(address.host)
            )
            if address.peer in under_way or crowded:
                continue
            under_way.add(address.peer)
            around[subnet(address.host)] = None
            self._dialling[address.text] = now_ms + DIAL_MS_MAX
            places += 1
            chosen.append(address.text)
        return chosen

    def on_connected(self, now_ms: int, text: str) -> Puts:
        """We dialled the address, and its peer has said a hello that we accept."""
        self._dialling.pop(text, None)
        entry = self._entries.get(text)
        if entry is None:
            return {}
        puts: Puts = {}
        if entry.share:
            self._leave_share(entry)
            puts = self._forget_oldest_reached()
        entry.share = ""
        entry.reached, entry.success_ms = True, now_ms
        anchors = sum(other.anchor for other in self._entries.values())
        entry.anchor = entry.anchor or (anchors < ANCHORS_MAX and not entry.bootstrap)
        return puts | _record(entry)

    def on_lost(self, now_ms: int, text: str, draw: int) -> None:
        """The connection to the address, whose peer had said hello, has ended; ``draw`` is any
        number that differs between nodes."""
        entry = self._entries.get(text)
        if entry is None:
            return
        if now_ms < entry.success_ms + STOOD_MS:
            most = REDIAL_TRUSTED_MS_MAX if entry.trusted else REDIAL_MS
            entry.due_ms = now_ms + min(REDIAL_KNOWN_MS << min(entry.failures, 32), most)
            entry.failures += 1
        else:
            entry.due_ms = now_ms + draw % REDIAL_LOST_MS
            entry.failures = 0
            self._lost[text] = entry.due_ms

    def returning(self, now_ms: int) -> bool:
        """Whether to call ``to_dial`` now, before the next slot, because a connection broke."""
        return any(due_ms <= now_ms for due_ms in self._lost.values())

    def on_crossed(self, text: str) -> None:
        """The peer of the address has called us meanwhile: the dial is over and did not fail."""
        self._dialling.pop(text, None)

    def on_failed(self, now_ms: int, text: str) -> Puts:
        """No peer of our network answered at the address."""
        entry = self._entries.get(text)
        if entry is None:
            return {}
        self._postpone(now_ms, text)
        limit = FAILURES_REACHED_MAX if entry.reached else FAILURES_MAX
        if entry.bootstrap or entry.failures < limit:
            return {}
        if not entry.anchor:
            return self._remove(entry)
        entry.anchor, entry.failures = False, 0  # another address may become an anchor
        return _record(entry)

    def _candidates(self, now_ms: int, connections: Connections, seed: int) -> Iterator[_Entry]:
        free = [
            entry
            for text, entry in self._entries.items()
            if entry.due_ms <= now_ms
            and text not in self._dialling
            and entry.address.peer not in connections
        ]
        yield from _shuffled([entry for entry in free if entry.trusted], seed)
        if connections.outbound() >= OUTBOUND_TARGET:
            return
        rest = _shuffled([entry for entry in free if not entry.trusted], seed)
        reached = iter([entry for entry in rest if entry.reached])
        hearsay = iter([entry for entry in rest if not entry.reached])
        for entry in reached:
            yield entry
            yield from _next_of(hearsay)
        yield from hearsay

    def _postpone(self, now_ms: int, text: str) -> None:
        self._dialling.pop(text, None)
        entry = self._entries[text]
        first = REDIAL_KNOWN_MS if entry.trusted or entry.reached else REDIAL_MS
        most = REDIAL_TRUSTED_MS_MAX if entry.trusted else REDIAL_MS_MAX
        entry.due_ms = now_ms + min(first << min(entry.failures, 32), most)
        entry.failures += 1

    # --- limits

    def _make_room(self, share: str) -> bool:
        """Whether there is space for an address of ``share``, perhaps by removing another: of the
        same share when that is at its limit, else of the largest share."""
        full = self._hearsay >= HEARSAY_MAX
        mine = self._shares.get(share, {})
        if full and len(mine) * len(self._shares) < HEARSAY_MAX:
            mine = max(self._shares.values(), key=len)
        elif not full and len(mine) < SHARE_MAX:
            return True
        victim = next((text for text in mine if text not in self._dialling), "")
        if victim:
            self._remove(self._entries[victim])
        return bool(victim)

    def _forget_oldest_reached(self) -> Puts:
        reached = [e for e in self._entries.values() if e.reached and not e.trusted]
        if len(reached) < REACHED_MAX:
            return {}
        return self._remove(min(reached, key=lambda entry: entry.success_ms))

    def _leave_share(self, entry: _Entry) -> None:
        texts = self._shares[entry.share]
        del texts[entry.address.text]
        self._hearsay -= 1
        if not texts:
            del self._shares[entry.share]

    def _remove(self, entry: _Entry) -> Puts:
        text = entry.address.text
        del self._entries[text]
        self._dialling.pop(text, None)
        if entry.share:
            self._leave_share(entry)
        return {KEY_PEER + text.encode(): None} if entry.reached else {}


def _loaded(key: bytes, raw: bytes) -> _Entry:
    try:
        address = parse(key[len(KEY_PEER) :].decode())
        _, success_ms, anchor = unpack(raw, _RECORD, _RECORD_BYTES_MAX)
    except (Invalid, UnicodeDecodeError) as error:
        raise Corrupt(f"address book record {key!r}: {error}") from None
    return _Entry(address, "", anchor=bool(anchor), reached=True, success_ms=success_ms)


def _record(entry: _Entry) -> Puts:
    key = KEY_PEER + entry.address.text.encode()
    return {key: pack([1, entry.success_ms, int(entry.anchor)])}


def _next_of(entries: Iterator[_Entry]) -> Iterator[_Entry]:
    for entry in entries:
        yield entry
        return


def _shuffled(items: Sequence[_T], seed: int) -> list[_T]:
    """Fisher and Yates with splitmix64: the same order for the same seed everywhere."""
    order = list(items)
    for at in range(len(order) - 1, 0, -1):
        seed, drawn = splitmix64(seed)
        other = drawn % (at + 1)
        order[at], order[other] = order[other], order[at]
    return order
