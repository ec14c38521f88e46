"""keccak, SHA-256, recover and verify in C against independent oracles and published vectors."""

import ctypes
import hashlib
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator

import coincurve
import pytest
from coincurve._libsecp256k1 import ffi, lib
from Crypto.Hash import keccak as pycryptodome
from eth_keys.backends import NativeECCBackend
from eth_keys.datatypes import Signature
from hypothesis import given, settings
from hypothesis import strategies as st

from dipnet._native import crypto as native
from tests import ROOT

ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
THREAD_COUNTS = (1, 2, 3, 7)
MASK = 2**64 - 1


def keccak_twin(data: bytes) -> bytes:
    """Keccak-256 from its definition: lanes by (x, y), constants and offsets computed."""
    lanes = {(x, y): 0 for x in range(5) for y in range(5)}
    padded = data + b"\x01" + bytes(-(len(data) + 1) % 136)
    padded = padded[:-1] + bytes([padded[-1] | 0x80])
    for start in range(0, len(padded), 136):
        for i in range(17):
            word = int.from_bytes(padded[start + 8 * i : start + 8 * i + 8], "little")
            lanes[i % 5, i // 5] ^= word
        shift_register = 1
        for _ in range(24):
            column = [0] * 5
            for (x, _y), lane in lanes.items():
                column[x] ^= lane
            for x, y in lanes:
                lanes[x, y] ^= column[x - 1] ^ rotate(column[(x + 1) % 5], 1)
            (x, y), current = (1, 0), lanes[1, 0]
            for t in range(24):
                x, y = y, (2 * x + 3 * y) % 5
                current, lanes[x, y] = lanes[x, y], rotate(current, (t + 1) * (t + 2) // 2)
            for y in range(5):
                row = [lanes[x, y] for x in range(5)]
                for x in range(5):
                    lanes[x, y] = row[x] ^ (~row[(x + 1) % 5] & MASK & row[(x + 2) % 5])
            for j in range(7):
                lanes[0, 0] ^= (shift_register & 1) << (2**j - 1)
                shift_register = shift_register << 1 ^ (0x171 if shift_register & 0x80 else 0)
    return b"".join(lanes[i, 0].to_bytes(8, "little") for i in range(4))


def rotate(lane: int, by: int) -> int:
    by %= 64
    return (lane << by | lane >> (64 - by)) & MASK


def keccak_oracle(data: bytes) -> bytes:
    return pycryptodome.new(digest_bits=256, data=data).digest()


class Signed:
    """n digests, each signed by one of a few keys; a bad row is made by changing ``signatures``."""

    def __init__(self, n: int, seed: int = 1) -> None:
        draw = random.Random(seed)
        keys = [coincurve.PrivateKey(draw.randbytes(32)) for _ in range(min(n, 5) or 1)]
        self.digests = [draw.randbytes(32) for _ in range(n)]
        signers = [draw.choice(keys) for _ in range(n)]
        self.signatures = [
            key.sign_recoverable(digest, hasher=None)
            for key, digest in zip(signers, self.digests, strict=True)
        ]
        self.keys = [key.public_key.format() for key in signers]

    def recover(self, threads: int = 2) -> list[bytes]:
        out = native.recover_batch(b"".join(self.digests), b"".join(self.signatures), threads)
        assert len(out) == 20 * len(self.digests)
        return [out[i : i + 20] for i in range(0, len(out), 20)]

    def verify(self, threads: int = 2) -> list[int]:
        compact = b"".join(signature[:64] for signature in self.signatures)
        return list(
            native.verify_batch(b"".join(self.digests), compact, b"".join(self.keys), threads)
        )


def recover_alone(digest: bytes, signature: bytes) -> bytes:
    """One row by coincurve's Python, with the rules of DIPNET before it."""
    if signature[64] > 3 or int.from_bytes(signature[32:64]) > ORDER // 2:
        return bytes(20)
    try:
        key = coincurve.PublicKey.from_signature_and_message(signature, digest, hasher=None)
    except Exception:  # coincurve raises ValueError here and a bare Exception there
        return bytes(20)
    return keccak_oracle(key.format(compressed=False)[1:])[12:]


def spoilt(signature: bytes, way: int) -> bytes:
    """The same signature, made invalid in one of nine ways."""
    r, s, v = signature[:32], int.from_bytes(signature[32:64]), signature[64]
    return [
        bytes(32) + signature[32:],
        r + bytes(32) + bytes([v]),
        r + (ORDER - s).to_bytes(32) + bytes([v ^ 1]),
        ORDER.to_bytes(32) + signature[32:],
        b"\xff" * 32 + signature[32:],
        r + ORDER.to_bytes(32) + bytes([v]),
        r + b"\xff" * 32 + bytes([v]),
        r + (ORDER // 2 + 1).to_bytes(32) + bytes([v]),
        bytes(65),
    ][way]


SPOILT_WAYS = 9


def test_the_twin_agrees_with_the_library() -> None:
    for size in (0, 1, 135, 136, 137, 272, 300):
        data = random.Random(size).randbytes(size)
        assert keccak_twin(data) == keccak_oracle(data)


def test_keccak_on_every_length_to_600() -> None:
    draw = random.Random(600)
    for size in range(601):
        data = draw.randbytes(size)
        assert native.keccak256(data) == keccak_oracle(data), size


def test_sha256_on_every_length_to_600() -> None:
    draw = random.Random(601)
    for size in range(601):
        data = draw.randbytes(size)
        assert native.sha256(data) == hashlib.sha256(data).digest(), size


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=600))
def test_hashes_of_anything(data: bytes) -> None:
    assert native.keccak256(data) == keccak_twin(data)
    assert native.sha256(data) == hashlib.sha256(data).digest()


@pytest.mark.parametrize("digest", [native.keccak256, native.sha256])
def test_hashes_take_bytes_like_memory(digest: Callable[..., bytes]) -> None:
    data = random.Random(5).randbytes(100_000)  # long enough to be hashed without the GIL
    for size in (0, 3, 100_000):
        expected = digest(data[:size])
        assert digest(bytearray(data[:size])) == digest(memoryview(data)[:size]) == expected
    with pytest.raises(TypeError):
        digest("text")
    with pytest.raises(BufferError):
        digest(memoryview(data)[::2])


@pytest.mark.parametrize("threads", THREAD_COUNTS)
@pytest.mark.parametrize("n", [0, 1, 17])
def test_recover_and_verify_good_batches(n: int, threads: int) -> None:
    rows = Signed(n)
    assert rows.verify(threads) == [1] * n
    assert rows.recover(threads) == [native.address(key) for key in rows.keys]
    assert rows.recover(threads) == list(map(recover_alone, rows.digests, rows.signatures))


def test_a_thousand_rows_with_bad_ones_sprinkled() -> None:
    rows = Signed(1000)
    bad = random.Random(7).sample(range(1000), 60)
    for place, i in enumerate(bad):
        rows.signatures[i] = spoilt(rows.signatures[i], place % SPOILT_WAYS)
    alone = list(map(recover_alone, rows.digests, rows.signatures))
    zeros = [i for i in range(1000) if alone[i] == bytes(20)]
    assert set(zeros) <= set(bad)
    verdicts = [int(i not in bad) for i in range(1000)]
    for threads in THREAD_COUNTS:
        assert rows.recover(threads) == alone
        assert rows.verify(threads) == verdicts


@pytest.mark.parametrize("way", range(SPOILT_WAYS))
def test_each_bad_form(way: int) -> None:
    rows = Signed(3, seed=way)
    rows.signatures[1] = spoilt(rows.signatures[1], way)
    assert rows.verify() == [1, 0, 1]
    assert rows.recover()[1] == bytes(20)
    assert [rows.recover()[i] for i in (0, 2)] == [native.address(rows.keys[i]) for i in (0, 2)]


def test_every_recovery_id() -> None:
    rows = Signed(256, seed=3)
    signer, original = native.address(rows.keys[0]), rows.signatures[0]
    rows.digests = [rows.digests[0]] * 256
    rows.signatures = [original[:64] + bytes([v]) for v in range(256)]
    found = rows.recover()
    assert found[original[64]] == signer
    assert found[original[64] ^ 1] not in (signer, bytes(20))  # the other point: another key
    assert found[4:] == [bytes(20)] * 252
    assert found[2:4] == [recover_alone(rows.digests[0], s) for s in rows.signatures[2:4]]


def test_recover_against_another_implementation() -> None:
    rows, pure = Signed(12, seed=11), NativeECCBackend()
    for digest, signature, found in zip(rows.digests, rows.signatures, rows.recover(), strict=True):
        key = pure.ecdsa_recover(digest, Signature(signature))
        assert key.to_canonical_address() == found


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=65, max_size=65), st.integers(0, 5))
def test_any_bytes_are_answered(digest: bytes, signature: bytes, v: int) -> None:
    signature = signature[:64] + bytes([v])
    assert native.recover_batch(digest, signature) == recover_alone(digest, signature)
    key = signature[:33]
    assert native.verify_batch(digest, signature[:64], key) == b"\0"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 65 * 8 - 1), st.booleans())
