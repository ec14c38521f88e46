"""Blocks: header, body, bytes, and every rule that can be checked without the chain.

``decode_block`` is pure and may run on any thread. It recovers all signatures of a block, those of
the transactions in one native call. ``Chain.on_block`` then judges what needs the parent: slot,
leader, fees, state, certificates and finality.

A block anchors no vertices yet: the fields of its header for the DAG have constant values, and
other values are invalid (ADR 10).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dipnet.consensus.finality.header import (
    BLOOM_BYTES,
    HASH_ZERO,
    HEADER_BYTES_MAX,
    Header,
    decode_header,
)
from dipnet.consensus.finality.members import Members
from dipnet.consensus.finality.votes import (
    CERTIFICATE_BYTES_MAX,
    SIGNATURE_BYTES,
    BallotKind,
    Certificate,
    decode_certificate,
)
from dipnet.consensus.staking import idpos
from dipnet.ledger.genesis import Genesis
from dipnet.ledger.parameters import BLOCK_BYTES_MAX
from dipnet.ledger.state import Journal, trie_root
from dipnet.ledger.tx import TX_BYTES_MAX, Tx, decode_batch, decode_known
from dipnet.primitives.codec import Bin, Many, Puts, pack, rlp_encode, unpack, unpack_start
from dipnet.primitives.crypto import ADDRESS_ZERO, keccak256, recover, sha256
from dipnet.primitives.errors import Invalid

BLOCK_VERSION: Final = 1
CERTIFICATES_MAX: Final = 2  # a prevote certificate and a commit certificate (ADR 60)
TX_BYTES_MIN: Final = 96  # of any signed transaction

DAG_ROOT_EMPTY: Final = sha256(b"")  # RFC 6962 2.1: the tree of no leaves

_BLOCK: Final = (
    BLOCK_VERSION, Bin(0, HEADER_BYTES_MAX), Bin(SIGNATURE_BYTES),
    Many(Bin(1, TX_BYTES_MAX), BLOCK_BYTES_MAX // TX_BYTES_MIN),
    Many(Bin(0, CERTIFICATE_BYTES_MAX), CERTIFICATES_MAX), Many(Bin(32), 0),
)  # fmt: skip
HEADER_END_MAX: Final = HEADER_BYTES_MAX + 8
"""Where the header of a block's record ends at most: heads of array and bytes, and the version."""


@dataclass(frozen=True, slots=True)
class Block:
    """A header with its proposer's signature (65 bytes; none in genesis) and its body.

    ``signer`` is the address (20 bytes) of the key that signed, which is recovered once, when the
    block is judged; empty in genesis and in a block that was read from our disk.
    """

    header: Header
    signature: bytes
    signer: bytes
    txs: tuple[Tx, ...]
    certificates: tuple[Certificate, ...]
    frontier: tuple[bytes, ...]
    raw: bytes = field(repr=False)

    @property
    def hash(self) -> bytes:
        """The block's id: the hash of its header."""
        return self.header.hash


def decode_block(
    raw: bytes, genesis: Genesis, signer_of: Callable[[Header], bytes] | None = None
) -> Block:
    """The block in ``raw``, bytes of a peer, checked against all rules that need no other block.

    ``signer_of`` gives the address of the key that may sign for the proposer of a header, or
    raises. With it the costly part of the body is judged only after a delegate's signature, so that
    nobody else can make the node recover thousands of senders.

    Raises ``Invalid``: ``oversized``, ``record``, ``chain_id``, ``block_form`` (a field of the
    header has an impossible value), ``block_tx`` (a malformed transaction), ``block_root`` (body
    and header disagree), ``block_signature``, and the codes of ``decode_certificate`` and
    ``signer_of``.
    """
    header_raw, signature, tx_raws, sections, frontier = _unpack_block(raw)
    header = decode_header(header_raw)
    check_fields(header, constant_fields(genesis))
    wanted = signer_of(header) if signer_of is not None else None
    signer = _signer(header, signature)
    if wanted is not None and signer != wanted:
        raise Invalid("block_signature", "not by the proposer")
    certificates = _certificates(header, sections)
    if header.tx_root != ordered_root(tx_raws):
        raise Invalid("block_root", "tx_root")
    txs = []
    for index, tx in enumerate(decode_batch(tx_raws, genesis.chain_id)):
        if isinstance(tx, Invalid):
            raise Invalid("block_tx", f"transaction {index}: {tx}")
        txs.append(tx)
    return Block(header, signature, signer, tuple(txs), certificates, tuple(frontier), raw)


def _certificates(header: Header, sections: list[bytes]) -> tuple[Certificate, ...]:
    """The certificates of a block; ``Invalid`` unless they are at most a prevote certificate and
    then a commit certificate. Signatures are not verified here."""
    if header.cert_root != cert_root(sections):
        raise Invalid("block_root", "cert_root")
    certificates = tuple(decode_certificate(raw) for raw in sections)
    kinds = [certificate.ballot.kind for certificate in certificates]
    if len(kinds) == CERTIFICATES_MAX and kinds != [BallotKind.PREVOTE, BallotKind.COMMIT]:
        raise Invalid("certificate_form", "a block has at most one certificate of each kind")
    return certificates


def cert_root(sections: Sequence[bytes]) -> bytes:
    """The ``cert_root`` (32 bytes) of a header: keccak256 of the certificates' records, joined."""
    return keccak256(b"".join(sections))


