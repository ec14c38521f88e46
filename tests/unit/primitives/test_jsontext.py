"""Bounded JSON against the standard library."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipnet.primitives.jsontext import JsonBounds, TooLarge, load

BOUNDS = JsonBounds(bytes_max=1 << 23)
DEPTH_MAX = BOUNDS.depth_max

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES, st.booleans())
def test_written_values_are_read_again(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert (
        load(text.encode("utf-8", "surrogatepass") if ascii_only else text.encode(), BOUNDS)
        == value
    )


@given(st.binary() | st.text('[]{}",:\\1 ').map(str.encode))
def test_anything_is_a_value_or_a_value_error(raw: bytes) -> None:
    try:
        value = load(raw, BOUNDS)
    except ValueError:
        return
    assert value == json.loads(raw)


@pytest.mark.parametrize("opened", [b"[", b'{"a":', b"[{"])
def test_depth_is_bounded_whatever_the_recursion_limit(opened: bytes) -> None:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        with pytest.raises(ValueError, match="deeper"):
            load(opened * 1_000_000, BOUNDS)
    finally:
        sys.setrecursionlimit(before)


def test_the_deepest_that_is_read() -> None:
    assert load(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX, BOUNDS)
    with pytest.raises(ValueError, match="deeper"):
        load(b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1), BOUNDS)
    assert load(b'"[[[[\\"[[[\\\\"', BOUNDS) == '[[[["[[[\\'


SMALL = JsonBounds(bytes_max=24, depth_max=2, values_max=3, digits_max=4, floats=False)


@pytest.mark.parametrize(
    "raw", [b"[[1234]]", b"[1,2,3]", b"-1234", b'["a,b","c[[["]', b" " * 19 + b"7"]
)
def test_within_the_bounds(raw: bytes) -> None:
    assert load(raw, SMALL) == json.loads(raw)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b" " * 24 + b"7", "25 bytes where 24 are allowed"),
        (b"[1,2,3,4]", "more than 3 values"),
    ],
)
def test_too_large(raw: bytes, words: str) -> None:
    with pytest.raises(TooLarge, match=words):
        load(raw, SMALL)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"[[[]]]", "nested deeper than 2"),
        (b"12345", "12345: a number of more than 4 digits"),
        (b"-12345", "-12345: a number of more than 4 digits"),
        (b"1.5", "1.5: write an integer"),
        (b"1e9", "1e9: write an integer"),
        (b"NaN", "NaN: write an integer"),
        (b'{"a":1,"a":1}', "a: there twice; keep one"),
        (b'{"\\u0007":1,"\\u0007":1}', "x07: there twice"),
        (b"", "Expecting value"),
        (b"\xff", "utf-8"),
        (b'"\\ud800"', "surrogate"),
    ],
)
def test_refused_by_the_bounds(raw: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        load(raw, SMALL)
    assert not isinstance(refused.value, TooLarge)


@pytest.mark.parametrize("raw", [b"NaN", b"-Infinity", b"1e999", b"0." + b"1" * 80])
def test_numbers_that_no_bounds_allow(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"not JSON|out of range"):
        load(raw, BOUNDS)


def test_half_a_surrogate_pair_is_an_option() -> None:
    assert load(b'"\\ud800"', JsonBounds(10, lone_surrogates=True)) == "\ud800"
