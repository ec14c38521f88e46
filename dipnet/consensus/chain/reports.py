"""Reports: how the proof of an offence gets onto the chain without anybody who pays for it.

A proposer who knows of an offence puts a *report* into his block before all else: a transaction of
the *reporter*, an account whose key everybody knows, that calls ``submitEvidence`` for no fee. It
may stand in a block only if it succeeds (``execute.py``), so there are never more of them than
delegates to be punished, and the reward goes to the proposer (ADR 83). Anybody may report in an
ordinary transaction as well. An offence is kept on disk until it is punished.
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
"""All there may be, as what is not used is not counted: who votes for many, or whose votes priced
the methods high, is no cheaper to punish for it (1.8 million at the dearest)."""
REPORTS_MAX: Final = 8
"""What one proposal reports at most; not a rule of blocks."""

KEY_OFFENCE: Final = b"o"
"""+ address of the offender's key -> the two records of the first proof against him."""

_SELECTOR: Final = METHODS["submitEvidence"].selector
_RECORD: Final = (1, Bin(0, RECORD_BYTES_MAX), Bin(0, RECORD_BYTES_MAX))


def is_free(tx: Tx) -> bool:
    """Whether a transaction is a proposer's report: it pays nothing, and must succeed."""
    return (
        tx.sender == REPORTER
        and tx.max_fee == 0
        and tx.to == DPOS_ADDRESS
        and tx.data.startswith(_SELECTOR)
    )


def transaction(proof: Offence, chain_id: int, nonce: int, gas: int) -> Tx:
    """The report of an offence; ``nonce`` is the reporter's."""
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
    """What keeps an offence over a restart."""
    return {KEY_OFFENCE + proof.signer: pack((1, *_records(proof)))}


def stored(reader: Reader) -> Iterator[Offence]:
    """The offences that are kept; ``Corrupt`` where one does not decode."""
    for key, raw in reader.scan(KEY_OFFENCE):
        pair = read(raw, _RECORD, "the record of an offence")
        try:
            one, other = (Statement(*evidence.statement(record)) for record in pair)
        except Invalid as refused:
            raise Corrupt(
                f"the record of an offence is damaged ({refused}): {RECORD_REMEDY}"
            ) from None
        name = offence(one.ballot, other.ballot)
        yield Offence(name, key[len(KEY_OFFENCE) :], one, other)


def _records(proof: Offence) -> tuple[bytes, bytes]:
    one, other = proof.one, proof.other
    return (
        evidence.record(one.ballot, one.signature),
        evidence.record(other.ballot, other.signature),
    )
