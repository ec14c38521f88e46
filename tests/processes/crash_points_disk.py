"""A disk that loses its power: what is synced survives, of the rest any part.

It keeps the two promises of POSIX that ``votefile`` builds on and no more: ``fsync`` of a file
makes its bytes durable, ``fsync`` of a directory its names, and a rename happens or does not.
Everything else may be lost, kept or torn, each for itself: real file systems promise more, and may
break it. Every system call is a crash point before, within (a write) and after it.
"""

import errno
import os
from collections import Counter
from dataclasses import dataclass, field
from random import Random

SECTOR_BYTES = 16
"""Small, so that a record of a hundred bytes has many ways to be torn."""


class Crash(BaseException):
    """The process is no more. Not an Exception: nothing in the shipping code may survive it."""


@dataclass
class Inode:
    cached: bytearray = field(default_factory=bytearray)
    durable: bytes = b""


@dataclass
class OpenFile:
    inode: Inode | None  # None: the directory
    at: int = 0


Change = tuple[str, str, int]
"""``old`` is gone (empty: none), ``new`` leads to an inode; both or neither."""


class CrashDisk:
    """One directory."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._inodes: dict[int, Inode] = {}
        self._names: dict[str, int] = {}
        self._durable_names: dict[str, int] = {}
        self._changes: list[Change] = []
        self._open: dict[int, OpenFile] = {}
        self._next = 3
        self.deaf = ""
        """What a mutant forgets to sync: ``file`` or ``directory``."""
        self.points = 0
        """Crash points passed."""
        self.crash_at = 0
        """The point that crashes; 0: none does."""
        self.crashed: Counter[str] = Counter()
        """How many crashes came where."""
        self.fail_syncs = False
        """Every sync from now on fails, and what it should have synced is called clean."""

    def point(self, where: str) -> None:
        """A moment at which a crash may come."""
        self.points += 1
        if self.points == self.crash_at:
            self.crashed[where] += 1
            raise Crash

    # --- the system calls of votefile.Disk

    def open(self, path: str, flags: int, mode: int = 0o777, /) -> int:
        self.point("before open")
        descriptor = self._next
        self._next += 1
        if flags & os.O_DIRECTORY:
            self._open[descriptor] = OpenFile(None)
            return descriptor
        number = self._names.get(path)
        if number is None:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
            assert mode == 0o600
            number = self._next
            self._next += 1
            self._inodes[number] = Inode()
            self._change("", path, number)
        inode = self._inodes[number]
        if flags & os.O_TRUNC:
            inode.cached.clear()
        self._open[descriptor] = OpenFile(inode)
        self.point("after open")
        return descriptor

    def read(self, descriptor: int, size: int, /) -> bytes:
        file = self._open[descriptor]
        assert file.inode is not None
        file.at += size
        return bytes(file.inode.cached[file.at - size : file.at])

    def write(self, descriptor: int, data: bytes, /) -> int:
        self.point("before write")
        file = self._open[descriptor]
        assert file.inode is not None
        size = self._random.randint(1, len(data))  # write(2) may do less than it is asked to
        for part in (data[: size // 2], data[size // 2 : size]):
            file.inode.cached[file.at : file.at + len(part)] = part
            file.at += len(part)
            self.point("within or after write")
        return size

    def fsync(self, descriptor: int, /) -> None:
        file = self._open[descriptor]
        of = "file" if file.inode else "directory"
        self.point(f"before fsync of {of}")
        if self.fail_syncs:
            raise OSError(errno.EIO, "Input/output error")
        if file.inode is None:
            if self.deaf != "directory":
                self._durable_names = dict(self._names)
                self._changes.clear()
        elif self.deaf != "file":
            file.inode.durable = bytes(file.inode.cached)
        self.point(f"after fsync of {of}")

    def close(self, descriptor: int, /) -> None:
        del self._open[descriptor]

    def replace(self, old: str, new: str, /) -> None:
        self.point("before rename")
        self._change(old, new, self._names[old])
        self.point("after rename")

    def _change(self, old: str, new: str, inode: int) -> None:
        self._changes.append((old, new, inode))
        _apply(self._names, (old, new, inode))

    # --- what is left

    def restart(self, power_cut: bool) -> None:
        """The process is started again; after a power cut on what the disk still has."""
        self._open.clear()
        self.crash_at, self.fail_syncs = 0, False
        if not power_cut:
            return  # the kernel lives, and with it the cache
        names = dict(self._durable_names)
        for change in self._changes:
            if self._random.random() < 0.5:
                _apply(names, change)
        self._inodes = {number: self._inodes[number] for number in set(names.values())}
        for inode in self._inodes.values():
            inode.durable = self._torn(inode.durable, bytes(inode.cached))
            inode.cached = bytearray(inode.durable)
        self._names, self._durable_names = names, dict(names)
        self._changes.clear()

    def _torn(self, durable: bytes, cached: bytes) -> bytes:
        """Any mixture of both by sectors, of either length."""
        if durable == cached:
            return durable
        size = self._random.choice((len(durable), len(cached)))
        whole = b""
        for at in range(0, size, SECTOR_BYTES):
            sector = self._random.choice((durable, cached))[at : at + SECTOR_BYTES]
            whole += sector.ljust(SECTOR_BYTES, b"\0")
        return whole[:size]


def _apply(names: dict[str, int], change: Change) -> None:
    old, new, inode = change
    names.pop(old, None)
    names[new] = inode
