"""The peer of the ingest: the same work as a good plain Python program would do it.

Two threads verify (coincurve lets go of the GIL), a third builds the graph in dicts, a fourth
writes synced batches to LevelDB. ``struct`` parses, ``hashlib`` hashes; nothing of dipnet is used.
It keeps less than the node does: no orphans, no conflicts, no replies, no index by device.
"""

import hashlib
import struct
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import plyvel
from coincurve import PublicKey
from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT

HEAD: Final = struct.Struct(">BBIHI8s20sQ32sQ16sHI32sB")
SIGNATURE_BYTES: Final = 65
LOW: Final = (0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141 // 2).to_bytes(32)
THREADS: Final = 2

Checked = tuple[bytes, bytes, list[bytes]]  # id, wire, parents


class PythonIngest:
    """One pipeline over an empty directory. ``keys`` are the known devices' by address."""

    def __init__(self, directory: Path, chain_id: int, keys: dict[bytes, bytes]) -> None:
        self._chain_id = chain_id
        self._keys = {issuer: PublicKey(key).public_key for issuer, key in keys.items()}
        self._db = plyvel.DB(str(directory), create_if_missing=True, write_buffer_size=16 << 20)
        self._heights: dict[bytes, int] = {}
        self._tips: dict[bytes, None] = {}

    def run(self, batches: Sequence[Sequence[bytes]]) -> int:
        """Takes all in; how many are durable."""
        durable = 0
        with ThreadPoolExecutor(THREADS) as checks, ThreadPoolExecutor(1) as writer:
            checking = [self._start(checks, batch) for batch in batches[:2]]
            writing: Future[int] | None = None
            for number in range(len(batches)):
                if number + 2 < len(batches):
                    checking.append(self._start(checks, batches[number + 2]))
                halves = [half.result() for half in checking.pop(0)]
                records = [self._attach(one) for half in halves for one in half]
                if writing is not None:
                    durable += writing.result()
                writing = writer.submit(self._write, records)
            return durable + (writing.result() if writing is not None else 0)

    def close(self) -> None:
        self._db.close()

    def _start(
        self, checks: ThreadPoolExecutor, batch: Sequence[bytes]
    ) -> list["Future[list[Checked]]"]:
        step = -(-len(batch) // (2 * THREADS))
        parts = [batch[at : at + step] for at in range(0, len(batch), step)]
        return [checks.submit(self._check, part) for part in parts]

    def _check(self, wires: Sequence[bytes]) -> list[Checked]:
        return [self._check_one(wire) for wire in wires]

    def _check_one(self, wire: bytes) -> Checked:
        head = HEAD.unpack_from(wire)
        parents_end = HEAD.size + 32 * head[14] + (8 if head[3] & 8 else 0)
        payload_at = parents_end + SIGNATURE_BYTES
        parents = [wire[at : at + 32] for at in range(HEAD.size, HEAD.size + 32 * head[14], 32)]
        payload = wire[payload_at:]
        signature = wire[parents_end : payload_at - 1]
        id = hashlib.sha256(wire[:parents_end]).digest()
        if (
            head[2] != self._chain_id
            or len(payload) != head[12]
            or hashlib.sha256(payload).digest() != head[13]
            or parents != sorted(parents)
            or signature[32:] > LOW
            or not self._verified(signature, id, self._keys[head[6]])
        ):
            raise ValueError("a bad vertex")
        return id, wire, parents

    def _verified(self, signature: bytes, id: bytes, key: Any) -> bool:
        parsed = ffi.new("secp256k1_ecdsa_signature *")
        context = GLOBAL_CONTEXT.ctx
        return bool(
            lib.secp256k1_ecdsa_signature_parse_compact(context, parsed, signature)
            and lib.secp256k1_ecdsa_verify(context, parsed, id, key)
        )

    def _attach(self, checked: Checked) -> tuple[bytes, bytes]:
        id, wire, parents = checked
        height = 0
        for parent in parents:
            height = max(height, self._heights[parent])
            self._tips.pop(parent, None)
        self._heights[id] = height + 1
        self._tips[id] = None
        return len(self._heights).to_bytes(8), wire

    def _write(self, records: list[tuple[bytes, bytes]]) -> int:
        with self._db.write_batch(sync=True) as batch:
            for key, wire in records:
                batch.put(key, wire)
        return len(records)
