"""A bounded set of ids: those that a peer has, those that were found good."""


class Seen:
    """The last ``most`` to twice ``most`` ids that were added."""

    __slots__ = ("_most", "_new", "_old")

    def __init__(self, most: int) -> None:
        self._most = most
        self._new: set[bytes] = set()
        self._old: set[bytes] = set()

    def __contains__(self, id_: bytes) -> bool:
        return id_ in self._new or id_ in self._old

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def add(self, id_: bytes) -> None:
        """Remember ``id_``; the older generation goes when the newer is full."""
        if len(self._new) >= self._most:
            self._old, self._new = self._new, set()
        self._new.add(id_)
