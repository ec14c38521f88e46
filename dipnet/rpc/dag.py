"""The ``dag_`` methods: signed readings in, vertices out (shapes: docs/spec/dag.md "Vertex")."""

import secrets
from collections.abc import Sequence
from itertools import takewhile
from typing import Final

from dipnet.dag.graph import RANGE_MAX
from dipnet.dag.senml import Reading, resolve
from dipnet.dag.vertex import (
    FLAG_ENCRYPTED,
    FLAG_SALTED,
    PARENTS_MAX,
    PAYLOAD_SENML,
    SALT_BYTES,
    Vertex,
)
from dipnet.primitives.codec import to_hex
from dipnet.primitives.crypto import checksum
from dipnet.primitives.errors import REFUSALS, Invalid
from dipnet.rpc.backend import Accepted, Backend
from dipnet.rpc.block_json import JsonObject
from dipnet.rpc.method import Param, RpcMethod
from dipnet.rpc.params import ADDRESS, HASH, RAW_ITEMS, SEQ, TOPIC, between

PARENTS_DEFAULT: Final = 4
RANGE_BYTES_MAX: Final = 2 << 20
REF_HASH_BYTES: Final = 8
READINGS_SHOWN_MAX: Final = 256
INTEGER_MAX: Final = 2**63


def vertex_json(vertex: Vertex, status: str) -> JsonObject:
    """The JSON of a vertex: every field by name, bytes as 0x hex, numbers as plain numbers."""
    fields: JsonObject = {
        "id": to_hex(vertex.id),
        "status": status,
        "anchorHeight": None,
        "chainId": vertex.chain_id,
        "issuer": checksum(vertex.issuer),
        "seq": vertex.seq,
        "prev": to_hex(vertex.prev),
        "parents": [to_hex(parent) for parent in vertex.parents],
        "topic": to_hex(vertex.topic),
        "timestampMs": vertex.timestamp_ms,
        "refHeight": vertex.ref_height,
        "refHash": to_hex(vertex.ref_hash),
        "flags": vertex.flags,
        "payloadType": vertex.payload_type,
        "payloadHash": to_hex(vertex.payload_hash),
        "payload": to_hex(vertex.payload),
        "extra": to_hex(vertex.extra),
        "signature": to_hex(vertex.signature),
    }
    if vertex.payload_type == PAYLOAD_SENML and not vertex.flags & FLAG_ENCRYPTED:
        fields["readings"] = _readings(vertex)
    return fields


def _readings(vertex: Vertex) -> list[JsonObject] | None:
    """The readings of a SenML payload; None where the payload is not valid SenML."""
    clear = vertex.payload[SALT_BYTES:] if vertex.flags & FLAG_SALTED else vertex.payload
    try:
        resolved = resolve(clear, vertex.timestamp_ms / 1000)
    except Invalid:  # payloads are not judged: the vertex is valid whatever is in them
        return None
    return [_reading(reading) for reading in resolved[:READINGS_SHOWN_MAX]]


def _reading(reading: Reading) -> JsonObject:
    value: object = reading.value
    if isinstance(value, bytes):
        value = to_hex(value)
    fields: JsonObject = {
        "name": reading.name,
        "unit": reading.unit,
        "time": _number(reading.time),
        "value": _number(value),
    }
    return fields if reading.sum is None else fields | {"sum": _number(reading.sum)}


def _number(value: object) -> object:
    """The value; an integer beyond 64 bits as a float, since JSON readers lose its digits."""
    return float(value) if isinstance(value, int) and abs(value) >= INTEGER_MAX else value


def submitted(results: Sequence[Accepted | Invalid]) -> list[JsonObject]:
    """The result of ``dag_submit``: one object for each vertex, in order."""
    return [
        {
            "error": {
                "code": result.refusal.rpc,
                "message": str(result),
                "data": {"code": result.code, "remedy": result.refusal.remedy},
            }
        }
        if isinstance(result, Invalid)
        else {"id": to_hex(result[0]), "status": result[1]}
        for result in results
    ]


