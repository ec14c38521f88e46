"""Records, RLP and hex: one encoding each, bounded, no other exception than Invalid."""

import json
import struct
import tracemalloc
from typing import Any

import msgpack
import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st

from dipnet.primitives.codec import (
    BIG,
    BIG_MAX,
    RLP_DEPTH_MAX,
    TEXT,
    UINT,
    UINT_MAX,
    Bin,
    Many,
    Uint,
    big,
    from_big,
    from_hex,
    pack,
    rlp_decode,
    rlp_encode,
    to_hex,
    unpack,
)
from dipnet.primitives.errors import Invalid
from tests.fixtures.memory import Memory
from tests.fixtures.vectors import vectors

SHAPE = (1, UINT, Bin(2), Bin(0, 3), BIG, TEXT(4), Many(UINT, 3), Many((Bin(1), [BIG]), 2))
RECORD: Any = [
    1,
    7,
    b"ab",
    b"",
    big(2**255),
    "né".encode(),
    [0, 128, UINT_MAX],
    [[b"x", [b"\x01"]]],
]
BYTES_MAX = 1000

records = st.tuples(
    st.just(1),
    st.integers(0, UINT_MAX),
    st.binary(min_size=2, max_size=2),
    st.binary(max_size=3),
    st.integers(0, BIG_MAX).map(big),
    st.text(max_size=1).map(str.encode),
    st.lists(st.integers(0, UINT_MAX), max_size=3),
    st.lists(
        st.tuples(st.binary(min_size=1, max_size=1), st.tuples(st.integers(0, 9).map(big))),
        max_size=2,
    ),
)


def refusal(call: Any, *args: Any) -> str:
    with pytest.raises(Invalid) as caught:
        call(*args)
    return caught.value.code


def as_lists(value: Any) -> Any:
    return [as_lists(part) for part in value] if isinstance(value, list | tuple) else value


# --- records


def test_record_comes_back() -> None:
    assert unpack(pack(RECORD), SHAPE, BYTES_MAX) == RECORD


@given(records)
def test_any_record_comes_back(record: Any) -> None:
    assert unpack(pack(record), SHAPE, BYTES_MAX) == as_lists(record)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, 2),  # another version
        (0, b"\x01"),
        (1, b""),
        (1, -1),
        (1, True),
        (1, False),
        (1, None),
        (1, 1.0),
        (1, [1]),
        (1, []),
        (1, {}),
        (1, msgpack.ExtType(1, b"")),
        (1, msgpack.Timestamp(1)),
        (2, b"abc"),
        (2, b"a"),
        (2, "ab"),
        (2, 1),
        (2, [b"ab"]),
        (3, b"abcd"),
        (3, ""),
        (3, []),
        (4, b"\0"),
        (4, b"\0\x01"),
        (4, b"\x01" * 33),
        (4, 1),
        (5, b"\xff"),
        (5, b"\xc3"),
        (5, b"abcde"),
        (6, [1, 2, 3, 4]),
        (6, [b"a"]),
        (6, b""),
        (6, {}),
        (6, {1: 1}),
        (7, [[b"x"]]),
        (7, [[b"x", [b"\x01"], 1]]),
        (7, [[b"x", b"\x01"]]),
        (7, [[b"x", [b"\x01"]]] * 3),
    ],
)
def test_one_wrong_element_is_refused(at: int, value: Any) -> None:
    raw = msgpack.packb([*RECORD[:at], value, *RECORD[at + 1 :]])
    assert refusal(unpack, raw, SHAPE, BYTES_MAX) == "record"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x91",
        b"\x91\xc1",
        b"\x01",
        b"\xc4\x01a",
        b"\x91\xd0\x01",  # signed
        b"\x91\xcc\x01",  # long
        b"\x91\xcf" + bytes(7) + b"\x01",
        b"\xdc\0\x01\x01",  # long array header
        b"\xdd\0\0\0\x01\x01",
        b"\x91\x01\x01",  # bytes after the end
        b"\x92\x01\x01",
        b"\x81\x01\x01",
    ],
)
def test_other_spellings_are_refused(raw: bytes) -> None:
    assert unpack(b"\x91\x01", (Uint(1),), 9) == [1]
    assert refusal(unpack, raw, (Uint(1),), 99) == "record"


