"""The delegate of a running node: signing, failures, reports, the operator's switch."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from dipnet.consensus.finality.tally import Offence, Statement
from dipnet.consensus.finality.votes import Ballot, BallotKind, VoteState
from dipnet.daemon.duty import EXIT_BUG, EXIT_STORAGE, Duty
from dipnet.node.effects import Report, Sign, Signed
from dipnet.node.voting import KEY_SIGNED, signed_state
from dipnet.primitives import crypto
from dipnet.primitives.errors import Invalid
from dipnet.signing import votefile
from dipnet.signing.signer import Answer, LocalSigner, Signer
from dipnet.signing.votefile import VoteFile, encode, write
from tests.fixtures.processes import WAIT_S
from tests.processes.crash_points import ACCOUNT, CHAIN_ID, PATH, SECRET
from tests.processes.crash_points_disk import CrashDisk

BALLOT = Ballot(BallotKind.PREVOTE, 0, 4, b"A" * 32, 0)
OFFENDER = crypto.keccak256(b"offender")


class World:
    """The store and the node that a duty talks to. ``told`` has the events that it sent to the
    node."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.came = threading.Event()
        self.voting = SimpleNamespace(paused=False)

    def tell(self, *what: Any) -> None:
        self.told.append(what)
        self.came.set()

    def wait(self) -> Any:
        assert self.came.wait(WAIT_S)
        return self.told[-1]


@contextmanager
def a_duty(signer: Signer | None) -> Iterator[tuple[Duty, World]]:
    world: Any = World()
    duty = Duty(signer, world, world.tell, world.tell)
    yield duty, world
    duty.stop()


def modelled() -> tuple[LocalSigner, CrashDisk]:
    disk = CrashDisk(Random(1))
    write(PATH, encode(CHAIN_ID, ACCOUNT, VoteState()), disk)
    votes = VoteFile(PATH, CHAIN_ID, ACCOUNT, disk, lambda path: -1)
    return LocalSigner(SECRET, votes, CHAIN_ID), disk


def test_a_ballot_is_signed_or_refused() -> None:
    signer, _ = modelled()
    with a_duty(signer) as (duty, world):
        duty.sign(Sign(5, BALLOT))
        (signed,) = world.wait()
        assert isinstance(signed, Signed)
        assert signed.ticket == 5
        assert signed.state == VoteState(0, 0, 4, 0)
        assert crypto.recover(BALLOT.digest(CHAIN_ID), signed.signature) == ACCOUNT
        world.came.clear()
        duty.sign(Sign(6, replace(BALLOT, block_id=b"B" * 32)))
        assert world.wait() == (Signed(6, b"", VoteState(0, 0, 4, 0)),)
        assert duty.complaint is None


def test_a_state_that_cannot_be_kept_ends_the_process() -> None:
    signer, disk = modelled()
    disk.fail_syncs = True
    with a_duty(signer) as (duty, world):
        duty.sign(Sign(1, BALLOT))
        code, reason = world.wait()
        assert code == EXIT_STORAGE
        assert "cannot keep the vote state" in reason


def test_a_bug_ends_the_process(caplog: pytest.LogCaptureFixture) -> None:
    signer, _ = modelled()
    signer.sign = lambda ballot: 1 // 0  # type: ignore[method-assign,assignment,return-value]
    with a_duty(signer) as (duty, world):
        duty.sign(Sign(1, BALLOT))
        assert world.wait()[0] == EXIT_BUG


# --- older than what was signed


class Records(dict[bytes, bytes]):
    def scan(self, prefix: bytes, start: bytes = b"", reverse: bool = False) -> Any:
        raise NotImplementedError


def test_a_signer_that_was_set_back_is_refused() -> None:
    signer, _ = modelled()
    key = KEY_SIGNED + ACCOUNT
    with a_duty(signer) as (duty, _world):
        voter = duty.voter(Records())
        assert voter is not None
        assert (voter.public_key, voter.state) == (signer.public_key, VoteState())
        with pytest.raises(Invalid) as caught:
            duty.voter(Records({key: bytes.fromhex("9501" + "00" + "04" + "00" + "00")}))
        assert caught.value.code == "votes_older"
    assert signed_state(Records(), signer.public_key) == VoteState()
    with a_duty(None) as (observer, _world):
        assert observer.voter(Records()) is None