def test_one_flipped_bit(seed: int, bit: int, in_digest: bool) -> None:
    rows = Signed(1, seed)
    if in_digest:
        flipped = int.from_bytes(rows.digests[0]) ^ 1 << bit % 256
        rows.digests[0] = flipped.to_bytes(32)
    else:
        flipped = int.from_bytes(rows.signatures[0]) ^ 1 << bit
        rows.signatures[0] = flipped.to_bytes(65)
    assert rows.recover() == [recover_alone(rows.digests[0], rows.signatures[0])]
    assert rows.recover() != [native.address(rows.keys[0])]
    assert rows.verify() == [int(not in_digest and bit < 8)]  # the id is no part of (r, s)


def test_keys_that_are_no_point() -> None:
    rows = Signed(4)
    rows.keys[0] = b"\x04" + rows.keys[0][1:]
    rows.keys[1] = b"\x02" + b"\xff" * 32
    rows.keys[2] = bytes(33)
    assert rows.verify() == [0, 0, 0, 1]


def test_address_of_both_forms_and_of_none() -> None:
    key = coincurve.PrivateKey(b"\x07" * 32).public_key
    long, short = key.format(compressed=False), key.format()
    assert native.address(short) == native.address(long) == keccak_oracle(long[1:])[12:]
    hybrid = bytes([6 + long[64] % 2]) + long[1:]
    for bad in (b"", short[:32], long + b"\0", hybrid, b"\x02" + b"\xff" * 32, bytes(65)):
        with pytest.raises(ValueError, match=r"33 bytes|no point"):
            native.address(bad)