def test_long_bin_header_is_refused() -> None:
    assert unpack(b"\x91\xc4\x01a", (Bin(1),), 9) == [b"a"]
    for head in (b"\xc5\0\x01", b"\xc6\0\0\0\x01", b"\xa1", b"\xd9\x01", b"\xc7\x01\x01"):
        assert refusal(unpack, b"\x91" + head + b"a", (Bin(1),), 99) == "record"


def test_size_is_refused_before_anything_is_read() -> None:
    assert refusal(unpack, pack(RECORD), SHAPE, len(pack(RECORD)) - 1) == "oversized"


def test_own_limit_of_an_integer() -> None:
    assert unpack(pack([3]), (Uint(3),), 9) == [3]
    assert refusal(unpack, pack([4]), (Uint(3),), 9) == "record"


def test_a_whole_record_is_an_array() -> None:
    with pytest.raises(TypeError):
        unpack(b"\x01", 1, 9)


@pytest.mark.parametrize("head", [b"\xdd\xff\xff\xff\xff", b"\xdc\xff\xff", b"\xdd\0\1\0\0"])
@pytest.mark.parametrize(
    "shape",
    [(1, Many(Many(UINT, 2**32), 2**32)), (1, Many(UINT, 2**32)), (1, UINT), (1, Bin(0, 9))],
)
def test_headers_that_promise_much_allocate_nothing(head: bytes, shape: Any) -> None:
    raw = b"\x92\x01" + head * 20_000
    tracemalloc.start()
    assert refusal(unpack, raw, shape, 2**20) == "record"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**19, "an announced array was allocated"


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda tail: b"\x98\x01\x07" + tail))
def test_fuzz_record_bytes(raw: bytes) -> None:
    try:
        record = unpack(raw, SHAPE, BYTES_MAX)
    except Invalid:
        return
    assert pack(record) == raw


@given(records, st.integers(0, 200), st.binary(max_size=3), st.integers(0, 3))
def test_fuzz_mutated_record(record: Any, at: int, patch: bytes, cut: int) -> None:
    raw = pack(record)
    mutated = raw[:at] + patch + raw[at + cut :]
    try:
        again = unpack(mutated, SHAPE, BYTES_MAX)
    except Invalid:
        return
    assert pack(again) == mutated


@pytest.mark.parametrize(
    "value", [None, True, 1.0, "text", {}, -1, 2**64, bytearray(b"a"), memoryview(b"a")]
)
def test_pack_refuses_what_no_record_holds(value: Any) -> None:
    with pytest.raises(TypeError):
        pack([1, [value]])


@given(st.integers(0, BIG_MAX))
def test_big_is_minimal(number: int) -> None:
    data = big(number)
    assert from_big(data) == number
    assert data[:1] != b"\0"


@pytest.mark.parametrize("number", [-1, BIG_MAX + 1])
def test_big_outside_its_range(number: int) -> None:
    with pytest.raises(ValueError, match="2\\^256"):
        big(number)


# --- RLP

nested = st.recursive(
    st.binary(max_size=70), lambda inner: st.lists(inner, max_size=6), max_leaves=20
)


@given(nested)
def test_rlp_against_the_rlp_library(item: Any) -> None:
    raw = rlp_encode(item)
    assert raw == rlp.encode(item)
    assert rlp_decode(raw) == item


def assert_same_verdict(raw: bytes) -> None:
    """Our verdict on ``raw`` is that of the library, which does not bound the depth."""
    try:
        item = rlp_decode(raw)
    except Invalid as refused:
        if "deeper" not in str(refused):
            with pytest.raises(rlp.DecodingError):
                rlp.decode(raw)
        return
    assert rlp.decode(raw) == item
    assert rlp_encode(item) == raw


@given(st.binary(max_size=80))
def test_fuzz_rlp_bytes(raw: bytes) -> None:
    assert_same_verdict(raw)


@given(nested, st.integers(0, 300), st.binary(max_size=4), st.integers(0, 4))
def test_fuzz_mutated_rlp(item: Any, at: int, patch: bytes, cut: int) -> None:
    raw = rlp_encode(item)
    assert_same_verdict(raw[:at] + patch + raw[at + cut :])


