"""Blocks: the header, the body, their bytes, and every rule that needs no chain to check.

``decode_block`` is pure and may run on any thread; all signatures of a block are recovered in it,
the transactions' in one native call. What it passes still lacks a parent: slot order, leader,
fees, state and finality are the chain's to judge (``rules.py``, ``chain.py``).

Until the finality protocol and the anchors of the DAG arrive, their fields of the header hold the
one honest value that there is, and nothing else is valid (ADR 10).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dipnet.codec import Bin, Many, Puts, pack, rlp_encode, unpack
from dipnet.consensus.header import BLOOM_BYTES, HASH_ZERO, HEADER_BYTES_MAX, Header, decode_header
from dipnet.consensus.schedule import epoch_of, genesis_set, set_digest, slot_start_ms
from dipnet.crypto import ADDRESS_ZERO, keccak256, recover, sha256
from dipnet.errors import Invalid
from dipnet.genesis import Genesis
from dipnet.state import Journal, trie_root
from dipnet.tx import TX_BYTES_MAX, Tx, decode_batch, decode_known

BLOCK_VERSION: Final = 1
SIGNATURE_BYTES: Final = 65
CERTIFICATE_BYTES_MAX: Final = 8192  # 101 delegates: 4,352 bytes and the bitmap
TX_GAS_MIN: Final = 21_000  # EIP-2: no transaction costs less

NO_CERTIFICATE: Final = b""
CERT_ROOT_EMPTY: Final = keccak256(NO_CERTIFICATE)
DAG_ROOT_EMPTY: Final = sha256(b"")  # RFC 6962 2.1: the tree of no leaves

_HASH = Bin(32)


@dataclass(frozen=True, slots=True)
class Block:
    """A header with its proposer's signature (65 bytes; none in genesis) and its body."""

    header: Header
    signature: bytes
    txs: tuple[Tx, ...]
    certificate: bytes
    frontier: tuple[bytes, ...]
    raw: bytes = field(repr=False)

    @property
    def hash(self) -> bytes:
        """The block's id: the hash of its header."""
        return self.header.hash


def decode_block(
    raw: bytes, genesis: Genesis, leader: Callable[[int], bytes] | None = None
) -> Block:
    """The block in ``raw``, checked against all rules that need no other block.

    ``leader`` gives the address that may propose in a slot: with it, the costly part of a body is
    judged only if a delegate has signed for it, so that no stranger makes us recover thousands of
    senders for nothing.

    Raises ``Invalid``: ``oversized``, ``record``, ``chain_id``, ``block_form`` (a field that
    cannot have this value), ``block_tx`` (a transaction that is none), ``block_root`` (body and
    header disagree), ``block_signature``, ``block_leader``.
    """
    header_raw, signature, tx_raws, certificate, frontier = _unpack_block(raw, genesis)
    header = decode_header(header_raw)
    check_fields(header, fixed_fields(genesis, header.slot))
    if leader is not None and leader(header.slot) != header.proposer:
        raise Invalid("block_leader", f"slot {header.slot}")
    _check_signature(header, signature)
    if header.cert_root != keccak256(certificate):
        raise Invalid("block_root", "cert_root")
    if header.tx_root != ordered_root(tx_raws):
        raise Invalid("block_root", "tx_root")
    txs = []
    for index, tx in enumerate(decode_batch(tx_raws, genesis.chain_id)):
        if isinstance(tx, Invalid):
            raise Invalid("block_tx", f"transaction {index}: {tx}")
        txs.append(tx)
    return Block(header, signature, tuple(txs), certificate, tuple(frontier), raw)


def stored_block(raw: bytes, genesis: Genesis, senders: Sequence[bytes]) -> Block:
    """The block in ``raw``, which was judged and stored with its senders: recovers nothing.

    Raises ``Invalid`` when the bytes are not those of a block with so many transactions.
    """
    header_raw, signature, tx_raws, certificate, frontier = _unpack_block(raw, genesis)
    header = decode_header(header_raw)
    if header.tx_root != ordered_root(tx_raws) or len(senders) != len(tx_raws):
        raise Invalid("block_root", "tx_root")
    pairs = zip(tx_raws, senders, strict=True)
    txs = tuple(decode_known(tx_raw, genesis.chain_id, sender) for tx_raw, sender in pairs)
    return Block(header, signature, txs, certificate, tuple(frontier), raw)


