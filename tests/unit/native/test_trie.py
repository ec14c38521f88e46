"""The trie in C against a trie of thirty lines, py-trie and the official vectors.

The strong invariant: after any sequence of updates the records are exactly those of a trie built
from scratch, nothing missing and no garbage.
"""

import json
import sys
from collections.abc import Iterable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trie import HexaryTrie

from dipnet._native import trie
from dipnet.primitives.codec import Puts, RlpInput, rlp_encode
from dipnet.primitives.crypto import keccak256
from dipnet.primitives.errors import Corrupt
from tests.fixtures.memory import Memory
from tests.fixtures.vectors import vectors

EMPTY_ROOT = bytes.fromhex("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421")
PREFIX = b"N"

Items = list[tuple[bytes, bytes]]  # in the model: nibbles, value


# --- the oracle: a trie from its definition (Yellow Paper, appendices C and D)


def hex_prefix(nibbles: bytes, leaf: bool) -> bytes:
    flags = [2 * leaf + 1] if len(nibbles) % 2 else [2 * leaf, 0]
    digits = [*flags, *nibbles]
    return bytes(high * 16 + low for high, low in zip(digits[::2], digits[1::2], strict=True))


def structure(items: Items, path: bytes, records: dict[bytes, bytes]) -> RlpInput:
    if not items:
        return b""
    first, last = items[0][0], items[-1][0]
    if len(items) == 1:
        return [hex_prefix(first, True), items[0][1]]
    shared = next(
        (i for i in range(len(first)) if i == len(last) or first[i] != last[i]), len(first)
    )
    if shared:
        below = [(key[shared:], value) for key, value in items]
        return [hex_prefix(first[:shared], False), child(below, path + first[:shared], records)]
    branch: list[RlpInput] = []
    for nibble in range(16):
        below = [(key[1:], value) for key, value in items if key[:1] == bytes([nibble])]
        branch.append(child(below, path + bytes([nibble]), records))
    return [*branch, items[0][1] if not first else b""]


def child(items: Items, path: bytes, records: dict[bytes, bytes]) -> RlpInput:
    node = structure(items, path, records)
    raw = rlp_encode(node)
    if len(raw) < 32:
        return node
    records[path] = raw
    return keccak256(raw)


def from_scratch(pairs: dict[bytes, bytes]) -> tuple[bytes, dict[bytes, bytes]]:
    """The root and the records by record key."""
    records: dict[bytes, bytes] = {}
    items = [(bytes(int(d, 16) for d in key.hex()), pairs[key]) for key in sorted(pairs)]
    raw = rlp_encode(structure(items, b"", records))
    if items:
        records[b""] = raw
    return keccak256(raw), {PREFIX + record_path(path): r for path, r in records.items()}


def record_path(nibbles: bytes) -> bytes:
    digits = nibbles.hex()[1::2]
    odd = len(digits) % 2
    return bytes.fromhex(digits + "0" * odd) + bytes([odd])


# --- the trie under test, with its records


class Stored:
    """A trie on a dict that checks the reads and writes of each update."""

    def __init__(self) -> None:
        self.records = Memory()
        self.root = EMPTY_ROOT

    def update(self, items: Iterable[tuple[bytes, bytes]]) -> Puts:
        asked: list[bytes] = []

        def get(key: bytes) -> bytes | None:
            asked.append(key)
            return self.records.get(key)

        self.root, puts = trie.update(get, PREFIX, items, self.root)
        assert len(asked) == len(set(asked)), "a record was read twice"
        for key, record in puts.items():
            assert self.records.get(key) != record, "a write that changes nothing"
        self.records.apply(puts)
        return puts


def check_batches(batches: Iterable[dict[bytes, bytes]]) -> None:
    stored = Stored()
    pairs: dict[bytes, bytes] = {}
    for batch in batches:
        stored.update(batch.items())
        pairs = {key: value for key, value in (pairs | batch).items() if value}
        root, records = from_scratch(pairs)
        assert stored.root == root == trie.root(pairs.items())
        assert stored.records == records


VALUES = st.sampled_from([b"", b"", b"\0", b"\x7f", b"\x80", b"v" * 20, b"w" * 33, b"x" * 300])
KEYS = {
    "crowded": st.lists(st.sampled_from([0x00, 0x01, 0x10, 0x11, 0xFF]), max_size=5).map(bytes),
    "prefixed": st.lists(st.sampled_from([0, 1]), max_size=3).map(lambda e: b"common" + bytes(e)),
    "hashed": st.integers(0, 60).map(lambda n: keccak256(bytes([n]))),
    "any": st.binary(max_size=40),
}


