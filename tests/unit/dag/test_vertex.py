"""A vertex's bytes and a batch's verdicts, against the twin and against every flipped byte."""

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dipnet._native import dag
from dipnet.dag import vertex
from dipnet.dag.vertex import VERDICTS, Vertex, VertexDraft, check, check_each, decode, sign_vertex
from dipnet.primitives.crypto import SECP_TABLE, address, public_key, sha256, sign
from dipnet.primitives.errors import REFUSALS, Invalid
from tests.fixtures import dag_twin
from tests.fixtures.drawing import CHAIN_ID, draft, draw, secret, vertex_id

SECRET = secret("device")
ISSUER = address(public_key(SECRET))
PARENTS = (sha256(b"1"), sha256(b"2"))
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
WIRE = sign_vertex(SECRET, replace(draft("reading", PARENTS), extra=b"12345678"))
SIGNATURE_AT = len(WIRE) - len(b"reading") - 65


def keys(capacity: int = 64) -> vertex.Keys:
    return vertex.Keys(SECP_TABLE, capacity, 7)


def codes(batch: vertex.Batch) -> list[str]:
    return [VERDICTS[verdict][0] or "ok" for verdict in batch.verdicts()]


drafts = st.builds(
    VertexDraft,
    chain_id=st.integers(0, 2**32 - 1),
    ref_height=st.integers(0, 2**32 - 1),
    ref_hash=st.binary(min_size=8, max_size=8),
    seq=st.integers(0, 2**64 - 1),
    prev=st.binary(min_size=32, max_size=32),
    timestamp_ms=st.integers(0, 2**64 - 1),
    topic=st.binary(min_size=16, max_size=16),
    payload=st.binary(min_size=16, max_size=80),
    payload_type=st.integers(0, 2**16 - 1),
    parents=st.sets(st.binary(min_size=32, max_size=32), max_size=8).map(tuple),
    flags=st.sampled_from([0, 2, 4, 6]),
    extra=st.sampled_from([b"", b"8 bytes."]),
)


@given(drafts)
@settings(max_examples=60)
def test_a_signed_draft_reads_back_field_by_field(written: VertexDraft) -> None:
    wire = sign_vertex(SECRET, written)
    read = decode(wire)
    again = VertexDraft(*(getattr(read, name) for name in VertexDraft.__slots__))
    assert again == replace(
        written,
        parents=tuple(sorted(written.parents)),
        flags=written.flags | (8 if written.extra else 0),
    )
    assert read.raw == vertex.build_envelope(again, ISSUER) + read.signature + read.payload
    assert (read.issuer, read.payload_hash) == (ISSUER, sha256(written.payload))
    twin, size = dag_twin.parse(wire)
    assert (twin.id, size, twin.seq) == (read.id, len(wire), written.seq)
    batch = check(wire, written.chain_id, keys())
    assert codes(batch) == ["ok"]
    assert (batch.id(0), batch.wire(0), batch.issuer(0)) == (read.id, wire, ISSUER)
    assert not batch.corrected(0)


def test_the_layout_is_as_specified() -> None:
    what = VertexDraft(
        chain_id=0x01020304, ref_height=0x05060708, ref_hash=b"ref_hash", seq=9, prev=b"p" * 32,
        timestamp_ms=10, topic=b"t" * 16, payload=b"s" * 16 + b"x", payload_type=2,
        parents=(b"b" * 32, b"a" * 32), flags=6, extra=b"extra..!",
    )  # fmt: skip
    envelope = (
        bytes.fromhex("0100 01020304 000e 05060708") + b"ref_hash" + ISSUER
        + (9).to_bytes(8, "big") + b"p" * 32 + (10).to_bytes(8, "big") + b"t" * 16
        + bytes.fromhex("0002 00000011") + sha256(b"s" * 16 + b"x") + b"\x02"
        + b"a" * 32 + b"b" * 32 + b"extra..!"
    )  # fmt: skip
    assert vertex.build_envelope(what, ISSUER) == envelope
    wire = sign_vertex(SECRET, what)
    assert len(envelope) == 143 + 32 * 2 + 8
    assert wire[: len(envelope)] == envelope
    assert wire[len(envelope) + 65 :] == what.payload


