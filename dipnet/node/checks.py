"""The pure and costly part of judging what comes in: decoding and signatures, on any thread.

It reads of the chain only what is replaced as a whole and never changed: who signs in which epoch,
and the final block.
"""

from collections.abc import Callable, Sequence
from typing import Any

from dipnet.consensus.chain.block import Block, decode_block
from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.finality import tally
from dipnet.consensus.finality.votes import Certificate, check_certificate, decode_certificate
from dipnet.dag import vertex
from dipnet.dag.vertex import Batch, Keys
from dipnet.ledger.genesis import Genesis
from dipnet.ledger.tx import decode_batch
from dipnet.primitives.errors import Invalid


class Checker:
    """Checks for one node; ``keys`` are the parsed keys of devices."""

    def __init__(self, genesis: Genesis, chain: Chain, keys: Keys) -> None:
        self._genesis = genesis
        self._chain = chain
        self._keys = keys

    def check(self, kind: str, items: Sequence[bytes]) -> object:
        """The pure and costly part of judging ``items``; any thread. Refusals are values."""
        match kind:
            case "txs" | "relayed":
                return decode_batch(items, self._genesis.chain_id)
            case "vertices":
                return self._checked(vertex.check_each, items)
            case "wire":
                return self._checked(vertex.check, items[0])
            case "blocks" | "synced":
                return [self._check_block(raw, kind == "blocks") for raw in items]
            case "votes":
                sets, final_slot = self._chain.sets.get, self._chain.final.slot
                return tally.check(items, sets, self._genesis.chain_id, final_slot)
            case "certificates":
                return [self._check_certificate(raw) for raw in items]
            case _:
                raise AssertionError(kind)

    def _checked(self, check: Callable[[Any, int, Keys], Batch], data: object) -> Batch | Invalid:
        try:
            return check(data, self._genesis.chain_id, self._keys)
        except Invalid as refused:
            return refused

    def _check_block(self, raw: bytes, pushed: bool) -> Block | Invalid:
        """A block, and whether a delegate has signed it, which nobody can know of later epochs.

        Only what we asked for may be of one.
        """
        try:
            return decode_block(raw, self._genesis, self._chain.signer_of if pushed else None)
        except Invalid as refused:
            return refused

    def _check_certificate(self, raw: bytes) -> Certificate | Invalid:
        """A certificate that may still matter: of what is settled anybody can keep thousands."""
        try:
            certificate = decode_certificate(raw)
            if certificate.ballot.slot <= self._chain.final.slot:
                raise Invalid("vote_old", f"slot {certificate.ballot.slot} is settled")
            members = self._chain.sets.get(certificate.ballot.epoch)
            if members is None:
                raise Invalid("vote_epoch", f"epoch {certificate.ballot.epoch}")
            check_certificate(certificate, members, self._genesis.chain_id)
        except Invalid as refused:
            return refused
        return certificate
