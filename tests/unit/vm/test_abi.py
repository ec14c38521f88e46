"""The reader of call data beside eth-abi: the same values, the same refusals, much less work."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from hypothesis import given
from hypothesis import strategies as st

from dipnet.consensus.staking.actions import EVENTS
from dipnet.consensus.staking.idpos import METHODS
from dipnet.ledger.parameters import VOTES_MAX
from dipnet.primitives.errors import Invalid
from dipnet.vm.abi import INPUT_BYTES_MAX, SELECTOR_BYTES, WORD_BYTES, Method
from tests.fixtures.staking import World, address_of, network

Values = tuple[Any, ...] | None
CALLS_PER_WORD_MAX = 12
REFUSED = {"dpos_call": None}  # every refusal has this code

VALUES = {
    "uint8": st.integers(0, 2**8 - 1),
    "uint16": st.integers(0, 2**16 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "uint256": st.integers(0, 2**256 - 1) | st.integers(0, 512),
    "address": st.binary(min_size=20, max_size=20) | st.just(bytes(20)),
    "bytes32": st.binary(min_size=32, max_size=32),
    "bool": st.booleans(),
    "bytes": st.binary(max_size=70),
    "string": st.text(max_size=40),
}
VALUES |= {f"{kind}[]": st.lists(VALUES[kind], max_size=4) for kind in ("address", "uint256")}
DECLARED = [
    *(method.inputs for method in METHODS.values()),
    *(method.outputs for method in METHODS.values()),
    *(tuple(part.split()[0] for part in event.rest.split(",") if part) for event in EVENTS),
]
TYPES = st.sampled_from(DECLARED) | st.lists(st.sampled_from(list(VALUES)), max_size=4).map(tuple)


def plain(value: Any) -> Any:
    """What eth-abi decodes, with addresses as bytes."""
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    if isinstance(value, str) and len(value) == 42 and value.startswith("0x"):
        return bytes.fromhex(value[2:])
    return value


def by_eth_abi(types: Sequence[str], data: bytes) -> Values:
    """The values that encode to these bytes, or None: decoded, encoded again and compared."""
    try:
        found = decode(types, data)
    except (DecodingError, ValueError, OverflowError):
        return None
    return plain(found) if encode(types, found) == data else None


def by_method(types: Sequence[str], data: bytes) -> Values:
    takes = ", ".join(f"{kind} a{n}" for n, kind in enumerate(types))
    try:
        return Method("any", takes, "", "", lambda: ()).arguments(data)
    except Invalid as refused:
        return REFUSED[refused.code]


def same(types: Sequence[str], data: bytes) -> Values:
    found, expected = by_method(types, data), by_eth_abi(types, data)
    assert found == expected
    assert [type(item) for item in found or ()] == [type(item) for item in expected or ()]
    return found


@st.composite
def edits(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Damages to call data: to a byte, to a word, to the order or the number of words."""
    what, at, to = draw(st.integers(0, 6)), draw(st.integers(0, 2**12)), draw(st.integers(0, 2**12))
    byte, word = draw(st.binary(min_size=1, max_size=1)), draw(st.integers(0, 2**256 - 1))
    few = draw(st.sampled_from([0, 1, 31, 32, 33, 64, 96, 128, 2**255, 2**256 - 32, word]))

    def edit(data: bytes) -> bytes:
        i = at % (len(data) + 1)
        a, b = i // 32 * 32, to % (len(data) + 1) // 32 * 32
        return [
            data[:i] + byte + data[i + 1 :],
            data[:i] + byte + data[i:],
            data[:i] + data[i + 1 :],
            data[:a] + few.to_bytes(32, "big") + data[a + 32 :],
            data[:a] + data[b : b + 32] + data[a:],
            data[:a] + data[a + 32 :],
            data[:i],
        ][what]

    return edit


@given(st.data(), TYPES)
def test_encoded_values_are_read_again(data: st.DataObject, types: tuple[str, ...]) -> None:
    values = [data.draw(VALUES[kind]) for kind in types]
    assert same(types, encode(types, values)) is not None


