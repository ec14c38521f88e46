"""Finality as records that prove themselves, and the boundaries of epochs, which are kept for ever.

A header is shown to be final by a commit certificate on it or on a block above it, with the headers
in between. A boundary has beside this the set that it opens (docs/spec/consensus.md "Epoch
hand-over"). ``dipnet.sdk.light`` needs nothing else of a node. Here are the bytes of both, and
the boundaries' keys on disk: one record for each epoch, and a mark for each epoch whose set differs
from the one before, because whoever knows a set needs only those (ADR 93).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from dipnet.consensus.finality.header import HEADER_BYTES_MAX, Header, decode_header
from dipnet.consensus.finality.members import MEMBERS_MAX, Members
from dipnet.consensus.finality.votes import CERTIFICATE_BYTES_MAX, Certificate, decode_certificate
from dipnet.primitives.codec import Bin, Many, Puts, Reader, pack, unpack
from dipnet.primitives.errors import Invalid

KEY_BOUNDARY = b"b"
"""+ number of the epoch that it opens (8) -> the boundary's record."""
KEY_SET_CHANGE = b"c"
"""+ number of an epoch (8) whose set is not that of the epoch before -> nothing."""

BOUNDARY_VERSION: Final = 1
FINAL_VERSION: Final = 1
PATH_HEADERS_MAX: Final = 4_096
"""With back-off the blocks of two days without quorum (2 x 64 + 64 x 5, then one in 64 slots)."""
BOUNDARY_BYTES_MAX: Final = (PATH_HEADERS_MAX + 1) * (HEADER_BYTES_MAX + 3) + 16_384

_HEADER: Final = Bin(1, HEADER_BYTES_MAX)
_PROOF: Final = (_HEADER, Many(_HEADER, PATH_HEADERS_MAX), Bin(1, CERTIFICATE_BYTES_MAX))
_FINAL: Final = (FINAL_VERSION, *_PROOF)
_BOUNDARY: Final = (BOUNDARY_VERSION, *_PROOF, Many((Bin(20), Bin(33)), MEMBERS_MAX))


@dataclass(frozen=True, slots=True)
class FinalProof:
    """A header and the proof that it is final.

    ``path`` are the headers above it up to and with the block that ``certificate`` names,
    ascending; empty when that is the header's own.
    """

    header: Header
    path: tuple[Header, ...]
    certificate: Certificate
    raw: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        path = [header.raw for header in self.path]
        raw = pack((FINAL_VERSION, self.header.raw, path, self.certificate.raw))
        object.__setattr__(self, "raw", raw)


def decode_final(raw: bytes) -> FinalProof:
    """The header and its proof in ``raw``, their form only.

    Raises ``Invalid``: ``oversized``, ``record``, ``vote_form``, ``certificate_form``.
    """
    _, header, path, certificate = unpack(raw, _FINAL, BOUNDARY_BYTES_MAX)
    return FinalProof(*_proof(header, path, certificate))


def _proof(
    header: bytes, path: list[bytes], certificate: bytes
) -> tuple[Header, tuple[Header, ...], Certificate]:
    above = tuple(decode_header(one) for one in path)
    return decode_header(header), above, decode_certificate(certificate)


@dataclass(frozen=True, slots=True)
class BoundaryProof:
    """The boundary block E of e -> e+1 with the proof of it, as in ``FinalProof``.

    ``members`` is Set(e+1), which E commits to.
    """

    header: Header
    path: tuple[Header, ...]
    certificate: Certificate
    members: Members
    raw: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        path = [header.raw for header in self.path]
        raw = pack((
            BOUNDARY_VERSION, self.header.raw, path, self.certificate.raw, self.members.pairs,
        ))  # fmt: skip
        object.__setattr__(self, "raw", raw)

    @property
    def opens(self) -> int:
        """The number of the epoch that begins above it."""
        return self.header.epoch + 1


def decode_boundary(raw: bytes) -> BoundaryProof:
    """The boundary in ``raw``, its form only; whether it proves anything is ``dipnet.sdk.light``'s.

    Raises ``Invalid``: ``oversized``, ``record``, ``vote_form``, ``certificate_form``.
    """
    _, header, path, certificate, pairs = unpack(raw, _BOUNDARY, BOUNDARY_BYTES_MAX)
    return BoundaryProof(*_proof(header, path, certificate), ordered_members(pairs))


def ordered_members(pairs: list[list[bytes]]) -> Members:
    """The set of these pairs of a record; ``Invalid("record")`` where they are none."""
    try:
        return Members(tuple((one, key) for one, key in pairs))
    except ValueError as error:
        raise Invalid("record", str(error)) from None


# --- on disk


def boundary_key(opens: int) -> bytes:
    """Where the boundary is that opens this epoch."""
    return KEY_BOUNDARY + opens.to_bytes(8, "big")


def record(boundary: BoundaryProof, before: Members) -> Puts:
    """What the chain writes when ``boundary`` has become final, once.

    ``before`` is the set of the boundary's own epoch. There is nothing to write for a path that is
    longer than ``PATH_HEADERS_MAX``: over a change of the set there, light clients need a newer
    trusted header.
    """
    puts: Puts = {boundary_key(boundary.opens): boundary.raw}
    if boundary.members.pairs != before.pairs:
        puts[KEY_SET_CHANGE + boundary.opens.to_bytes(8, "big")] = b""
    return puts


def boundary_at(reader: Reader, opens: int) -> bytes | None:
    """The record of the boundary that opens this epoch, None where there is none."""
    return reader.get(boundary_key(opens))


def newest_boundary(reader: Reader) -> tuple[int, bytes] | None:
    """The epoch that the newest boundary opens, and its record; None in the first epoch."""
    for key, raw in reader.scan(KEY_BOUNDARY, reverse=True):
        return int.from_bytes(key[1:], "big"), raw
    return None


def every_boundary(reader: Reader, first: int) -> Iterator[tuple[int, bytes]]:
    """Epoch and record of each boundary from the one on that opens epoch ``first``, ascending."""
    for key, raw in reader.scan(KEY_BOUNDARY, boundary_key(first)):
        yield int.from_bytes(key[1:], "big"), raw


def hop_boundaries(reader: Reader, first: int) -> Iterator[tuple[int, bytes]]:
    """The boundaries that a light client needs from epoch ``first`` on: where the set changed.

    Ascending; the newest one is always the last, since finality needs the exact set of its epoch.
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
