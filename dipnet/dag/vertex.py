"""The vertex: its fields and bytes, how a device builds it, and how a node checks a batch.

Rules that bind this file (docs/spec/dag.md "Vertex"): the layout is fixed, so that decode then
encode gives the same bytes; ``id = SHA-256(envelope)``; a signature is valid if s is low and (r, s)
verifies under a key whose address is the issuer; the recovery id is a hint, and a node corrects a
wrong recovery id. The layout is in native/dag/vertex.h. A vertex's bytes give its length, so a
batch is a concatenation.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dipnet._native.dag import Batch, Keys, check_batch, check_items, parse
from dipnet.primitives.crypto import SECP_TABLE, THREADS, address, public_key, sha256, sign
from dipnet.primitives.errors import Invalid

__all__ = ["Batch", "Keys", "Vertex", "VertexDraft", "check", "check_each", "decode", "sign_vertex"]

PARENTS_MAX: Final = 8
PAYLOAD_BYTES_MAX: Final = 32_768
SALT_BYTES: Final = 16
SIGNATURE_BYTES: Final = 65
ENVELOPE_BYTES_MAX: Final = 143 + 32 * PARENTS_MAX + 8
VERTEX_BYTES_MAX: Final = ENVELOPE_BYTES_MAX + SIGNATURE_BYTES + PAYLOAD_BYTES_MAX
BATCH_VERTICES_MAX: Final = 16_384
BATCH_BYTES_MAX: Final = 64 << 20
ISSUER_KEYS_MAX: Final = 65_536
"""Parsed public keys of issuers in the cache (6 MB): 33 us a signature instead of 37."""

FLAG_ENCRYPTED: Final = 2
FLAG_SALTED: Final = 4
FLAG_EXTRA: Final = 8

PAYLOAD_RAW: Final = 0
PAYLOAD_SENML: Final = 2
"""SenML in CBOR, RFC 8428."""
PAYLOAD_EPCIS: Final = 4
"""EPCIS 2.0 in JSON-LD."""

ID_ZERO: Final = bytes(32)
SEQ_FIRST: Final = 1
"""Zero stays free to mean "none" (docs/spec/dag.md "Vertex")."""

OK: Final = 0
# code and detail of each verdict, in the order of dip_vertex_verdict (native/dag/vertex.h)
VERDICTS: Final[tuple[tuple[str, str], ...]] = (
    ("", "accepted"),
    ("vertex_form", "shorter than its fields say"),
    ("vertex_form", "bytes after the end"),
    ("limit", "too many vertices in one batch"),
    ("vertex_form", "version or type is unknown"),
    ("vertex_form", "unknown flag"),
    ("vertex_form", f"more than {PARENTS_MAX} parents"),
    ("vertex_form", f"a payload of more than {PAYLOAD_BYTES_MAX} bytes"),
    ("vertex_form", "batch vertices are not supported yet"),
    ("vertex_form", f"a salted payload begins with {SALT_BYTES} bytes of salt"),
    ("vertex_parents", ""),
    ("vertex_chain", ""),
    ("vertex_payload", ""),
    ("vertex_signature", ""),
    ("vertex_ref", ""),
)

_HEAD: Final = struct.Struct(">BBIHI8s20sQ32sQ16sHI32sB")


@dataclass(frozen=True, slots=True)
class Vertex:
    """A well-formed vertex. Its signature may be invalid: ``check`` verifies signatures."""

    raw: bytes
    id: bytes
    chain_id: int
    flags: int
    ref_height: int
    ref_hash: bytes
    """First 8 bytes of the hash of the final block at ``ref_height``."""
    issuer: bytes
    seq: int
    prev: bytes
    """Id of the issuer's vertex before this, or 32 zero bytes."""
    timestamp_ms: int
    topic: bytes
    payload_type: int
    payload_hash: bytes
    parents: tuple[bytes, ...]
    extra: bytes
    """8 bytes with the flag, else empty."""
    signature: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class VertexDraft:
    """The fields that a device chooses; issuer, payload hash and signature are computed."""

    chain_id: int
    ref_height: int
    ref_hash: bytes
    seq: int
    prev: bytes
    timestamp_ms: int
    topic: bytes
    payload: bytes
    payload_type: int = PAYLOAD_RAW
    parents: tuple[bytes, ...] = ()
    """Ids in any order, each once; the wire has them sorted."""
    flags: int = 0
    """Of ``FLAG_ENCRYPTED`` and ``FLAG_SALTED``; ``extra`` sets ``FLAG_EXTRA``."""
    extra: bytes = b""


