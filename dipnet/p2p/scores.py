"""Scores of peers: points, bans, and how much each may send, ask for and have verified.

Rules that bind this file (docs/design.md "Peers"; the peer score of libp2p's gossipsub v1.1
specification):
* An offence is a member of PeerOffence. At SCORE_MIN the peer id and its site (IPv4 address,
  IPv6 /64) are banned for an hour, doubling with each ban up to a day. Points recover with time,
  in integers.
* A score survives the connection: otherwise reconnecting would clear it. PAST_MAX scores are kept.
* Soft faults (rate, silence) cost few points, so that minutes of good conduct make up for them.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from dipnet.p2p.address import is_loopback, site
from dipnet.p2p.messages import Topic
from dipnet.primitives.errors import REFUSALS, Invalid

SCORE_MIN: Final = -100
RECOVER_MS: Final = 10_000  # for one point
BAN_MS_MIN: Final = 3_600_000
BAN_MS_MAX: Final = 86_400_000
BANS_MAX: Final = 10_000
PAST_MAX: Final = 10_000  # scores of peers that are gone
RATE_BYTES_PER_S: Final = 32 << 20
BURST_BYTES: Final = 64 << 20
MESSAGE_BYTES: Final = 512  # the cost of a message beside its own bytes
# Of votes and certificates, 64 to 128 bytes a signature: 101 delegates sign 202 votes a slot.
VERIFY_BYTES_PER_S: Final = 128 << 10
VERIFY_BURST_BYTES: Final = 512 << 10
BLOCK_IDS_MAX: Final = 16  # of one Announce, Fetch or Absent: blocks come one by one
# The cost of looking up an id, as bytes of the sender's allowance: blocks are read from disk.
LOOKUP_BYTES: Final = {
    Topic.VOTE: 1 << 10,
    Topic.CERTIFICATE: 16 << 10,
    Topic.BLOCK: 1 << 20,
    Topic.TX: 512,
    Topic.VERTEX: 32,
}


class PeerOffence(StrEnum):
    """What a peer does against the protocol, by its name in logs, and the points that it costs."""

    points: int

    def __new__(cls, name: str, points: int) -> Self:
        """The member ``name``. ``points`` is below zero."""
        assert points < 0
        made = str.__new__(cls, name)
        made._value_ = name
        made.points = points
        return made

    MALFORMED = "malformed", -100  # bytes that no message has
    INVALID_BLOCK = "invalid_block", -50
    LYING = "lying", -30  # too many sync answers that led nowhere
    NETWORK = "network", -20  # another chain or genesis: a mistake of its operator, mostly
    BAD_CERTIFICATE = "bad_certificate", -50  # it cost us a quorum of signatures
    BAD_SIGNATURE = "bad_signature", -20  # per item
    INVALID_ITEM = "invalid_item", -10  # a transaction or vertex that breaks a rule, per item
    USELESS = "useless", -10  # a sync answer that led nowhere
    LATE_HELLO = "late_hello", -10
    UNASKED = "unasked", -5  # an answer without a request, a second hello: at the wrong time
    SILENT = "silent", -1  # did not answer in time
    RATE = "rate", -1  # a message over the byte limit
    UNTIMELY = "untimely", -1  # of another epoch or slot: a node is behind, or a clock is wrong


LENIENT: Final = {PeerOffence.UNTIMELY: -50}
"""The lowest score that these offences bring a peer to. Alone they ban no peer, because an honest
peer commits them when this node is behind or its clock is wrong."""
_NAMED: Final = {offence.value: offence for offence in PeerOffence}
OFFENCE_OF: Final = {code: _NAMED[row.offence] for code, row in REFUSALS.items() if row.offence}
"""The offence that a refusal is, by the code of the refusal. Other refusals charge no peer."""


@dataclass(slots=True)
class _Score:
    points: int
    at_ms: int

    def settle(self, now_ms: int) -> int:
        """Recover points up to now; the points."""
        recovered = max(0, now_ms - self.at_ms) // RECOVER_MS
        self.points = min(0, self.points + recovered)
        self.at_ms += recovered * RECOVER_MS
        return self.points


@dataclass(slots=True)
class _Ban:
    until_ms: int
    times: int


@dataclass(slots=True)
class Bucket:
    """A token bucket of bytes; one message may take it below zero. ``level`` is in thousandths."""

    rate: int
    burst: int
    level: int
    at_ms: int

    def open(self, now_ms: int) -> bool:
        """Whether a message may pass now."""
        elapsed = max(0, now_ms - self.at_ms)
        self.at_ms += elapsed
        self.level = min(self.burst * 1000, self.level + elapsed * self.rate)
        return self.level > 0

    def take(self, size: int) -> None:
        """``size`` bytes have passed."""
        assert size >= 0
        self.level -= size * 1000


class Scores:
    """Points, bans and buckets of all peers.

    ``local`` is for test networks: loopback is never banned as a site.
    """

    def __init__(self, local: bool, rate: int = RATE_BYTES_PER_S, burst: int = BURST_BYTES) -> None:
        self._local = local
        self._rate = rate
        self._burst = burst
        self._scores: dict[str, _Score] = {}
        self._past: dict[str, _Score] = {}
        self._bans: dict[str, _Ban] = {}
        self._received: dict[str, Bucket] = {}
        self._served: dict[str, Bucket] = {}
        self._verified: dict[str, Bucket] = {}

    def on_connected(self, now_ms: int, peer: str) -> None:
        """Give the peer full buckets, and the score with which it left."""
        self._scores[peer] = self._past.pop(peer, _Score(0, now_ms))
        self._received[peer] = Bucket(self._rate, self._burst, self._burst * 1000, now_ms)
        self._served[peer] = Bucket(self._rate, self._burst, self._burst * 1000, now_ms)
        self._verified[peer] = Bucket(
            VERIFY_BYTES_PER_S, VERIFY_BURST_BYTES, VERIFY_BURST_BYTES * 1000, now_ms
        )

    def forget(self, now_ms: int, peer: str) -> None:
        """The peer is gone: release all but a bad score."""
        self._received.pop(peer, None)
        self._served.pop(peer, None)
        self._verified.pop(peer, None)
        score = self._scores.pop(peer, None)
        if score is not None and score.settle(now_ms) < 0:
            self._remember(peer, score)

    def on_received(self, now_ms: int, peer: str, size: int) -> None:
        """Charge a message of ``size`` bytes; ``Invalid("peer_limit")``: ignore the message."""
        bucket = self._received.get(peer)
        if bucket is None or not bucket.open(now_ms):
            raise Invalid("peer_limit", "too many bytes in too short a time")
        bucket.take(size + MESSAGE_BYTES)

    def on_lookup(self, peer: str, topic: Topic, count: int) -> None:
        """Charge the look-up of ``count`` ids that ``peer`` has sent."""
        bucket = self._received.get(peer)
        if bucket is not None:
            bucket.take(LOOKUP_BYTES[topic] * count)

    def on_ids(self, peer: str, topic: Topic, count: int) -> None:
        """``on_lookup`` of one message; ``Invalid("peer_message")`` for too many blocks."""
        if topic is Topic.BLOCK and count > BLOCK_IDS_MAX:
            raise Invalid("peer_message", f"{count} blocks in one message")
        self.on_lookup(peer, topic, count)

    def on_verify(self, now_ms: int, peer: str, size: int) -> None:
        """Charge the verification of votes of ``size`` bytes; ``Invalid("peer_limit")``: do not
        verify them."""
        bucket = self._verified.get(peer)
        if bucket is None or not bucket.open(now_ms):
            raise Invalid("peer_limit", "too many signatures in too short a time")
        bucket.take(size)

    def may_serve(self, now_ms: int, peer: str) -> bool:
        """Whether requests of the peer may be answered now: a small request has a large answer."""
        bucket = self._served.get(peer)
        return bucket is not None and bucket.open(now_ms)

    def on_served(self, peer: str, size: int) -> None:
        """An answer of ``size`` bytes was sent."""
        bucket = self._served.get(peer)
        if bucket is not None:
            bucket.take(size + MESSAGE_BYTES)

    def offend(
        self, now_ms: int, peer: str, host: str, offence: PeerOffence, times: int = 1
    ) -> bool:
        """Take the points of ``offence``; True: the peer is banned, drop it.

        Offences of a peer that has left count too; ``host`` is "" then.
        """
        score = self._scores.get(peer) or self._remember(peer, _Score(0, now_ms))
        score.settle(now_ms)
        lowest = min(score.points, LENIENT.get(offence, SCORE_MIN))
        score.points = max(score.points + offence.points * times, lowest)
        if score.points > SCORE_MIN:
            return False
        score.points = 0  # the ban takes their place
        self._ban(now_ms, peer)
        if host and not (self._local and is_loopback(host)):
            self._ban(now_ms, site(host))
        return True

    def score(self, now_ms: int, peer: str) -> int:
        """Points of a connected peer, 0 or less."""
        score = self._scores.get(peer)
        return score.settle(now_ms) if score is not None else 0

    def banned(self, now_ms: int, peer: str, host: str) -> bool:
        """Whether the peer, or its site, is banned now: neither accept nor dial it."""
        return any(
            key in self._bans and now_ms < self._bans[key].until_ms for key in (peer, site(host))
        )

    def _remember(self, peer: str, score: _Score) -> _Score:
        kept = self._past.setdefault(peer, score)
        if len(self._past) > PAST_MAX:
            del self._past[next(iter(self._past))]
        return kept

    def _ban(self, now_ms: int, key: str) -> None:
        before = self._bans.pop(key, _Ban(now_ms, 0))
        forgiven = now_ms >= before.until_ms + BAN_MS_MAX
        times = 0 if forgiven else before.times
        self._bans[key] = _Ban(now_ms + min(BAN_MS_MIN << times, BAN_MS_MAX), min(times + 1, 5))
        if len(self._bans) > BANS_MAX:  # ordered by when they were given: the oldest goes
            del self._bans[next(iter(self._bans))]
