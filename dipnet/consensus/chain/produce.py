"""The making of a block: the choice of its body, and the header that commits to the body.

The result is unsigned. The caller asks the signer to sign ``draft.header.proposal``, seals the
block and gives it to ``Chain.on_block`` like the block of another delegate.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dipnet.consensus.chain import reports, rules, schedule
from dipnet.consensus.chain.block import (
    Block,
    cert_root,
    constant_fields,
    ordered_root,
    seal,
)
from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.chain.execute import Execution
from dipnet.consensus.chain.pool import Pool
from dipnet.consensus.chain.rules import BlockPosition
from dipnet.consensus.finality.header import HEADER_BYTES_MAX, Header
from dipnet.consensus.finality.tally import Offence
from dipnet.consensus.finality.votes import Certificate
from dipnet.consensus.staking.evidence import REPORTER
from dipnet.ledger.tx import TX_GAS, Tx
from dipnet.primitives.crypto import address
from dipnet.primitives.errors import Invalid

log = logging.getLogger("dipnet.produce")

PROPOSAL_TXS_MAX: Final = 5_000
"""The most transactions that a proposal tries, to be ready within its slot; no rule of blocks."""

BIN_HEAD_BYTES_MAX: Final = 5
"""The bytes before the content of a byte string in a record, at most (MessagePack "bin")."""

BODY_BYTES_MIN: Final = HEADER_BYTES_MAX + 128
"""The bytes of a block without transactions and certificates, at most."""


@dataclass(frozen=True, slots=True)
class BlockDraft:
    """An unsigned block. ``refused``: the hashes of the transactions that proved invalid, with the
    reasons."""

    header: Header
    txs: tuple[Tx, ...]
    section: tuple[Certificate, ...]
    refused: tuple[tuple[bytes, Invalid], ...]

    def sealed(self, signature: bytes, public_key: bytes) -> Block:
        """The block with its proposer's signature (65 bytes) by ``public_key`` (33 bytes)."""
        return seal(self.header, self.txs, signature, address(public_key), self.section)


@dataclass(frozen=True, slots=True)
class Turn:
    """A slot on the head: where its block stands, and the certificates that the block carries.

    ``leader`` is the address of the delegate whose turn it is, None where the back-off leaves the
    slot empty.
    """

    position: BlockPosition
    section: tuple[Certificate, ...]
    leader: bytes | None

    def is_of(self, public_key: bytes) -> bool:
        """Whether the leader signs with this key."""
        members = self.position.epoch.members
        index = members.index_of_key(public_key)
        return index is not None and members.addresses[index] == self.leader


def turn(chain: Chain, slot: int) -> Turn:
    """The turn of a slot, which must be later than the head's."""
    assert slot > chain.head.slot
    section = chain.section(chain.head)
    position = chain.position(chain.head, slot, section)
    return Turn(position, section, rules.leader(position.epoch, slot, position.links.final[1]))


def build(
    chain: Chain, pool: Pool, turn: Turn, seed_key: bytes, offences: Sequence[Offence] = ()
) -> BlockDraft:
    """The block of ``turn``, by its leader, on the head.

    The body begins with reports of ``offences``, except those that are punished or too old. Then it
    has transactions of the pool by effective tip, then by arrival, in nonce order of each account,
    until gas, bytes or ``PROPOSAL_TXS_MAX`` are used up. A transaction that proves invalid is left
    out with the rest of its account; the caller drops it from the pool. Nothing may be imported
    between ``turn`` and this call.
    """
    position, section, proposer = turn.position, turn.section, turn.leader
    assert proposer is not None
    assert position.parent.header.hash == chain.head.hash
    execution = chain.execution(position, proposer)
    bytes_max = position.epoch.parameters.block_bytes_max
    room = bytes_max - BODY_BYTES_MIN - sum(len(certificate.raw) for certificate in section)
    reported = _reported(chain, execution, offences)
    room -= sum(len(tx.raw) + BIN_HEAD_BYTES_MAX for tx in reported)
    filled, refused = _filled(execution, pool, position.fields["base_fee"], room)
    txs = (*reported, *filled)
    committed, committed_slot = chain.committed(position.parent.header, proposer)
    reveal = schedule.NO_SECRET
    if committed != reveal:
        reveal = schedule.seed_secret(seed_key, committed_slot)
    commitment = schedule.commitment(schedule.seed_secret(seed_key, position.slot))
    executed = execution.finish(position.missed, commitment, position.boundary)
    header = Header(
        **constant_fields(chain.genesis),
        **position.fields,
        **executed.fields,
        proposer=proposer,
        tx_root=ordered_root([tx.raw for tx in txs]),
        cert_root=cert_root([certificate.raw for certificate in section]),
        seed_reveal=reveal,
        seed_commitment=commitment,
    )
    return BlockDraft(header, txs, section, tuple(refused))


def _reported(chain: Chain, execution: Execution, offences: Sequence[Offence]) -> list[Tx]:
    """Run the reports of offences that are not punished yet; return those that succeeded."""
    txs: list[Tx] = []
    nonce = chain.account(REPORTER).nonce
    for offence in offences:
        if len(txs) == reports.REPORTS_MAX:
            break
        gas = min(reports.REPORT_GAS, execution.gas_left)
        tx = reports.transaction(offence, chain.genesis.chain_id, nonce + len(txs), gas)
        try:
            execution.add(tx)
        except Invalid as refused:
            if refused.code != "report":  # "report": too old, or no delegate has the key any more
                key = offence.signer.hex()
                log.warning("%s by the key of 0x%s is not reported: %s", offence.name, key, refused)
            continue
        txs.append(tx)
    return txs


def _filled(
    execution: Execution, pool: Pool, base_fee: int, room: int
) -> tuple[list[Tx], list[tuple[bytes, Invalid]]]:
    """Run transactions that fit into ``room`` bytes and the gas; (those that ran, the invalid)."""
    txs: list[Tx] = []
    refused: list[tuple[bytes, Invalid]] = []
    picks = pool.picks(base_fee)
    while (tx := picks.peek()) is not None and len(txs) + len(refused) < PROPOSAL_TXS_MAX:
        size = len(tx.raw) + BIN_HEAD_BYTES_MAX
        if tx.gas > execution.gas_left or size > room:
            picks.skip()
            if execution.gas_left < TX_GAS:
                break
            continue
        try:
            execution.add(tx)
        except Invalid as reason:
            if reason.code != "unfinal":  # it may wait until finality is back
                refused.append((tx.hash, reason.with_traceback(None)))
            picks.skip()
            continue
        txs.append(tx)
        room -= size
        picks.take()
    return txs, refused
