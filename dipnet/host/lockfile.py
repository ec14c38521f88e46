"""One process at a time: a lock that the kernel drops when its holder dies, however it dies.

The lock is on a file of its own that is never removed, because what it guards may be replaced by a
rename or be a socket. It holds on one machine only: file systems that machines share do not all
carry it between them.
"""

import fcntl
import os
from pathlib import Path

from dipnet.primitives.errors import Invalid


def check_ours(directory: Path) -> None:
    """``Invalid("config")`` where others may put files into a directory, or it is not there.

    Who may could replace what lies there, whatever the mode of the file itself.
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
    """A descriptor that holds ``path``, which is made when missing, until it is closed.

    Raises ``Invalid("locked")`` when another process, or this one, holds it, and
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
        os.close(descriptor)  # removed by hand meanwhile: whoever comes next would lock another


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
