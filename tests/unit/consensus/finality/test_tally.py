"""The tally: certificates, offences and participation from votes, within bounds."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dipnet.consensus.finality import tally as bounds
from dipnet.consensus.finality.members import Members
from dipnet.consensus.finality.tally import (
    BALLOTS_MAX,
    PARTICIPATION_SLOTS_MAX,
    VOTE_AHEAD_SLOTS,
    VOTE_LATE_SLOTS,
    VOTE_SLOTS_MAX,
    Participation,
    Statement,
    Tally,
    check,
)
from dipnet.consensus.finality.votes import (
    Ballot,
    BallotKind,
    Certificate,
    Vote,
    VoteState,
    check_certificate,
    offence,
)
from dipnet.primitives.crypto import ADDRESS_ZERO, keccak256, recover, sign
from dipnet.primitives.errors import Invalid
from tests.fixtures.delegates import (
    BLOCK,
    CHAIN_ID,
    OTHER,
    commits,
    members_of,
    prevotes,
    proposes,
    vote,
)

FOUR = members_of(4)
NOW = 8
UNSIGNED = bytes(65)


def sets(epoch: int) -> Members | None:
    return FOUR if epoch in (2, 3) else None


def fresh() -> Tally:
    return Tally(sets)


def refusal(tally: Tally, ballot: Ballot, index: int = 0, now: int = NOW) -> str:
    with pytest.raises(Invalid) as caught:
        tally.add(Vote(ballot, index, UNSIGNED), now)
    return caught.value.code


def tell(tally: Tally, ballots: Sequence[Ballot], index: int = 0, now: int = NOW) -> None:
    for ballot in ballots:
        tally.add(Vote(ballot, index, UNSIGNED), now)


def names(tally: Tally) -> list[str]:
    return [offence.name for offence in tally.offences()]


# --- on the worker


def test_votes_are_judged_in_their_order() -> None:
    good = vote(prevotes(), 1, 4)
    raws = [
        good.raw,
        b"\x98",
        vote(prevotes(epoch=4), 1, 4).raw,
        Vote(prevotes(), 4, good.signature).raw,
        Vote(prevotes(), 2, good.signature).raw,
        vote(commits(), 2, 4).raw,
    ]
    found = check(raws, sets, CHAIN_ID, 0)
    assert found[0] == good
    assert found[5] == vote(commits(), 2, 4)
    codes = [result.code for result in found if isinstance(result, Invalid)]
    assert codes == ["record", "vote_epoch", "vote_member", "vote_signature"]
    assert check([], sets, CHAIN_ID, 0) == []
    assert [type(result) for result in check([good.raw], sets, CHAIN_ID + 1, 0)] == [Invalid]


def test_no_signature_of_a_settled_slot_is_looked_at() -> None:
    old, late = (replace(vote(prevotes(slot), 1, 4), signature=UNSIGNED) for slot in (12, 13))
    found = check([old.raw, late.raw], sets, CHAIN_ID, 12 + VOTE_LATE_SLOTS)
    assert [result.code for result in found if isinstance(result, Invalid)] == [
        "vote_old",
        "vote_signature",
    ]


# --- certificates


def test_a_quorum_makes_one_certificate() -> None:
    tally = fresh()
    votes = [vote(prevotes(), index, 4) for index in range(4)]
    assert tally.add(votes[3], NOW) is None
    assert tally.add(votes[0], NOW) is None
    assert tally.add(votes[0], NOW) is None, "the same again"
    made = tally.add(votes[2], NOW)
    assert made is not None
    assert made.indices() == (0, 2, 3)
    check_certificate(made, FOUR, CHAIN_ID)
    assert tally.add(votes[1], NOW) is None, "once"
    assert tally.add(votes[2], NOW) is None


def test_only_equal_ballots_count_together() -> None:
    tally = fresh()
    ballots = (
        prevotes(), prevotes(block=OTHER), prevotes(justify=6), prevotes(epoch=2), commits(),
        prevotes(8), commits(8),
    )  # fmt: skip
    for index in (0, 1):
        for ballot in ballots[index:][:1] + ballots[4 + index :][:2]:
            assert tally.add(vote(ballot, index, 4), NOW) is None
    assert tally.add(vote(prevotes(), 2, 4), NOW) is None


@settings(max_examples=60)
@given(st.permutations([(index, kind) for index in range(7) for kind in (0, 1)]))
def test_any_order_makes_the_same_ballots_certain(order: list[tuple[int, int]]) -> None:
    members = members_of(7)
    tally = Tally(lambda _: members)
    made: list[Certificate] = []
    for index, kind in order:
        ballot = (prevotes(), commits())[kind]
        if found := tally.add(Vote(ballot, index, UNSIGNED), NOW):
            made.append(found)
    assert sorted(certificate.ballot.kind for certificate in made) == [
        BallotKind.PREVOTE,
        BallotKind.COMMIT,
    ]
    assert all(len(certificate.indices()) == members.quorum for certificate in made)


# --- refusals


def test_slots_ahead_of_the_clock_and_past_ones_are_refused() -> None:
    tally = fresh()
    now = 1_000
    tell(tally, [prevotes(now + VOTE_AHEAD_SLOTS), prevotes(now - VOTE_SLOTS_MAX + 1)], now=now)
    assert refusal(tally, prevotes(now + VOTE_AHEAD_SLOTS + 1), now=now) == "vote_slot"
    assert refusal(tally, prevotes(now - VOTE_SLOTS_MAX), now=now) == "vote_old"
    tally.prune(990, now)
    tell(tally, [prevotes(990 - VOTE_LATE_SLOTS + 1)], now=now)
    assert refusal(tally, prevotes(990 - VOTE_LATE_SLOTS), now=now) == "vote_old"
    tally.prune(900, now)
    assert refusal(tally, prevotes(990 - VOTE_LATE_SLOTS), now=now) == "vote_old"
    assert refusal(fresh(), prevotes(0)) == "vote_old", "nobody votes on genesis"


def test_a_clock_that_was_wrong_shuts_nothing_out() -> None:
    tally = fresh()
    tell(tally, [prevotes(100)], now=100)
    tell(tally, [prevotes(10**6)], 1, now=10**6)
    assert refusal(tally, prevotes(100), now=10**6) == "vote_old"
    tell(tally, [prevotes(100, OTHER)], now=100)
    assert names(tally) == [], "the first was forgotten"
    tell(tally, [prevotes(101)], now=101)
    assert refusal(tally, prevotes(10**6), now=101) == "vote_slot"


def test_unknown_sets_and_members_are_refused() -> None:
    tally = fresh()
    assert refusal(tally, prevotes(epoch=4)) == "vote_epoch"
    assert refusal(tally, prevotes(), 4) == "vote_member"


def test_a_third_ballot_is_refused() -> None:
    tally = fresh()
    third = keccak256(b"a third block")
    for make in (prevotes, commits):
        tell(tally, [make(), make(block=OTHER), make()])
        assert refusal(tally, make(block=third)) == "vote_limit"
        tell(tally, [make(block=third)], 1)
        tell(tally, [make(8, third)])


# --- offences


@pytest.mark.parametrize(
    ("ballots", "name"),
    [
        ([prevotes(), prevotes(block=OTHER)], "E1"),
        ([commits(), commits(block=OTHER)], "E2"),
        ([commits(5), prevotes(8, OTHER, justify=4)], "E3"),
        ([prevotes(8, OTHER, justify=4), commits(5)], "E3"),
        ([commits(5), prevotes(8, OTHER, justify=0)], "E3"),
        ([prevotes(5, BLOCK, justify=4), commits(5), prevotes(8, OTHER, justify=5)], ""),
        ([prevotes(), prevotes(block=OTHER, epoch=2)], ""),
        ([prevotes(), prevotes(justify=6)], "E1"),
        ([prevotes(epoch=2), prevotes(), prevotes(block=OTHER)], "E1"),
        ([prevotes(7), commits(7, OTHER)], ""),
    ],
)
def test_offences_are_found(ballots: list[Ballot], name: str) -> None:
    tally = fresh()
    for index, ballot in enumerate(ballots):
        tally.add(Vote(ballot, 2, bytes((index,)) * 65), NOW)
    assert names(tally) == ([name] if name else [])
    for found in tally.offences():
        assert found.signer == FOUR.signers[2]
        assert offence(found.one.ballot, found.other.ballot) == found.name
        for half in (found.one, found.other):
            assert ballots[half.signature[0]] == half.ballot


def test_each_offender_is_told_once_and_remembered() -> None:
    tally = fresh()
    for index in (2, 1):
        tell(tally, [prevotes(), prevotes(block=OTHER), commits(), commits(block=OTHER)], index)
    assert [offence.signer for offence in tally.offences()] == [FOUR.signers[2], FOUR.signers[1]]
    tally.prune(500, 500)
    assert names(tally) == ["E1", "E1"]


def test_two_proposals_of_a_slot_are_an_offence() -> None:
    tally = fresh()
    for ballot in (proposes(), proposes(8, OTHER), proposes(), proposes(block=OTHER, epoch=2)):
        tally.add_proposal(Statement(ballot, UNSIGNED), FOUR.signers[3], NOW)
    assert names(tally) == ["E0"]
    assert tally.offences()[0].signer == FOUR.signers[3]
    assert [
        statement.ballot.slot for statement in (tally.offences()[0].one, tally.offences()[0].other)
    ] == [
        7,
        7,
    ]
    third = proposes(block=keccak256(b"a third block"))
    stranger = recover(third.digest(CHAIN_ID), sign(third.digest(CHAIN_ID), b"\x01" * 32))
    for ballot, signer, now, code in (
        (third, FOUR.signers[3], NOW, "vote_limit"),
        (third, stranger, NOW, "vote_member"),
        (third, ADDRESS_ZERO, NOW, "vote_member"),
        (proposes(epoch=4), FOUR.signers[3], NOW, "vote_epoch"),
        (proposes(9), FOUR.signers[3], 7, "vote_slot"),
    ):
        with pytest.raises(Invalid) as caught:
            tally.add_proposal(Statement(ballot, UNSIGNED), signer, now)
        assert caught.value.code == code
    with pytest.raises(AssertionError, match="was not recovered"):
        tally.add_proposal(Statement(third, UNSIGNED), b"", NOW)


BALLOTS = st.builds(
    lambda kind, epoch, slot, block, justify: Ballot(
        kind, epoch, slot, block, min(justify, slot - 1) if kind is BallotKind.PREVOTE else 0
    ),
    st.sampled_from([BallotKind.PREVOTE, BallotKind.COMMIT]),
    st.sampled_from([2, 3, 3]),
    st.integers(1, 6),
    st.sampled_from([BLOCK, OTHER]),
    st.integers(0, 5),
)


@settings(max_examples=100)
@given(st.lists(BALLOTS, max_size=14))
def test_the_tally_finds_an_offender_as_comparing_all_pairs_does(ballots: list[Ballot]) -> None:
    tally = fresh()
    kept: list[Ballot] = []
    for ballot in ballots:
        twins = [
            kept_ballot
            for kept_ballot in kept
            if (kept_ballot.kind, kept_ballot.slot, kept_ballot.epoch)
            == (ballot.kind, ballot.slot, ballot.epoch)
        ]
        if ballot in kept:
            tell(tally, [ballot])
        elif len(twins) >= BALLOTS_MAX:
            assert refusal(tally, ballot) == "vote_limit"
        else:
            tell(tally, [ballot])
            kept.append(ballot)
    guilty = len(kept) > len({(ballot.kind, ballot.slot, ballot.epoch) for ballot in kept}) or any(
        offence(ballot, other) for ballot in kept for other in kept
    )
    assert bool(tally.offences()) == guilty


@given(st.lists(BALLOTS, max_size=20))
def test_an_obedient_delegate_is_in_no_offence(asked: list[Ballot]) -> None:
    tally, state = fresh(), VoteState()
    for ballot in asked:
        if not state.refuse(ballot):
            state = state.after(ballot)
            tell(tally, [ballot])
    assert not tally.offences()


def test_offenders_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "OFFENDERS_MAX", 2)
    tally = fresh()
    for index in range(4):
        tell(tally, [prevotes(), prevotes(block=OTHER)], index)
    assert len(tally.offences()) == 2


# --- participation


def test_voters_are_counted_when_a_slot_is_past() -> None:
    tally = fresh()
    for slot in (10, 11, 12):
        for index in range(4):
            if index != 3 or slot == 11:
                tell(tally, [prevotes(slot), commits(slot)], index, now=slot)
    tell(tally, [prevotes(12, OTHER)], 3, now=12)  # for another block
    tell(tally, [prevotes(13)], 0, now=13)  # no certificate
    assert tally.participation() == {}
    tally.prune(13 + VOTE_LATE_SLOTS, 30)
    full = Participation(3, 3, 3)
    assert tally.participation() == dict.fromkeys(FOUR.addresses[:3], full) | {
        FOUR.addresses[3]: Participation(3, 1, 1)
    }


def test_participation_is_of_the_last_slots() -> None:
    tally = fresh()
    last = 2 * PARTICIPATION_SLOTS_MAX
    for slot in range(1, last + 1):
        for index in range(3):
            tell(tally, [commits(slot)], index, now=slot)
        tally.prune(slot, slot)
    tally.prune(last + VOTE_LATE_SLOTS, last + VOTE_LATE_SLOTS)
    assert tally.participation()[FOUR.addresses[0]] == Participation(
        PARTICIPATION_SLOTS_MAX, 0, PARTICIPATION_SLOTS_MAX
    )
    assert tally.participation()[FOUR.addresses[3]] == Participation(PARTICIPATION_SLOTS_MAX, 0, 0)


# --- bounds


def test_what_is_kept_is_bounded_whatever_is_signed() -> None:
    tally = fresh()
    for slot in range(1, 3 * VOTE_SLOTS_MAX):
        for number in range(4):
            block = keccak256(b"%d" % number)
            for ballot in (prevotes(slot, block, 0), commits(slot, block)):
                try:
                    tally.add(Vote(ballot, 0, UNSIGNED), slot)
                except Invalid as refused:
                    if refused.code != "vote_limit":
                        raise
    kept = [ballot for at in tally._slots.values() for own in at.stated.values() for ballot in own]
    assert len(tally._slots) <= VOTE_SLOTS_MAX + VOTE_AHEAD_SLOTS
    assert len(kept) == 2 * BALLOTS_MAX * len(tally._slots)
    assert sum(len(votes) for at in tally._slots.values() for votes in at.votes.values()) == len(
        kept
    )
