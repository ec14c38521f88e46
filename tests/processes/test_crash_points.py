"""No offence by a key that is killed anywhere; and each order that would allow one is caught."""

from random import Random

import pytest

from dipnet.consensus.finality.votes import Ballot, BallotKind, VoteState
from dipnet.primitives import crypto
from dipnet.primitives.errors import Corrupt
from dipnet.signing.signer import LocalSigner
from dipnet.signing.votefile import VoteFile, encode, write
from tests.processes.crash_points import (
    ACCOUNT,
    CHAIN_ID,
    PATH,
    SECRET,
    Broken,
    History,
    caught,
    open_sends_first,
    open_signer,
    opened,
    run_all,
)
from tests.processes.crash_points_disk import CrashDisk
from tests.processes.crash_points_process import run_processes

KILLS = 1_000
POINTS = {
    "before open", "after open", "before write", "within or after write", "before fsync of file",
    "after fsync of file", "before rename", "after rename", "before fsync of directory",
    "after fsync of directory", "signed or refused, not sent", "sent",
}  # fmt: skip


def test_a_thousand_kills_on_a_disk_that_forgets() -> None:
    sent, crashed = run_all(KILLS, 0)
    assert sent > KILLS
    assert set(crashed) >= POINTS


def test_kills_of_real_processes() -> None:
    told = run_processes(kills=30, seed=1)
    assert told.kills == 30
    assert told.signatures > 30


# --- mutants


def test_mutant_sends_before_it_persists() -> None:
    assert caught(open_sends_first).startswith("E")


def test_a_real_process_that_persists_late_is_caught() -> None:
    with pytest.raises(Broken, match=r"^E"):
        run_processes(kills=40, seed=1, late=True)


def test_mutant_does_not_sync_the_directory() -> None:
    assert caught(open_signer, deaf="directory").startswith("E")


def test_mutant_does_not_sync_the_file() -> None:
    assert "damaged vote state" in caught(open_signer, deaf="file")


class Forgets(VoteFile):
    """Ignores the contents of the file."""

    @property
    def state(self) -> VoteState:
        return self.__dict__.get("kept", VoteState())

    def keep(self, state: VoteState) -> None:
        super().keep(state)
        self.kept = state


def test_mutant_does_not_read_the_state_again() -> None:
    def open_it(disk: CrashDisk, history: History) -> LocalSigner:
        votes = Forgets(PATH, CHAIN_ID, ACCOUNT, disk, lock=lambda path: -1)
        return LocalSigner(SECRET, votes, CHAIN_ID)

    assert caught(open_it).startswith("E")


class GoesOn(VoteFile):
    """Takes a failed sync for a nuisance."""

    def keep(self, state: VoteState) -> None:
        try:
            super().keep(state)
        except Corrupt:
            self._failed, self._state = "", state


def test_mutant_goes_on_after_a_failed_sync() -> None:
    def open_it(disk: CrashDisk, history: History) -> LocalSigner:
        votes = GoesOn(PATH, CHAIN_ID, ACCOUNT, disk, lock=lambda path: -1)
        return LocalSigner(SECRET, votes, CHAIN_ID)

    assert caught(open_it).startswith("E")


class InPlace(CrashDisk):
    """As if the file were written over, without a rename."""

    def open(self, path: str, flags: int, mode: int = 0o777, /) -> int:
        return super().open(path.removesuffix(".new"), flags, mode)

    def replace(self, old: str, new: str, /) -> None:
        self.point("instead of rename")


def test_mutant_writes_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.processes.crash_points.CrashDisk", InPlace)
    assert "damaged vote state" in caught(open_signer)


def test_after_a_failed_sync_nothing_is_signed() -> None:
    disk = CrashDisk(Random(1))
    write(PATH, encode(CHAIN_ID, ACCOUNT, VoteState()), disk)
    signer = LocalSigner(SECRET, opened(disk), CHAIN_ID)
    assert len(signer.sign(Ballot(BallotKind.PREVOTE, 0, 1, b"A" * 32, 0)).signature) == 65
    disk.fail_syncs = True
    for _ in range(2):
        with pytest.raises(Corrupt, match="cannot keep the vote state"):
            signer.sign(Ballot(BallotKind.PREVOTE, 0, 2, b"A" * 32, 1))
        disk.fail_syncs = False  # that it works again proves nothing
    assert signer.state == VoteState(0, 0, 1, 0)


def test_the_signature_is_of_the_ballot() -> None:
    disk = CrashDisk(Random(1))
    write(PATH, encode(CHAIN_ID, ACCOUNT, VoteState()), disk)
    ballot = Ballot(BallotKind.COMMIT, 3, 9, b"A" * 32, 0)
    answer = LocalSigner(SECRET, opened(disk), CHAIN_ID).sign(ballot)
    assert crypto.recover(ballot.digest(CHAIN_ID), answer.signature) == ACCOUNT
    assert answer.state == VoteState(3, 0, 0, 9)


def test_the_same_ballot_is_the_same_signature_and_no_other_is() -> None:
    disk = CrashDisk(Random(1))
    write(PATH, encode(CHAIN_ID, ACCOUNT, VoteState()), disk)
    signer = LocalSigner(SECRET, opened(disk), CHAIN_ID)
    for kind in BallotKind:
        ballot = Ballot(kind, 0, 5, b"A" * 32, 0)
        first = signer.sign(ballot)
        before = disk.points
        assert signer.sign(ballot) == first
        assert disk.points == before
        assert not signer.sign(Ballot(kind, 0, 5, b"B" * 32, 0)).signature
    again = LocalSigner(SECRET, opened(disk), CHAIN_ID)  # it remembers slots, not ballots
    assert not again.sign(Ballot(BallotKind.COMMIT, 0, 5, b"A" * 32, 0)).signature