def template(backend: Backend, issuer: bytes, k: int) -> JsonObject:
    final = backend.chain.final
    # A secret seed: nobody can foresee which of equal tips are chosen.
    made = backend.dag.template(issuer, k, final.height, secrets.randbits(64))
    return {
        "chainId": backend.genesis.chain_id,
        "refHeight": final.height,
        "refHash": to_hex(final.hash[:REF_HASH_BYTES]),
        "parents": [to_hex(parent) for parent in made.parents],
        "seq": made.seq,
        "prev": to_hex(made.prev),
        "timestampMs": backend.now_ms(),
    }


def get(backend: Backend, vertex_id: bytes) -> JsonObject | None:
    vertex = backend.dag.get(vertex_id)
    return None if vertex is None else vertex_json(vertex, "accepted")


def status(backend: Backend, vertex_id: bytes) -> str:
    if backend.dag.has(vertex_id):
        return "accepted"
    return "pending" if backend.dag.is_pending(vertex_id) else "unknown"


def latest(backend: Backend, issuer: bytes, topic: bytes | None) -> JsonObject | None:
    vertex = backend.dag.latest(issuer, topic)
    return None if vertex is None else vertex_json(vertex, "accepted")


def by_seq(backend: Backend, issuer: bytes, seq_from: int, count: int) -> list[JsonObject]:
    found = backend.dag.range(issuer, seq_from, count)
    size = 0

    def fits(vertex: Vertex) -> bool:
        nonlocal size
        size += len(vertex.raw)
        # Vertices of one seq stay on one page: the next page begins at a later seq.
        return size <= RANGE_BYTES_MAX or vertex.seq == found[0].seq

    return [vertex_json(vertex, "accepted") for vertex in takewhile(fits, found)]


def stats(backend: Backend) -> JsonObject:
    return dict(backend.dag.stats())


_ISSUER: Final = Param("issuer", ADDRESS)
_ID: Final = Param("id", HASH)

_VERTEX_REFUSALS: Final = tuple(code for code in REFUSALS if code.startswith("vertex_"))

METHODS: Final = (
    RpcMethod(
        "dag_submit",
        (Param("vertices", RAW_ITEMS),),
        submitted,
        'array, one object for each vertex: id and status ("accepted", "pending" or "known"), or '
        "error",
        "Submit signed vertices (envelope, signature, payload). A vertex is `pending` while the "
        "node lacks a parent of it. Adjacent submissions in a batch are processed together.",
        (
            *_VERTEX_REFUSALS,
            "oversized",
            "limit",
            "busy",
            "disk",
            "stopping",
            "syncing",
        ),
        way="vertices",
    ),
    RpcMethod(
        "dag_template",
        (_ISSUER, Param("k", between(1, PARENTS_MAX), PARENTS_DEFAULT)),
        template,
        "object of chainId, refHeight, refHash (8 bytes), parents, seq, prev, timestampMs",
        "Everything that a device needs from the network to build its next vertex.",
        ("limit",),
    ),
    RpcMethod(
        "dag_get",
        (_ID,),
        get,
        "vertex, or null",
        "A vertex, every field by name, with `readings` if its payload is SenML.",
    ),
    RpcMethod(
        "dag_status",
        (_ID,),
        status,
        '"accepted", "pending" (waits for parents) or "unknown"',
        "The status of a vertex on this node.",
    ),
    RpcMethod(
        "dag_latest",
        (_ISSUER, Param("topic", TOPIC, None)),
        latest,
        "vertex, or null",
        "The issuer's vertex with the greatest seq, on a topic or on any topic.",
    ),
    RpcMethod(
        "dag_range",
        (_ISSUER, Param("seqFrom", SEQ), Param("n", between(1, RANGE_MAX), RANGE_MAX)),
        by_seq,
        "array of vertices, by seq",
        "Up to n vertices of the issuer from a seq on; fewer if n have more than "
        f"{RANGE_BYTES_MAX:,} bytes. For the next page ask from the last seq + 1, until the array "
        "is empty.",
    ),
    RpcMethod(
        "dag_stats",
        (),
        stats,
        "object of counts: vertices, tips, edges, issuers, streams, graphBytes, orphans, "
        "orphanBytes",
        "Counts of this node's DAG.",
    ),
)