@pytest.mark.parametrize("known", [False, True], ids=["unknown key", "known key"])
def test_no_flipped_byte_passes(known: bool) -> None:
    table = keys()
    if known:
        assert codes(check(WIRE, CHAIN_ID, table)) == ["ok"]
        assert len(table) == 1
    for at in range(len(WIRE)):
        for flip in (0x01, 0x80, 0xFF):
            bad = WIRE[:at] + bytes((WIRE[at] ^ flip,)) + WIRE[at + 1 :]
            batch = check_each([bad], CHAIN_ID, table)
            if at == SIGNATURE_AT + 64:
                assert codes(batch) == ["ok"]
                if not known or bad[at] > 1:
                    assert batch.corrected(0)
                    assert batch.wire(0) == WIRE
            else:
                assert codes(batch) != ["ok"], at
                assert not batch.corrected(0)
                assert batch.wire(0) == bad


def test_no_cut_passes() -> None:
    for size in range(len(WIRE)):
        with pytest.raises(Invalid) as refused:
            decode(WIRE[:size])
        assert refused.value.code == "vertex_form"
        batch = check(WIRE + WIRE[:size], CHAIN_ID, keys())
        assert codes(batch) == ["ok", *(["vertex_form"] if size else [])]
        assert batch.wire(0) == WIRE
    with pytest.raises(Invalid, match="after the end"):
        decode(WIRE + b"\0")
    assert codes(check_each([WIRE, WIRE + b"\0", b"", WIRE], CHAIN_ID, keys())) == [
        "ok", "vertex_form", "vertex_form", "ok",
    ]  # fmt: skip


def test_high_s_is_refused_whether_or_not_the_key_is_known() -> None:
    s = int.from_bytes(WIRE[SIGNATURE_AT + 32 : SIGNATURE_AT + 64], "big")
    hint = bytes((WIRE[SIGNATURE_AT + 64] ^ 1,))
    high = (ORDER - s).to_bytes(32, "big") + hint
    bad = WIRE[: SIGNATURE_AT + 32] + high + WIRE[SIGNATURE_AT + 65 :]
    assert codes(check(bad + WIRE + bad, CHAIN_ID, keys(), threads=1)) == [
        "vertex_signature", "ok", "vertex_signature",
    ]  # fmt: skip


def test_another_key_cannot_speak_for_the_issuer() -> None:
    envelope = vertex.build_envelope(draft("spoof"), ISSUER)
    forged = envelope + sign(sha256(envelope), secret("thief")) + b"spoof"
    for table in (keys(), keys()):
        check(WIRE, CHAIN_ID, table)
        assert codes(check(forged, CHAIN_ID, table)) == ["vertex_signature"]
    assert codes(check(forged, CHAIN_ID, keys())) == ["vertex_signature"]


