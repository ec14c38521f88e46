"""The methods for light clients: boundary proofs and final headers with proofs (docs/light.md).

Clients trust none of it: ``dipnet.sdk.light`` verifies every answer. Answers are records as hex,
bounded in number and bytes. ``dpos_borders`` keeps its name for users; the code says boundary.
"""

from collections.abc import Iterator
from typing import Final

from dipnet.consensus.finality.boundaries import PATH_HEADERS_MAX, FinalProof, decode_boundary
from dipnet.consensus.finality.header import Header
from dipnet.consensus.finality.votes import BallotKind, Certificate
from dipnet.primitives.codec import to_hex
from dipnet.primitives.errors import Invalid
from dipnet.rpc import lookup
from dipnet.rpc.backend import Backend
from dipnet.rpc.method import Param, RpcMethod
from dipnet.rpc.params import FLAG, HASH, between

BOUNDARIES_MAX: Final = 64
BOUNDARIES_BYTES_MAX: Final = 2 << 20
CARRIERS_MAX: Final = 8
"""Blocks above a header that are searched for its certificate; nearly always the next has it."""


def boundaries(backend: Backend, first: int, count: int, every: bool) -> list[str]:
    found: list[str] = []
    room = BOUNDARIES_BYTES_MAX
    for _, raw in backend.chain.boundaries(first, every):
        room -= len(raw)
        if len(found) == count or (found and room < 0):
            break
        found.append(to_hex(raw))
    return found


def final_header(backend: Backend, block_hash: bytes) -> str | None:
    chain = backend.chain
    header = chain.header(block_hash) if block_hash else chain.final
    if header is None or not _is_final(backend, header):
        raise Invalid("not_found", f"{to_hex(block_hash)} is no final block of this node")
    if header.height == 0:
        return None
    for certificate in _certificates(backend, header):
        path = _path(backend, header, certificate)
        if path is not None:
            return to_hex(FinalProof(header, path, certificate).raw)
    raise Invalid("not_found", f"no certificate within {PATH_HEADERS_MAX} blocks above it")


def _is_final(backend: Backend, header: Header) -> bool:
    final = backend.chain.final
    return header.height <= final.height and backend.chain.hash_at(header.height) == header.hash


def _certificates(backend: Backend, header: Header) -> Iterator[Certificate]:
    """Commit certificates that may prove ``header`` final, nearest first.

    A certificate of an earlier epoch than the header's would count for the boundary below it only.
    """
    chain = backend.chain
    final = chain.final
    if header.hash != final.hash:
        top = min(header.height + CARRIERS_MAX, final.height)
        for height in range(header.height + 1, top + 1):
            above = lookup.need(backend, height)
            for certificate in lookup.block(backend, above).certificates:
                if certificate.ballot.kind is BallotKind.COMMIT:
                    yield certificate
        boundary = chain.boundary_proof(header.epoch + 1)
        if boundary is not None:
            yield decode_boundary(boundary).certificate
    newest = chain.certificates.highest.get(BallotKind.COMMIT)
    if newest is not None:
        yield newest


def _path(backend: Backend, header: Header, certificate: Certificate) -> tuple[Header, ...] | None:
    """The headers above ``header`` up to the certified block; None if that proves nothing.

    The certified block can be off the canonical chain: a hand-over block above a final boundary.
    """
    if certificate.ballot.epoch < header.epoch:
        return None
    at = backend.chain.header(certificate.ballot.block_id)
    path: list[Header] = []
    while at is not None and at.height > header.height:
        if len(path) == PATH_HEADERS_MAX:
            return None
        path.append(at)
        at = backend.chain.header(at.parent)
    return tuple(reversed(path)) if at == header else None


METHODS: Final = (
    RpcMethod(
        "dpos_borders",
        (
            Param("first", between(0, 2**53)),
            Param("count", between(1, BOUNDARIES_MAX), BOUNDARIES_MAX),
            Param("every", FLAG, False),
        ),
        boundaries,
        "array of boundary records (docs/light.md), ascending",
        "The final epoch boundaries, from epoch `first` on, that change the set of delegates, and "
        f"the newest boundary; all boundaries if `every`. At most {BOUNDARIES_BYTES_MAX:,} bytes: "
        "for the next page ask from the epoch after the last, until the array is empty.",
    ),
    RpcMethod(
        "dpos_finalHeader",
        (Param("hash", HASH, b""),),
        final_header,
        "final record (docs/light.md), or null while nothing but genesis is final",
        "The header of a final block (default: the newest), with the commit certificate that "
        "proves it final and the headers up to the certified block.",
        ("not_found",),
    ),
)
