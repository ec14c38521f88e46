"""Putting the proof of an offence on the chain: the transaction that calls ``submitEvidence``.

Anyone may report, and the first report counts; who reports gets a part of what the offender loses.
The gas is generous rather than estimated: what is not used is not paid.
"""

from typing import Final

from dipnet.consensus import evidence
from dipnet.consensus.chain import Chain
from dipnet.consensus.idpos import DPOS_ADDRESS, METHODS
from dipnet.consensus.pool import Pool
from dipnet.consensus.tally import Offence
from dipnet.keys import address_of
from dipnet.tx import sign_tx

REPORT_GAS: Final = 1_000_000
REPORT_TIP: Final = 10**9
"""wei for a unit of gas: a report goes before most payments."""


def transaction(offence: Offence, payer: bytes, chain: Chain, pool: Pool) -> bytes:
    """The signed report. ``payer`` is a secret key whose account pays the gas."""
    sender = address_of(payer)
    records = [evidence.record(one.ballot, one.signature) for one in (offence.one, offence.other)]
    return sign_tx(
        payer,
        chain_id=chain.genesis.chain_id,
        nonce=pool.pending_nonce(sender, chain.account(sender).nonce),
        gas=REPORT_GAS,
        max_fee=2 * chain.next_base_fee + REPORT_TIP,
        max_priority_fee=REPORT_TIP,
        to=DPOS_ADDRESS,
        data=METHODS["submitEvidence"].call_data(*records),
    )