FORMS = {
    "version": (0, b"\x02"),
    "type": (1, b"\x01"),
    "flag": (6, b"\x00\x10"),
    "batch flag": (6, b"\x00\x09"),
    "salt": (6, b"\x00\x0c"),
    "nine parents": (142, b"\x09"),
    "huge payload": (106, b"\xff\xff\xff\xff"),
    "payload past the limit": (106, (32769).to_bytes(4, "big")),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_wrong_form_has_its_reason(name: str) -> None:
    at, new = FORMS[name]
    bad = WIRE[:at] + new + WIRE[at + len(new) :]
    with pytest.raises(Invalid) as refused:
        decode(bad)
    assert refused.value.code == "vertex_form"
    follows = name in ("batch flag", "salt")  # its end is known, so the next vertex is judged
    expected = ["vertex_form", "ok"] if follows else ["vertex_form"]
    assert codes(check(bad + WIRE, CHAIN_ID, keys())) == expected


def test_parents_are_sorted_and_different() -> None:
    first, second = sorted(PARENTS)
    for pair in (second + first, first + first):
        bad = WIRE[:143] + pair + WIRE[207:]
        assert codes(check(bad + WIRE, CHAIN_ID, keys())) == ["vertex_parents", "ok"]


def test_what_a_device_cannot_say() -> None:
    good = draft("x")
    for bad in (
        replace(good, parents=tuple(sha256(bytes((i,))) for i in range(9))),
        replace(good, parents=(b"short",)),
        replace(good, parents=(bytes(32), bytes(32))),
        replace(good, payload=bytes(vertex.PAYLOAD_BYTES_MAX + 1)),
        replace(good, flags=vertex.FLAG_SALTED),
        replace(good, flags=vertex.FLAG_BATCH),
        replace(good, flags=vertex.FLAG_EXTRA),
        replace(good, flags=1 << 16),
        replace(good, extra=b"7 bytes"),
        replace(good, seq=-1),
        replace(good, ref_hash=b""),
    ):
        with pytest.raises(Invalid) as refused:
            sign_vertex(SECRET, bad)
        assert refused.value.code in ("vertex_form", "vertex_parents")
    sign_vertex(SECRET, replace(good, payload=bytes(vertex.PAYLOAD_BYTES_MAX)))


def test_a_batch_is_bounded() -> None:
    batch = dag.check_batch(WIRE * 5, 3, CHAIN_ID, keys(), 1)
    assert codes(batch) == ["ok", "ok", "ok", "limit"]
    assert batch.wire(3) == WIRE * 2
    assert codes(check(b"", CHAIN_ID, keys())) == []
    with pytest.raises(Invalid, match="oversized"):
        check(bytes(vertex.BATCH_BYTES_MAX + 1), CHAIN_ID, keys())
    with pytest.raises(IndexError):
        batch.id(4)


def test_many_issuers_on_two_threads_in_a_small_table() -> None:
    wires = [sign_vertex(secret(str(i % 40)), draft(f"{i}")) for i in range(200)]
    wires[150] = wires[150][:-1] + b"?"
    table = keys(capacity=16)
    for _ in range(2):
        batch = check(b"".join(wires), CHAIN_ID, table, threads=2)
        assert [i for i, code in enumerate(codes(batch)) if code != "ok"] == [150]
        assert [batch.id(i) for i in range(200)] == [vertex_id(wire) for wire in wires]
    assert len(table) == 16


@given(st.integers(0, 2**32), st.data())
@settings(max_examples=150)
def test_verdicts_of_mutated_batches_are_the_twins(seed: int, data: st.DataObject) -> None:
    wires = list(draw(DRAWN).values())
    stream = bytearray(b"".join(wires[seed % 3 :]))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(stream) - 1))
        edit = data.draw(st.sampled_from(["flip", "cut", "insert", "repeat"]))
        if edit == "flip":
            stream[at] ^= data.draw(st.integers(1, 255))
        elif edit == "cut" and len(stream) > 1:
            del stream[at : at + data.draw(st.integers(1, 40))]
        elif edit == "insert":
            stream[at:at] = data.draw(st.binary(min_size=1, max_size=40))
        else:
            stream[at:at] = stream[: data.draw(st.integers(1, 400))]
        if not stream:
            return
    compare_with_twin(bytes(stream))


@given(st.binary(max_size=600))
def test_any_bytes_have_the_twins_verdicts(data: bytes) -> None:
    compare_with_twin(data)
    compare_with_twin(b"\x01\x00" + data)
    with contextlib.suppress(Invalid):
        assert isinstance(decode(data), Vertex)


DRAWN = "a b:a c:a,b d#1 e:c,d"


def compare_with_twin(stream: bytes) -> None:
    expected = dag_twin.check_batch(stream, CHAIN_ID)
    batch = check(stream, CHAIN_ID, keys(), threads=1)
    assert codes(batch) == [code for code, _ in expected]
    for i, (code, wire) in enumerate(expected):
        if not batch.corrected(i):
            assert batch.wire(i) == wire
            continue
        assert code == "ok"
        right = dag_twin.right_hint(dag_twin.parse(wire)[0])
        assert decode(batch.wire(i)).signature[64] == right


def test_reference_blocks_are_refused_by_a_caller_that_knows_the_chain() -> None:
    wires = draw("a@1 b@2 c@2:b d@3:c")
    batch = check(b"".join(wires.values()), CHAIN_ID, keys())
    assert batch.refs() == [(1, b"refhash8"), (2, b"refhash8"), (3, b"refhash8")]
    batch.refuse_ref(2, b"refhash8")
    batch.refuse_ref(3, b"another8")
    assert codes(batch) == ["ok", "vertex_ref", "vertex_ref", "ok"]


def test_every_verdict_has_a_refusal() -> None:
    assert all(code in REFUSALS for code, _ in VERDICTS[1:])
    assert vertex.refusal(len(VERDICTS) - 1).code == "vertex_ref"
