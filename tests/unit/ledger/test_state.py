"""Journal, layers and roots: against a dict, py-trie, and the pre-states of official tests."""

import gzip
import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trie import HexaryTrie

from dipnet.ledger.state import (
    EMPTY_CODE_HASH,
    EMPTY_ROOT,
    KEY_ACCOUNT,
    KEY_CODE,
    NO_ACCOUNT,
    Account,
    Journal,
    Layer,
    supply,
    trie_root,
    undo_of,
)
from dipnet.primitives.codec import Puts, Reader, rlp_encode
from dipnet.primitives.crypto import keccak256
from dipnet.primitives.errors import Corrupt
from tests.fixtures.memory import Memory
from tests.fixtures.prestate import load
from tests.fixtures.vectors import vectors

A, B, C = (bytes([n]) * 20 for n in (1, 2, 3))
SLOT, OTHER_SLOT = bytes(32), bytes(31) + b"\1"


def oracle_trie(pairs: Iterator[tuple[bytes, bytes]]) -> bytes:
    oracle = HexaryTrie({})
    for key, value in pairs:
        oracle[keccak256(key)] = value
    root: bytes = oracle.root_hash
    return root


class Model:
    """State as a dict of [nonce, balance, code, slots]."""

    def __init__(self) -> None:
        self.accounts: dict[bytes, tuple[int, int, bytes, dict[bytes, int]]] = {}

    def root(self) -> bytes:
        return oracle_trie(
            (
                address,
                rlp_encode(
                    [
                        nonce,
                        balance,
                        oracle_trie((slot, rlp_encode(word)) for slot, word in slots.items()),
                        keccak256(code),
                    ]
                ),
            )
            for address, (nonce, balance, code, slots) in self.accounts.items()
        )