def stored_block(raw: bytes, header: Header, chain_id: int, senders: Sequence[bytes]) -> Block:
    """The block in ``raw``, a record of our disk that was judged before it was written.

    ``header`` and ``senders`` (addresses, in the order of the transactions) come from the disk as
    well. No root is computed and no signature recovered: ``signer`` is empty. Never for the bytes
    of a peer, which ``decode_block`` judges. Raises ``Invalid`` where these cannot be the bytes of
    a block with this header and so many transactions.
    """
    header_raw, signature, tx_raws, sections, frontier = _unpack_block(raw)
    if header_raw != header.raw or len(senders) != len(tx_raws):
        raise Invalid("record", "another header, or another number of transactions")
    pairs = zip(tx_raws, senders, strict=True)
    txs = tuple(decode_known(tx_raw, chain_id, sender) for tx_raw, sender in pairs)
    certificates = tuple(decode_certificate(section) for section in sections)
    return Block(header, signature, b"", txs, certificates, tuple(frontier), raw)


def stored_header(raw: bytes) -> Header:
    """The header of the block in ``raw``, a record of our disk; the body is not looked at.

    Raises ``Invalid("record")`` where no block with a header begins so.
    """
    return decode_header(_header_bytes(raw))


def claimed_id(raw: bytes) -> bytes:
    """The id (32 bytes) of the block in ``raw``, bytes of a peer of which nothing is judged.

    It is the hash of the bytes that stand where a block has its header. Raises
    ``Invalid("record")`` where there are none.
    """
    return keccak256(_header_bytes(raw))


def seal(
    header: Header,
    txs: Sequence[Tx],
    signature: bytes,
    signer: bytes = b"",
    certificates: Sequence[Certificate] = (),
) -> Block:
    """The block of a header and its body; ``signature`` (65 bytes) is of the proposal's digest."""
    raws = [tx.raw for tx in txs]
    sections = [certificate.raw for certificate in certificates]
    raw = pack((BLOCK_VERSION, header.raw, signature, raws, sections, ()))
    return Block(header, signature, signer, tuple(txs), tuple(certificates), (), raw)


def _unpack_block(raw: bytes) -> list[Any]:
    """The parts of the record without its version: header, signature, txs, certificates, frontier.

    ``BLOCK_BYTES_MAX`` bounds the blocks of every network; ``Chain.on_block`` applies the parameter
    of the block's epoch.
    """
    return unpack(raw, _BLOCK, BLOCK_BYTES_MAX)[1:]


def _header_bytes(raw: bytes) -> bytes:
    """The bytes of the header at the start of a block's record."""
    header: bytes = unpack_start(raw, _BLOCK, 2, HEADER_END_MAX)[1]
    return header


def constant_fields(genesis: Genesis) -> dict[str, Any]:
    """The header's fields that are the same in every block of a network, by name."""
    return {
        "chain_id": genesis.chain_id,
        "dag_root": DAG_ROOT_EMPTY,
        "dag_count": 0,
        "dag_bytes": 0,
    }


def check_fields(header: Header, expected: dict[str, Any]) -> None:
    """Raise ``Invalid("block_form")`` naming the first field that differs from ``expected``."""
    for name, value in expected.items():
        if getattr(header, name) != value:
            raise Invalid("block_form", name)


def _signer(header: Header, signature: bytes) -> bytes:
    try:
        return recover(header.proposal_digest, signature)
    except Invalid as refused:
        raise Invalid("block_signature", str(refused)) from None


class _Nothing:
    """The disk before genesis, as a ``Reader``."""

    def get(self, key: bytes, /) -> bytes | None:
        return None

    def scan(
        self, prefix: bytes, start: bytes = b"", reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        return iter(())


def genesis_members(genesis: Genesis) -> Members:
    """The set of epochs 0 and 1: the first ``delegates_active`` delegates of genesis.json."""
    active = genesis.delegates[: genesis.parameters.delegates_active]
    return Members.of((delegate.address, delegate.public_key) for delegate in active)


def genesis_block(genesis: Genesis) -> tuple[Block, Puts]:
    """The first block, whose hash names the network, and the records of its state.

    ``seed_reveal`` is the digest of genesis.json: networks that differ in a parameter differ in
    the hash of their first block (ADR 11).
    """
    journal = Journal(_Nothing())
    for address, amount in sorted(genesis.balances.items()):
        journal.add_balance(address, amount)
    members = genesis_members(genesis)
    idpos.genesis_state(journal, genesis)
    state_root, state = journal.commit()
    header = Header(
        **constant_fields(genesis),
        parent=HASH_ZERO,
        height=0,
        slot=0,
        epoch=0,
        timestamp_ms=genesis.time_ms,
        proposer=ADDRESS_ZERO,
        state_root=state_root,
        tx_root=ordered_root([]),
        receipt_root=ordered_root([]),
        logs_bloom=bytes(BLOOM_BYTES),
        gas_limit=genesis.parameters.gas_limit,
        gas_used=0,
        base_fee=genesis.base_fee_initial,
        justify=(HASH_ZERO, 0, 0),
        final=(HASH_ZERO, 0),
        cert_root=cert_root([]),
        next_set_hash=members.digest(0),
        seed_reveal=keccak256(genesis.encode()),
        seed_commitment=HASH_ZERO,
        dag_acc=HASH_ZERO,
    )
    return seal(header, (), b""), state


def ordered_root(values: Sequence[bytes]) -> bytes:
    """The root (32 bytes) of the Merkle Patricia trie rlp(index) -> value.

    As Ethereum's roots of transactions and receipts.
    """
    return trie_root([(rlp_encode(index), value) for index, value in enumerate(values)])