def topic_of(name: str) -> bytes:
    """The topic field for a topic's name: the first 16 bytes of its SHA-256."""
    return sha256(name.encode())[:16]


def refusal(verdict: int) -> Invalid:
    """The ``Invalid`` for a verdict other than ``OK``."""
    code, detail = VERDICTS[verdict]
    return Invalid(code, detail)


def decode(raw: bytes) -> Vertex:
    """The vertex whose wire bytes are ``raw``. Only its form is checked; raises ``Invalid``."""
    fields = parse(raw)
    if isinstance(fields, int):
        raise refusal(fields)
    envelope_bytes = len(raw) - SIGNATURE_BYTES - len(fields[-1])
    return Vertex(raw, sha256(raw[:envelope_bytes]), *fields)


def build_envelope(draft: VertexDraft, issuer: bytes) -> bytes:
    """The envelope: the bytes whose SHA-256 is the id and is signed.

    Raises ``Invalid("vertex_form")`` when a field does not fit the layout.
    """
    widths = ((draft.ref_hash, 8), (issuer, 20), (draft.prev, 32), (draft.topic, 16))
    if any(len(value) != width for value, width in widths):
        raise Invalid("vertex_form", "ref_hash, issuer, prev or topic has a wrong length")
    if any(len(parent) != 32 for parent in draft.parents) or len(draft.extra) not in (0, 8):
        raise Invalid("vertex_form", "a parent has 32 bytes, extra none or 8")
    flags = draft.flags | FLAG_EXTRA if draft.extra else draft.flags
    try:
        head = _HEAD.pack(
            1, 0, draft.chain_id, flags, draft.ref_height, draft.ref_hash, issuer, draft.seq,
            draft.prev, draft.timestamp_ms, draft.topic, draft.payload_type, len(draft.payload),
            sha256(draft.payload), len(draft.parents),
        )  # fmt: skip
    except struct.error as error:
        raise Invalid("vertex_form", str(error)) from None
    return head + b"".join(sorted(draft.parents)) + draft.extra


def sign_vertex(secret: bytes, draft: VertexDraft) -> bytes:
    """The wire bytes of the vertex, signed with ``secret`` (32 bytes), the issuer's key.

    Raises ``Invalid`` when the draft makes no valid vertex.
    """
    envelope = build_envelope(draft, address(public_key(secret)))
    wire = envelope + sign(sha256(envelope), secret) + draft.payload
    verdict = parse(wire)
    if isinstance(verdict, int):
        raise refusal(verdict)
    return wire


def issuer_keys(seed: int) -> Keys:
    """An empty cache of public keys, for all threads. ``seed`` (u64) must be secret from peers."""
    return Keys(SECP_TABLE, ISSUER_KEYS_MAX, seed)


def check(wire: bytes, chain_id: int, keys: Keys, threads: int = 0) -> Batch:
    """Check a concatenation of vertices: form, chain id, payload hash, signature.

    One native call on ``threads`` threads (0: all cores) without the GIL; any thread may call it.
    ``Batch.verdict(i)`` is ``OK`` or an index of ``VERDICTS``. Bytes that cannot be split further
    count as one malformed vertex. Raises ``Invalid("oversized")`` past ``BATCH_BYTES_MAX``.
    """
    _bound(len(wire))
    return check_batch(wire, BATCH_VERTICES_MAX, chain_id, keys, threads or THREADS)


def check_each(items: Sequence[bytes], chain_id: int, keys: Keys, threads: int = 0) -> Batch:
    """Check byte strings, each as exactly one vertex, so that a malformed vertex affects no other.

    Verdicts and threads are as in ``check``; raises ``Invalid`` ("oversized", "limit").
    """
    _bound(sum(map(len, items)))
    if len(items) > BATCH_VERTICES_MAX:
        raise Invalid("limit", f"more than {BATCH_VERTICES_MAX} vertices")
    return check_items(list(items), chain_id, keys, threads or THREADS)


def _bound(size: int) -> None:
    if size > BATCH_BYTES_MAX:
        raise Invalid("oversized", f"{size} bytes of vertices, {BATCH_BYTES_MAX} are allowed")
