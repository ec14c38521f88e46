"""Ballots, votes and certificates: one encoding each, bounded, signed by the members they name."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import coincurve
import msgpack
import pytest
from coincurve.ecdsa import cdata_to_der, deserialize_compact
from hypothesis import given, settings
from hypothesis import strategies as st

from dipnet.consensus.finality import votes
from dipnet.consensus.finality.members import Members, quorum_of
from dipnet.consensus.finality.votes import (
    CERTIFICATE_BYTES_MAX,
    VOTE_BYTES_MAX,
    Ballot,
    BallotKind,
    Certificate,
    Vote,
    certificate_of,
    check_certificate,
    check_votes,
    decode_certificate,
    decode_vote,
    vote_id,
)
from dipnet.primitives.codec import UINT_MAX, pack
from dipnet.primitives.crypto import address, keccak256
from dipnet.primitives.errors import Invalid
from tests.fixtures.delegates import (
    BLOCK,
    CHAIN_ID,
    certificate,
    commits,
    members_of,
    prevotes,
    proposes,
    signed,
    vote,
)

ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
FOUR = members_of(4)
BALLOTS = st.builds(
    lambda kind, epoch, slot, block_id, justify: Ballot(
        kind, epoch, slot, block_id, justify if kind is BallotKind.PREVOTE else 0
    ),
    st.sampled_from([BallotKind.PREVOTE, BallotKind.COMMIT]),
    st.integers(0, UINT_MAX),
    st.integers(0, UINT_MAX),
    st.binary(min_size=32, max_size=32),
    st.integers(0, UINT_MAX),
)
VOTES = st.builds(Vote, BALLOTS, st.integers(0, 100), st.binary(min_size=65, max_size=65))


@st.composite
def _certificates(draw: st.DrawFn) -> Certificate:
    bitmap = draw(st.binary(max_size=13))
    bits = int.from_bytes(bitmap, "big").bit_count()
    signatures = draw(st.binary(min_size=1, max_size=8)) * 64 * bits
    return Certificate(draw(BALLOTS), bitmap, signatures[: 64 * min(bits, 101)])


CERTIFICATES = _certificates().filter(lambda certificate: len(certificate.indices()) <= 101)


def refusal(call: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(Invalid) as caught:
        call(*args)
    return caught.value.code


def high(signature: bytes) -> bytes:
    """The other signature of the same digest and key: s above half the order."""
    s = (ORDER - int.from_bytes(signature[32:64], "big")).to_bytes(32, "big")
    return signature[:32] + s + bytes(recovery_id ^ 1 for recovery_id in signature[64:])


# --- digests


def test_digests_are_those_of_the_specification() -> None:
    bin32 = b"\xc4\x20"
    head = b"\x01\xcd\x07\xe2\x03\x07" + bin32 + BLOCK
    assert prevotes().digest(2018) == keccak256(b"DIPNET/prevote\x96" + head + b"\x05")
    assert commits().digest(2018) == keccak256(b"DIPNET/commit\x95" + head)
    assert proposes().digest(2018) == keccak256(b"DIPNET/proposal\x95" + head)


@given(BALLOTS, BALLOTS, st.integers(1, 2**32 - 1))
def test_digests_differ_where_ballots_or_chains_do(
    first: Ballot, second: Ballot, chain_id: int
) -> None:
    assert (first.digest(chain_id) == second.digest(chain_id)) == (first == second)
    assert first.digest(chain_id) != first.digest(chain_id + 1)


# --- votes


def test_a_vote_is_pinned() -> None:
    prevote = Vote(prevotes(), 2, bytes(65))
    bin32 = "c420" + BLOCK.hex()
    assert prevote.raw.hex() == "98010103" + "07" + bin32 + "05" + "02" + "c441" + bytes(65).hex()
    assert prevote.id == keccak256(prevote.raw[:-65])
    assert prevote.id == Vote(prevotes(), 2, b"\x01" * 65).id
    assert prevote.id != Vote(prevotes(), 1, bytes(65)).id


@given(VOTES)
def test_a_vote_survives(drawn: Vote) -> None:
    assert decode_vote(drawn.raw) == drawn
    assert decode_vote(drawn.raw).raw == replace(decode_vote(drawn.raw)).raw == drawn.raw
    assert len(drawn.raw) <= VOTE_BYTES_MAX


@pytest.mark.parametrize("decode", [decode_vote, decode_certificate])
def test_what_is_decoded_keeps_its_bytes(
    decode: Callable[[bytes], Vote | Certificate], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vote is encoded by its author and never again; its id is hashed once."""
    vote = Vote(prevotes(), 2, bytes(65))
    raw = vote.raw if decode is decode_vote else certificate_of([vote], FOUR).raw
    packed: list[Any] = []
    hashed: list[bytes] = []
    monkeypatch.setattr(msgpack, "packb", lambda *args, **_: packed.append(args))
    monkeypatch.setattr(votes, "keccak256", lambda data: hashed.append(data) or keccak256(data))
    decoded = decode(raw)
    assert decoded.raw is raw
    assert not packed
    if isinstance(decoded, Vote):
        assert {decoded.id for _ in range(3)} == {keccak256(raw[:-65])}
        assert hashed == [raw[:-65]]


