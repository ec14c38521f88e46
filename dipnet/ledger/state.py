"""Accounts, storage and code over any Reader: the journal of a block, its delta, its roots.

Rules that bind this file:

* Nothing is written. ``Journal.commit`` returns the new state root and the records that change,
  flat records (read by execution) and trie nodes (read by the next commit) alike. Both change in
  one ``Puts``, so neither can be newer than the other.
* An account without nonce, balance and code does not exist and has no storage (EIP-161); it goes
  at commit. Deletion at the end of its transaction would read the same: as an empty account.
* Trie nodes stand under their path, not their hash: a node is overwritten where it stands and the
  disk holds one state, the base. Newer states are ``Layer`` s over it, older ones its undo.
* Records come from our own disk: a record that ``commit`` cannot have written is ``Corrupt``.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from heapq import merge
from typing import Any, Final

from dipnet._native import trie
from dipnet.primitives.codec import Puts, Reader, big, from_big, rlp_decode, rlp_encode
from dipnet.primitives.crypto import keccak256
from dipnet.primitives.errors import Corrupt, Invalid

KEY_ACCOUNT = b"A"  # + address 20 -> RLP of the account
KEY_ACCOUNT_NODE = b"N"  # + path -> RLP of a node of the state trie
KEY_SLOT = b"S"  # + address 20 + slot 32 -> value, minimal big-endian
KEY_SLOT_NODE = b"M"  # + address 20 + path -> RLP of a node of the account's storage trie
KEY_CODE = b"C"  # + code hash 32 -> code

EMPTY_ROOT: Final = keccak256(b"\x80")
EMPTY_CODE_HASH: Final = keccak256(b"")
WORD_MAX: Final = 2**256 - 1


@dataclass(frozen=True, slots=True)
class Account:
    """The value of an address in the state trie (Yellow Paper 4.1); balance in wei."""

    nonce: int = 0
    balance: int = 0
    storage_root: bytes = EMPTY_ROOT
    code_hash: bytes = EMPTY_CODE_HASH

    @property
    def is_empty(self) -> bool:
        """No nonce, no balance, no code: such an account is deleted. # EIP-161"""
        return not (self.nonce or self.balance or self.code_hash != EMPTY_CODE_HASH)

    def encode(self) -> bytes:
        """The RLP that is in the trie and in the flat record."""
        return rlp_encode([self.nonce, self.balance, self.storage_root, self.code_hash])

    @staticmethod
    def decode(raw: bytes) -> "Account":
        """The account in a record of ours; raises Corrupt where it is none."""
        try:
            fields = rlp_decode(raw)
        except Invalid as error:
            raise Corrupt(f"account record: {error}") from None
        if len(fields) != 4:
            raise Corrupt(f"account record of {len(fields)} fields")
        nonce, balance, storage_root, code_hash = fields
        return Account(_uint(nonce), _uint(balance), _hash(storage_root), _hash(code_hash))


NO_ACCOUNT: Final = Account()
"""Stands for every address that is not in the state."""


def _uint(field: object) -> int:
    if not isinstance(field, bytes) or len(field) > 32 or field[:1] == b"\0":
        raise Corrupt("account record: expected a minimal integer below 2^256")
    return int.from_bytes(field, "big")


def _hash(field: object) -> bytes:
    if not isinstance(field, bytes) or len(field) != 32:
        raise Corrupt("account record: expected a hash of 32 bytes")
    return field


