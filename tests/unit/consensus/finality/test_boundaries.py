"""The records of boundaries: one encoding, bounded, found on disk as light clients need them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dipnet.consensus.finality import boundaries
from dipnet.consensus.finality.boundaries import decode_boundary, decode_final
from dipnet.consensus.finality.members import Members
from dipnet.primitives.codec import pack
from dipnet.primitives.errors import Invalid
from dipnet.sdk.light import LightState, decode_state
from tests.fixtures.light_chain import LightChain, pair, rotating
from tests.fixtures.memory import Memory

CHAIN = LightChain(rotating(12, 4, 4))
BOUNDARIES = [CHAIN.boundary(hand_over=at % 3) for at in range(11)]
FINALITY = CHAIN.finality(above=2)
STATE = LightState(CHAIN.chain_id, 11, BOUNDARIES[-1].header, BOUNDARIES[-1].members)
RECORDS: list[tuple[bytes, Callable[[bytes], Any]]] = [
    (BOUNDARIES[1].raw, decode_boundary),
    (FINALITY.raw, decode_final),
    (STATE.encode(), decode_state),
]
FORMS = {
    "record", "oversized", "vote_form", "certificate_form", "light_chain", "light_set",
    "light_epoch",
}  # fmt: skip


def spelled(value: Any) -> bytes:
    """The record of the value, encoded again from its fields."""
    return value.encode() if isinstance(value, LightState) else replace(value).raw


def judged(decode: Callable[[bytes], Any], raw: bytes) -> Any:
    """The decoded value, or the code of the refusal."""
    try:
        return decode(raw)
    except Invalid as refused:
        return refused.code


def refusal(decode: Callable[[bytes], Any], raw: bytes) -> str:
    with pytest.raises(Invalid) as caught:
        decode(raw)
    return caught.value.code


@pytest.mark.parametrize(("raw", "decode"), RECORDS, ids=["boundary", "finality", "state"])
def test_a_record_has_one_spelling(raw: bytes, decode: Callable[[bytes], Any]) -> None:
    assert spelled(decode(raw)) == raw
    assert decode(raw) == decode(spelled(decode(raw)))
    for wrong in (raw + b"\0", raw[:-1], b"", b"\x90", b"\x95" + raw):
        assert refusal(decode, wrong) == "record"
    assert refusal(decode, bytes(boundaries.BOUNDARY_BYTES_MAX + 1)) == "oversized"


@pytest.mark.parametrize(("raw", "decode"), RECORDS, ids=["boundary", "finality", "state"])
@settings(max_examples=150)
@given(data=st.data())
def test_changed_bytes_are_refused_or_are_another_value(
    raw: bytes, decode: Callable[[bytes], Any], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(raw) - 1))
    cut = data.draw(st.integers(0, 3))
    changed = raw[:at] + data.draw(st.binary(max_size=4)) + raw[at + cut :]
    value = judged(decode, changed)
    if isinstance(value, str):
        assert value in FORMS
    else:
        assert spelled(value) == changed
        assert (value == decode(raw)) == (changed == raw)


@settings(max_examples=200)
@given(st.binary(max_size=400), st.sampled_from([decode for _, decode in RECORDS]))
def test_any_bytes(raw: bytes, decode: Callable[[bytes], Any]) -> None:
    assert refusal(decode, raw) in FORMS


def boundary_of(path: int = 0, pairs: list[tuple[bytes, bytes]] | None = None) -> bytes:
    """A boundary's record with a path of this length; its proof may be invalid."""
    boundary = BOUNDARIES[0]
    members = list(boundary.members.pairs) if pairs is None else pairs
    raws = [boundary.header.raw] * path
    return pack((1, boundary.header.raw, raws, boundary.certificate.raw, members))


def test_bounds() -> None:
    assert (
        len(decode_boundary(boundary_of(boundaries.PATH_HEADERS_MAX)).path)
        == boundaries.PATH_HEADERS_MAX
    )
    assert refusal(decode_boundary, boundary_of(boundaries.PATH_HEADERS_MAX + 1)) == "record"
    many = sorted(pair(index) for index in range(102))
    assert len(decode_boundary(boundary_of(pairs=many[:101])).members) == 101
    assert refusal(decode_boundary, boundary_of(pairs=many)) == "record"


def test_sets_ascend_and_hold_each_delegate_once() -> None:
    first, second, *_ = BOUNDARIES[0].members.pairs
    assert decode_boundary(boundary_of(pairs=[first, second])).members == Members((first, second))
    assert refusal(decode_boundary, boundary_of(pairs=[])) == "record"
    assert refusal(decode_boundary, boundary_of(pairs=[second, first])) == "record"
    assert refusal(decode_boundary, boundary_of(pairs=[first, first])) == "record"
    assert refusal(decode_boundary, boundary_of(pairs=[first, (first[0], second[1])])) == "record"


# --- on disk


def disk() -> Memory:
    memory = Memory()
    memory.apply(CHAIN.disk)
    return memory


def opened(found: Any) -> list[int]:
    return [opens for opens, _ in found]


def test_boundaries_are_kept_under_the_epoch_that_they_open() -> None:
    memory = disk()
    for boundary in BOUNDARIES:
        assert boundaries.boundary_at(memory, boundary.opens) == boundary.raw
    assert boundaries.boundary_at(memory, 0) is None
    assert boundaries.boundary_at(memory, 12) is None
    assert boundaries.newest_boundary(memory) == (11, BOUNDARIES[-1].raw)
    assert boundaries.newest_boundary(Memory()) is None
    assert opened(boundaries.every_boundary(memory, 9)) == [9, 10, 11]
    assert [decode_boundary(raw) for _, raw in boundaries.every_boundary(memory, 0)] == BOUNDARIES


@pytest.mark.parametrize(
    ("first", "found"),
    [(0, [5, 9, 11]), (5, [5, 9, 11]), (6, [9, 11]), (10, [11]), (11, [11]), (12, [])],
)
def test_a_client_with_a_set_needs_the_changes_and_the_newest_boundary(
    first: int, found: list[int]
) -> None:
    memory = disk()
    assert opened(boundaries.hop_boundaries(memory, first)) == found


def test_the_newest_boundary_is_given_once() -> None:
    chain = LightChain(rotating(6, 4, 4))
    for _ in range(5):
        chain.boundary()
    memory = Memory()
    memory.apply(chain.disk)
    assert opened(boundaries.hop_boundaries(memory, 1)) == [5], "a change that is the newest too"
    assert opened(boundaries.hop_boundaries(Memory(), 1)) == []