@pytest.mark.parametrize("shape", KEYS)
def test_any_batches_leave_the_records_of_a_trie_from_scratch(shape: str) -> None:
    @given(st.lists(st.dictionaries(KEYS[shape], VALUES, max_size=12), max_size=6))
    def run(batches: list[dict[bytes, bytes]]) -> None:
        check_batches(batches)

    run()


@pytest.mark.parametrize("seed", range(8))
def test_workloads_agree_with_py_trie(seed: int) -> None:
    random = Random(seed)
    keys = [keccak256(random.randbytes(4)) for _ in range(300)]
    stored, oracle = Stored(), HexaryTrie({})
    present: dict[bytes, bytes] = {}
    for _ in range(6):
        batch = {
            key: b"" if random.random() < 0.4 else random.randbytes(random.choice((1, 31, 70)))
            for key in random.sample(keys, random.choice((1, 20, 200)))
        }
        stored.update(batch.items())
        for key, value in batch.items():
            if value:
                oracle[key] = value
            elif key in present:
                del oracle[key]
        present = {key: value for key, value in (present | batch).items() if value}
        assert stored.root == oracle.root_hash
    assert stored.records == from_scratch(present)[1]


def test_long_chain_of_prefixes_outgrows_the_first_memory() -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(5000)  # for the oracle
    try:
        pairs = {bytes(length): b"value %d" % length for length in range(257)}
        stored = Stored()
        stored.update(pairs.items())
        assert (stored.root, stored.records) == from_scratch(pairs)
        stored.update([(bytes(256), b"")])  # one item, a path of 512 nodes
        del pairs[bytes(256)]
        assert (stored.root, stored.records) == from_scratch(pairs)
    finally:
        sys.setrecursionlimit(limit)


def test_empty_trie() -> None:
    stored = Stored()
    assert stored.update([]) == {}
    assert stored.update([(b"key", b"")]) == {}
    assert stored.root == EMPTY_ROOT == trie.root([])
    stored.update([(b"key", b"v")])
    assert list(stored.records) == [b"N\0"]  # the root has a record however short it is
    assert stored.update([(b"key", b"")]) == {b"N\0": None}
    assert stored.root == EMPTY_ROOT


def test_update_that_changes_nothing_writes_nothing() -> None:
    stored = Stored()
    pairs = [(keccak256(bytes([n])), b"value" * n) for n in range(1, 50)]
    stored.update(pairs)
    assert stored.update(pairs) == {}
    assert stored.update([(keccak256(b"not there"), b"")]) == {}


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="twice"):
        trie.root([(b"a", b"1"), (b"a", b"2")])
    with pytest.raises(ValueError, match="too long"):
        trie.root([(bytes(257), b"1")])
    with pytest.raises(ValueError, match="32 bytes"):
        trie.update(dict[bytes, bytes]().get, b"", [], b"short")
    with pytest.raises(ValueError, match="nibbles"):
        trie.record_path(b"\x10")
    with pytest.raises(TypeError):
        trie.root([("a", b"1")])  # type: ignore[list-item]


def test_record_paths() -> None:
    assert trie.record_path(b"") == b"\0"
    assert trie.record_path(b"\x0a") == b"\xa0\1"
    assert trie.record_path(b"\x0a\x00") == b"\xa0\0"
    paths = [bytes(a) for n in range(5) for a in _nibbles(n)]
    assert [trie.record_path(path) for path in paths] == [record_path(path) for path in paths]
    assert len({trie.record_path(path) for path in paths}) == len(paths)


def _nibbles(length: int) -> Iterable[list[int]]:
    if length == 0:
        return [[]]
    return [[*rest, nibble] for rest in _nibbles(length - 1) for nibble in (0, 1, 10, 15)]


# --- the store may be damaged; callbacks may fail


def damaged(change: Any) -> Stored:
    stored = Stored()
    stored.update([(keccak256(bytes([n])), b"value %d" % n * 9) for n in range(100)])
    for key in list(stored.records):
        change(stored.records, key)
    return stored


def flip(records: Memory, key: bytes) -> None:
    if len(key) > 2:  # not the root: it has no parent that names it
        records[key] = bytes([records[key][0]]) + bytes(len(records[key]) - 1)


def test_damage_is_found() -> None:
    everything = [(keccak256(bytes([n])), b"new") for n in range(100)]
    stored = damaged(flip)
    with pytest.raises(Corrupt):
        stored.update(everything)
    stored = damaged(lambda records, key: records.pop(key) if len(key) > 2 else None)
    with pytest.raises(Corrupt):
        stored.update(everything)
    stored = damaged(lambda records, key: None)
    stored.root = keccak256(b"another")
    with pytest.raises(Corrupt):
        stored.update([])
    stored = damaged(lambda records, key: records.pop(key))
    with pytest.raises(Corrupt):
        stored.update([])