def test_wrong_lengths_are_bugs() -> None:
    d, r, s, k = bytes(32), bytes(65), bytes(64), bytes(33)
    for arguments in ((d, s), (d[1:], r), (d, r * 2), (d * 2, r), (b"", r)):
        with pytest.raises(ValueError, match=r"multiple|as many"):
            native.recover_batch(*arguments)
    for batch in ((d, r, k), (d, s, k * 2), (d, s * 2, k), (d, s, s), (d, b"", k)):
        with pytest.raises(ValueError, match=r"multiple|as many"):
            native.verify_batch(*batch)
    with pytest.raises(ValueError, match="threads"):
        native.recover_batch(d, r, -1)
    with pytest.raises(TypeError):
        native.recover_batch(None, None)  # type: ignore[arg-type]


def test_batches_take_bytes_like_memory_and_any_thread_count() -> None:
    rows = Signed(3)
    digests, signatures = bytearray(b"".join(rows.digests)), memoryview(b"".join(rows.signatures))
    for threads in (0, 64, 65, 10**30):
        assert native.recover_batch(digests, signatures, threads) == b"".join(rows.recover())


def test_raw_verify_counts_the_good_ones() -> None:
    rows = Signed(40)
    rows.digests[3], rows.digests[39] = bytes(32), bytes(32)
    compact = b"".join(signature[:64] for signature in rows.signatures)
    raw = native.RawVerify(b"".join(rows.digests), compact, b"".join(rows.keys))
    assert [raw.run(threads) for threads in (0, *THREAD_COUNTS)] == [38] * 5
    assert native.RawVerify(b"", b"", b"").run() == 0
    with pytest.raises(ValueError, match="no point"):
        native.RawVerify(bytes(32), bytes(64), bytes(33))
    with pytest.raises(ValueError, match="out of range"):
        native.RawVerify(bytes(32), b"\xff" * 64, rows.keys[0])