class Journal:
    """The working state of one block over ``reader``, which must not change meanwhile.

    Values that were read are kept. Each change leaves its inverse in a list: ``snapshot`` is its
    length, and ``rollback`` costs as much as the changes. ``state_root``, where given, is the root
    that the state in ``reader`` must have; commit raises Corrupt if it has another.
    """

    __slots__ = ("_accounts", "_codes", "_reader", "_slots", "_state_root", "_stored", "_undo")

    def __init__(self, reader: Reader, state_root: bytes | None = None) -> None:
        self._reader = reader
        self._state_root = state_root
        self._accounts: dict[bytes, Account] = {}
        self._slots: dict[bytes, int] = {}  # address + slot -> value
        self._stored: dict[bytes, Account | int] = {}  # both of these, as first read
        self._codes: dict[bytes, bytes] = {}  # by hash; also of accounts that were rolled back
        self._undo: list[tuple[dict[bytes, Any], bytes, Account | int]] = []

    # --- accounts

    def account(self, address: bytes) -> Account:
        """The account at ``address`` (20 bytes), ``NO_ACCOUNT`` where there is none."""
        account = self._accounts.get(address)
        if account is None:
            raw = self._reader.get(KEY_ACCOUNT + address)
            account = NO_ACCOUNT if raw is None else Account.decode(raw)
            self._accounts[address] = self._stored[address] = account
        return account

    def nonce(self, address: bytes) -> int:
        """The number of the account's next transaction."""
        return self.account(address).nonce

    def balance(self, address: bytes) -> int:
        """In wei."""
        return self.account(address).balance

    def set_nonce(self, address: bytes, nonce: int) -> None:
        """Replaces the nonce."""
        self._put(address, replace(self.account(address), nonce=nonce))

    def add_balance(self, address: bytes, amount: int) -> None:
        """Adds wei. No supply comes near 2^256; past it or below zero is a bug: ValueError."""
        account = self.account(address)
        balance = account.balance + amount
        if not 0 <= balance <= WORD_MAX:
            raise ValueError(f"balance {balance} is not in 0..2^256-1")
        self._put(address, replace(account, balance=balance))

    def sub_balance(self, address: bytes, amount: int) -> None:
        """Takes wei that the caller has seen to be there; else ValueError."""
        self.add_balance(address, -amount)

    def code(self, address: bytes) -> bytes:
        """The code of the account, empty where it has none."""
        code_hash = self.account(address).code_hash
        if code_hash == EMPTY_CODE_HASH:
            return b""
        code = self._codes.get(code_hash)
        if code is None:
            code = self._reader.get(KEY_CODE + code_hash)
            if code is None or keccak256(code) != code_hash:
                raise Corrupt(f"the code of 0x{address.hex()} is missing or altered")
            self._codes[code_hash] = code
        return code

    def set_code(self, address: bytes, code: bytes) -> None:
        """Replaces the code."""
        code_hash = keccak256(code)
        self._codes[code_hash] = code
        self._put(address, replace(self.account(address), code_hash=code_hash))

    def _put(self, address: bytes, account: Account) -> None:
        self._undo.append((self._accounts, address, self._accounts[address]))
        self._accounts[address] = account

    # --- storage

    def slot(self, address: bytes, slot: bytes) -> int:
        """The word in ``slot`` (32 bytes) of the account, 0 where nothing was written."""
        key = address + slot
        value = self._slots.get(key)
        if value is None:
            value = from_big(self._reader.get(KEY_SLOT + key) or b"")
            self._slots[key] = self._stored[key] = value
        return value

    def set_slot(self, address: bytes, slot: bytes, value: int) -> None:
        """Replaces the word, 0 to 2^256 - 1; 0 deletes it. It lasts only if the account does."""
        before = self.slot(address, slot)
        key = address + slot
        self._undo.append((self._slots, key, before))
        self._slots[key] = value

    # --- taking back

    def snapshot(self) -> int:
        """A mark for ``rollback``."""
        return len(self._undo)

    def rollback(self, mark: int) -> None:
        """Takes back all changes since ``snapshot`` gave ``mark``; later marks become invalid."""
        undo = self._undo
        while len(undo) > mark:
            table, key, before = undo.pop()
            table[key] = before

    # --- the new state

    def commit(self) -> tuple[bytes, Puts]:
        """The state root after all changes, and the records that make it so over the reader.

        The journal stays as it is: more changes may follow, and a later commit returns all changes
        again.
        """
        puts: Puts = {}
        changed: dict[bytes, list[tuple[bytes, int]]] = {
            address: []
            for address, account in self._accounts.items()
            if account != self._stored[address]
        }
        for key, value in self._slots.items():
            if value != self._stored[key]:
                changed.setdefault(key[:20], []).append((key[20:], value))
        items: list[tuple[bytes, bytes]] = []
        for address, slots in changed.items():
            account = self.account(address)
            stored = self._stored[address]
            assert isinstance(stored, Account)
            if account.is_empty:
                if stored.is_empty:
                    continue  # came and went, or only its storage was written
                puts |= _deletion(self._reader, address, stored)
                items.append((keccak256(address), b""))
                continue
            if slots:
                storage_root, records = self._storage(address, stored.storage_root, slots)
                account = replace(account, storage_root=storage_root)
                puts |= records
            if account.code_hash != stored.code_hash and account.code_hash in self._codes:
                puts[KEY_CODE + account.code_hash] = self._codes[account.code_hash]
            raw = account.encode()
            puts[KEY_ACCOUNT + address] = raw
            items.append((keccak256(address), raw))
        root, nodes = trie.update(self._reader.get, KEY_ACCOUNT_NODE, items, self._state_root)
        return root, puts | nodes

    def _storage(
        self, address: bytes, root: bytes, slots: list[tuple[bytes, int]]
    ) -> tuple[bytes, Puts]:
        """The new root of the account's storage trie and its records after ``slots``."""
        puts: Puts = {}
        items: list[tuple[bytes, bytes]] = []
        for slot, value in slots:
            puts[KEY_SLOT + address + slot] = big(value) if value else None
            items.append((keccak256(slot), rlp_encode(value) if value else b""))
        root, nodes = trie.update(self._reader.get, KEY_SLOT_NODE + address, items, root)
        return root, puts | nodes