def test_a_vote_is_encoded_once_by_its_author(monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[Any] = []
    monkeypatch.setattr(votes, "pack", lambda record: packed.append(record) or pack(record))
    vote = Vote(prevotes(), 2, bytes(65))
    assert vote.raw == vote.raw
    assert vote.id == vote.id
    assert len(packed) == 1
    assert replace(vote, index=1).raw != vote.raw
    assert replace(decode_vote(vote.raw), index=1) == replace(vote, index=1)
    assert replace(decode_vote(vote.raw), index=1).id == replace(vote, index=1).id != vote.id


@pytest.mark.parametrize(
    ("at", "value", "code"),
    [
        (0, 2, "record"),
        (1, 0, "vote_form"),  # a proposal is no vote
        (1, 3, "record"),
        (1, 2, "vote_form"),  # a commit has no justify
        (4, BLOCK[:31], "record"),
        (6, 101, "record"),
        (7, bytes(64), "record"),
        (7, bytes(66), "record"),
    ],
)
def test_a_malformed_vote_is_refused(at: int, value: int | bytes, code: str) -> None:
    record: list[int | bytes] = [1, 1, 3, 7, BLOCK, 5, 2, bytes(65)]
    assert decode_vote(pack(record)) == Vote(prevotes(), 2, bytes(65))
    record[at] = value
    assert refusal(decode_vote, pack(record)) == code
    assert refusal(decode_vote, bytes(VOTE_BYTES_MAX + 1)) == "oversized"


def mutated(raw: bytes, data: st.DataObject) -> bytes:
    """``raw`` with some bytes changed, cut or put in."""
    changed = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed)))
        match data.draw(st.sampled_from(["flip", "cut", "insert"])):
            case "flip" if at < len(changed):
                changed[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del changed[at:]
            case _:
                changed[at:at] = data.draw(st.binary(min_size=1, max_size=4))
    return bytes(changed)


def judged(raw: bytes) -> None:
    """Each decoder refuses ``raw``, or its value has the encoding ``raw``."""
    codes = {"oversized", "record", "vote_form", "certificate_form"}
    for decode in (decode_vote, decode_certificate):
        try:
            found = replace(decode(raw)).raw  # encoded again from its fields
        except Invalid as refused:
            found = raw if refused.code in codes else b""
        assert found == raw


@given(VOTES, VOTES, st.binary(min_size=65, max_size=65))
def test_a_vote_is_named_without_reading_it(first: Vote, second: Vote, signature: bytes) -> None:
    """The id covers all bytes but the signature; bytes that are no vote have no vote's id."""
    assert vote_id(first.raw) == vote_id(first.raw[:-65] + signature) == first.id
    assert (first.id == second.id) is (first.raw[:-65] == second.raw[:-65])
    for raw in (first.raw[1:], first.raw + b"\0", first.raw[:-1], signature):
        assert vote_id(raw) != first.id


@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    judged(raw)


@settings(max_examples=300)
@given(VOTES | CERTIFICATES, st.data())
def test_mutated_votes_and_certificates(drawn: Vote | Certificate, data: st.DataObject) -> None:
    judged(mutated(drawn.raw, data))


def alone(checked: Vote, members: Members) -> bool:
    """The oracle: coincurve on a single signature, and a comparison of s with half the order."""
    if (
        checked.index >= len(members)
        or int.from_bytes(checked.signature[32:64], "big") > ORDER // 2
    ):
        return False
    try:
        key = coincurve.PublicKey.from_signature_and_message(
            checked.signature, checked.ballot.digest(CHAIN_ID), hasher=None
        )
    except ValueError:
        return False
    return address(key.format()) == members.signers[checked.index]


@settings(max_examples=60)
@given(st.data())
def test_votes_are_judged_as_one_by_one(data: st.DataObject) -> None:
    votes = []
    for _ in range(data.draw(st.integers(0, 6))):
        index = data.draw(st.integers(0, 3))
        ballot = data.draw(st.sampled_from([prevotes(), commits(), prevotes(8)]))
        signature = signed(ballot, index, 4)
        match data.draw(st.sampled_from(["good", "high", "other", "bit", "chain", "stranger"])):
            case "high":
                signature = high(signature)
            case "other":
                index = (index + 1) % 4
            case "stranger":
                index = data.draw(st.integers(4, 100))
            case "chain":
                signature = signed(ballot, index, 4, CHAIN_ID + 1)
            case "bit":
                at = data.draw(st.integers(0, 64))
                flipped = signature[at] ^ 1 << data.draw(st.integers(0, 7))
                signature = signature[:at] + bytes((flipped,)) + signature[at + 1 :]
        votes.append(Vote(ballot, index, signature))
    found = check_votes(votes, [FOUR] * len(votes), CHAIN_ID)
    assert found == [alone(vote, FOUR) for vote in votes]


def test_good_and_high_votes() -> None:
    good = vote(prevotes(), 1, 4)
    strangers = Members(tuple(pair for pair in members_of(8).pairs if pair not in FOUR.pairs))
    assert check_votes(
        [good, Vote(good.ballot, 1, high(good.signature))], [FOUR] * 2, CHAIN_ID
    ) == [True, False]
    assert check_votes([good], [FOUR], CHAIN_ID + 1) == [False]
    assert check_votes([good], [strangers], CHAIN_ID) == [False]


# --- certificates


def test_a_certificate_is_pinned() -> None:
    made = certificate(prevotes(), (3, 0, 1), 4)
    record = pack([1, 1, 3, 7, BLOCK, 5, b"\x0b", made.signatures])
    assert made.raw == record
    assert made.indices() == (0, 1, 3)
    assert made.signatures == b"".join(signed(prevotes(), at, 4)[:64] for at in (0, 1, 3))
    assert made.rank == (3, 7)
    assert made.id == certificate(prevotes(), (0, 2, 3), 4).id != certificate(commits(), (0,), 4).id
    assert decode_certificate(made.raw) == made


@given(CERTIFICATES)
def test_a_certificate_survives(drawn: Certificate) -> None:
    if len(drawn.signatures) != 64 * len(drawn.indices()):
        assert refusal(decode_certificate, drawn.raw) == "certificate_form"
    else:
        assert decode_certificate(drawn.raw) == drawn
    assert len(drawn.raw) <= CERTIFICATE_BYTES_MAX


def test_the_largest_certificate_fits() -> None:
    everyone = certificate(
        Ballot(BallotKind.PREVOTE, UINT_MAX, UINT_MAX, BLOCK, UINT_MAX), range(101), 101
    )
    assert decode_certificate(everyone.raw) == everyone
    check_certificate(everyone, members_of(101), CHAIN_ID)


@pytest.mark.parametrize("count", [2, 3, 4, 7, 8, 9, 21, 101])
def test_a_quorum_is_enough_and_one_less_is_not(count: int) -> None:
    members = members_of(count)
    needed = members.quorum
    check_certificate(
        certificate(commits(), range(count - needed, count), count), members, CHAIN_ID
    )
    less = certificate(commits(), range(needed - 1), count)
    assert refusal(check_certificate, less, members, CHAIN_ID) == "certificate_quorum"


def test_two_quorums_share_more_than_a_third() -> None:
    for n in range(1, 200):
        faulty = (n - 1) // 3
        assert 2 * quorum_of(n) - n >= faulty + 1
        assert n - faulty >= quorum_of(n), "the honest alone are a quorum"


def changed(original: Certificate, bitmap: bytes, signatures: bytes | None = None) -> Certificate:
    return Certificate(
        original.ballot, bitmap, original.signatures if signatures is None else signatures
    )


def test_the_bitmap_is_over_the_set_and_has_its_length() -> None:
    good = certificate(commits(), (0, 1, 2), 4)
    check_certificate(good, FOUR, CHAIN_ID)
    for bitmap, code in (
        (b"\x17", "certificate_form"),  # bit 4 of a set of 4
        (b"\x87", "certificate_form"),
        (b"\x07\x00", "certificate_form"),  # a second spelling
        (b"", "certificate_form"),
        (b"\x0b", "certificate_signature"),  # the third signature is not by member 3
        (b"\x03", "certificate_quorum"),
    ):
        assert refusal(check_certificate, changed(good, bitmap), FOUR, CHAIN_ID) == code


def test_bits_and_signatures_must_agree() -> None:
    good = certificate(commits(), (0, 1, 2), 4)
    for signatures in (good.signatures[:-64], good.signatures[:-1], good.signatures + bytes(64)):
        raw = changed(good, good.bitmap, signatures).raw
        assert refusal(decode_certificate, raw) == "certificate_form"
    # One signature under two bits is two signatures, and the second is not by the second member.
    twice = changed(good, b"\x07", good.signatures[:64] * 3)
    assert (
        refusal(check_certificate, decode_certificate(twice.raw), FOUR, CHAIN_ID)
        == "certificate_signature"
    )


def test_order_chain_ballot_and_low_s_are_judged() -> None:
    good = certificate(prevotes(), (0, 1, 2), 4)
    first, second, rest = good.signatures[:64], good.signatures[64:128], good.signatures[128:]
    wrong = (
        changed(good, good.bitmap, second + first + rest),
        changed(good, good.bitmap, high(first) + second + rest),
        Certificate(prevotes(justify=6), good.bitmap, good.signatures),
        Certificate(prevotes(epoch=4), good.bitmap, good.signatures),
        Certificate(commits(), good.bitmap, good.signatures),
    )
    for bad in wrong:
        assert refusal(check_certificate, bad, FOUR, CHAIN_ID) == "certificate_signature"
    assert refusal(check_certificate, good, FOUR, CHAIN_ID + 1) == "certificate_signature"


def each(checked: Certificate, members: Members) -> bool:
    """The oracle: coincurve verifies each signature alone."""
    digest = checked.ballot.digest(CHAIN_ID)
    for at, index in enumerate(checked.indices()):
        raw = checked.signatures[64 * at : 64 * at + 64]
        key = coincurve.PublicKey(members.keys[index])
        try:
            der = cdata_to_der(deserialize_compact(raw))
        except ValueError:
            return False
        if not key.verify(der, digest, hasher=None):
            return False
    return True


@settings(max_examples=40)
@given(st.data())
def test_certificates_are_judged_as_one_by_one(data: st.DataObject) -> None:
    signers = data.draw(st.sets(st.integers(0, 6), min_size=5))
    drawn = certificate(data.draw(st.sampled_from([prevotes(), commits()])), signers, 7)
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(drawn.signatures) - 1))
        flipped = drawn.signatures[at] ^ 1 << data.draw(st.integers(0, 7))
        drawn = changed(
            drawn,
            drawn.bitmap,
            drawn.signatures[:at] + bytes((flipped,)) + drawn.signatures[at + 1 :],
        )
    if each(drawn, members_of(7)):
        check_certificate(drawn, members_of(7), CHAIN_ID)
    else:
        assert refusal(check_certificate, drawn, members_of(7), CHAIN_ID) == "certificate_signature"


def test_votes_of_one_member_count_once() -> None:
    first, second = vote(commits(), 0, 4), vote(commits(), 1, 4)
    made = certificate_of([first, second, first], FOUR)
    assert made.indices() == (0, 1)
    assert refusal(check_certificate, made, FOUR, CHAIN_ID) == "certificate_quorum"
