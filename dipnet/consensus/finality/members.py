"""The set of delegates that votes in an epoch: addresses, keys and quorum.

Delegates have equal weight, and a set has at most 101 (docs/spec/consensus.md "The protocol"). The
set is sorted by address; votes and certificates name a delegate by its index.
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
    """The least number of votes of a set of ``members`` delegates that is more than two thirds."""
    return 2 * members // 3 + 1


@dataclass(frozen=True)
class Members:
    """A set: ``pairs`` of (address 20 bytes, compressed public key 33 bytes), ascending by address.

    ValueError unless there are 1 to ``MEMBERS_MAX`` pairs, in order, each address and each key
    once: the key of two members would vote twice.
    """

    pairs: tuple[tuple[bytes, bytes], ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.pairs) <= MEMBERS_MAX:
            raise ValueError(f"a set of {len(self.pairs)} delegates")
        if any(len(delegate) != 20 or len(key) != 33 for delegate, key in self.pairs):
            raise ValueError("a member is an address of 20 bytes and a key of 33")
        if any(lower >= upper for lower, upper in pairwise(self.addresses)):
            raise ValueError("members out of order, or repeated")
        if len({*self.keys}) != len(self.pairs):
            raise ValueError("two members with one key")

    @staticmethod
    def of(pairs: Iterable[tuple[bytes, bytes]]) -> "Members":
        """The set of these pairs, which may come in any order."""
        return Members(tuple(sorted(pairs)))

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def quorum(self) -> int:
        """The number of votes that make a certificate."""
        return quorum_of(len(self.pairs))

    @cached_property
    def addresses(self) -> tuple[bytes, ...]:
        """The addresses of the delegates by index."""
        return tuple(delegate for delegate, _ in self.pairs)

    @cached_property
    def keys(self) -> tuple[bytes, ...]:
        """The public keys of the delegates by index."""
        return tuple(key for _, key in self.pairs)

    @cached_property
    def signers(self) -> tuple[bytes, ...]:
        """The addresses of the keys by index; ``recover`` gives such an address."""
        return tuple(address(key) for key in self.keys)

    @cached_property
    def _indices(self) -> dict[bytes, int]:
        return {delegate: index for index, delegate in enumerate(self.addresses)}

    def index(self, delegate: bytes) -> int | None:
        """The index of the delegate with this address, None where it is not in the set."""
        return self._indices.get(delegate)

    def index_of_key(self, key: bytes) -> int | None:
        """The index of the delegate with this public key, None where it is not in the set."""
        return self.keys.index(key) if key in self.keys else None

    def digest(self, epoch: int) -> bytes:
        """The ``next_set_hash`` (32 bytes) of a boundary whose next epoch has this set.

        docs/spec/bytes.md "Digests".
        """
        return keccak256(b"DIPNET/set" + pack([SET_VERSION, epoch, self.pairs]))
