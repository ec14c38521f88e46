"""Signed vertices of known devices, made before the clock runs.

Ids need no signature, so envelopes are chained here and signed in other processes.
"""

import multiprocessing
import os
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Final

from coincurve import PrivateKey

from benchmarks.network import CHAIN_ID, secret
from dipnet._native.crypto import RawVerify
from dipnet.dag.senml import Reading, encode
from dipnet.dag.vertex import ID_ZERO, PAYLOAD_SENML, VertexDraft, build_envelope, topic_of
from dipnet.primitives.crypto import address, public_key, sha256

PARENTS: Final = 4
RECENT: Final = 600  # parents are drawn from so many before
SIGN_CHUNK: Final = 2_000
SEED: Final = 2018


@dataclass(frozen=True, slots=True)
class Vertices:
    """``wires`` in an order that has parents first; the first ``devices`` have an issuer each."""

    devices: int
    wires: tuple[bytes, ...]
    digests: bytes  # 32 a vertex
    signatures: bytes  # 64 a vertex
    keys: bytes  # 33 a vertex

    def raw_verify(self, first: int, count: int) -> RawVerify:
        """The signatures of some of them, for the limit."""
        last = first + count
        return RawVerify(
            self.digests[32 * first : 32 * last],
            self.signatures[64 * first : 64 * last],
            self.keys[33 * first : 33 * last],
        )


def make(count: int, devices: int, ref_hash: bytes) -> Vertices:
    """``count`` vertices, device after device, each naming its own last one and four parents."""
    random_ = random.Random(SEED)
    secrets = [secret(f"device {index}") for index in range(devices)]
    keys = [public_key(one) for one in secrets]
    issuers = [address(key) for key in keys]
    topics = [topic_of(f"hall/{index}/torque") for index in range(devices)]
    last = [ID_ZERO] * devices
    ids: list[bytes] = []
    envelopes: list[bytes] = []
    payloads: list[bytes] = []
    for number in range(count):
        at = number % devices
        payload = _payload(number, at)
        recent = range(max(0, number - RECENT), number)
        chosen = random_.sample(recent, min(PARENTS, len(recent)))
        draft = VertexDraft(
            CHAIN_ID, 0, ref_hash, number // devices + 1, last[at], 1_767_225_600_000 + number,
            topics[at], payload, PAYLOAD_SENML, tuple(ids[one] for one in chosen),
        )  # fmt: skip
        envelope = build_envelope(draft, issuers[at])
        last[at] = sha256(envelope)
        ids.append(last[at])
        envelopes.append(envelope)
        payloads.append(payload)
    signatures = _signed(ids, secrets)
    wires = tuple(map(b"".join, zip(envelopes, signatures, payloads, strict=True)))
    return Vertices(
        devices,
        wires,
        b"".join(ids),
        b"".join(signature[:64] for signature in signatures),
        b"".join(keys[number % devices] for number in range(count)),
    )


def _payload(number: int, device: int) -> bytes:
    """A reading of about 64 bytes."""
    name = f"urn:dev:mac:0024befffe{device:06x}:hall7/spindle/torque"
    return encode([Reading(name, 1_767_225_600 + number, 20.5 + number % 64, "Nm")])


def _signed(ids: list[bytes], secrets: list[bytes]) -> list[bytes]:
    chunks = [ids[at : at + SIGN_CHUNK] for at in range(0, len(ids), SIGN_CHUNK)]
    work = [(chunk, secrets, at * SIGN_CHUNK) for at, chunk in enumerate(chunks)]
    if len(work) == 1:
        return sign_all(work[0])
    fresh = multiprocessing.get_context("spawn")  # no lock of this process is inherited
    with ProcessPoolExecutor(os.cpu_count(), mp_context=fresh) as pool:
        return [signature for part in pool.map(sign_all, work) for signature in part]


def sign_all(work: tuple[list[bytes], list[bytes], int]) -> list[bytes]:
    """Signatures of ids that begin at a number; devices sign in turn."""
    ids, secrets, first = work
    # Kept for all: making a private key costs as much as a signature.
    private = [PrivateKey(one) for one in secrets]
    return [
        private[at % len(private)].sign_recoverable(id, hasher=None)
        for at, id in enumerate(ids, first)
    ]
