"""Solidity's layout of storage: slots, packing, texts and arrays."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipnet.consensus.staking import candidates, election, parameters, stakes
from dipnet.ledger.state import Journal
from dipnet.primitives.crypto import keccak256
from dipnet.vm import storage_layout as layout
from dipnet.vm.storage_layout import Field, JournalStorage, StorageSlot, struct
from tests import ROOT
from tests.fixtures.memory import Memory

ACCOUNT = b"\x0d" * 20
(TEXT,) = struct(256)


def place() -> tuple[Journal, StorageSlot]:
    journal = Journal(Memory())
    return journal, StorageSlot(JournalStorage(journal, ACCOUNT))


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def slot(journal: Journal, number: int) -> int:
    return journal.slot(ACCOUNT, word(number))


def test_fields_share_words_from_the_lowest_bits() -> None:
    assert struct(8, 16, 256, 128, 64, 160) == (
        Field(0, 0, 8), Field(0, 8, 16), Field(1, 0, 256), Field(2, 0, 128), Field(2, 128, 64),
        Field(3, 0, 160),
    )  # fmt: skip
    journal, storage = place()
    low, high = struct(8, 16)
    storage[low], storage[high] = 0xAB, 0x1234
    assert slot(journal, 0) == 0x1234AB
    storage[low] = 0
    assert (storage[low], storage[high], slot(journal, 0)) == (0, 0x1234, 0x123400)
    for wrong in (-1, 256):
        with pytest.raises(ValueError, match="does not fit 8 bits"):
            storage[low] = wrong


def test_mappings_and_arrays_are_found_by_their_hashes() -> None:
    journal, root = place()
    fields = struct(256, 256, 256, 256)
    account = b"\x11" * 20
    root.under(fields[2], account)[fields[1]] = 77
    expected = int.from_bytes(keccak256(account.rjust(32, b"\0") + word(2)), "big") + 1
    assert slot(journal, expected) == 77
    root.under(fields[3], 9)[fields[0]] = 5
    assert slot(journal, int.from_bytes(keccak256(word(9) + word(3)), "big")) == 5
    root.set_addresses(fields[1], [account, b"\x22" * 20, b"\x33" * 20])
    first = int.from_bytes(keccak256(word(1)), "big")
    assert slot(journal, 1) == 3
    assert slot(journal, first + 1) == int.from_bytes(b"\x22" * 20, "big")
    root.set_addresses(fields[1], [b"\x44" * 20])
    assert root.addresses(fields[1]) == (b"\x44" * 20,)
    assert [slot(journal, first + at) for at in (1, 2)] == [0, 0]


@pytest.mark.parametrize(
    ("text", "head", "tail"),
    [
        (b"", 0, []),
        (b"abc", int.from_bytes(b"abc" + bytes(28) + b"\6", "big"), []),
        (b"x" * 31, int.from_bytes(b"x" * 31 + b"\x3e", "big"), []),
        (b"x" * 32, 65, [b"x" * 32]),
        (b"x" * 40, 81, [b"x" * 32, b"x" * 8 + bytes(24)]),
    ],
)
def test_texts(text: bytes, head: int, tail: list[bytes]) -> None:
    journal, storage = place()
    storage.set_text(TEXT, text)
    assert slot(journal, 0) == head
    first = int.from_bytes(keccak256(word(0)), "big")
    assert [word(slot(journal, first + at)) for at in range(2)] == (tail + [bytes(32)] * 2)[:2]


@given(st.lists(st.binary(max_size=256), min_size=1, max_size=4))
def test_texts_leave_nothing_behind(texts: list[bytes]) -> None:
    journal, storage = place()
    for text in texts:
        storage.set_text(TEXT, text)
        assert storage.text(TEXT) == text
    storage.set_text(TEXT, b"")
    journal.set_code(ACCOUNT, b"\xfe")
    fresh = Journal(Memory())
    fresh.set_code(ACCOUNT, b"\xfe")
    assert journal.commit()[0] == fresh.commit()[0]


def test_a_text_has_a_limit() -> None:
    with pytest.raises(ValueError, match="257 bytes"):
        place()[1].set_text(TEXT, bytes(257))


def test_writing_the_same_is_no_write() -> None:
    journal, storage = place()
    mark = journal.snapshot()
    storage[TEXT] = 0
    assert journal.snapshot() == mark


# --- the published layout

BITS = {"uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64, "address": 160}
STRUCTS = {
    "Candidate": (candidates, ["STATUS", "COMMISSION", "KEY_PARITY", "ROLL_AT", "JAILED_UNTIL",
        "READY", "PROPOSED", "COMMITTED_AT", "COUNTED", "PRODUCED", "MISSED", "PRODUCED_EVER",
        "MISSED_EVER", "VOTES", "ACCRUED", "KEY_X", "ORGANISATION", "COMMITMENT", "NAME", "URL",
        "ANNOUNCED", "ANNOUNCED_FROM"]),
    "Account": (stakes, ["STAKE", "REWARDS", "UNBONDING", "SHARE", "RELEASE", "EXPIRES", "FREE",
        "VOTES"]),
    "Vote": (stakes, ["DELEGATE", "PAID"]),
    "Lapse": (stakes, ["WEIGHT", "CLOSED"]),
    "Set": (election, ["SET_EPOCH", "MEMBERS", "STANDBY"]),
    "Proposal": (parameters, ["FIELD", "VALUE", "PROPOSER", "STATE", "EXPIRES", "STARTS",
        "VOTERS"]),
    "IDposStorage": (layout, ["CANDIDATES", "ACCOUNTS", "KEY_OWNERS", "ROLL", "LAPSES", "SETS",
        "PROPOSALS", "PROPOSALS_MADE", "PROPOSALS_OPEN", "PARAMETERS", "BURNED"]),
}  # fmt: skip


@pytest.mark.parametrize("name", STRUCTS)
def test_the_layout_is_as_published(name: str) -> None:
    """solc 0.8 printed these slots and offsets for structs with fields of these widths."""
    text = (ROOT / "dipnet/contracts/IDposStorage.sol").read_text()
    if name == "IDposStorage":
        body = re.findall(r"^    (mapping\(.*\)|\w+\[?\]?) \w+;", text, re.MULTILINE)
    else:
        inside = text.split(f"struct {name} {{")[1].split("}")[0]
        body = re.findall(r"^        (mapping\(.*\)|\w+(?:\[\])?) \w+;", inside, re.MULTILINE)
    module, fields = STRUCTS[name]
    widths = [BITS.get(kind, 256) for kind in body]
    assert struct(*widths) == tuple(getattr(module, field) for field in fields)