@given(st.data(), TYPES, st.lists(edits(), min_size=1, max_size=3))
def test_what_was_changed_is_judged_alike(
    data: st.DataObject, types: tuple[str, ...], changes: list[Callable[[bytes], bytes]]
) -> None:
    raw = encode(types, [data.draw(VALUES[kind]) for kind in types])
    for change in changes:
        raw = change(raw)
        same(types, raw)


@given(TYPES, st.binary(max_size=300) | st.lists(
    st.integers(0, 8).map(lambda n: 32 * n) | st.integers(0, 40) | st.integers(0, 2**256 - 1),
    max_size=12,
).map(lambda words: b"".join(word.to_bytes(32, "big") for word in words)))  # fmt: skip
def test_any_bytes_are_judged_alike(types: tuple[str, ...], raw: bytes) -> None:
    same(types, raw)


@pytest.mark.parametrize(
    ("types", "values"),
    [
        (("address[]",), ([address_of("d0"), address_of("d1")],)),
        (("address[]",), ([],)),
        (("bytes", "bytes"), (b"\1" * 33, b"")),
        (("string", "uint16", "bool"), ("\u00e9 \U0001f600", 500, True)),
        (("address[]", "uint256[]"), ([address_of("d0")], [7, 0])),
    ],
    ids=["addresses", "no address", "bytes", "a text", "two arrays"],
)
def test_every_byte_counts(types: tuple[str, ...], values: tuple[Any, ...]) -> None:
    raw = encode(types, values)
    assert same(types, raw) is not None
    for at in range(len(raw)):
        for byte in {0, 1, 0x20, 0x40, 0x80, 0xFF, raw[at] ^ 1} - {raw[at]}:
            same(types, raw[:at] + bytes([byte]) + raw[at + 1 :])
        same(types, raw[:at])
        same(types, raw[:at] + b"\0" + raw[at:])


# --- what it costs


def calls(run: Callable[[], object]) -> int:
    """The number of calls of Python and C functions, a measure of time that is the same
    everywhere."""
    count = 0

    def note(_frame: Any, event: str, _arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count


def longest(kind: str) -> Any:
    fill: dict[str, Any] = {
        "address[]": [bytes(20)] * VOTES_MAX, "address": bytes(20), "bytes32": bytes(32),
        "bytes": bytes(128), "string": "a" * 128,
    }  # fmt: skip
    return fill.get(kind, 1)


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_reading_a_word_is_cheap(method: Method) -> None:
    """A refused call has paid the price of the method and of its bytes, so reading must be
    cheap."""
    data = method.call_data(*(longest(kind) for kind in method.inputs))[SELECTOR_BYTES:]
    assert calls(lambda: method.arguments(data)) <= CALLS_PER_WORD_MAX * (2 + len(data) / 32)


@pytest.mark.parametrize("kind", ["address[]", "bytes"])
def test_what_is_promised_and_not_there_costs_nothing(kind: str) -> None:
    data = b"".join(word.to_bytes(32, "big") for word in (32, 100_000))
    assert calls(lambda: by_method((kind,), data)) < 1_000
    assert same((kind,), data) is None


def test_more_delegates_than_any_rule_allows_are_not_read() -> None:
    world, vote = World(network(votes_per_account_max=VOTES_MAX)), METHODS["vote"]
    most, more = (vote.call_data([bytes(20)] * count) for count in (VOTES_MAX, VOTES_MAX + 1))
    assert len(most) == INPUT_BYTES_MAX == len(more) - WORD_BYTES
    assert b"dpos_votes" in world.run(address_of("u1"), most).output
    assert b"dpos_call" in world.run(address_of("u1"), more).output


def test_whatever_a_delegate_may_say_fits() -> None:
    world = World(network())
    said = world.register("u1", name="n" * 32, url="u" * 128)
    for name, arguments in {"register": said, "submitEvidence": (bytes(128), bytes(128))}.items():
        assert len(METHODS[name].call_data(*arguments)) < INPUT_BYTES_MAX
