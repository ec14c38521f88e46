"""The set of delegates that votes in an epoch: who, by which keys, and how many decide.

Delegates have equal weight, n <= 101 (docs/spec/consensus.md "The protocol"). The set is sorted by
address; the index of a delegate in it is his name in votes and certificates.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

from dipnet.primitives.codec import pack
from dipnet.primitives.crypto import address, keccak256

SET_VERSION: Final = 1
MEMBERS_MAX: Final = 101


def quorum_of(members: int) -> int:
    """How many of so many delegates make a certificate: more than two thirds."""
    return 2 * members // 3 + 1


@dataclass(frozen=True)
class Members:
    """One set: ``pairs`` of (address 20, compressed public key 33), ascending by address.

    ValueError unless they are 1 to ``MEMBERS_MAX``, in order, each address and each key once: a
    key that stood for two members would vote twice.
    """

    pairs: tuple[tuple[bytes, bytes], ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.pairs) <= MEMBERS_MAX:
            raise ValueError(f"a set of {len(self.pairs)} delegates")
        if any(len(one) != 20 or len(key) != 33 for one, key in self.pairs):
            raise ValueError("a member is an address of 20 bytes and a key of 33")
        if any(one >= other for one, other in pairwise(self.addresses)):
            raise ValueError("members out of order, or one twice")
        if len({*self.keys}) != len(self.pairs):
            raise ValueError("two members with one key")

    @staticmethod
    def of(pairs: Iterable[tuple[bytes, bytes]]) -> "Members":
        """The set of these delegates."""
        return Members(tuple(sorted(pairs)))

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def quorum(self) -> int:
        """Votes that make a certificate."""
        return quorum_of(len(self.pairs))

    @cached_property
    def addresses(self) -> tuple[bytes, ...]:
        """The delegates by index."""
        return tuple(one for one, _ in self.pairs)

    @cached_property
    def keys(self) -> tuple[bytes, ...]:
        """Their public keys by index."""
        return tuple(key for _, key in self.pairs)

    @cached_property
    def signers(self) -> tuple[bytes, ...]:
        """The addresses of their keys by index: what recovery of a signature gives."""
        return tuple(address(key) for key in self.keys)

    @cached_property
    def _indices(self) -> dict[bytes, int]:
        return {one: index for index, one in enumerate(self.addresses)}

    def index(self, delegate: bytes) -> int | None:
        """The index of a delegate by his address, None for strangers."""
        return self._indices.get(delegate)

    def index_of_key(self, key: bytes) -> int | None:
        """The index of the delegate that votes with this public key."""
        return self.keys.index(key) if key in self.keys else None

    def digest(self, epoch: int) -> bytes:
        """What a boundary block commits to as ``next_set_hash`` (docs/spec/bytes.md
        "Digests")."""
        return keccak256(b"DIPNET/set" + pack([SET_VERSION, epoch, self.pairs]))
