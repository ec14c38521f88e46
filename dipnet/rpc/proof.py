"""``eth_getStorageAt`` and ``eth_getProof`` (EIP-1186): state with the trie nodes that prove it.

Records of trie nodes are keyed by path (native/trie/trie.h), so a proof is one read a level. Every
node is compared with the hash in its parent, the root with the state root of the header.
"""

from collections.abc import Callable
from typing import Final

from dipnet._native import trie
from dipnet.ledger.state import EMPTY_ROOT, KEY_ACCOUNT_NODE, KEY_SLOT_NODE, Journal
from dipnet.primitives.codec import Rlp, rlp_decode, to_hex
from dipnet.primitives.crypto import keccak256
from dipnet.primitives.errors import Corrupt
from dipnet.rpc import lookup
from dipnet.rpc.backend import Backend
from dipnet.rpc.block_json import JsonObject, quantity
from dipnet.rpc.method import Param, RpcMethod
from dipnet.rpc.params import ADDRESS, BLOCK, WORD, WORDS, BlockRef

_KEY_NIBBLES: Final = 64


def _nibbles(raw: bytes) -> bytes:
    return bytes(nibble for byte in raw for nibble in (byte >> 4, byte & 15))


def _down(node: Rlp, key: bytes, at: int) -> tuple[Rlp, int]:
    """One step from ``node`` towards ``key`` (nibbles): the child, and the nibbles used up so far.

    The child is the hash of a record, an inlined node, or empty where the path ends.
    """
    if not isinstance(node, list) or len(node) not in (2, 17):
        raise Corrupt("a trie node is neither branch, extension nor leaf")
    if len(node) == 17:
        return node[key[at]], at + 1
    path, child = node
    if not isinstance(path, bytes) or not path:
        raise Corrupt("a trie node has no path")
    shared = _nibbles(path)[2 - (path[0] >> 4 & 1) :]  # hex prefix: Yellow Paper, appendix C
    ends = path[0] & 0x20
    if ends or key[at : at + len(shared)] != shared:
        return b"", at
    return child, at + len(shared)


def prove(
    get: Callable[[bytes], bytes | None], prefix: bytes, root: bytes, key: bytes
) -> list[bytes]:
    """The nodes (RLP) on the path from the root of the trie under ``prefix`` to ``key`` (unhashed).

    They prove the value of the key, or that it has none. Raises ``Corrupt`` where a node is missing
    or does not have the hash in its parent.
    """
    path = _nibbles(keccak256(key))
    proof: list[bytes] = []
    expected, at = root, 0
    while expected != EMPTY_ROOT:
        raw = get(prefix + trie.record_path(path[:at]))
        if raw is None or keccak256(raw) != expected:
            raise Corrupt("a trie node is missing or is not what its parent names")
        proof.append(raw)
        child: Rlp = rlp_decode(raw)
        while isinstance(child, list) and at < _KEY_NIBBLES:
            child, at = _down(child, path, at)
        if not isinstance(child, bytes) or len(child) != 32:
            break
        expected = child
    return proof


def get_storage_at(backend: Backend, address: bytes, slot: bytes, ref: BlockRef) -> str:
    return to_hex(lookup.journal(backend, ref).slot(address, slot).to_bytes(32, "big"))


def get_proof(
    backend: Backend, address: bytes, slots: tuple[bytes, ...], ref: BlockRef
) -> JsonObject:
    header, state = lookup.state(backend, ref)
    journal = Journal(state)
    account = journal.account(address)
    nodes = KEY_SLOT_NODE + address
    return {
        "address": to_hex(address),
        "accountProof": _shown(prove(state.get, KEY_ACCOUNT_NODE, header.state_root, address)),
        "balance": quantity(account.balance),
        "codeHash": to_hex(account.code_hash),
        "nonce": quantity(account.nonce),
        "storageHash": to_hex(account.storage_root),
        "storageProof": [
            {
                "key": to_hex(slot),
                "value": quantity(journal.slot(address, slot)),
                "proof": _shown(prove(state.get, nodes, account.storage_root, slot)),
            }
            for slot in slots
        ],
    }


def _shown(proof: list[bytes]) -> list[str]:
    return [to_hex(node) for node in proof]


_AT: Final = Param("block", BLOCK, "latest")
_STATE_ERRORS: Final = ("not_found", "not_canonical", "no_state")

METHODS: Final = (
    RpcMethod(
        "eth_getStorageAt",
        (Param("address", ADDRESS), Param("slot", WORD), _AT),
        get_storage_at,
        "32 bytes",
        "One word of an account's storage.",
        _STATE_ERRORS,
    ),
    RpcMethod(
        "eth_getProof",
        (Param("address", ADDRESS), Param("slots", WORDS), _AT),
        get_proof,
        "object of address, accountProof, balance, codeHash, nonce, storageHash, storageProof",
        "An account and words of its storage, with the trie nodes that prove them against the "
        "`stateRoot` of the block (EIP-1186).",
        _STATE_ERRORS,
    ),
)
