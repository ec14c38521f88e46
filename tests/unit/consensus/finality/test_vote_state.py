"""Rules V1, V2 and the rule of proposals on ``VoteState`` alone; offences; sets of members.

``test_exhaustive.py`` shows that these rules make finality safe.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dipnet.consensus.finality.members import MEMBERS_MAX, Members
from dipnet.consensus.finality.votes import Ballot, BallotKind, VoteState, offence
from dipnet.primitives.codec import pack
from dipnet.primitives.crypto import address, keccak256
from tests.fixtures.delegates import (
    BLOCK,
    OTHER,
    commits,
    members_of,
    prevotes,
    proposes,
    secrets_of,
)

STATE = VoteState(epoch=3, proposed=9, prevoted=7, committed=5)
SLOTS = st.integers(0, 6)
BALLOTS = st.builds(
    lambda kind, epoch, slot, block, justify: Ballot(
        kind, epoch, slot, block, min(justify, slot) if kind is BallotKind.PREVOTE else 0
    ),
    st.sampled_from(BallotKind),
    st.integers(0, 2),
    SLOTS,
    st.sampled_from([BLOCK, OTHER]),
    SLOTS,
)


@pytest.mark.parametrize(
    ("ballot", "allowed"),
    [
        (proposes(10, epoch=1), True),  # b belongs to no epoch
        (proposes(9), False),
        (proposes(8), False),
        (prevotes(8, justify=5), True),
        (prevotes(8, justify=4), False),  # V1: the lock
        (prevotes(7, justify=6), False),  # V1: one prevote in a slot
        (prevotes(6, justify=5), False),
        (commits(7), True),
        (commits(8), True),
        (commits(6), False),  # V2: below the last prevote
        (commits(5), False),
        (prevotes(1, justify=0, epoch=4), True),  # a new epoch
        (commits(1, epoch=4), True),
        (prevotes(100, justify=99, epoch=2), False),  # never again in an old epoch
        (commits(100, epoch=2), False),
    ],
)
def test_what_may_be_signed(ballot: Ballot, allowed: bool) -> None:
    assert (STATE.refuse(ballot) == "") == allowed


def test_commits_fall_once_for_a_slot() -> None:
    state = VoteState(3, 0, 7, 7)
    assert "committed" in state.refuse(commits(7))
    assert "committed" in VoteState(3, 0, 4, 7).refuse(commits(6))


def test_what_is_kept() -> None:
    assert STATE.after(proposes(12, epoch=9)) == VoteState(3, 12, 7, 5)
    assert STATE.after(prevotes(8)) == VoteState(3, 9, 8, 5)
    assert STATE.after(commits(8)) == VoteState(3, 9, 7, 8)
    assert STATE.after(prevotes(8, epoch=4)) == VoteState(4, 9, 8, 0)
    assert STATE.after(commits(8, epoch=4)) == VoteState(4, 9, 0, 8)


@settings(max_examples=400)
@given(st.lists(BALLOTS, max_size=12))
def test_an_obedient_delegate_is_never_an_offender(asked: list[Ballot]) -> None:
    state, signed = VoteState(), list[Ballot]()
    for ballot in asked:
        if not state.refuse(ballot):
            state = state.after(ballot)
            assert state.refuse(ballot), "nothing is signed twice"
            assert not [offence(old, ballot) for old in signed if offence(old, ballot)]
            signed.append(ballot)


@given(st.lists(BALLOTS, max_size=8), st.lists(BALLOTS, max_size=8), BALLOTS)
def test_the_join_of_two_states_refuses_what_either_refuses(
    first: list[Ballot], second: list[Ballot], ballot: Ballot
) -> None:
    states = []
    for ballots in (first, second):
        state = VoteState()
        for each in ballots:
            state = state if state.refuse(each) else state.after(each)
        states.append(state)
    joined = states[0].joined(states[1])
    assert joined == states[1].joined(states[0])
    if any(state.refuse(ballot) for state in states):
        assert joined.refuse(ballot)


@pytest.mark.parametrize(
    ("other", "joined"),
    [
        (VoteState(3, 8, 6, 4), STATE),
        (VoteState(3, 10, 6, 4), VoteState(3, 10, 7, 5)),
        (VoteState(3, 8, 8, 4), VoteState(3, 9, 8, 5)),
        (VoteState(3, 8, 6, 6), VoteState(3, 9, 7, 6)),
        (VoteState(2, 10, 8, 6), VoteState(3, 10, 7, 5)),  # p and l belong to an epoch, b to none
        (VoteState(4, 8, 6, 4), VoteState(4, 9, 6, 4)),
    ],
)
def test_the_join_takes_the_higher_of_each(other: VoteState, joined: VoteState) -> None:
    assert STATE.joined(other) == joined
    assert other.joined(STATE) == joined


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        (proposes(), proposes(block=OTHER), "E0"),
        (proposes(), proposes(block=OTHER, epoch=4), "E0"),  # a slot has one leader
        (proposes(), proposes(8, OTHER), ""),
        (proposes(), proposes(), ""),
        (prevotes(), prevotes(block=OTHER), "E1"),
        (prevotes(), prevotes(block=OTHER, epoch=4), ""),
        (prevotes(), prevotes(justify=6), "E1"),  # one block, two justifies (ADR 61)
        (prevotes(), prevotes(), ""),
        (prevotes(), prevotes(8, OTHER), ""),
        (commits(), commits(block=OTHER), "E2"),
        (commits(), commits(block=OTHER, epoch=4), ""),
        (commits(7), prevotes(8, OTHER, justify=6), "E3"),
        (commits(7), prevotes(8, BLOCK, justify=6), "E3"),
        (commits(7), prevotes(8, OTHER, justify=7), ""),
        (commits(7), prevotes(8, OTHER, justify=6, epoch=4), ""),
        (
            commits(7),
            prevotes(7, OTHER, justify=6),
            "",
        ),  # V2 allows a commit to another block
        (commits(7), prevotes(6, OTHER, justify=5), ""),
        (proposes(7), prevotes(8, OTHER, justify=6), ""),
        (proposes(7), commits(7, OTHER), ""),
    ],
)
def test_offences(first: Ballot, second: Ballot, name: str) -> None:
    assert offence(first, second) == offence(second, first) == name


# --- members


def test_a_set_is_sorted_and_knows_its_members() -> None:
    members = members_of(21)
    assert list(members.addresses) == sorted(members.addresses)
    assert set(members.keys) == set(secrets_of(21))
    assert members.signers == tuple(address(key) for key in members.keys)
    assert (len(members), members.quorum) == (21, 15)
    for index, (name, key) in enumerate(members.pairs):
        assert members.index(name) == members.index_of_key(key) == index
    assert members.index(bytes(20)) is None
    assert members.index_of_key(bytes(33)) is None


def test_the_digest_of_a_set_is_pinned() -> None:
    pairs = ((b"\x01" * 20, b"\x02" * 33), (b"\x03" * 20, b"\x04" * 33))
    record = pack([1, 7, [[b"\x01" * 20, b"\x02" * 33], [b"\x03" * 20, b"\x04" * 33]]])
    assert Members(pairs).digest(7) == keccak256(b"DIPNET/set" + record)
    assert Members(pairs).digest(7) != Members(pairs).digest(8)


def test_a_set_in_which_a_key_could_vote_twice_cannot_be_made() -> None:
    first, second = members_of(2).pairs
    Members((first, second))
    crowd = [(b"%020d" % at, b"%033d" % at) for at in range(MEMBERS_MAX + 1)]
    Members(tuple(crowd[1:]))
    for pairs in (
        (),
        (second, first),
        (first, first),
        (first, (first[0], second[1])),
        (first, (second[0], first[1])),
        (first, (second[0], second[1][:32])),
        ((first[0][:19], first[1]), second),
        tuple(crowd),
    ):
        with pytest.raises(ValueError, match=r"member|set"):
            Members(pairs)
