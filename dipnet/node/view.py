"""The node as ``Peers`` reads it: its status, and its items by id."""

from collections.abc import Sequence
from typing import Protocol

from dipnet.p2p.messages import Status, Topic
from dipnet.p2p.serve import Source


class View(Source, Protocol):
    """The node as ``Peers`` sees it. ``has`` and ``raw`` are not asked for topics of ``PUSHED``."""

    def status(self) -> Status:
        """Where the node stands, and its clock (Unix time, not the time for deadlines)."""

    def item_id(self, topic: Topic, raw: bytes) -> bytes:
        """The id of a vote or certificate by its bytes; any 32 bytes for other bytes.

        Pure and cheap, because it is asked before anything is verified. Raises nothing.
        """

    def has(self, topic: Topic, id_: bytes) -> bool:
        """Whether the item is here, or settled."""

    def raw(self, topic: Topic, id_: bytes) -> bytes | None:
        """The bytes of the item, None when it is not here."""

    def block_hash_at(self, height: int) -> bytes:
        """The hash of the canonical block at a height from 0 to the head's."""

    def vertex_sample(self) -> Sequence[bytes]:
        """Ids of the log of vertices, newest first, exponentially back."""
