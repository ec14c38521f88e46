"""Finds the block that a request names, and reads its body, receipts and state from the chain."""

from collections.abc import Sequence

from dipnet.consensus.chain.block import Block
from dipnet.consensus.finality.header import Header
from dipnet.consensus.staking.block_context import DPOS_ADDRESS
from dipnet.ledger.state import Account, Journal
from dipnet.primitives.codec import Reader, to_hex
from dipnet.primitives.errors import Corrupt, Invalid
from dipnet.rpc.backend import Backend
from dipnet.rpc.params import BlockRef, ByHash
from dipnet.vm.receipt import Receipt
from dipnet.vm.storage_layout import JournalStorage, StorageSlot


def find(backend: Backend, ref: BlockRef) -> Header | None:
    """The header that ``ref`` names, or None.

    "finalized" is the highest block that a commit certificate makes final, "safe" the highest block
    with a prevote certificate; "pending" and "latest" are the head.
    Raises ``Invalid("not_canonical")`` (EIP-1898).
    """
    chain = backend.chain
    if isinstance(ref, ByHash):
        header = chain.header(ref.hash)
        if header is not None and ref.canonical and chain.hash_at(header.height) != ref.hash:
            raise Invalid("not_canonical", to_hex(ref.hash))
        return header
    if isinstance(ref, int):
        block_hash = chain.hash_at(ref)
        return None if block_hash is None else chain.header(block_hash)
    if ref == "earliest":
        return find(backend, 0)
    if ref == "finalized":
        return chain.final
    return chain.safe if ref == "safe" else chain.head


def need(backend: Backend, ref: BlockRef) -> Header:
    """The header that ``ref`` names; raises ``Invalid("not_found")`` where there is none."""
    header = find(backend, ref)
    if header is None:
        shown = to_hex(ref.hash) if isinstance(ref, ByHash) else str(ref)
        raise Invalid("not_found", f"block {shown}")
    return header


def block(backend: Backend, header: Header) -> Block:
    """The whole block of a header of the chain; raises ``Corrupt`` where the body is missing."""
    found = backend.chain.block(header.hash)
    if found is None:
        raise Corrupt(f"block {to_hex(header.hash)} has a header and no body")
    return found


def receipts(backend: Backend, header: Header) -> Sequence[Receipt]:
    """The receipts of a block of the chain, in the order of its transactions, or ``Corrupt``."""
    found = backend.chain.receipts(header.hash)
    if found is None:
        raise Corrupt(f"block {to_hex(header.hash)} has no receipts")
    return found


def place(backend: Backend, tx_hash: bytes) -> tuple[Block, int] | None:
    """The canonical block that holds the transaction, and its index there."""
    found = backend.chain.transaction(tx_hash)
    if found is None:
        return None
    block_hash, index = found
    header = backend.chain.header(block_hash)
    if header is None:
        raise Corrupt(f"transaction {to_hex(tx_hash)} is in a block that is not here")
    return block(backend, header), index


def state(backend: Backend, ref: BlockRef) -> tuple[Header, Reader]:
    """The header that ``ref`` names and the state after it; raises ``Invalid("no_state")``."""
    header = need(backend, ref)
    found = backend.chain.state(header.hash)
    if found is None:
        raise Invalid("no_state", f"state at height {header.height} is not kept")
    return header, found


def journal(backend: Backend, ref: BlockRef) -> Journal:
    """A journal over the state after the block that ``ref`` names, for reads and trial calls."""
    return Journal(state(backend, ref)[1])


def contract(backend: Backend, ref: BlockRef) -> StorageSlot:
    """IDpos' storage after the block that ``ref`` names; valid until the chain's next block."""
    return StorageSlot(JournalStorage(journal(backend, ref), DPOS_ADDRESS))


def account(backend: Backend, address: bytes, ref: BlockRef) -> Account:
    """The account after the block that ``ref`` names; raises ``Invalid("no_state")``."""
    return journal(backend, ref).account(address)


def code(backend: Backend, address: bytes, ref: BlockRef) -> bytes:
    """The code of the account after the block that ``ref`` names, or empty."""
    return journal(backend, ref).code(address)
