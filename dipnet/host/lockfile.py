"""A lock that one process at a time can hold; the kernel releases it when the process dies.

The lock is on a file of its own that is never removed, because the guarded file may be replaced by
a rename or be a socket. It excludes processes of one machine only: not every shared file system
carries locks from machine to machine.
"""

import fcntl
import os
from pathlib import Path

from dipnet.primitives.errors import Invalid


def check_ours(directory: Path) -> None:
    """Raises ``Invalid("config")`` for a directory that is missing or open to other users.

    A user who may write to the directory can replace any file in it, whatever the mode of the file.
    """
    try:
        found = directory.stat()
    except OSError as error:
        raise Invalid("config", f"cannot read {directory}: {error.strerror}") from None
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        raise Invalid(
            "config", f"others may put files into {directory}; use one of your own, mode 0700"
        )


def lock(path: Path) -> int:
    """Locks ``path``, which is made when missing; the lock lasts until the descriptor is closed.

    Raises ``Invalid("locked")`` when this or another process holds the lock, and
    ``Invalid("config")`` when the file cannot be made.
    """
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise Invalid("config", f"cannot make {path}: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise Invalid("locked", str(path)) from None
        if _is_still(path, descriptor):
            return descriptor
        os.close(
            descriptor
        )  # it was removed by hand meanwhile: the next process would lock another file


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
