"""The vote state on disk: refusals at opening, recovery, and a single holder at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipnet.consensus.finality.votes import Ballot, BallotKind, VoteState, offence
from dipnet.host.lockfile import lock
from dipnet.primitives.crypto import keccak256
from dipnet.primitives.errors import Corrupt, Invalid
from dipnet.signing import votefile
from dipnet.signing.votefile import VoteFile, check_not_older, decode, encode, path_beside
from tests.fixtures.processes import environment

CHAIN_ID = 2018
ACCOUNT = bytes(range(20))
STATE = VoteState(3, 70, 71, 69)

numbers = st.integers(0, 12)
states = st.builds(VoteState, st.integers(0, 2), numbers, numbers, numbers)
ballots = st.builds(
    Ballot, st.sampled_from(BallotKind), st.integers(0, 3), numbers, st.just(b"A" * 32), numbers
)


def made(directory: Path) -> Path:
    path = directory / "delegate.votes"
    votefile.create(path, CHAIN_ID, ACCOUNT)
    return path


def refused(code: str, path: Path, chain_id: int = CHAIN_ID, account: bytes = ACCOUNT) -> str:
    with pytest.raises(Invalid) as caught:
        VoteFile(path, chain_id, account)
    assert caught.value.code == code
    return str(caught.value)


def test_a_kept_state_is_read_again(tmp_path: Path) -> None:
    path = made(tmp_path)
    votes = VoteFile(path, CHAIN_ID, ACCOUNT)
    assert votes.state == VoteState()
    votes.keep(STATE)
    assert votes.state == STATE
    votes.close()
    again = VoteFile(path, CHAIN_ID, ACCOUNT)
    assert again.state == STATE
    again.close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(tmp_path)) == ["delegate.votes", "delegate.votes.lock"]


def test_a_missing_file_is_refused_and_not_made(tmp_path: Path) -> None:
    assert "no vote state for this key" in refused("votes_missing", tmp_path / "delegate.votes")
    refused("votes_missing", tmp_path / "nowhere" / "delegate.votes")
    assert os.listdir(tmp_path) == []
    assert "votes recover" in Invalid("votes_missing").refusal.remedy


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path)
    refused("votes_foreign", path, chain_id=1)
    refused("votes_foreign", path, account=bytes(20))


def test_every_damage_is_found(tmp_path: Path) -> None:
    path = made(tmp_path)
    whole = encode(CHAIN_ID, ACCOUNT, STATE)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        refused("votes_damaged", path)
    for bit in range(8 * len(whole)):
        torn = bytearray(whole)
        torn[bit // 8] ^= 1 << bit % 8
        path.write_bytes(torn)
        refused("votes_damaged", path)
    path.write_bytes(whole + b"\0")
    refused("votes_damaged", path)


@given(st.binary(max_size=200))
def test_foreign_bytes_are_no_state(raw: bytes) -> None:
    for with_digest in (raw, raw + keccak256(raw)):
        with pytest.raises(Invalid) as caught:
            decode(with_digest, CHAIN_ID, ACCOUNT, "here")
        assert caught.value.code == "votes_damaged"


def test_a_record_of_another_version_is_damage() -> None:
    record = bytearray(encode(CHAIN_ID, ACCOUNT, STATE)[: -votefile.CHECKSUM_BYTES])
    record[1] = 2
    with pytest.raises(Invalid, match="damaged"):
        decode(bytes(record) + keccak256(bytes(record)), CHAIN_ID, ACCOUNT, "here")


def test_create_writes_over_nothing(tmp_path: Path) -> None:
    path = made(tmp_path)
    with pytest.raises(Invalid, match="not written over"):
        votefile.create(path, CHAIN_ID, ACCOUNT)


# --- one at a time


def test_two_processes_never_hold_one_file(tmp_path: Path) -> None:
    path = made(tmp_path)
    link = tmp_path / "link.votes"
    link.symlink_to(path)
    votes = VoteFile(path, CHAIN_ID, ACCOUNT)
    code = (
        "import sys; from pathlib import Path; from dipnet.primitives.errors import Invalid\n"
        "from dipnet.signing.votefile import VoteFile\n"
        f"try: VoteFile(Path(sys.argv[1]), {CHAIN_ID}, {ACCOUNT!r})\n"
        "except Invalid as error: print(error.code)"
    )
    for name in (path, link):
        told = subprocess.run(
            [sys.executable, "-c", code, str(name)],
            env=environment(),
            capture_output=True,
            check=True,
        )
        assert told.stdout == b"locked\n"
    with pytest.raises(Invalid) as caught:
        votefile.recover(path, CHAIN_ID, ACCOUNT, STATE)
    assert caught.value.code == "locked"
    votes.close()
    VoteFile(path, CHAIN_ID, ACCOUNT).close()


def test_a_file_that_others_may_replace_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path)
    for mode in (0o770, 0o777, 0o1777):
        tmp_path.chmod(mode)
        assert "others may put files into" in refused("config", path)
    tmp_path.chmod(0o755)
    VoteFile(path, CHAIN_ID, ACCOUNT).close()


def test_after_close_nothing_is_kept(tmp_path: Path) -> None:
    votes = VoteFile(made(tmp_path), CHAIN_ID, ACCOUNT)
    votes.close()
    votes.close()
    with pytest.raises(Corrupt, match="closed"):
        votes.keep(STATE)


def test_a_lock_is_held_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = lock(path)
    with pytest.raises(Invalid, match="another process"):
        lock(path)
    os.close(first)
    os.close(lock(path))


# --- recovering


def test_recover_makes_a_lost_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "delegate.votes"
    assert votefile.recover(path, CHAIN_ID, ACCOUNT, STATE) == STATE
    assert votefile.read(path, CHAIN_ID, ACCOUNT) == STATE


def test_recover_keeps_the_damaged_file_beside(tmp_path: Path) -> None:
    path = made(tmp_path)
    path.write_bytes(b"torn")
    assert votefile.recover(path, CHAIN_ID, ACCOUNT, STATE) == STATE
    assert (tmp_path / "delegate.votes.damaged").read_bytes() == b"torn"


def test_recover_takes_nothing_back(tmp_path: Path) -> None:
    path = made(tmp_path)
    votefile.recover(path, CHAIN_ID, ACCOUNT, STATE)
    assert votefile.recover(path, CHAIN_ID, ACCOUNT, VoteState(2, 99, 98, 97)) == VoteState(
        3, 99, 71, 69
    )


def test_recover_does_not_touch_the_file_of_another_key(tmp_path: Path) -> None:
    path = made(tmp_path)
    with pytest.raises(Invalid) as caught:
        votefile.recover(path, CHAIN_ID, bytes(20), STATE)
    assert caught.value.code == "votes_foreign"
    assert votefile.read(path, CHAIN_ID, ACCOUNT) == VoteState()


@given(st.lists(ballots, max_size=12), st.integers(0, 12), st.lists(ballots, max_size=12))
def test_a_recovered_key_contradicts_nothing(
    before: list[Ballot], ahead: int, after: list[Ballot]
) -> None:
    """For all ballots that the key signed up to a slot and epoch."""
    sent, state = [], VoteState()
    for ballot in before:
        if not state.refuse(ballot):
            state = state.after(ballot)
            sent.append(ballot)
    last = max(state.proposed, state.prevoted, state.committed)
    state = votefile.silenced(state.epoch, last + ahead)
    for ballot in after:
        if not state.refuse(ballot):
            state = state.after(ballot)
            assert not any(offence(earlier, ballot) for earlier in sent)
            sent.append(ballot)


def test_a_key_is_silenced_by_its_certified_ballots() -> None:
    assert votefile.silenced(4, 90) == VoteState(4, 91, 91, 91)
    assert votefile.silenced(4, 90, certified=80) == VoteState(4, 91, 91, 80)


# --- older than what was signed


@given(states, st.lists(ballots, max_size=8))
def test_a_state_that_forgot_a_signature_is_older(state: VoteState, asked: list[Ballot]) -> None:
    kept = state
    for ballot in asked:
        if not state.refuse(ballot):
            state = state.after(ballot)
    check_not_older(state, kept)
    if state != kept:
        with pytest.raises(Invalid) as caught:
            check_not_older(kept, state)
        assert caught.value.code == "votes_older"


def test_where_a_key_has_its_votes() -> None:
    assert path_beside(Path("a/delegate.json")) == Path("a/delegate.votes")
    geth = Path("a/UTC--2026-01-01T00-00-00.000000000Z--ab")
    assert path_beside(geth) == Path("a/UTC--2026-01-01T00-00-00.000000000Z--ab.votes")
