"""Bounded JSON against the standard library."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipnet.primitives.jsontext import DEPTH_MAX, load

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES, st.booleans())
def test_what_is_written_is_read(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert load(text.encode("utf-8", "surrogatepass") if ascii_only else text.encode()) == value


@given(st.binary() | st.text('[]{}",:\\1 ').map(str.encode))
def test_anything_is_a_value_or_a_value_error(raw: bytes) -> None:
    try:
        value = load(raw)
    except ValueError:
        return
    assert value == json.loads(raw)


@pytest.mark.parametrize("opened", [b"[", b'{"a":', b"[{"])
def test_depth_is_bounded_whatever_the_recursion_limit(opened: bytes) -> None:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        with pytest.raises(ValueError, match="deeper"):
            load(opened * 1_000_000)
    finally:
        sys.setrecursionlimit(before)


def test_the_deepest_that_is_read() -> None:
    assert load(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX)
    with pytest.raises(ValueError, match="deeper"):
        load(b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1))
    assert load(b'"[[[[\\"[[[\\\\"') == '[[[["[[[\\'
