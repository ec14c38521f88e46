"""The vote state of a key on disk: the integers that a delegate must never forget.

Rules that bind this file (docs/spec/consensus.md "Vote state", ADR 80):

* ``keep`` returns when the state is durable: a new file is written, synced and renamed over the old
  file, and the directory is synced. A crash at any point leaves the old state or the new state.
* The first error is final. After it the content of the disk is unknown, so nothing is signed.
* ``create`` makes a file together with its key, ``recover`` when an operator answers for the state.
  A missing file is never made silently: a key without its vote state would sign twice.
* A single process holds a file, in a directory that other users cannot write to.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from dipnet.consensus.finality.votes import VoteState
from dipnet.host.lockfile import check_ours
from dipnet.host.lockfile import lock as lock_file
from dipnet.primitives.codec import UINT, Bin, Uint, pack, unpack
from dipnet.primitives.crypto import checksum, keccak256
from dipnet.primitives.errors import Corrupt, Invalid

VOTES_VERSION: Final = 1
CHECKSUM_BYTES: Final = 32
VOTES_BYTES_MAX: Final = 128
SUFFIX: Final = ".votes"

_RECORD: Final = (VOTES_VERSION, Uint(2**32 - 1), Bin(20), UINT, UINT, UINT, UINT)
_FRESH: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
_REMEDY: Final = "stop signing with this key, mend the disk, start again"


class Disk(Protocol):
    """The system calls of this file: the module ``os``, or in tests a disk that crashes."""

    def open(self, path: str, flags: int, mode: int = ..., /) -> int: ...
    def read(self, descriptor: int, size: int, /) -> bytes: ...
    def write(self, descriptor: int, data: bytes, /) -> int: ...
    def fsync(self, descriptor: int, /) -> None: ...
    def close(self, descriptor: int, /) -> None: ...
    def replace(self, old: str, new: str, /) -> None: ...


# --- states


def check_not_older(kept: VoteState, seen: VoteState) -> None:
    """Raises ``Invalid("votes_older")`` when ``seen`` covers a signature that ``kept`` does not.

    ``kept``: the state in the file. ``seen``: the newest state in the node's own records.
    """
    if kept.joined(seen) != kept:
        raise Invalid("votes_older", f"the file says {describe(kept)}, the node {describe(seen)}")


def silenced(epoch: int, slot: int, certified: int | None = None) -> VoteState:
    """The state for a key whose vote state is lost, given that it signed nothing after ``slot``.

    With it the key signs no proposal and no vote up to slot ``slot`` + 1, and in ``epoch`` only
    prevotes that a block after that slot justifies. ``certified`` relaxes the second rule: it is
    the slot of the latest block that has a prevote certificate anywhere, so that no commit of the
    key can be later (V2), and blocks from that slot on justify.
    """
    return VoteState(epoch, slot + 1, slot + 1, slot + 1 if certified is None else certified)


def describe(state: VoteState) -> str:
    """The state in words, on a single line."""
    return (
        f"epoch {state.epoch} proposed {state.proposed} prevoted {state.prevoted} "
        f"committed {state.committed}"
    )


# --- bytes


def encode(chain_id: int, account: bytes, state: VoteState) -> bytes:
    """The bytes of a file: the record and its keccak256. ``account``: 20 bytes."""
    record = pack(
        [VOTES_VERSION, chain_id, account, state.epoch, state.proposed, state.prevoted,
         state.committed]
    )  # fmt: skip
    return record + keccak256(record)


def decode(raw: bytes, chain_id: int, account: bytes, where: str) -> VoteState:
    """The state in the bytes of a file; ``where`` is its path, for errors.

    Raises ``Invalid``: ``votes_damaged``, ``votes_foreign`` (of another key or chain).
    """
    record, digest = raw[:-CHECKSUM_BYTES], raw[-CHECKSUM_BYTES:]
    if keccak256(record) != digest:
        raise Invalid("votes_damaged", where)
    try:
        _, chain, owner, *slots = unpack(record, _RECORD, VOTES_BYTES_MAX)
    except Invalid as error:
        raise Invalid("votes_damaged", f"{where}: {error.detail}") from None
    if (chain, owner) != (chain_id, account):
        raise Invalid(
            "votes_foreign",
            f"{where} is of {checksum(owner)} on chain {chain}, "
            f"not of {checksum(account)} on chain {chain_id}",
        )
    return VoteState(*slots)


# --- files


def path_beside(keystore: Path) -> Path:
    """The default path of the vote state of a keystore's key: beside it, ``.votes``."""
    whole = keystore.suffix != ".json"  # geth's names have dots in them
    return keystore.with_name((keystore.name if whole else keystore.stem) + SUFFIX)


