"""The transaction that proves an offence to the chain: two signatures, paid for by its sender.

The contract rewards the sender out of what the offender loses (``consensus.evidence``).
"""

from typing import Final

from dipnet.consensus import idpos
from dipnet.consensus.evidence import record
from dipnet.consensus.tally import Offence
from dipnet.tx import sign_tx

REPORT_GAS: Final = 500_000
TIP_WEI: Final = 10**9
FEE_TIMES: Final = 4  # the base fee may rise until the report is in a block


def evidence_tx(offence: Offence, secret: bytes, chain_id: int, nonce: int, base_fee: int) -> bytes:
    """The signed bytes; ``secret`` (32 bytes) is the sender's, ``base_fee`` wei a unit of gas."""
    records = [record(one.ballot, one.signature) for one in (offence.one, offence.other)]
    return sign_tx(
        secret,
        chain_id=chain_id,
        nonce=nonce,
        gas=REPORT_GAS,
        to=idpos.DPOS_ADDRESS,
        value=0,
        data=idpos.METHODS["submitEvidence"].call_data(*records),
        max_priority_fee=TIP_WEI,
        max_fee=base_fee * FEE_TIMES + TIP_WEI,
    )