@pytest.mark.parametrize("size", [0, 1, 55, 56, 57, 255, 256, 65535, 65536])
def test_rlp_lengths(size: int) -> None:
    for item in (b"\x80" * size, [b"\x01"] * size):
        raw = rlp_encode(item)
        assert raw == rlp.encode(item)
        assert rlp_decode(raw) == item
        assert refusal(rlp_decode, raw[:-1]) == "rlp"
        assert refusal(rlp_decode, raw + b"\0") == "rlp"


def test_rlp_depth_is_bounded() -> None:
    item: Any = b""
    for _ in range(RLP_DEPTH_MAX):
        item = [item]
    assert rlp_decode(rlp_encode(item)) == item
    assert refusal(rlp_decode, rlp_encode([item])) == "rlp"
    raw = b""
    while len(raw) < 100_000:
        raw = rlp_encode([b"\x80" * 60]) if not raw else b"\xfb" + struct.pack(">I", len(raw)) + raw
    assert refusal(rlp_decode, raw) == "rlp"


def spelled(value: Any) -> Any:
    """The ``in`` of an official vector: text, number, #number or a list of these."""
    if isinstance(value, list):
        return [spelled(part) for part in value]
    if isinstance(value, str):
        return int(value[1:]) if value.startswith("#") else value.encode()
    return value


def as_bytes(value: Any) -> Any:
    if isinstance(value, list):
        return [as_bytes(part) for part in value]
    return value.to_bytes((value.bit_length() + 7) // 8, "big") if isinstance(value, int) else value


def test_official_rlp_vectors() -> None:
    cases = json.loads(vectors("rlp/rlptest.json").read_text())
    for name, case in cases.items():
        item, raw = spelled(case["in"]), bytes.fromhex(case["out"].removeprefix("0x"))
        assert rlp_encode(item) == raw, name
        assert rlp_decode(raw) == as_bytes(item), name
    assert len(cases) == 28


def test_official_invalid_rlp_vectors() -> None:
    cases = json.loads(vectors("rlp/invalidRLPTest.json").read_text())
    for case in cases.values():
        assert case["in"] == "INVALID"
        assert refusal(rlp_decode, bytes.fromhex(case["out"].removeprefix("0x"))) == "rlp"
    assert len(cases) == 26


def test_official_random_rlp_vectors() -> None:
    files = sorted(vectors("rlp/RandomRLPTests").glob("*.json"))
    assert files
    for file in files:
        for name, case in json.loads(file.read_text()).items():
            raw = bytes.fromhex(case["out"].removeprefix("0x"))
            if case["in"] == "VALID":
                assert rlp_encode(rlp_decode(raw)) == raw, name
            else:
                assert refusal(rlp_decode, raw) == "rlp", name


# --- hex


@given(st.binary(max_size=40))
def test_hex_comes_back(data: bytes) -> None:
    assert from_hex(to_hex(data)) == data
    assert to_hex(data) == "0x" + data.hex()


@pytest.mark.parametrize(
    "text", ["", "0", "00", "0x0", "0xzz", "0x 00", "0x00 ", "0x00\n", "0X00", "0x٠٠"]
)
def test_other_hex_is_refused(text: str) -> None:
    assert refusal(from_hex, text) == "params"
    assert refusal(from_hex, text, "genesis") == "genesis"


# --- the Reader of the tests


def test_memory_scans_in_order() -> None:
    memory = Memory({b"Ab": b"2", b"Aa": b"1", b"B": b"x", b"Ac": b"3"})
    assert [k for k, _ in memory.scan(b"A")] == [b"Aa", b"Ab", b"Ac"]
    assert [k for k, _ in memory.scan(b"A", b"Ab")] == [b"Ab", b"Ac"]
    assert [k for k, _ in memory.scan(b"A", reverse=True)] == [b"Ac", b"Ab", b"Aa"]
    assert [k for k, _ in memory.scan(b"A", b"Ac", reverse=True)] == [b"Ab", b"Aa"]
    memory.apply({b"Ab": None, b"missing": None, b"Ad": b"4"})
    assert list(memory.scan(b"A")) == [(b"Aa", b"1"), (b"Ac", b"3"), (b"Ad", b"4")]
    assert memory.get(b"Ab") is None
