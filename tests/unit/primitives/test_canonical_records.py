"""A record has one encoding: every other encoding of its values is refused, without encoding it
again (docs/spec/bytes.md "Records", ADR 100)."""

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dipnet.primitives.codec import UINT, UINT_MAX, Bin, Many, pack, unpack, unpack_start
from dipnet.primitives.errors import Invalid
from tests.unit.primitives.test_codec import as_lists, refusal

SHAPE = (1, UINT, Bin(2), Bin(0, 3), Many(UINT, 3))
SAMPLE: Any = [1, 7, b"ab", b"", [0, 128, UINT_MAX]]


def unsigned(value: int) -> list[bytes]:
    """Every encoding of an integer in MessagePack, also signed and too long."""
    formats = [
        (0xCC, 1),
        (0xCD, 2),
        (0xCE, 4),
        (0xCF, 8),
        (0xD0, 1),
        (0xD1, 2),
        (0xD2, 4),
        (0xD3, 8),
    ]
    short = [bytes((value,))] if value < 0x80 else []
    return short + [
        bytes((first,)) + value.to_bytes(size, "big")
        for first, size in formats
        if value < 1 << (8 * size - (first >= 0xD0))
    ]


def sized(formats: list[tuple[int, int]], size: int) -> list[bytes]:
    """Every header of so many bytes or elements in these formats: first byte, bytes of the size."""
    return [
        bytes((first,)) + size.to_bytes(width, "big")
        for first, width in formats
        if size < 1 << 8 * width
    ]


BINS = [(0xC4, 1), (0xC5, 2), (0xC6, 4), (0xD9, 1), (0xDA, 2), (0xDB, 4)]
ARRAYS = [(0xDC, 2), (0xDD, 4)]


def encodings(value: Any) -> list[bytes]:
    """Every encoding of a leaf, and every header of a list."""
    if isinstance(value, int):
        return unsigned(value)
    size = len(value)
    if isinstance(value, bytes):
        heads = sized(BINS, size) + ([bytes((0xA0 + size,))] if size < 0x20 else [])
        return [head + value for head in heads]
    return sized(ARRAYS, size) + ([bytes((0x90 + size,))] if size < 0x10 else [])


def taken(raw: bytes, shape: Any) -> Any:
    """The record, or None where it is refused."""
    try:
        return unpack(raw, shape, 2**18)
    except Invalid as refused:
        if refused.code != "record":
            raise
        return None


def drawn(value: Any, draw: Any) -> bytes:
    """An encoding of a record with any mixture of formats."""
    raw: bytes = draw(st.sampled_from(encodings(value)))
    if isinstance(value, list | tuple):
        raw += b"".join(drawn(part, draw) for part in value)
    return raw


EDGES = [
    0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x1_0000, 2**31 - 1, 2**31, 2**32 - 1,
    2**32, 2**63 - 1, 2**63, UINT_MAX,
]  # fmt: skip
LONG = (1, UINT, Many(UINT, 20), Many(Bin(0, 2**17), 4), Many((UINT, Bin(0, 300)), 2))
longs = st.tuples(
    st.just(1),
    st.sampled_from(EDGES) | st.integers(0, UINT_MAX),
    st.lists(st.sampled_from(EDGES), max_size=20),
    st.lists(st.sampled_from([0, 1, 31, 32, 255, 256]).map(bytes), max_size=4),
    st.lists(st.tuples(st.integers(0, 300), st.binary(max_size=300)), max_size=2),
)


@settings(max_examples=300)
@given(longs, st.data())
def test_one_of_all_encodings_is_taken(record: Any, data: st.DataObject) -> None:
    """The oracle encodes the record again; ADR 100 proves that this is not needed."""
    canonical = msgpack.packb(record, use_bin_type=True)
    raw = drawn(record, data.draw)
    assert unpack(canonical, LONG, 2**20) == as_lists(record)
    if raw == canonical:
        return
    assert msgpack.unpackb(raw, raw=True) == as_lists(record), "the same values"
    assert refusal(unpack, raw, LONG, 2**20) == "record"


@pytest.mark.parametrize("value", [*EDGES, *map(bytes, (0, 1, 31, 32, 255, 256, 65535, 65536))])
def test_every_other_encoding_of_a_leaf_is_refused(value: Any) -> None:
    shape = (UINT if isinstance(value, int) else Bin(0, 2**17),)
    assert [raw for raw in encodings(value) if taken(b"\x91" + raw, shape) == [value]] == [
        msgpack.packb(value, use_bin_type=True)
    ]


@pytest.mark.parametrize("size", [0, 1, 15, 16, 65535, 65536])
def test_every_other_header_of_an_array_is_refused(size: int) -> None:
    shape = (Many(UINT, 2**17),)
    heads, zeros = encodings([0] * size), bytes(size)
    (head,) = [head for head in heads if taken(b"\x91" + head + zeros, shape) == [[0] * size]]
    assert head + zeros == msgpack.packb([0] * size)


def test_nothing_is_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    raw, frame = pack(SAMPLE), pack([1, [bytes(2**20)] * 10])
    packs: list[Any] = []
    monkeypatch.setattr(msgpack, "packb", lambda *args, **_: packs.append(args))
    monkeypatch.setattr(msgpack, "Packer", lambda *args, **_: packs.append(args))
    assert unpack(raw, SHAPE, 2**20) == SAMPLE
    assert unpack(frame, (1, Many(Bin(0, 2**20), 10)), 2**24)[0] == 1
    assert not packs


def test_the_start_of_a_record_is_read_alone() -> None:
    raw = pack(SAMPLE)
    assert unpack_start(raw, SHAPE, 3, 2**20) == SAMPLE[:3]
    assert unpack_start(raw[:7] + b"\xc1" * 90, SHAPE, 3, 90) == SAMPLE[:3], "no look at the rest"
    assert unpack_start(raw, SHAPE, len(SHAPE), 2**20) == SAMPLE
    for bad in (
        b"", raw[:6], b"\x94" + raw[1:], b"\xdc\0\x05" + raw[1:], b"\x95\xcc\x01" + raw[2:],
        b"\x95\x01\xd0\x07" + raw[3:],
    ):  # fmt: skip
        assert refusal(unpack_start, bad, SHAPE, 3, 2**20) == "record"
    assert refusal(unpack_start, raw, SHAPE, 3, 6) == "record", "no byte past the bound"
