"""Decoding and signatures: the pure and costly part of judging items, on any thread.

Of the chain ``Checker`` reads only values that are replaced as a whole and never changed: the set
of delegates of each epoch, and the final block.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from dipnet.consensus.chain.block import Block, decode_block
from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.finality import tally
from dipnet.consensus.finality.votes import (
    Certificate,
    Vote,
    check_certificate,
    decode_certificate,
)
from dipnet.dag import vertex
from dipnet.dag.vertex import Batch, Keys
from dipnet.ledger.genesis import Genesis
from dipnet.ledger.tx import Tx, decode_batch
from dipnet.primitives.errors import Invalid

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class _Checked(Generic[_Item]):
    """For each byte string of a piece of work the item that it encodes, or the refusal."""

    results: tuple[_Item | Invalid, ...]

    @property
    def refused(self) -> tuple[Invalid, ...]:
        """The refusals alone."""
        return tuple(result for result in self.results if isinstance(result, Invalid))


class CheckedTxs(_Checked[Tx]):
    """Transactions of right form whose senders are recovered, or why not."""

    __slots__ = ()


class CheckedBlocks(_Checked[Block]):
    """Blocks that keep all rules that need no other block, or why not."""

    __slots__ = ()


class CheckedVotes(_Checked[Vote]):
    """Votes that a member of a known set has signed, or why not."""

    __slots__ = ()


class CheckedCertificates(_Checked[Certificate]):
    """Certificates that a quorum of a known set has signed, or why not."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class CheckedVertices:
    """A verdict for each vertex, or the refusal of all of them."""

    batch: Batch | Invalid

    @property
    def refused(self) -> tuple[Invalid, ...]:
        """The refusal of the whole batch, if any; the batch itself has the refusals of single
        vertices."""
        return (self.batch,) if isinstance(self.batch, Invalid) else ()


Checked = CheckedTxs | CheckedVertices | CheckedBlocks | CheckedVotes | CheckedCertificates


class Checker:
    """Checks for one node; ``keys`` are the parsed keys of devices. Refusals are values."""

    def __init__(self, genesis: Genesis, chain: Chain, keys: Keys) -> None:
        self._genesis = genesis
        self._chain = chain
        self._keys = keys

    def txs(self, raws: Sequence[bytes]) -> CheckedTxs:
        """Refusals as ``decode_batch``."""
        return CheckedTxs(tuple(decode_batch(raws, self._genesis.chain_id)))

    def vertices(self, wires: Sequence[bytes]) -> CheckedVertices:
        """Byte strings of one vertex each, as a client sends them."""
        return self._vertices(lambda: vertex.check_each(wires, self._genesis.chain_id, self._keys))

    def concatenated(self, wire: bytes) -> CheckedVertices:
        """Concatenated vertices, as peers send them."""
        return self._vertices(lambda: vertex.check(wire, self._genesis.chain_id, self._keys))

    def pushed_blocks(self, raws: Sequence[bytes]) -> CheckedBlocks:
        """Blocks that we did not ask for: a known delegate must have signed each."""
        return CheckedBlocks(tuple(self._block(raw, signed=True) for raw in raws))

    def synced_blocks(self, raws: Sequence[bytes]) -> CheckedBlocks:
        """Blocks that we asked for: of later epochs it is not known yet which delegates sign."""
        return CheckedBlocks(tuple(self._block(raw, signed=False) for raw in raws))

    def votes(self, raws: Sequence[bytes]) -> CheckedVotes:
        """Refusals as ``tally.check``."""
        sets, final_slot = self._chain.sets.get, self._chain.final.slot
        return CheckedVotes(tuple(tally.check(raws, sets, self._genesis.chain_id, final_slot)))

    def certificates(self, raws: Sequence[bytes]) -> CheckedCertificates:
        """Refusals: those of ``decode_certificate`` and ``check_certificate``, ``vote_old`` (its
        slot is final) and ``vote_epoch`` (its set is not known)."""
        return CheckedCertificates(tuple(self._certificate(raw) for raw in raws))

    def _vertices(self, check: Callable[[], Batch]) -> CheckedVertices:
        try:
            return CheckedVertices(check())
        except Invalid as refused:
            return CheckedVertices(refused)

    def _block(self, raw: bytes, signed: bool) -> Block | Invalid:
        try:
            return decode_block(raw, self._genesis, self._chain.signer_of if signed else None)
        except Invalid as refused:
            return refused

    def _certificate(self, raw: bytes) -> Certificate | Invalid:
        try:
            certificate = decode_certificate(raw)
            # A peer can keep thousands of old certificates and send them again.
            if certificate.ballot.slot <= self._chain.final.slot:
                raise Invalid("vote_old", f"slot {certificate.ballot.slot} is settled")
            members = self._chain.sets.get(certificate.ballot.epoch)
            if members is None:
                raise Invalid("vote_epoch", f"epoch {certificate.ballot.epoch}")
            check_certificate(certificate, members, self._genesis.chain_id)
        except Invalid as refused:
            return refused
        return certificate
