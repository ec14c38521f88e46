"""A short run of the fuzzer of decoders (``make fuzz`` runs longer), and that it finds bugs."""

import random
from dataclasses import replace

import pytest

from dipnet.primitives.errors import Invalid
from tests.fuzz.decoders import Target, fuzz, targets

TARGETS = {target.name: target for target in targets()}


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_almost_right_is_refused_or_has_one_spelling(name: str) -> None:
    tried, _ = fuzz(TARGETS[name], random.Random(name), lambda count: count < 150)
    assert tried == 150


def lenient(raw: bytes) -> bytes:
    return raw.rstrip(b"\0")


def careless(raw: bytes) -> bytes:
    if len(raw) > 4:
        raise IndexError
    return raw


def strict(raw: bytes) -> bytes:
    if raw != b"ok":
        raise Invalid("chain_id", "")
    return raw


@pytest.mark.parametrize("decode", [lenient, careless, strict])
def test_a_bad_decoder_is_found(decode: object) -> None:
    bad = Target("bad", decode, bytes, (b"ok",), {"record"})  # type: ignore[arg-type]
    with pytest.raises((AssertionError, IndexError)) as caught:
        fuzz(bad, random.Random(1), lambda count: count < 2_000)
    assert any("bad: " in note for note in caught.value.__notes__)
    assert fuzz(replace(bad, decode=bytes), random.Random(1), lambda count: count < 9) == (9, 9)
