"""The rules of the DAG a second time, in plain Python from specs/dag.md: the oracle of native/.

Nothing is shared with dipnet/dag but the words of the verdicts. Hashes are hashlib's and
eth-hash's, signatures are judged by coincurve's own recovery.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from coincurve import PublicKey
from eth_hash.auto import keccak

HALF_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141 // 2
NONE, CHAIN, PAYLOAD, SIGNATURE = "ok", "vertex_chain", "vertex_payload", "vertex_signature"
FORM, PARENTS = "vertex_form", "vertex_parents"


class Malformed(Exception):
    """``code`` says why; ``size`` where the next vertex begins, None where nobody can tell."""

    def __init__(self, code: str, size: int | None) -> None:
        super().__init__(code)
        self.code, self.size = code, size


@dataclass
class TwinVertex:
    raw: bytes
    envelope: bytes
    chain_id: int
    flags: int
    ref_height: int
    issuer: bytes
    seq: int
    topic: bytes
    payload_hash: bytes
    parents: list[bytes]
    signature: bytes
    payload: bytes
    id: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.id = hashlib.sha256(self.envelope).digest()


class Cursor:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise Malformed(FORM, None)
        self.at += count
        return self.data[self.at - count : self.at]

    def uint(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")


def parse(data: bytes) -> tuple[TwinVertex, int]:
    """The vertex at the start of data, and its length."""
    if len(data) < 143:
        raise Malformed(FORM, None)
    c = Cursor(data)
    kind = c.uint(2)
    chain_id, flags, ref_height = c.uint(4), c.uint(2), c.uint(4)
    c.take(8)
    issuer, seq = c.take(20), c.uint(8)
    c.take(32)
    c.take(8)
    topic = c.take(16)
    c.take(2)
    payload_len, payload_hash = c.uint(4), c.take(32)
    count = c.uint(1)
    if kind != 0x0100 or flags > 15 or count > 8 or payload_len > 32768:
        raise Malformed(FORM, None)
    parents = [c.take(32) for _ in range(count)]
    if flags & 8:
        c.take(8)
    envelope = data[: c.at]
    signature, payload = c.take(65), c.take(payload_len)
    if flags & 1 or (flags & 4 and payload_len < 16):
        raise Malformed(FORM, c.at)
    if parents != sorted(set(parents)):
        raise Malformed(PARENTS, c.at)
    v = TwinVertex(
        data[: c.at], envelope, chain_id, flags, ref_height, issuer, seq, topic, payload_hash,
        parents, signature, payload,
    )  # fmt: skip
    return v, c.at


def right_hint(v: TwinVertex) -> int | None:
    """The recovery id under which the issuer comes out, None where no one of the four gives it."""
    if int.from_bytes(v.signature[32:64], "big") > HALF_ORDER:
        return None
    for hint in range(4):
        try:
            signature = v.signature[:64] + bytes((hint,))
            key = PublicKey.from_signature_and_message(signature, v.id, hasher=None)
        except Exception:  # coincurve raises Exception itself
            continue
        if keccak(key.format(compressed=False)[1:])[12:] == v.issuer:
            return hint
    return None


def check(v: TwinVertex, chain_id: int) -> str:
    if v.chain_id != chain_id:
        return CHAIN
    if hashlib.sha256(v.payload).digest() != v.payload_hash:
        return PAYLOAD
    return NONE if right_hint(v) is not None else SIGNATURE


def check_batch(data: bytes, chain_id: int) -> list[tuple[str, bytes]]:
    """Verdict and wire bytes of each vertex; the last may be a malformed rest."""
    out = []
    while data:
        try:
            v, size = parse(data)
            out.append((check(v, chain_id), data[:size]))
        except Malformed as error:
            size = error.size or len(data)
            out.append((error.code, data[:size]))
        data = data[size:]
    return out


class TwinDag:
    """Which vertices stand, by the rules alone; orphans wait without bound."""

    def __init__(self, max_parent_age: int) -> None:
        self.max_parent_age = max_parent_age
        self.standing: dict[bytes, TwinVertex] = {}
        self.heights: dict[bytes, int] = {}
        self.waiting: dict[bytes, TwinVertex] = {}

    def add(self, vertices: Iterable[TwinVertex]) -> None:
        for v in vertices:
            if v.id not in self.standing:
                self.waiting.setdefault(v.id, v)
        while ready := [v for v in self.waiting.values() if set(v.parents) <= set(self.standing)]:
            for v in ready:
                del self.waiting[v.id]
                if self.allows(v):
                    self.standing[v.id] = v
                    self.heights[v.id] = 1 + max((self.heights[p] for p in v.parents), default=0)

    def allows(self, v: TwinVertex) -> bool:
        ages = [v.ref_height - self.standing[p].ref_height for p in v.parents]
        return all(0 <= age <= self.max_parent_age for age in ages)

    def tips(self) -> set[bytes]:
        named = {p for v in self.standing.values() for p in v.parents}
        return set(self.standing) - named

    def eligible(self, final_height: int) -> set[bytes]:
        age = {id: final_height - self.standing[id].ref_height for id in self.tips()}
        return {id for id, a in age.items() if 0 <= a <= self.max_parent_age}

    def latest(self, issuer: bytes, topic: bytes | None = None) -> set[bytes]:
        """The ids of greatest seq: more than one after an equivocation."""
        mine = [
            v for v in self.standing.values() if v.issuer == issuer and topic in (None, v.topic)
        ]
        top = max((v.seq for v in mine), default=0)
        return {v.id for v in mine if v.seq == top}
