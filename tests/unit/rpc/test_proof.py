"""eth_getProof against py-trie, which shares no code with the state's trie."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import rlp
from hypothesis import given, settings
from hypothesis import strategies as st
from trie import HexaryTrie

from dipnet._native import trie as native
from dipnet.consensus.staking.idpos import DPOS_ADDRESS, METHODS
from dipnet.ledger.state import EMPTY_ROOT
from dipnet.primitives.codec import to_hex
from dipnet.primitives.crypto import keccak256
from dipnet.primitives.errors import Corrupt
from dipnet.rpc.proof import prove
from tests.fixtures.chain_builder import USERS, address_of, transfer
from tests.fixtures.rpc_node import Node, ask, error

ALICE = to_hex(address_of(USERS[0]))
NOBODY = "0x" + "99" * 20
DPOS = to_hex(DPOS_ADDRESS)
STAKED = 0x0701 * 10**15
ALICE_STAKE = to_hex(keccak256(address_of(USERS[0]).rjust(32, b"\0") + (1).to_bytes(32)))
EMPTY = to_hex(b"\xee" * 32)
"""A storage key without a value."""


def value(root: bytes, key: bytes, proof: Sequence[bytes]) -> bytes:
    """The value that py-trie reads from a proof."""
    nodes = [rlp.decode(node) for node in proof]
    return bytes(HexaryTrie.get_from_proof(root, keccak256(key), nodes))


def octets(shown: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(node[2:]) for node in shown]


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.binary(min_size=1, max_size=3), st.binary(min_size=1, max_size=40),
                       max_size=40), st.binary(min_size=1, max_size=3))  # fmt: skip
def test_any_trie_proves_what_it_has_and_what_it_has_not(
    items: dict[bytes, bytes], absent: bytes
) -> None:
    hashed = [(keccak256(key), stored) for key, stored in items.items()]
    root, puts = native.update(dict[bytes, bytes]().get, b"N", hashed)
    assert (root == EMPTY_ROOT) == (not items)
    for key in [*items, absent] if items else []:
        proof = prove(puts.get, b"N", root, key)
        assert value(root, key, proof) == items.get(key, b"")


def test_an_empty_trie_has_an_empty_proof() -> None:
    assert prove(dict[bytes, bytes]().get, b"N", EMPTY_ROOT, b"key") == []


def test_an_altered_node_is_our_damage() -> None:
    items = [(keccak256(bytes((n,))), bytes(40)) for n in range(50)]
    root, puts = native.update(dict[bytes, bytes]().get, b"N", items)
    for key, node in puts.items():
        assert node is not None
        broken = dict(puts) | {key: node[:-1] + bytes((node[-1] ^ 1,))}
        with pytest.raises(Corrupt):
            prove_all(broken, root)


def prove_all(nodes: Mapping[bytes, bytes | None], root: bytes) -> None:
    for number in range(50):
        prove(nodes.get, b"N", root, bytes((number,)))


@pytest.fixture
def node() -> Node:
    return Node()


def test_accounts_and_storage(node: Node) -> None:
    """A stake is proven by Solidity's layout: the first word of ``accounts[ALICE]``, variable 1."""
    stake = METHODS["stake"].call_data()
    tx = transfer(USERS[0], 0, DPOS_ADDRESS, STAKED, data=stake, gas=200_000)
    ask(node, "eth_sendRawTransaction", to_hex(tx.raw))
    node.produce()
    for place in ("latest", "finalized", {"blockNumber": "0x1"}):
        check(node, place)
    assert ask(node, "eth_getStorageAt", DPOS, ALICE_STAKE) == to_hex(STAKED.to_bytes(32))
    assert ask(node, "eth_getStorageAt", DPOS, ALICE_STAKE, "earliest") == to_hex(bytes(32))
    assert ask(node, "eth_getCode", DPOS) == "0xfe"


def check(node: Node, place: Any) -> None:
    state_root = bytes.fromhex(ask(node, "eth_getBlockByNumber", "latest")["stateRoot"][2:])
    for account in (ALICE, NOBODY, DPOS):
        answer = ask(node, "eth_getProof", account, [ALICE_STAKE, EMPTY], place)
        raw = value(state_root, bytes.fromhex(account[2:]), octets(answer["accountProof"]))
        assert bool(raw) == (account != NOBODY)
        if raw:
            nonce, balance, storage_root, code_hash = rlp.decode(raw)
            assert int(answer["nonce"], 16) == int.from_bytes(nonce, "big")
            assert int(answer["balance"], 16) == int.from_bytes(balance, "big")
            assert answer["storageHash"] == to_hex(storage_root)
            assert answer["codeHash"] == to_hex(code_hash)
        assert [shown["key"] for shown in answer["storageProof"]] == [ALICE_STAKE, EMPTY]
        for shown in answer["storageProof"]:
            key, proof = bytes.fromhex(shown["key"][2:]), octets(shown["proof"])
            stored = STAKED if (account, shown["key"]) == (DPOS, ALICE_STAKE) else 0
            assert int(shown["value"], 16) == stored
            assert bool(proof) == (account == DPOS)
            if proof:
                held = value(bytes.fromhex(answer["storageHash"][2:]), key, proof)
                assert held == (rlp.encode(stored) if stored else b"")


def test_pruned_state_is_refused(node: Node) -> None:
    assert error(node, "eth_getProof", ALICE, [], "0x9")[0] == "not_found"