def read(path: Path, chain_id: int, account: bytes, disk: Disk = os) -> VoteState:
    """The state in the file, read without its lock.

    Raises ``Invalid``: ``votes_missing``, ``votes_damaged`` (torn, or not a vote state),
    ``votes_foreign`` (another key or chain), ``config`` (not readable).
    """
    try:
        descriptor = disk.open(str(path), os.O_RDONLY)
    except FileNotFoundError:
        raise Invalid("votes_missing", f"there is no {path}") from None
    except OSError as error:
        raise Invalid("config", f"cannot read {path}: {error.strerror}") from None
    try:
        raw = disk.read(descriptor, VOTES_BYTES_MAX)
    except OSError as error:
        raise Invalid("votes_damaged", f"{path}: {error.strerror}") from None
    finally:
        disk.close(descriptor)
    return decode(raw, chain_id, account, str(path))


def write(path: Path, data: bytes, disk: Disk = os) -> None:
    """Replaces the file, durably. After ``OSError`` the file is the old or the new file."""
    fresh = f"{path}.new"
    descriptor = disk.open(fresh, _FRESH, 0o600)
    try:
        while data:
            data = data[disk.write(descriptor, data) :]
        disk.fsync(descriptor)  # the bytes, before a name leads to them
    finally:
        disk.close(descriptor)
    disk.replace(fresh, str(path))
    directory = disk.open(str(path.parent), os.O_RDONLY | os.O_DIRECTORY)
    try:
        disk.fsync(directory)  # the name, before a signature leaves
    finally:
        disk.close(directory)


def create(path: Path, chain_id: int, account: bytes) -> None:
    """Makes the file of a new key, which has signed nothing.

    Raises ``Invalid("config")`` when the file exists: it is not written over.
    """
    _place(path, chain_id, account, VoteState(), fresh=True)


def recover(path: Path, chain_id: int, account: bytes, state: VoteState) -> VoteState:
    """Writes a file that is lost, damaged or too old; returns the state in it.

    The caller answers for it that ``state`` covers all signatures of the key. The state in a
    readable file is never lowered. A damaged file is kept under another name. Raises
    ``Invalid("votes_foreign")`` for the file of another key or chain.
    """
    return _place(path, chain_id, account, state, fresh=False)


def _place(path: Path, chain_id: int, account: bytes, state: VoteState, fresh: bool) -> VoteState:
    path = _resolved(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Invalid("config", f"cannot make {path.parent}: {error.strerror}") from None
    held = hold(_lock_path(path))
    try:
        if fresh and path.exists():
            raise Invalid("config", f"{path} is there already and is not written over")
        if path.exists():
            try:
                state = read(path, chain_id, account).joined(state)
            except Invalid as error:
                if error.code != "votes_damaged":
                    raise
                os.replace(path, f"{path}.damaged")
        write(path, encode(chain_id, account, state))
    except OSError as error:
        raise Invalid("config", f"cannot write {path}: {error.strerror}") from None
    finally:
        os.close(held)
    return state


def _resolved(path: Path) -> Path:
    """The path without links: two names of a file must not have two locks."""
    return path.expanduser().resolve()


def _lock_path(path: Path) -> Path:
    return Path(f"{path}.lock")


def hold(path: Path) -> int:
    """Locks a file in a directory that only this user writes to; returns the lock's descriptor.

    A user who may write to the directory could set the vote state back, so that the key would sign
    twice. Raises ``Invalid``: ``locked``, ``config``.
    """
    check_ours(path.parent)
    return lock_file(path)


class VoteFile:
    """The vote state file of a key, locked by this process until ``close``."""

    def __init__(
        self,
        path: Path,
        chain_id: int,
        account: bytes,
        disk: Disk = os,
        lock: Callable[[Path], int] = hold,
    ) -> None:
        """Opens and locks an existing file; raises ``Invalid`` as ``read`` and ``hold`` do."""
        self._path = _resolved(path)
        self._chain_id = chain_id
        self._account = account
        self._disk = disk
        self._failed = ""
        read(self._path, chain_id, account, disk)  # a damaged file is reported before a lock
        self._held: int | None = lock(_lock_path(self._path))
        try:
            self._state = read(self._path, chain_id, account, disk)
        except Invalid:
            self.close()
            raise

    @property
    def state(self) -> VoteState:
        """The state that was kept last."""
        return self._state

    def keep(self, state: VoteState) -> None:
        """Makes ``state`` durable. Raises ``Corrupt`` after the first failure, for ever."""
        if self._failed:
            raise Corrupt(self._failed)
        try:
            write(self._path, encode(self._chain_id, self._account, state), self._disk)
        except OSError as error:
            self._failed = f"cannot keep the vote state in {self._path}: {error}; {_REMEDY}"
            raise Corrupt(self._failed) from error
        self._state = state

    def close(self) -> None:
        """Releases the lock; ``keep`` fails afterwards."""
        self._failed = self._failed or f"{self._path} is closed"
        if self._held is not None:
            with contextlib.suppress(OSError):
                os.close(self._held)
            self._held = None
