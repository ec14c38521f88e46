"""Foreign JSON: the texts that are refused before parsing, and that no other text is."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dipnet.primitives.errors import Invalid
from dipnet.rpc import bounds

BAD = {
    "empty": b"",
    "garbage": b"\x00\xff\x13garbage",
    "truncated": b'{"jsonrpc":"2.0","id":1,"meth',
    "open string": b'"abc',
    "lone backslash": b'"\\',
    "trailing comma": b"[1,]",
    "two texts": b"{} {}",
    "byte order mark": b"\xef\xbb\xbf{}",
    "utf-16": '{"a":1}'.encode("utf-16"),
    "invalid utf-8": b'"\xff"',
    "surrogate in utf-8": b'"\xed\xa0\x80"',
    "half a pair": b'"\\ud800"',
    "half a pair in a key": b'{"\\udc00":1}',
    "control character": b'"\n"',
    "NaN": b"[NaN]",
    "Infinity": b"Infinity",
    "minus Infinity": b"-Infinity",
    "out of range": b"1e999",
    "long fraction": b"0." + b"1" * 100,
    "81 digits": b"1" * 81,
    "many digits": b"9" * 500_000,
    "leading zero": b"01",
    "repeated key": b'{"a":1,"a":1}',
    "repeated key, escaped": b'{"a":1,"\\u0061":2}',
    "repeated key, deep": b'[{"x":[{"a":1,"b":2,"a":3}]}]',
    "33 deep": b"[" * 33 + b"]" * 33,
    "33 deep, mixed": b'{"a":[' * 16 + b"[]" + b"]}" * 16,
    "million deep": b"[" * 1_000_000,
    "million deep objects": b'{"a":' * 200_000,
    "crossed brackets": b"[{]}",
    "closing first": b"][",
    "brackets behind quotes": b'"' * 999_999 + b"[",
    "escapes without end": b'"' + b'\\"' * 500_000,
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
def test_refused(raw: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        bounds.load(raw)
    assert refused.value.code == "parse"


@pytest.mark.parametrize(
    "raw",
    [
        b" " * (bounds.BODY_BYTES_MAX + 1),
        b"[" + b"1," * bounds.VALUES_MAX + b"1]",
        b"," * 1_000_000,
    ],
    ids=["body", "values", "commas"],
)
def test_limits(raw: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        bounds.load(raw)
    assert refused.value.code == "limit"
    assert refused.value.refusal.rpc == -32005


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 32 + b"]" * 32,
        b'{"a":[' * 15 + b"[]" + b"]}" * 15,
        b'["[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["]',
        b'["\\"[[[[\\\\", "]{\\\\\\"["]',
        b"1" * 80,
        b'"\\ud83d\\ude00 \\\\ud800"',
        b'"' + b"," * 100_000 + b'"',
        b'{"a":{"a":1},"b":[{"a":2}]}',
    ],
)
def test_accepted_as_the_standard_library_reads_it(raw: bytes) -> None:
    assert bounds.load(raw) == json.loads(raw)


def nested(leaves: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(leaves) | st.dictionaries(st.text(), leaves)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**79), 10**79)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    nested,
)


@settings(max_examples=40)
@given(VALUES, st.booleans())
def test_every_value_is_read_back(value: object, ascii_only: bool) -> None:
    assert bounds.load(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary() | st.text('[]{}",:\\u0d8 1e-.tn').map(str.encode))
def test_any_bytes_are_a_value_or_refused(raw: bytes) -> None:
    try:
        value = bounds.load(raw)
    except Invalid:
        return
    assert value == json.loads(raw)
