"""Proofs of finality for light clients, and the boundaries of epochs, which are kept for ever.

A commit certificate on a header, or on a block above it with the headers in between, proves that
the header is final. The proof of a boundary also has the set of the epoch that it opens
(docs/spec/consensus.md "Epoch hand-over"). A light client needs nothing else of a node.

On disk are one record for each epoch, and a mark for each epoch whose set differs from that of the
epoch before: a client that knows a set needs only these boundaries (ADR 93).
"""

from collections.abc import Iterator
from dataclasses import InitVar, dataclass, field
from typing import Final

from dipnet.consensus.finality.header import HEADER_BYTES_MAX, Header, decode_header
from dipnet.consensus.finality.members import MEMBERS_MAX, Members
from dipnet.consensus.finality.votes import CERTIFICATE_BYTES_MAX, Certificate, decode_certificate
from dipnet.primitives.codec import Bin, Many, Puts, Reader, pack, unpack
from dipnet.primitives.errors import Invalid

KEY_BOUNDARY = b"b"
"""+ number of the epoch that the boundary opens (8) -> its ``BoundaryProof``."""
KEY_SET_CHANGE = b"c"
"""+ number of an epoch (8) whose set is not that of the epoch before -> nothing."""

BOUNDARY_VERSION: Final = 1
FINAL_VERSION: Final = 1
PATH_HEADERS_MAX: Final = 4_096
"""The blocks of two days without a quorum: 2 x 64 + 64 x 5, then one in 64 slots (back-off)."""
BOUNDARY_BYTES_MAX: Final = (PATH_HEADERS_MAX + 1) * (HEADER_BYTES_MAX + 3) + 16_384

_HEADER: Final = Bin(1, HEADER_BYTES_MAX)
_PROOF: Final = (_HEADER, Many(_HEADER, PATH_HEADERS_MAX), Bin(1, CERTIFICATE_BYTES_MAX))
_FINAL: Final = (FINAL_VERSION, *_PROOF)
_BOUNDARY: Final = (BOUNDARY_VERSION, *_PROOF, Many((Bin(20), Bin(33)), MEMBERS_MAX))


@dataclass(frozen=True, slots=True)
class FinalProof:
    """A header and the proof that it is final.

    ``certificate`` is a commit certificate for the last header of ``path``, which are the headers
    above ``header``, ascending; for ``header`` itself where ``path`` is empty. ``raw`` is the
    record; ``encoded`` is the record where the proof was decoded from it.
    """

    header: Header
    path: tuple[Header, ...]
    certificate: Certificate
    encoded: InitVar[bytes] = b""
    raw: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self, encoded: bytes) -> None:
        path = [header.raw for header in self.path]
        record = (FINAL_VERSION, self.header.raw, path, self.certificate.raw)
        object.__setattr__(self, "raw", encoded or pack(record))


def decode_final(raw: bytes) -> FinalProof:
    """The proof in ``raw``; ``dipnet.sdk.light`` judges whether it proves anything.

    Raises ``Invalid``: ``oversized``, ``record``, ``vote_form``, ``certificate_form``.
    """
    _, header, path, certificate = unpack(raw, _FINAL, BOUNDARY_BYTES_MAX)
    return FinalProof(*_proof(header, path, certificate), encoded=raw)


def _proof(
    header: bytes, path: list[bytes], certificate: bytes
) -> tuple[Header, tuple[Header, ...], Certificate]:
    above = tuple(map(decode_header, path))
    return decode_header(header), above, decode_certificate(certificate)


@dataclass(frozen=True, slots=True)
class BoundaryProof:
    """A boundary block with the proof that it is final, as in ``FinalProof``.

    ``members`` is the set of the epoch that it opens, to which its header commits.
    """

    header: Header
    path: tuple[Header, ...]
    certificate: Certificate
    members: Members
    encoded: InitVar[bytes] = b""
    raw: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self, encoded: bytes) -> None:
        path = [header.raw for header in self.path]
        record = (
            BOUNDARY_VERSION, self.header.raw, path, self.certificate.raw, self.members.pairs,
        )  # fmt: skip
        object.__setattr__(self, "raw", encoded or pack(record))

    @property
    def opens(self) -> int:
        """The number of the epoch that begins above this boundary."""
        return self.header.epoch + 1


def decode_boundary(raw: bytes) -> BoundaryProof:
    """The boundary in ``raw``; ``dipnet.sdk.light`` judges whether it proves anything.

    Raises ``Invalid``: ``oversized``, ``record``, ``vote_form``, ``certificate_form``.
    """
    _, header, path, certificate, pairs = unpack(raw, _BOUNDARY, BOUNDARY_BYTES_MAX)
    return BoundaryProof(*_proof(header, path, certificate), ordered_members(pairs), encoded=raw)


def ordered_members(pairs: list[list[bytes]]) -> Members:
    """The set of these pairs, in order; ``Invalid("record")`` where they are no set."""
    try:
        return Members(tuple((address, key) for address, key in pairs))
    except ValueError as error:
        raise Invalid("record", str(error)) from None


# --- on disk


def boundary_key(opens: int) -> bytes:
    """The key of the boundary that opens this epoch."""
    return KEY_BOUNDARY + opens.to_bytes(8, "big")


def record(boundary: BoundaryProof, before: Members) -> Puts:
    """The writes of the chain when ``boundary`` becomes final.

    ``before`` is the set of the boundary's own epoch.
    """
    puts: Puts = {boundary_key(boundary.opens): boundary.raw}
    if boundary.members.pairs != before.pairs:
        puts[KEY_SET_CHANGE + boundary.opens.to_bytes(8, "big")] = b""
    return puts


def boundary_at(reader: Reader, opens: int) -> bytes | None:
    """The record of the boundary that opens this epoch; None in epoch 0, before the boundary is
    final, and where its path was longer than ``PATH_HEADERS_MAX``."""
    return reader.get(boundary_key(opens))


def newest_boundary(reader: Reader) -> tuple[int, bytes] | None:
    """The epoch that the newest boundary opens, and its record; None in the first epoch."""
    for key, raw in reader.scan(KEY_BOUNDARY, reverse=True):
        return int.from_bytes(key[1:], "big"), raw
    return None


def every_boundary(reader: Reader, first: int) -> Iterator[tuple[int, bytes]]:
    """(epoch, record) of each boundary that opens epoch ``first`` or a later one, ascending."""
    for key, raw in reader.scan(KEY_BOUNDARY, boundary_key(first)):
        yield int.from_bytes(key[1:], "big"), raw


def hop_boundaries(reader: Reader, first: int) -> Iterator[tuple[int, bytes]]:
    """(epoch, record) of the boundaries that a light client needs from epoch ``first`` on.

    These are, ascending, the boundaries at which the set changed, and always the newest boundary:
    a proof of finality needs the exact set of its epoch.
    """
    newest = newest_boundary(reader)
    if newest is None or newest[0] < first:
        return
    start = KEY_SET_CHANGE + first.to_bytes(8, "big")
    for key, _ in reader.scan(KEY_SET_CHANGE, start):
        opens = int.from_bytes(key[1:], "big")
        raw = boundary_at(reader, opens)
        if raw is not None and opens < newest[0]:
            yield opens, raw
    yield newest