def seal(header: Header, txs: Sequence[Tx], signature: bytes) -> Block:
    """The block of ``header`` and ``txs`` under the signature of ``header.proposal_digest``."""
    raws = [tx.raw for tx in txs]
    raw = pack((BLOCK_VERSION, header.raw, signature, raws, NO_CERTIFICATE, ()))
    return Block(header, signature, tuple(txs), NO_CERTIFICATE, (), raw)


def header_of(raw: bytes) -> Header:
    """The header of a block that we stored: its body is not looked at.

    Raises ``Invalid`` when the bytes before the body are not those of a block.
    """
    size = int.from_bytes(raw[3:5], "big")  # after 0x96, version, 0xc5: an array, a bin of 16 bits
    if raw[2:3] != b"\xc5" or size > HEADER_BYTES_MAX:
        raise Invalid("record", "no header where the stored block begins")
    return decode_header(raw[5 : 5 + size])


def _unpack_block(raw: bytes, genesis: Genesis) -> list[Any]:
    """The parts of the record without its version: header, signature, txs, certificate, frontier.

    No block holds more transactions than its gas limit pays for, nor, yet, a frontier.
    """
    txs = Many(Bin(1, TX_BYTES_MAX), genesis.gas_limit // TX_GAS_MIN)
    shape = (
        BLOCK_VERSION, Bin(0, HEADER_BYTES_MAX), Bin(SIGNATURE_BYTES), txs,
        Bin(0, CERTIFICATE_BYTES_MAX), Many(_HASH, 0),
    )  # fmt: skip
    return unpack(raw, shape, genesis.block_bytes_max)[1:]


def fixed_fields(genesis: Genesis, slot: int) -> dict[str, Any]:
    """The fields of a header that follow from its slot alone. Producer and validator share it."""
    return {
        "chain_id": genesis.chain_id,
        "slot": slot,
        "epoch": epoch_of(genesis, slot),
        "timestamp_ms": slot_start_ms(genesis, slot),
        "gas_limit": genesis.gas_limit,
        "cert_root": CERT_ROOT_EMPTY,
        "seed_reveal": HASH_ZERO,
        "seed_commitment": HASH_ZERO,
        "dag_root": DAG_ROOT_EMPTY,
        "dag_count": 0,
        "dag_bytes": 0,
    }


def check_fields(header: Header, expected: dict[str, Any]) -> None:
    """Raise ``Invalid("block_form")`` naming the first field that differs from ``expected``."""
    for name, value in expected.items():
        if getattr(header, name) != value:
            raise Invalid("block_form", name)


def _check_signature(header: Header, signature: bytes) -> None:
    try:
        signer = recover(header.proposal_digest, signature)
    except Invalid as refused:
        raise Invalid("block_signature", str(refused)) from None
    if signer != header.proposer:
        raise Invalid("block_signature", "not by the proposer")


class _Nothing:
    """The disk before genesis, as a ``Reader``."""

    def get(self, key: bytes, /) -> bytes | None:
        return None

    def scan(
        self, prefix: bytes, start: bytes = b"", reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        return iter(())


def genesis_block(genesis: Genesis) -> tuple[Block, Puts]:
    """The first block and the state records of its balances; its hash names the network.

    Its ``seed_reveal`` is the digest of genesis.json, so that two networks which differ in any
    parameter differ in their first hash (ADR 11).
    """
    journal = Journal(_Nothing())
    for address, amount in sorted(genesis.balances.items()):
        journal.add_balance(address, amount)
    state_root, state = journal.commit()
    fields = fixed_fields(genesis, 0) | {"seed_reveal": keccak256(genesis.encode())}
    header = Header(
        parent=HASH_ZERO,
        height=0,
        proposer=ADDRESS_ZERO,
        state_root=state_root,
        tx_root=ordered_root([]),
        receipt_root=ordered_root([]),
        logs_bloom=bytes(BLOOM_BYTES),
        gas_used=0,
        base_fee=genesis.base_fee_initial,
        justify=(HASH_ZERO, 0, 0),
        final=(HASH_ZERO, 0),
        next_set_hash=set_digest(0, genesis_set(genesis)),
        dag_acc=HASH_ZERO,
        **fields,
    )
    return seal(header, (), b""), state


def ordered_root(values: Sequence[bytes]) -> bytes:
    """Root of the Merkle Patricia trie rlp(index) -> value, as of transactions and receipts."""
    return trie_root([(rlp_encode(index), value) for index, value in enumerate(values)])
