"""Receipts and blooms against the rlp library and a second way to compute the filter."""

from typing import Any

import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st

from dipnet.primitives.codec import rlp_encode
from dipnet.primitives.crypto import keccak256
from dipnet.primitives.errors import Invalid
from dipnet.vm.receipt import BLOOM_BYTES, Log, Receipt, bloom

WORDS = st.binary(min_size=32, max_size=32)
LOGS = st.builds(
    Log,
    st.binary(min_size=20, max_size=20),
    st.lists(WORDS, max_size=4).map(tuple),
    st.binary(max_size=70),
)
GAS = st.integers(0, 2**63 - 1)


def filter_bytes(entries: list[bytes]) -> bytes:
    out = bytearray(BLOOM_BYTES)
    for entry in entries:
        digest = keccak256(entry)
        for high, low in zip(digest[0:6:2], digest[1:6:2], strict=True):
            bit = (high % 8) * 256 + low
            out[BLOOM_BYTES - 1 - bit // 8] |= 1 << bit % 8
    return bytes(out)


def test_bloom_of_the_yellow_papers_first_example() -> None:
    log = Log(bytes.fromhex("0f572e5295c57f15886f9b263e2f6d2d6c7b5ec6"), (), b"")
    assert bloom([log]) == sum(1 << bit for bit in (1323, 431, 1319)).to_bytes(256, "big")
    assert bloom([]) == bytes(256)


@given(st.lists(LOGS, max_size=4))
def test_bloom(logs: list[Log]) -> None:
    assert bloom(logs) == filter_bytes([e for log in logs for e in (log.address, *log.topics)])


@given(st.sampled_from([0, 1, 2]), st.sampled_from([0, 1]), GAS, GAS, st.lists(LOGS, max_size=3))
def test_encoding_and_back(kind: int, status: int, before: int, gas: int, logs: list[Log]) -> None:
    receipt = Receipt(kind, status, before + gas, gas, tuple(logs))
    raw = receipt.encode()
    body = raw[1:] if kind else raw
    assert not kind or raw[0] == kind
    assert rlp.decode(body, strict=True) == [
        b"\1" if status else b"",
        (before + gas).to_bytes(9, "big").lstrip(b"\0"),
        bloom(logs),
        [[log.address, list(log.topics), log.data] for log in logs],
    ]
    assert Receipt.decode(raw, before) == receipt


@given(st.binary(max_size=400))
def test_any_bytes_are_a_receipt_or_invalid(raw: bytes) -> None:
    try:
        receipt = Receipt.decode(raw, 0)
    except Invalid:
        return
    assert receipt.encode() == raw


EMPTY = bytes(256)


@pytest.mark.parametrize(
    "fields",
    [
        [1, 21_000, EMPTY],
        [2, 21_000, EMPTY, []],
        [1, 21_000, bytes(255), []],
        [1, 21_000, b"\1" * 256, []],  # a filter of other logs
        [1, b"\0\1", EMPTY, []],
        [1, b"\1" * 9, EMPTY, []],
        [1, [], EMPTY, []],
        [1, 21_000, EMPTY, b""],
        [1, 21_000, EMPTY, [b""]],
        [1, 21_000, EMPTY, [[bytes(19), [], b""]]],
        [1, 21_000, EMPTY, [[bytes(20), b"", b""]]],
        [1, 21_000, EMPTY, [[bytes(20), [bytes(32)] * 5, b""]]],
        [1, 21_000, EMPTY, [[bytes(20), [bytes(31)], b""]]],
        [1, 20_999, EMPTY, []],  # less than before
        b"text",
    ],
    ids=repr,
)
def test_malformed_receipt_is_invalid(fields: Any) -> None:
    with pytest.raises(Invalid):
        Receipt.decode(rlp_encode(fields), 21_000)
