"""SenML in CBOR: a pack of the RFC, round trips, and arbitrary bytes."""

import contextlib

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipnet.dag.senml import READINGS_MAX, Reading, Value, encode, resolve
from dipnet.primitives.errors import Invalid

URN = "urn:dev:ow:10e2073a01080063"

# The pack of RFC 8428 5.1.3 in CBOR, base fields and relative times among it.
RFC_PACK = bytes.fromhex(
    "87a721781b75726e3a6465763a6f773a3130653230373361303130383030363a"
    "22fb41d303a15b00106223614120050067766f6c7461676501615602fb405e066666666666"
    "a3006763757272656e74062402fb3ff3333333333333a3006763757272656e74062302fb3ff4cccccccccccd"
    "a3006763757272656e74062202fb3ff6666666666666a3006763757272656e74062102f93e00"
    "a3006763757272656e74062002fb3ff999999999999aa3006763757272656e74060002fb3ffb333333333333"
)


def test_the_pack_of_the_rfc() -> None:
    readings = resolve(RFC_PACK, 0)
    name = "urn:dev:ow:10e2073a0108006:"
    assert readings[0] == Reading(name + "voltage", 1276020076.001, 120.1, "V")
    assert [(r.name, r.unit) for r in readings[1:]] == [(name + "current", "A")] * 6
    assert [r.value for r in readings[1:]] == [1.2, 1.3, 1.4, 1.5, 1.6, 1.7]
    assert [round(r.time - 1276020076.001) for r in readings[1:]] == [-5, -4, -3, -2, -1, 0]


values: st.SearchStrategy[Value] = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.booleans(),
    st.binary(max_size=20),
)
readings = st.builds(
    Reading,
    name=st.sampled_from([URN, "a", "Z9:x/y_z-.", "9"]),
    time=st.one_of(st.integers(2**28, 2**40), st.floats(2.0**28, 2.0**40)),
    value=values,
    unit=st.sampled_from(["", "Cel", "%RH"]),
    sum=st.none() | st.integers(0, 2**40),
)


@given(st.lists(readings, max_size=8))
def test_what_is_written_comes_back(written: list[Reading]) -> None:
    read = resolve(encode(written), 12345)
    assert read == tuple(written)
    assert [type(r.value) for r in read] == [type(r.value) for r in written]


def test_a_shared_name_is_written_once() -> None:
    many = [Reading(URN, 2**30 + i, i, "Cel") for i in range(10)]
    assert encode(many).count(URN.encode()) == 1
    assert len(encode(many[:1])) < 64


def test_base_fields_and_relative_time() -> None:
    pack = [
        {-2: "dev:", -3: 2**30, -4: "m", -5: 100, -6: 7, 0: "a", 2: 5},
        {0: "b", 2: 6, 6: 10, 1: "s", 5: 1},
        {-2: "x", -3: 0, -5: 0, 6: -5, 2: 1},
        {0: "y", 4: True},
    ]
    assert resolve(cbor2.dumps(pack), 1_700_000_000) == (
        Reading("dev:a", 2**30, 105, "m", 7),
        Reading("dev:b", 2**30 + 10, 106, "s", 8),
        Reading("x", 1_699_999_995, 1, "m", 7),
        Reading("xy", 1_700_000_000, True, "m", 7),
    )


HOSTILE: dict[str, object] = {
    "no array": {0: "a", 2: 1},
    "no map": [1],
    "no name": [{2: 1}],
    "bad name": [{0: "-a", 2: 1}],
    "bad character": [{0: "a b", 2: 1}],
    "long name": [{-2: "a" * 200, 0: "b" * 56, 2: 1}],
    "no value": [{0: "a"}],
    "two values": [{0: "a", 2: 1, 3: "x"}],
    "bool number": [{0: "a", 2: True}],
    "text number": [{0: "a", 2: "1"}],
    "infinite": [{0: "a", 2: float("inf")}],
    "infinite sum": [{0: "a", 2: 1e308, -5: 1e308}],
    "nan": [{0: "a", 2: 1, 6: float("nan")}],
    "big integer": [{0: "a", 2: 2**64}],
    "must understand": [{0: "a", 2: 1, "new_": 1}],
    "odd label": [{0: "a", 2: 1, 1.5: 1}],
    "version": [{-1: 11, 0: "a", 2: 1}],
    "deep": [{0: "a", 2: 1, "x": [[[1]]]}],
    "many": [{0: "a", 2: 1}] * (READINGS_MAX + 1),
    "long": [{0: "a", 3: "x" * 40_000}],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pack_is_refused(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        resolve(cbor2.dumps(HOSTILE[name]), 0)
    assert refused.value.code == "senml"


def test_unknown_labels_that_need_no_understanding_pass() -> None:
    pack = [{0: "a", 2: 1, "note": [1], 99: b""}]
    assert resolve(cbor2.dumps(pack), 2**30) == (Reading("a", 2**30, 1),)


def test_what_cannot_be_read_back_is_not_written() -> None:
    for bad in (
        Reading("", 2**30, 1),
        Reading("a", 5, 1),
        Reading("a", 2**30, None),
        Reading("a", 2**30, float("nan")),
        Reading("a", 2**30, 2**70),
    ):
        with pytest.raises(Invalid):
            encode([bad])


@given(st.binary(max_size=80), st.integers(0, 80))
def test_any_bytes_give_readings_or_invalid(noise: bytes, at: int) -> None:
    good = encode([Reading(URN, 2**30, 21.5, "Cel"), Reading("b", 2**30, "x")])
    for payload in (noise, b"\x81\xa2" + noise, good[:at], good[:at] + noise + good[at:]):
        with contextlib.suppress(Invalid):
            assert all(isinstance(reading, Reading) for reading in resolve(payload, 0))