# --- reports


def an_offence(secret: bytes) -> Offence:
    pair = [Ballot(BallotKind.COMMIT, 3, 9, letter * 32, 0) for letter in (b"A", b"B")]
    first, second = (Statement(b, crypto.sign(b.digest(CHAIN_ID), secret)) for b in pair)
    return Offence("E2", crypto.address(crypto.public_key(secret)), first, second)


def test_an_offence_is_told_and_our_own_is_an_alarm(caplog: pytest.LogCaptureFixture) -> None:
    signer, _ = modelled()
    with a_duty(signer) as (duty, _world):
        duty.report(Report(an_offence(OFFENDER)))
        assert [(r.levelname, r.message) for r in caplog.records] == [
            ("WARNING", f"E2 by the key of {crypto.checksum(an_offence(OFFENDER).signer)}")
        ]
        caplog.clear()
        duty.report(Report(an_offence(SECRET)))
        (record,) = caplog.records
        assert record.levelname == "CRITICAL"
        assert "which is ours: find what else signs with it" in record.message


# --- the operator's switch


def call(duty: Duty, method: str) -> Any:
    async def answer() -> Any:
        return await duty.methods[method]()

    return asyncio.run(answer())


def test_pause_and_resume(tmp_path: Path) -> None:
    path = tmp_path / "delegate.votes"
    votefile.create(path, CHAIN_ID, ACCOUNT)
    signer = LocalSigner(SECRET, VoteFile(path, CHAIN_ID, ACCOUNT), CHAIN_ID)
    with a_duty(signer) as (duty, world):
        status = call(duty, "admin_pause")
        assert world.voting.paused
        assert status == {
            "paused": True,
            "delegate": crypto.checksum(ACCOUNT),
            "votes": {"epoch": 0, "proposed": 0, "prevoted": 0, "committed": 0},
            "signer": None,
        }
        assert call(duty, "admin_status") == status
        assert not call(duty, "admin_resume")["paused"]
        assert not world.voting.paused
    VoteFile(path, CHAIN_ID, ACCOUNT).close()  # ``stop`` closes the signer


def test_waiting_ballots_are_not_signed_in_a_pause_and_the_answer_is_final() -> None:
    """The operator pauses while the signer has the first ballot and two more ballots wait."""
    signer, _ = modelled()
    sign, at_it, go_on = signer.sign, threading.Event(), threading.Event()

    def slow(ballot: Ballot) -> Answer:
        at_it.set()
        assert go_on.wait(WAIT_S)
        return sign(ballot)

    signer.sign = slow  # type: ignore[method-assign]
    with a_duty(signer) as (duty, world):
        for ticket in range(3):
            duty.sign(Sign(ticket, replace(BALLOT, slot=BALLOT.slot + ticket)))
        assert at_it.wait(WAIT_S)

        async def pause() -> Any:
            answer = asyncio.ensure_future(duty.methods["admin_pause"]())
            done, _ = await asyncio.wait([answer], timeout=0.05)
            early = bool(done)
            go_on.set()
            return early, await answer

        early, status = asyncio.run(pause())
        assert not early, "answered while a ballot was being signed"
        assert status["paused"]
        assert status["votes"]["prevoted"] == BALLOT.slot
        (first,), *others = world.told
        assert first.ticket == 0
        assert first.signature
        refused = VoteState(0, 0, BALLOT.slot, 0)
        assert others == [(Signed(ticket, b"", refused),) for ticket in (1, 2)]
        call(duty, "admin_resume")
        world.came.clear()
        duty.sign(Sign(3, replace(BALLOT, slot=BALLOT.slot + 1)))
        assert world.wait()[0].signature
    assert signer.state.prevoted == BALLOT.slot + 1


def test_an_observer_has_nothing_to_pause() -> None:
    with a_duty(None) as (duty, _world):
        assert call(duty, "admin_status")["delegate"] is None
        with pytest.raises(Invalid, match="no delegate's key"):
            call(duty, "admin_pause")
