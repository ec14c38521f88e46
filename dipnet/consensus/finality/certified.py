"""The certificates that a node knows, from headers or gossip, and those that wait for a block.

Of each kind the highest whose block is in the tree is kept: it is what a leader puts into his
block, what is sent again each slot, and what fork choice and finality follow. A certificate of a
block that is not here waits for it; there is at most one of a kind for a slot, else a third of
the delegates has broken the rules.
"""

from collections.abc import Iterator
from typing import Final

from dipnet.consensus.finality.votes import BallotKind, Certificate, decode_certificate
from dipnet.primitives.codec import Puts, Reader
from dipnet.primitives.errors import RECORD_REMEDY, Corrupt, Invalid
from dipnet.primitives.recent import Recent

KEY_CERTIFICATE = b"q"
"""+ kind (1) -> the highest certificate of the kind that this node knows."""

WAITING_MAX: Final = 256
PROVEN_MAX: Final = 1_024


class KnownCertificates:
    """What is certified, as far as this node knows. All of it was verified."""

    def __init__(self, reader: Reader) -> None:
        self.highest: dict[BallotKind, Certificate] = {}
        """Of each kind the highest for a block of the tree."""
        self._waiting: Recent[list[Certificate]] = Recent(WAITING_MAX)
        self._proven: Recent[Certificate] = Recent(PROVEN_MAX)
        for _, raw in reader.scan(KEY_CERTIFICATE):
            try:
                certificate = decode_certificate(raw)
            except Invalid as refused:
                raise Corrupt(f"a certificate is damaged ({refused}): {RECORD_REMEDY}") from None
            self.prove(certificate)
            self.highest[certificate.ballot.kind] = certificate

    def verified(self, certificate: Certificate) -> bool:
        """Whether these very signatures are known to be good.

        For a block it is not enough that a quorum signed the same: whether it is valid must not
        depend on what a node has heard before.
        """
        return self._proven.get(certificate.id) == certificate

    def known(self, certificate_id: bytes) -> Certificate | None:
        """A certificate by its id, while it is remembered."""
        return self._proven.get(certificate_id)

    def prove(self, certificate: Certificate) -> None:
        """Remember what was verified."""
        self._proven.put(certificate.id, certificate)

    def wait(self, certificate: Certificate) -> None:
        """Keep it for when its block arrives."""
        block_id = certificate.ballot.block_id
        others = self._waiting.get(block_id) or []
        if all(one.id != certificate.id for one in others):
            self._waiting.put(block_id, [*others, certificate])

    def arrived(self, block_id: bytes) -> list[Certificate]:
        """What was waiting for a block that is here now."""
        waiting = self._waiting.get(block_id) or []
        self._waiting.drop(block_id)
        return waiting

    def raise_to(self, certificate: Certificate) -> Puts:
        """Take it for the highest of its kind if it is; the writes that keep it."""
        kind = certificate.ballot.kind
        highest = self.highest.get(kind)
        if highest is not None and highest.rank >= certificate.rank:
            return {}
        self.highest[kind] = certificate
        return {KEY_CERTIFICATE + bytes((kind,)): certificate.raw}

    @property
    def rank(self) -> tuple[int, int]:
        """(epoch, slot) of the highest certificate."""
        return max((one.rank for one in self.highest.values()), default=(0, 0))

    def top(self) -> bytes:
        """The block with the highest certificate: a commit certificate is one of prevotes too."""
        ranked = sorted(self.highest.values(), key=lambda one: one.rank)
        return ranked[-1].ballot.block_id if ranked else b""

    def __iter__(self) -> Iterator[Certificate]:
        """The highest of each kind, prevotes first."""
        return iter([self.highest[kind] for kind in sorted(self.highest)])