@given(st.binary(max_size=80))
def test_any_bytes_as_root_node(raw: bytes) -> None:
    items = [(b"", b"1"), (b"\x01", b""), (b"\x12\x34", b"2"), (b"\xf0", b"")]
    try:
        root, puts = trie.update({b"\0": raw}.get, b"", items)
    except Corrupt:
        return
    assert puts[b"\0"] is None or keccak256(puts[b"\0"]) == root


HASH = b"\x11" * 32
LEAF: list[RlpInput] = [b"\x31", b"x"]  # a key of one nibble
GOOD_NODE: list[RlpInput] = [LEAF, b"", LEAF, *[b""] * 14]
BAD_NODES: list[RlpInput] = [
    b"",
    b"\x05",
    [],
    [b"\x20"],
    [b"\x20", b"v", b"w"],
    [b"", b"v"],  # no flags
    [b"\x40", b"v"],  # unknown flag
    [b"\x21", b"v"],  # padding is not zero
    [b"\x20", b""],  # leaf without a value
    [b"\x20", [b"v"]],  # leaf with a list
    [[b"\x20"], b"v"],
    [b"\x31", b"v"],  # a key of half a byte
    [b"\x00", HASH],  # extension of nothing
    [b"\x11", b""],  # extension to nothing
    [b"\x11", b"short"],
    [b"\x11", LEAF],  # extension to a leaf
    [b"\x11", [b"\x20", b"x" * 31]],  # too long to be inline
    [b"\x20" + bytes(257), b"v"],  # a key past the bound
    [*[b""] * 16, b"v"],  # branch of one
    [LEAF, *[b""] * 16],
    GOOD_NODE[:16],
    [*GOOD_NODE, b""],
    [*GOOD_NODE[:16], [b"v"]],
    [*GOOD_NODE[:15], b"short", b""],
]


@pytest.mark.parametrize("node", BAD_NODES, ids=repr)
def test_malformed_node_is_corrupt(node: RlpInput) -> None:
    trie.update({b"\0": rlp_encode(GOOD_NODE)}.get, b"", [(b"\x11\x22", b"1"), (b"\x10", b"2")])
    with pytest.raises(Corrupt):
        trie.update({b"\0": rlp_encode(node)}.get, b"", [(b"\x11\x22", b"1"), (b"\x10", b"2")])


@pytest.mark.parametrize(
    "raw", ["", "c2", "c22078ff", "f8022078", "c381207a", "c58200207800", "c3208178", "ff", "b8"]
)
def test_malformed_rlp_is_corrupt(raw: str) -> None:
    with pytest.raises(Corrupt):
        trie.update({b"\0": bytes.fromhex(raw)}.get, b"", [(b"a", b"1")])


def test_exceptions_of_the_reader_come_through() -> None:
    def broken(key: bytes) -> bytes | None:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        trie.update(broken, b"", [(b"a", b"1")])
    with pytest.raises(TypeError, match="bytes"):
        trie.update(lambda key: bytearray(b"x"), b"", [(b"a", b"1")])  # type: ignore[arg-type,return-value]


# --- official vectors. trietestnextprev.json asks for the neighbours of a key in its order; this
# trie has no such question (the flat records answer it), so that file does not apply.


def cases(name: str) -> list[Any]:
    return list(json.loads((vectors("trie") / name).read_text()).values())


def text_bytes(text: str | None) -> bytes:
    if text is None:
        return b""
    return bytes.fromhex(text[2:]) if text.startswith("0x") else text.encode()


@pytest.mark.parametrize(
    ("name", "secure"),
    [
        ("trietest.json", False),
        ("trietest_secureTrie.json", True),
        ("trieanyorder.json", False),
        ("trieanyorder_secureTrie.json", True),
        ("hex_encoded_securetrie_test.json", True),
    ],
)
def test_official_vectors(name: str, secure: bool) -> None:
    for case in cases(name):
        inputs = case["in"].items() if isinstance(case["in"], dict) else case["in"]
        pairs = [(text_bytes(key), text_bytes(value)) for key, value in inputs]
        if secure:
            pairs = [(keccak256(key), value) for key, value in pairs]
        one_by_one, at_once = Stored(), Stored()
        for pair in pairs:
            one_by_one.update([pair])
        at_once.update(dict(pairs).items())
        assert one_by_one.root == at_once.root == bytes.fromhex(case["root"][2:])
        assert one_by_one.records == at_once.records