def test_the_table_for_other_doors_is_filled() -> None:
    words = list((ctypes.c_uint64 * 8).from_address(native.SECP_TABLE))
    assert words[0] == int(ffi.cast("uintptr_t", lib.secp256k1_context_static))
    assert words[5] == int(ffi.cast("uintptr_t", ffi.addressof(lib, "secp256k1_ecdsa_verify")))
    assert all(words)
    assert len(set(words)) == 8


@pytest.mark.parametrize("call", ["recover", "verify"])
def test_batches_release_the_gil(call: str) -> None:
    rows, steps, done = Signed(64), [0], threading.Event()
    rows.digests, rows.keys = rows.digests * 40, rows.keys * 40
    rows.signatures = rows.signatures * 40

    def count() -> None:
        while not done.is_set():
            steps[0] += 1
            time.sleep(0.0001)

    batch: Callable[[int], object] = getattr(rows, call)
    other, interval = threading.Thread(target=count), sys.getswitchinterval()
    # the switch interval is long: the other thread runs only if C releases the GIL
    sys.setswitchinterval(1000)
    try:
        other.start()
        before = steps[0]
        batch(1)
        after = steps[0]
    finally:
        sys.setswitchinterval(interval)
        done.set()
        other.join()
    assert after > before


def wycheproof() -> Iterator[tuple[str, bytes, bytes, bytes]]:
    """(result, digest, DER signature, public key) of every published case."""
    path = ROOT / os.environ.get("DIPNET_VECTORS", "../shared/vectors") / "secp256k1"
    if not path.is_dir():
        assert os.environ.get("CI") != "true", f"no vectors at {path}"
        pytest.skip(f"no vectors at {path}; set DIPNET_VECTORS")
    for group in json.loads((path / "ecdsa_secp256k1_sha256_bitcoin_test.json").read_text())[
        "testGroups"
    ]:
        key = coincurve.PublicKey(bytes.fromhex(group["publicKey"]["uncompressed"])).format()
        for case in group["tests"]:
            digest = native.sha256(bytes.fromhex(case["msg"]))
            yield case["result"], digest, bytes.fromhex(case["sig"]), key


def compact_of_der(der: bytes) -> bytes | None:
    """r || s of a strict DER signature (BIP 66); None where it is not strict DER or does not
    fit."""
    if len(der) < 2 or der[0] != 0x30 or der[1] != len(der) - 2 or der[1] > 0x7F:
        return None
    at, numbers = 2, []
    for _ in range(2):
        if len(der) < at + 2 or der[at] != 0x02:
            return None
        body = der[at + 2 : at + 2 + der[at + 1]]
        if not body or len(body) != der[at + 1] or body[0] & 0x80:
            return None
        if len(body) > 1 and body[0] == 0 and not body[1] & 0x80:
            return None
        numbers.append(int.from_bytes(body))
        at += 2 + len(body)
    if at != len(der) or any(number >> 256 for number in numbers):
        return None
    return b"".join(number.to_bytes(32) for number in numbers)


def test_wycheproof() -> None:
    cases = list(wycheproof())
    parsed = [(*case, compact) for case in cases if (compact := compact_of_der(case[2]))]
    assert not [case for case in cases if case[0] == "valid" and not compact_of_der(case[2])]
    results, digests, _ders, keys, signatures = zip(*parsed, strict=True)
    verdicts = native.verify_batch(b"".join(digests), b"".join(signatures), b"".join(keys))
    assert list(verdicts) == [int(result == "valid") for result in results]
    assert verdicts.count(1) >= 160
    assert verdicts.count(0) >= 60  # parsed and refused, not only refused by their form
