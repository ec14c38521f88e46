"""Reports: the proof of an offence comes onto the chain for no fee (ADR 83).

A proposer that knows of an offence begins its block with a *report*: a transaction of the
*reporter*, an account whose key is public, that calls ``submitEvidence`` at a price of zero. A
block may have a report only if the report succeeds (``execute.py``), so there are at most as many
reports as delegates to be punished. The reward goes to the proposer. Anybody may also report in an
ordinary transaction. A node keeps an offence on disk until it is punished.
"""

from collections.abc import Iterator
from typing import Final

from dipnet.consensus.chain.records import read
from dipnet.consensus.finality.tally import Offence, Statement
from dipnet.consensus.finality.votes import offence
from dipnet.consensus.staking import evidence
from dipnet.consensus.staking.evidence import RECORD_BYTES_MAX, REPORTER, REPORTER_SECRET
from dipnet.consensus.staking.idpos import DPOS_ADDRESS, METHODS
from dipnet.ledger.tx import Tx, decode_known, sign_tx
from dipnet.primitives.codec import Bin, Puts, Reader, pack
from dipnet.primitives.errors import RECORD_REMEDY, Corrupt, Invalid
from dipnet.vm.transaction import TX_GAS_MAX

REPORT_GAS: Final = TX_GAS_MAX
"""The most gas of any transaction, since unused gas is not counted. A punishment takes up to 1.8
million, of a delegate that votes for many delegates and at the highest prices of the methods."""
REPORTS_MAX: Final = 8
"""The most reports of one proposal; no rule of blocks."""

KEY_OFFENCE: Final = b"o"
"""+ address of the offender's key -> the two records of the first proof against it."""

_SELECTOR: Final = METHODS["submitEvidence"].selector
_RECORD: Final = (1, Bin(0, RECORD_BYTES_MAX), Bin(0, RECORD_BYTES_MAX))


def is_free(tx: Tx) -> bool:
    """Whether a transaction is a report, which pays no fee and must succeed."""
    return (
        tx.sender == REPORTER
        and tx.max_fee == 0
        and tx.to == DPOS_ADDRESS
        and tx.data.startswith(_SELECTOR)
    )


def transaction(proof: Offence, chain_id: int, nonce: int, gas: int) -> Tx:
    """The report of an offence, with ``gas`` units of gas; ``nonce`` is that of the reporter."""
    raw = sign_tx(
        REPORTER_SECRET,
        chain_id=chain_id,
        nonce=nonce,
        gas=gas,
        max_fee=0,
        max_priority_fee=0,
        to=DPOS_ADDRESS,
        data=METHODS["submitEvidence"].call_data(*_records(proof)),
    )
    return decode_known(raw, chain_id, REPORTER)


def puts(proof: Offence) -> Puts:
    """The writes that store an offence."""
    return {KEY_OFFENCE + proof.signer: pack((1, *_records(proof)))}


def stored(reader: Reader) -> Iterator[Offence]:
    """The stored offences; ``Corrupt`` where a record is damaged."""
    for key, raw in reader.scan(KEY_OFFENCE):
        pair = read(raw, _RECORD, "the record of an offence")
        try:
            first, second = (Statement(*evidence.statement(record)) for record in pair)
        except Invalid as refused:
            raise Corrupt(
                f"the record of an offence is damaged ({refused}): {RECORD_REMEDY}"
            ) from None
        name = offence(first.ballot, second.ballot)
        yield Offence(name, key[len(KEY_OFFENCE) :], first, second)


def _records(proof: Offence) -> tuple[bytes, bytes]:
    first, second = proof.first, proof.second
    return (
        evidence.record(first.ballot, first.signature),
        evidence.record(second.ballot, second.signature),
    )
