"""The rules of finality, each alone; ``test_exhaustive.py`` tests them together."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipnet.consensus.finality.finality import (
    Certified,
    EpochBoundary,
    HeaderLinks,
    Justify,
    Settled,
    backoff_step,
    check_certified,
    check_section,
    commit,
    derive,
    end_slot,
    is_boundary,
    leader_index,
    made_final,
    may_commit,
    may_prevote,
    prevote,
    rank,
    system_only,
    useful,
    voting_epoch,
)
from dipnet.consensus.finality.votes import Ballot, BallotKind, VoteState
from dipnet.primitives.errors import Invalid


def name(number: int) -> bytes:
    return number.to_bytes(32, "big")


@dataclass(frozen=True)
class Block:
    """A block of ``slot``, whose id is made of its slot."""

    slot: int
    epoch: int
    justify: Justify
    final: Settled

    @property
    def hash(self) -> bytes:
        return name(self.slot)


OLD = EpochBoundary(1, name(30), 30)
BOUNDARY = EpochBoundary(2, name(60), 60)
"""Epoch 2 lies above the block of slot 60, epoch 1 above that of slot 30."""


def links(justify: int, epoch: int, final: int) -> HeaderLinks:
    return HeaderLinks((name(justify), justify, epoch), (name(final), final))


def prevote_certified(
    slot: int, epoch: int, boundary: EpochBoundary, justify: int = 0
) -> Certified:
    return Certified(Ballot(BallotKind.PREVOTE, epoch, slot, name(slot), justify), boundary)


def commit_certified(slot: int, epoch: int, boundary: EpochBoundary) -> Certified:
    return Certified(Ballot(BallotKind.COMMIT, epoch, slot, name(slot), 0), boundary)


# --- epochs


def test_an_epoch_is_due_at_the_next_multiple() -> None:
    assert [end_slot(slot, 30) for slot in (0, 1, 29, 30, 31, 59, 60)] == [30] * 3 + [60] * 3 + [90]


def test_a_boundary_is_due_and_has_its_own_boundary_final() -> None:
    assert is_boundary(BOUNDARY, 90, 90, 60)
    assert is_boundary(BOUNDARY, 90, 95, 89)
    assert not is_boundary(BOUNDARY, 90, 89, 60)
    assert not is_boundary(BOUNDARY, 90, 90, 59), "the epoch is prolonged"


def test_the_set_of_the_schedule_votes_once_its_boundary_is_final() -> None:
    assert [voting_epoch(BOUNDARY, final) for final in (30, 59, 60, 61)] == [1, 1, 2, 2]
    assert voting_epoch(EpochBoundary(0, name(0), 0), 0) == 0, "genesis is final"


# --- links


@pytest.mark.parametrize(
    ("parent", "section", "child"),
    [
        # within an epoch
        (links(65, 2, 62), [], links(65, 2, 62)),
        (links(65, 2, 62), [prevote_certified(66, 2, BOUNDARY)], links(66, 2, 62)),
        (links(65, 2, 62), [commit_certified(66, 2, BOUNDARY)], links(66, 2, 66)),
        (
            links(65, 2, 62),
            [prevote_certified(67, 2, BOUNDARY), commit_certified(66, 2, BOUNDARY)],
            links(67, 2, 66),
        ),
        (links(65, 2, 62), [prevote_certified(64, 2, BOUNDARY)], links(65, 2, 62)),
        (links(65, 2, 62), [commit_certified(64, 2, BOUNDARY)], links(65, 2, 64)),
        # hand-over: the boundary is not final, the old set votes
        (links(58, 1, 55), [], links(58, 1, 55)),
        (links(58, 1, 55), [prevote_certified(60, 1, OLD)], links(60, 1, 55)),
        (links(58, 1, 55), [prevote_certified(62, 1, BOUNDARY)], links(62, 1, 55)),
        (links(58, 1, 55), [commit_certified(59, 1, OLD)], links(59, 1, 59)),
        # the old set settles the boundary and nothing above it; the new epoch begins with it
        (links(60, 1, 55), [commit_certified(60, 1, OLD)], links(60, 2, 60)),
        (links(62, 1, 55), [commit_certified(62, 1, BOUNDARY)], links(60, 2, 60)),
        (
            links(58, 1, 55),
            [prevote_certified(64, 1, BOUNDARY), commit_certified(62, 1, BOUNDARY)],
            links(60, 2, 60),
        ),
        (links(63, 2, 60), [prevote_certified(65, 1, BOUNDARY)], links(63, 2, 60)),
        (links(63, 2, 60), [commit_certified(65, 1, BOUNDARY)], links(63, 2, 60)),
    ],
)
def test_links_are_the_parents_raised(
    parent: HeaderLinks, section: list[Certified], child: HeaderLinks
) -> None:
    assert derive(parent, BOUNDARY, section) == child
    assert derive(parent, BOUNDARY, section[::-1]) == child


def test_old_certificates_are_cut_at_the_boundary() -> None:
    assert made_final(commit_certified(59, 1, OLD)) == (name(59), 59)
    assert made_final(commit_certified(60, 1, OLD)) == (name(60), 60)
    assert made_final(commit_certified(61, 1, BOUNDARY)) == (name(60), 60)
    assert made_final(commit_certified(61, 2, BOUNDARY)) == (name(61), 61)


def test_rank_is_epoch_then_slot() -> None:
    assert rank((b"", 60, 2)) > rank((b"", 99, 1)) > rank((b"", 98, 1))


SECTIONS = st.lists(
    st.builds(
        lambda make, slot, epoch: make(slot, epoch, OLD if slot <= 60 else BOUNDARY),
        st.sampled_from([prevote_certified, commit_certified]),
        st.integers(31, 70),
        st.sampled_from([1, 2]),
    ).filter(lambda case: case.ballot.epoch <= case.boundary.epoch),
    max_size=3,
)
PARENTS = st.tuples(st.integers(31, 70), st.integers(30, 70)).map(
    lambda pair: derive(links(max(pair), 1, min(pair)), BOUNDARY, [])
)


@given(PARENTS, SECTIONS)
def test_links_only_rise_and_begin_with_the_boundary(
    parent: HeaderLinks, section: list[Certified]
) -> None:
    child = derive(parent, BOUNDARY, section)
    assert rank(child.justify) >= rank(parent.justify)
    assert child.final[1] >= parent.final[1]
    settled = voting_epoch(BOUNDARY, child.final[1]) == 2
    if settled:
        assert rank(child.justify) >= (2, 60)
    for certificate in section:
        if certificate.ballot.kind is BallotKind.COMMIT:
            assert child.final[1] >= made_final(certificate)[1]
    assert derive(child, BOUNDARY, section) == child


@given(PARENTS, SECTIONS)
def test_what_is_useful_gives_the_same_links_and_may_be_carried(
    parent: HeaderLinks, section: list[Certified]
) -> None:
    pair = [
        next((certificate for certificate in section if certificate.ballot.kind is kind), None)
        for kind in BallotKind
    ][1:]
    known = [certificate for certificate in pair if certificate is not None]
    carried = useful(parent, BOUNDARY, known)
    assert derive(parent, BOUNDARY, carried) == derive(parent, BOUNDARY, known)
    check_section(parent, BOUNDARY, carried)
    if len(carried) < len(known):
        with pytest.raises(Invalid, match="raises nothing"):
            check_section(parent, BOUNDARY, known)


@pytest.mark.parametrize(
    "section",
    [
        [prevote_certified(64, 2, BOUNDARY)],
        [commit_certified(62, 2, BOUNDARY)],
        [prevote_certified(66, 2, BOUNDARY), prevote_certified(67, 2, BOUNDARY)],
        [commit_certified(66, 2, BOUNDARY), commit_certified(67, 2, BOUNDARY)],
        [commit_certified(66, 2, BOUNDARY), prevote_certified(67, 2, BOUNDARY)],
        [prevote_certified(66, 2, BOUNDARY), commit_certified(66, 2, BOUNDARY)],
        [prevote_certified(66, 2, BOUNDARY), commit_certified(62, 2, BOUNDARY)],
        [prevote_certified(69, 1, BOUNDARY)],
        [
            prevote_certified(67, 2, BOUNDARY),
            commit_certified(66, 2, BOUNDARY),
            commit_certified(66, 2, BOUNDARY),
        ],
    ],
)
def test_a_section_that_no_block_may_carry(section: list[Certified]) -> None:
    with pytest.raises(Invalid) as caught:
        check_section(links(65, 2, 62), BOUNDARY, section)
    assert caught.value.code == "certificate_section"


def test_a_certificate_has_a_ballot_that_the_rules_allow() -> None:
    block = Block(64, 2, (name(63), 63, 2), (name(60), 60))
    check_certified(prevote_certified(64, 2, BOUNDARY, 63), block)
    check_certified(commit_certified(64, 2, BOUNDARY), block)
    handover = Block(64, 2, (name(59), 59, 1), (name(58), 58))
    check_certified(prevote_certified(64, 1, BOUNDARY, 59), handover)
    wrong = (
        # the old set votes although the boundary is final
        (prevote_certified(64, 1, BOUNDARY, 63), block),
        (
            prevote_certified(64, 2, BOUNDARY, 59),
            handover,
        ),  # the new set votes although the boundary is not final
        (commit_certified(64, 2, BOUNDARY), handover),
        (prevote_certified(64, 2, BOUNDARY, 62), block),  # a justify that the block does not have
        (prevote_certified(64, 2, BOUNDARY, 64), block),
        (prevote_certified(65, 2, BOUNDARY, 63), block),
        (Certified(Ballot(BallotKind.PREVOTE, 2, 64, name(65), 63), BOUNDARY), block),
        (Certified(Ballot(BallotKind.PROPOSAL, 2, 64, name(64), 0), BOUNDARY), block),
    )
    for certified, about in wrong:
        with pytest.raises(Invalid) as caught:
            check_certified(certified, about)
        assert caught.value.code == "certificate_block"


# --- votes


def test_votes_say_what_the_header_says() -> None:
    block = Block(64, 2, (name(63), 63, 2), (name(60), 60))
    assert prevote(block, BOUNDARY) == Ballot(BallotKind.PREVOTE, 2, 64, name(64), 63)
    assert commit(prevote(block, BOUNDARY)) == Ballot(BallotKind.COMMIT, 2, 64, name(64), 0)
    handover = Block(64, 2, (name(59), 59, 1), (name(58), 58))
    assert prevote(handover, BOUNDARY).epoch == 1


def test_v1_and_v2_are_asked_of_the_state() -> None:
    block = Block(64, 2, (name(63), 63, 2), (name(60), 60))
    prevotes = prevote(block, BOUNDARY)
    assert may_prevote(VoteState(2, 0, 63, 63), block, BOUNDARY) == ""
    assert "locked" in may_prevote(VoteState(2, 0, 63, 64), block, BOUNDARY)
    assert "prevoted" in may_prevote(VoteState(2, 0, 64, 63), block, BOUNDARY)
    assert "epoch" in may_prevote(VoteState(3), block, BOUNDARY)
    assert may_prevote(VoteState(1, 0, 99, 99), block, BOUNDARY) == "", "a new epoch"
    assert may_commit(VoteState(2, 0, 64, 63), prevotes) == ""
    assert "prevoted" in may_commit(VoteState(2, 0, 65, 63), prevotes)
    assert "committed" in may_commit(VoteState(2, 0, 64, 64), prevotes)


# --- back-off


def test_the_step_doubles_to_its_limit() -> None:
    unfinal = [0, 63, 127, 128, 191, 255, 256, 511, 512, 1024, 2048, 4095, 4096, 8192, 10**9]
    steps = [1, 1, 1, 2, 2, 2, 4, 4, 8, 16, 32, 32, 64, 64, 64]
    assert [backoff_step(slots, 64) for slots in unfinal] == steps
    assert [backoff_step(slots, 1) for slots in (0, 1, 2, 3, 4, 64, 128)] == [1, 1, 2, 2, 4, 64, 64]


@given(st.integers(0, 10**6), st.integers(1, 1_000))
def test_the_step_is_a_power_of_two_that_only_rises(unfinal: int, backoff_slots: int) -> None:
    step = backoff_step(unfinal, backoff_slots)
    assert step in (1, 2, 4, 8, 16, 32, 64)
    assert step <= backoff_step(unfinal + 1, backoff_slots)
    if step > 1:
        assert step * backoff_slots <= unfinal
    if 1 < step < 64:
        assert unfinal < 2 * step * backoff_slots


@pytest.mark.parametrize("step", [1, 2, 4, 64])
@pytest.mark.parametrize("leaders", [1, 2, 3, 4, 7, 21])
def test_under_back_off_everybody_leads_in_turn(step: int, leaders: int) -> None:
    turns = [leader_index(slot, step, leaders) for slot in range(step * leaders * 3)]
    assert [turn for turn in turns if turn is not None] == list(range(leaders)) * 3
    assert all((turn is None) == (slot % step != 0) for slot, turn in enumerate(turns))


def test_users_wait_from_four_times_the_parameter() -> None:
    assert not system_only(255, 64)
    assert system_only(256, 64)
