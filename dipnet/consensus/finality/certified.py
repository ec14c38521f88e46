"""The certificates that a node knows, and those that wait for their block.

Of each kind the node keeps the highest certificate whose block is in the tree. A leader puts these
two into its block, the node sends them again each slot, fork choice and finality follow them. A
certificate whose block is not here waits for the block. A second certificate of a kind and slot
exists only if a third of the delegates has broken the rules.
"""

from collections.abc import Iterator
from typing import Final

from dipnet.consensus.finality.votes import BallotKind, Certificate, decode_certificate
from dipnet.primitives.codec import Puts, Reader
from dipnet.primitives.errors import RECORD_REMEDY, Corrupt, Invalid
from dipnet.primitives.recent import Recent

KEY_CERTIFICATE = b"q"
"""+ kind (1) -> the highest known certificate of the kind."""

WAITING_MAX: Final = 256
PROVEN_MAX: Final = 1_024


class KnownCertificates:
    """The verified certificates of one node, loaded from ``reader``; ``Corrupt`` where its records
    are damaged."""

    def __init__(self, reader: Reader) -> None:
        self.highest: dict[BallotKind, Certificate] = {}
        """By kind, the highest certificate for a block of the tree."""
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
        """Whether the signatures of this certificate were verified before.

        Another verified quorum for the same ballot does not count: a certificate is part of its
        block, and the validity of a block must not depend on what a node has heard before.
        """
        return self._proven.get(certificate.id) == certificate

    def known(self, certificate_id: bytes) -> Certificate | None:
        """The verified certificate with this id, None where it is forgotten or unknown."""
        return self._proven.get(certificate_id)

    def prove(self, certificate: Certificate) -> None:
        """Remember a certificate whose signatures were verified."""
        self._proven.put(certificate.id, certificate)

    def wait(self, certificate: Certificate) -> None:
        """Keep a verified certificate until its block arrives."""
        block_id = certificate.ballot.block_id
        others = self._waiting.get(block_id) or []
        if all(other.id != certificate.id for other in others):
            self._waiting.put(block_id, [*others, certificate])

    def arrived(self, block_id: bytes) -> list[Certificate]:
        """The certificates that waited for this block, which has arrived; they wait no more."""
        waiting = self._waiting.get(block_id) or []
        self._waiting.drop(block_id)
        return waiting

    def raise_to(self, certificate: Certificate) -> Puts:
        """Make it the highest of its kind if it is higher; the writes that store it."""
        kind = certificate.ballot.kind
        highest = self.highest.get(kind)
        if highest is not None and highest.rank >= certificate.rank:
            return {}
        self.highest[kind] = certificate
        return {KEY_CERTIFICATE + bytes((kind,)): certificate.raw}

    @property
    def rank(self) -> tuple[int, int]:
        """(epoch, slot) of the highest certificate, (0, 0) where none is known."""
        return max((certificate.rank for certificate in self.highest.values()), default=(0, 0))

    def top(self) -> bytes:
        """The id of the block with the highest certificate of either kind, empty where none is.

        A commit certificate counts, since a quorum commits only what a quorum has prevoted.
        """
        ranked = sorted(self.highest.values(), key=lambda certificate: certificate.rank)
        return ranked[-1].ballot.block_id if ranked else b""

    def __iter__(self) -> Iterator[Certificate]:
        """The highest certificate of each kind: that of prevotes, then that of commits."""
        return iter([self.highest[kind] for kind in sorted(self.highest)])
