"""Which block a request means, and what the chain knows of it. All reads of the chain are here."""

from collections.abc import Sequence

from dipnet.codec import to_hex
from dipnet.consensus.block import Block, Header
from dipnet.errors import Corrupt, Invalid
from dipnet.rpc.backend import Backend
from dipnet.rpc.params import BlockRef, ByHash
from dipnet.state import Account, Journal
from dipnet.vm.receipt import Receipt


def find(backend: Backend, ref: BlockRef) -> Header | None:
    """The header that ``ref`` names, None when there is none. "pending" has the head's state."""
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
    if ref in ("safe", "finalized"):
        return chain.final
    return chain.head


def need(backend: Backend, ref: BlockRef) -> Header:
    """The same, or ``Invalid("not_found")``."""
    header = find(backend, ref)
    if header is None:
        shown = to_hex(ref.hash) if isinstance(ref, ByHash) else str(ref)
        raise Invalid("not_found", f"block {shown}")
    return header


def block(backend: Backend, header: Header) -> Block:
    """The whole block of a header that the chain gave us."""
    found = backend.chain.block(header.hash)
    if found is None:
        raise Corrupt(f"block {to_hex(header.hash)} has a header and no body")
    return found


def receipts(backend: Backend, header: Header) -> Sequence[Receipt]:
    """Its receipts, in the order of its transactions."""
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


def _journal(backend: Backend, ref: BlockRef) -> Journal:
    header = need(backend, ref)
    state = backend.chain.state(header.hash)
    if state is None:
        raise Invalid("no_state", f"state at height {header.height} is not kept")
    return Journal(state)


def account(backend: Backend, address: bytes, ref: BlockRef) -> Account:
    """The account at that block; ``Invalid("no_state")`` where the state is not kept."""
    return _journal(backend, ref).account(address)


def code(backend: Backend, address: bytes, ref: BlockRef) -> bytes:
    """Its code, empty when it has none."""
    return _journal(backend, ref).code(address)