def _deletion(reader: Reader, address: bytes, account: Account) -> Puts:
    """The records that remove an account and its storage. Code stays: accounts may share it."""
    puts: Puts = {KEY_ACCOUNT + address: None}
    if account.storage_root != EMPTY_ROOT:
        for prefix in (KEY_SLOT + address, KEY_SLOT_NODE + address):
            puts |= dict.fromkeys([key for key, _ in reader.scan(prefix)])
    return puts


class Layer:
    """A Reader of ``parent`` as it is after ``puts``; neither may change while it is used.

    Layers over layers keep one flat list of their puts, newest first, so that a read walks dicts
    and not calls.
    """

    __slots__ = ("_below", "_stack", "puts")

    def __init__(self, parent: Reader, puts: Puts) -> None:
        self.puts = puts
        self._below: Reader = parent
        self._stack: tuple[Puts, ...] = (puts,)
        if isinstance(parent, Layer):
            self._below = parent._below
            self._stack += parent._stack

    def get(self, key: bytes, /) -> bytes | None:
        """As ``Reader.get``."""
        for puts in self._stack:
            if key in puts:
                return puts[key]
        return self._below.get(key)

    def scan(
        self, prefix: bytes, start: bytes = b"", reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """As ``Reader.scan``. Costs a look at every key of the layers."""
        new: Puts = {}
        for puts in reversed(self._stack):
            for key, value in puts.items():
                inside = not start or (key < start if reverse else key >= start)
                if inside and key.startswith(prefix):
                    new[key] = value
        above = [(key, new[key]) for key in sorted(new, reverse=reverse)]
        below = self._below.scan(prefix, start, reverse)
        last = None
        # Of equal keys merge gives those of its first argument first.
        for key, found in merge(above, below, key=lambda pair: pair[0], reverse=reverse):
            if key != last and found is not None:
                yield key, found
            last = key


def trie_root(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The root of the Merkle Patricia trie of these keys and values; no key twice, no empty value.

    Of transactions and receipts the key is the RLP of the index.
    """
    return trie.root(items)


def supply(reader: Reader) -> int:
    """The sum of all balances in wei; reads every account."""
    return sum(Account.decode(raw).balance for _, raw in reader.scan(KEY_ACCOUNT))


def undo_of(reader: Reader, puts: Puts) -> Puts:
    """The inverse of ``puts`` on ``reader``: applied after ``puts``, it restores the records."""
    return {key: reader.get(key) for key in puts}
