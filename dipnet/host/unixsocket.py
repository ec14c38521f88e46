"""Sockets on this machine for one user: of mode 0600, and both ends check the user of the other.

The kernel tells the user at the other end (SO_PEERCRED, unix(7)), so that neither a socket that
another user made nor a directory with loose rights lets a stranger in. A socket file that a killed
process left behind is replaced; the socket of a living process is not. A path longer than a
socket's address is reached through the descriptor of its directory, so that a data directory may be
deep.
"""

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dipnet.host.lockfile import check_ours, lock
from dipnet.primitives.errors import Invalid

PATH_BYTES_MAX: Final = 107  # sun_path less its end (unix(7))
BACKLOG: Final = 16
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid


class PrivateListener:
    """A listening socket at ``path``; the file exists until ``close``."""

    def __init__(self, path: Path) -> None:
        """``Invalid``: ``config`` (unusable path), ``locked`` (another process listens)."""
        self.path = path.expanduser().absolute()
        self._make_directory()
        self._held = lock(Path(f"{self.path}.lock"))
        try:
            self._remove_stale()
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            with _address(self.path) as address:
                self.socket.bind(address)
            os.chmod(self.path, 0o600)  # before a client can connect
            self.socket.listen(BACKLOG)
        except OSError as error:
            os.close(self._held)
            raise Invalid("config", f"cannot listen on {self.path}: {error.strerror}") from None
        except Invalid:
            os.close(self._held)
            raise

    def _make_directory(self) -> None:
        directory = self.path.parent
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise Invalid("config", f"cannot make {directory}: {error.strerror}") from None
        check_ours(directory)

    def _remove_stale(self) -> None:
        try:
            mode = self.path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise Invalid("config", f"{self.path} is there already and is no socket")
        with (
            _address(self.path) as address,
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe,
        ):
            try:
                probe.connect(address)
            except ConnectionRefusedError:
                self.path.unlink()
            else:
                raise Invalid("locked", str(self.path))

    def close(self) -> None:
        """Stops listening and removes the file."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        self.socket.close()
        os.close(self._held)


def connect(path: Path, timeout_s: float) -> socket.socket:
    """A connection to the process that listens at ``path``, which must be of the same user.

    ``timeout_s`` holds for each later call of the socket, too. Raises ``OSError``.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.settimeout(timeout_s)
        with _address(path) as address:
            made.connect(address)
        if not is_same_user(made):
            raise PermissionError(f"{path} is listened on by another user")
    except OSError:
        made.close()
        raise
    return made


def is_same_user(connected: socket.socket) -> bool:
    """Whether the process at the other end runs as the user of this process."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(raw)
    return bool(user == os.geteuid())


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """The address of the socket at ``path`` for ``bind`` and ``connect``."""
    if len(os.fsencode(path)) <= PATH_BYTES_MAX:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"  # proc(5)
    finally:
        os.close(directory)