def random_change(random: Random, journal: Journal, model: Model) -> None:
    address = bytes([random.randrange(12)]) * 20
    nonce, balance, code, slots = model.accounts.get(address, (0, 0, b"", {}))
    match random.randrange(5):
        case 0:
            nonce += 1
            journal.set_nonce(address, nonce)
        case 1:
            amount = random.choice((0, 1, 10**18))
            balance += amount
            journal.add_balance(address, amount)
        case 2:
            amount = random.choice((0, balance, balance // 2))
            balance -= amount
            journal.sub_balance(address, amount)
        case 3 if nonce or balance:
            code = random.choice((b"", b"code", b"other code"))
            journal.set_code(address, code)
        case _ if nonce:
            slot = random.choice((SLOT, OTHER_SLOT, b"\xff" * 32))
            word = random.choice((0, 1, 2**256 - 1))
            journal.set_slot(address, slot, word)
            slots = {**slots, slot: word}
    slots = {slot: word for slot, word in slots.items() if word}
    model.accounts[address] = (nonce, balance, code, slots)
    if not (nonce or balance or code):
        del model.accounts[address]


def assert_equal(reader: Reader, root: bytes, model: Model) -> None:
    journal = Journal(reader, root)
    for address, (nonce, balance, code, slots) in model.accounts.items():
        assert (journal.nonce(address), journal.balance(address)) == (nonce, balance)
        assert journal.code(address) == code
        for slot in (SLOT, OTHER_SLOT, b"\xff" * 32):
            assert journal.slot(address, slot) == slots.get(slot, 0)
    assert journal.commit() == (root, {})  # reading changes nothing
    assert len(list(reader.scan(KEY_ACCOUNT))) == len(model.accounts)
    assert supply(reader) == sum(balance for _, balance, _, _ in model.accounts.values())
    assert root == model.root()


@pytest.mark.parametrize("seed", range(15))
def test_blocks_and_their_undo(seed: int) -> None:
    random, disk, model, root = Random(seed), Memory(), Model(), EMPTY_ROOT
    for _ in range(8):
        before = dict(disk)
        journal = Journal(disk, root)
        for _ in range(random.randrange(1, 25)):
            kept = dict(model.accounts)
            mark = journal.snapshot()
            for _ in range(random.randrange(1, 4)):
                random_change(random, journal, model)
            if random.random() < 0.3:
                journal.rollback(mark)
                model.accounts = kept
        root, puts = journal.commit()
        assert journal.commit() == (root, puts)
        undo = undo_of(disk, puts)
        assert_equal(Layer(disk, puts), root, model)
        disk.apply(puts)
        assert_equal(disk, root, model)
        disk.apply(undo)
        assert disk == before
        disk.apply(puts)


def test_layers_read_as_if_applied() -> None:
    random = Random(5)
    base = Memory({b"a%d" % n: b"base" for n in range(0, 40, 3)})
    applied = Memory(base)
    reader: Memory | Layer = base
    for depth in range(12):
        puts: Puts = {
            b"%c%d" % (random.choice(b"abA"), random.randrange(40)): random.choice(
                (None, b"%d" % depth)
            )
            for _ in range(8)
        }
        reader = Layer(reader, puts)
        assert reader.puts is puts
        applied.apply(puts)
        keys = [b"%c%d" % (letter, n) for letter in b"abA" for n in range(41)]
        assert [reader.get(key) for key in keys] == [applied.get(key) for key in keys]
        for prefix in (b"", b"a", b"a1", b"b", b"A", b"z"):
            for start in (b"", b"a", b"a2", b"a25", b"b", b"zz", b"A3"):
                for reverse in (False, True):
                    found = list(reader.scan(prefix, start, reverse))
                    assert found == list(applied.scan(prefix, start, reverse))


def test_account_that_empties_is_deleted_with_its_storage() -> None:
    disk = Memory()
    journal = Journal(disk)
    journal.add_balance(A, 5)
    journal.set_slot(A, SLOT, 7)
    journal.add_balance(B, 1)
    journal.set_slot(C, SLOT, 7)  # a slot of an empty account is not kept
    root, puts = journal.commit()
    disk.apply(puts)
    assert Journal(disk).slot(A, SLOT) == 7
    assert KEY_ACCOUNT + C not in disk
    journal = Journal(disk, root)
    journal.sub_balance(A, 5)
    journal.add_balance(C, 0)  # touched and empty: not there. # EIP-161
    root, puts = journal.commit()
    disk.apply(puts)
    only_b = Journal(Memory())
    only_b.add_balance(B, 1)
    assert (root, {k: v for k, v in disk.items() if v}) == only_b.commit()


def test_code_is_kept_by_hash_and_checked() -> None:
    disk = Memory()
    journal = Journal(disk)
    for address in (A, B):
        journal.set_code(address, b"code")
    journal.set_code(C, b"forgotten")
    journal.set_code(C, b"")
    _, puts = journal.commit()
    assert [key for key in puts if key[:1] == KEY_CODE] == [KEY_CODE + keccak256(b"code")]
    disk.apply(puts)
    assert Journal(disk).code(A) == b"code"
    assert Journal(disk).code(C) == b""
    disk[KEY_CODE + keccak256(b"code")] = b"altered"
    with pytest.raises(Corrupt, match="altered"):
        Journal(disk).code(B)


def test_balances_stay_in_range() -> None:
    journal = Journal(Memory())
    journal.add_balance(A, 2**256 - 1)
    with pytest.raises(ValueError, match="2\\^256"):
        journal.add_balance(A, 1)
    with pytest.raises(ValueError, match="2\\^256"):
        journal.sub_balance(B, 1)


def test_wrong_state_root_is_corrupt() -> None:
    journal = Journal(Memory(), keccak256(b"another"))
    with pytest.raises(Corrupt):
        journal.commit()


@given(
    st.builds(
        Account,
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**256 - 1),
        st.binary(min_size=32, max_size=32),
        st.binary(min_size=32, max_size=32),
    )
)
def test_account_round_trip(account: Account) -> None:
    assert Account.decode(account.encode()) == account


@given(st.binary(max_size=120))
def test_any_bytes_are_an_account_or_corrupt(raw: bytes) -> None:
    try:
        account = Account.decode(raw)
    except Corrupt:
        return
    assert account.encode() == raw


@pytest.mark.parametrize(
    "fields",
    [
        [1, 1, EMPTY_ROOT],
        [b"\0", 1, EMPTY_ROOT, EMPTY_CODE_HASH],
        [1, b"\1" * 33, EMPTY_ROOT, EMPTY_CODE_HASH],
        [1, [], EMPTY_ROOT, EMPTY_CODE_HASH],
        [1, 1, b"", EMPTY_CODE_HASH],
        [1, 1, EMPTY_ROOT, [EMPTY_CODE_HASH]],
        1,
        b"four",
    ],
)
def test_malformed_account_is_corrupt(fields: Any) -> None:
    with pytest.raises(Corrupt):
        Account.decode(rlp_encode(fields))


def test_known_values() -> None:
    assert EMPTY_ROOT == trie_root([]) == Journal(Memory()).commit()[0]
    assert NO_ACCOUNT.is_empty
    assert not Account(nonce=1).is_empty
    # The root of three equal items under rlp(0), rlp(1), rlp(2), as py-trie gives it.
    items = [(rlp_encode(index), b"item") for index in range(3)]
    oracle = HexaryTrie({})
    for key, value in items:
        oracle[key] = value
    assert trie_root(items) == oracle.root_hash


def refused_cases() -> Iterator[tuple[str, dict[str, Any]]]:
    """Official tests whose transaction is refused: their root is the root of the state before."""
    with gzip.open(vectors("evm") / "dev_osaka.jsonl.gz", "rt") as lines:
        for line in lines:
            if '"expectException"' not in line:
                continue
            case = json.loads(line)
            (posts,) = case["post"].values()
            if all("expectException" in post for post in posts):
                yield posts[0]["hash"], case["pre"]


def test_state_roots_of_official_tests() -> None:
    count = 0
    for root, pre in refused_cases():
        assert load(pre).commit()[0] == bytes.fromhex(root[2:])
        count += 1
    assert count > 100
