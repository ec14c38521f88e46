"""Storage in the layout of Solidity, over the words that a system contract may read and write.

Source: Solidity, "Layout of State Variables in Storage". The fields of a struct follow one another,
each in the lowest free bits of a word, or in the next word where it does not fit. The value of a
mapping under a key is at keccak256(key || slot). The elements of a dynamic array begin at
keccak256(slot), and its length is in the slot. A short text is in its own slot. So ``eth_getProof``
proves every value to a reader of the structs in ``contracts/IDposStorage.sol``.

A ``StorageSlot`` is the place where a struct begins: ``slot[FIELD]`` reads a field, assignment
writes it.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from dipnet.ledger.state import Journal
from dipnet.primitives.crypto import keccak256

WORD_BITS: Final = 256
WORD_BYTES: Final = 32
ADDRESS_BYTES: Final = 20
TEXT_BYTES_MAX: Final = 256
_SHORT_MAX: Final = 31  # a longer text does not share its word with its length
_SLOTS: Final = 2**256


class Storage(Protocol):
    """The words of an account. A ``Call`` pays for each access, ``JournalStorage`` does not."""

    def sload(self, slot: bytes) -> int:
        """The word in a slot (32 bytes)."""

    def sstore(self, slot: bytes, value: int) -> None:
        """Replaces the word in a slot (32 bytes)."""


class JournalStorage:
    """The storage of ``address`` in ``journal``, without gas: for the end of a block."""

    __slots__ = ("_address", "_journal")

    def __init__(self, journal: Journal, address: bytes) -> None:
        self._journal = journal
        self._address = address

    def sload(self, slot: bytes) -> int:
        """As ``Storage.sload``."""
        return self._journal.slot(self._address, slot)

    def sstore(self, slot: bytes, value: int) -> None:
        """As ``Storage.sstore``."""
        if self._journal.slot(self._address, slot) != value:
            self._journal.set_slot(self._address, slot, value)


class Field(NamedTuple):
    """A field of a struct: its word, counted from the struct's first, and its bits in it."""

    word: int
    shift: int
    bits: int


def struct(*bits: int) -> tuple[Field, ...]:
    """The fields of a struct by their widths; mappings, arrays and texts take a whole word."""
    fields: list[Field] = []
    word = used = 0
    for width in bits:
        if used + width > WORD_BITS:
            word, used = word + 1, 0
        fields.append(Field(word, used, width))
        used += width
    return tuple(fields)


class StorageSlot:
    """The struct that begins at ``slot`` of ``storage``; the contract's variables begin at 0."""

    __slots__ = ("_slot", "_storage")

    def __init__(self, storage: Storage, slot: int = 0) -> None:
        self._storage = storage
        self._slot = slot

    def _word(self, field: Field) -> bytes:
        return ((self._slot + field.word) % _SLOTS).to_bytes(WORD_BYTES, "big")

    def __getitem__(self, field: Field) -> int:
        word = self._storage.sload(self._word(field))
        return word >> field.shift & (1 << field.bits) - 1

    def __setitem__(self, field: Field, value: int) -> None:
        if not 0 <= value < 1 << field.bits:
            raise ValueError(f"{value} does not fit {field.bits} bits")
        slot = self._word(field)
        if field.bits < WORD_BITS:
            mask = (1 << field.bits) - 1 << field.shift
            value = self._storage.sload(slot) & ~mask | value << field.shift
        self._storage.sstore(slot, value)

    def under(self, field: Field, key: bytes | int) -> "StorageSlot":
        """The value of the mapping in ``field`` under an address, 32 bytes or a number."""
        word = key.to_bytes(WORD_BYTES, "big") if isinstance(key, int) else key.rjust(32, b"\0")
        return StorageSlot(
            self._storage, int.from_bytes(keccak256(word + self._word(field)), "big")
        )

    def element(self, field: Field, index: int, words: int = 1) -> "StorageSlot":
        """An element, of so many words, of the array in ``field``; its length is ``[field]``."""
        first = int.from_bytes(keccak256(self._word(field)), "big")
        return StorageSlot(self._storage, first + index * words)

    def text(self, field: Field) -> bytes:
        """The string or bytes in ``field``."""
        head = self[field]
        if not head & 1:
            return head.to_bytes(WORD_BYTES, "big")[: (head & 0xFF) >> 1]
        size = head >> 1
        words = [self.element(field, at)[WORD] for at in range(-(-size // WORD_BYTES))]
        return b"".join(word.to_bytes(WORD_BYTES, "big") for word in words)[:size]

    def addresses(self, field: Field) -> tuple[bytes, ...]:
        """The address[] in ``field``."""
        return tuple(self.address_at(field, at) for at in range(self[field]))

    def address_at(self, field: Field, index: int) -> bytes:
        """The address at ``index`` of the address[] in ``field``."""
        return to_address(self.element(field, index)[WORD])

    def set_addresses(self, field: Field, addresses: Sequence[bytes]) -> None:
        """Replaces the address[]."""
        before = self[field]
        self[field] = len(addresses)
        for at in range(max(before, len(addresses))):
            value = addresses[at] if at < len(addresses) else b""
            self.element(field, at)[WORD] = int.from_bytes(value, "big")

    def set_text(self, field: Field, text: bytes) -> None:
        """Replaces the string or bytes in ``field`` by at most ``TEXT_BYTES_MAX`` bytes."""
        if len(text) > TEXT_BYTES_MAX:
            raise ValueError(f"a text of {len(text)} bytes")
        head = self[field]
        before = -(-(head >> 1) // WORD_BYTES) if head & 1 else 0
        long = len(text) > _SHORT_MAX
        padded = text + bytes(-len(text) % WORD_BYTES)
        if long:
            self[field] = 2 * len(text) + 1
        else:
            self[field] = int.from_bytes(padded, "big") | 2 * len(text)
        words = len(padded) // WORD_BYTES if long else 0
        for at in range(max(words, before)):
            word = padded[at * WORD_BYTES : (at + 1) * WORD_BYTES] if at < words else b""
            self.element(field, at)[WORD] = int.from_bytes(word, "big")


def to_address(word: int) -> bytes:
    """The address in a word."""
    return word.to_bytes(WORD_BYTES, "big")[-ADDRESS_BYTES:]


(WORD,) = struct(WORD_BITS)
"""The only field of a value that is alone in its slot."""

(
    CANDIDATES,  # mapping(address => Candidate)
    ACCOUNTS,  # mapping(address => Account)
    KEY_OWNERS,  # mapping(address => address): the address of a signing key -> its delegate
    ROLL,  # address[]: the registered candidates
    LAPSES,  # mapping(uint256 => mapping(address => Lapse)): by epoch and delegate
    SETS,  # mapping(uint256 => Set): by epoch modulo 3
    PROPOSALS,  # mapping(uint256 => Proposal)
    PROPOSALS_MADE,  # uint256: the id of the newest
    PROPOSALS_OPEN,  # uint256[]
    PARAMETERS,  # mapping(bytes32 => uint256): the values that votes have set
    BURNED,  # uint256: wei of stake that penalties have burned
) = struct(*[WORD_BITS] * 11)
"""The variables of the contract."""
