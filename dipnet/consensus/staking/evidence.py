"""Evidence: two short statements of one key that no honest delegate signs (docs/spec/consensus.md
"The protocol").

A *record* is a ballot with the signature of its author: ``[1, kind, epoch, slot, block_id,
justify_slot, signature]``. Two of them prove an offence with no other data at all: the signatures
say whose key it was, ``votes.offence`` that its owner may not have signed both. Anyone may report.
"""

from dataclasses import dataclass
from typing import Final

from dipnet.consensus.finality.votes import SIGNATURE_BYTES, Ballot, BallotKind, offence
from dipnet.primitives.codec import UINT, Bin, Uint, pack, unpack
from dipnet.primitives.crypto import address, keccak256, public_key, recover
from dipnet.primitives.errors import Invalid

REPORTER_SECRET: Final = keccak256(b"DIPNET/reporter")
"""Known to everybody: in the name of its account proposers report for no fee (``reports.py``)."""
REPORTER: Final = address(public_key(REPORTER_SECRET))

RECORD_VERSION: Final = 1
RECORD_BYTES_MAX: Final = 128
"""So that the call data of a report, selector and padding included, has at most 388 bytes."""

_RECORD: Final = (
    RECORD_VERSION, Uint(max(BallotKind)), UINT, UINT, Bin(32), UINT, Bin(SIGNATURE_BYTES),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProvenOffence:
    """What two records prove: ``E0`` to ``E3``, the address of the key, the later epoch."""

    name: str
    signer: bytes
    epoch: int


def record(ballot: Ballot, signature: bytes) -> bytes:
    """A ballot and the signature of its author, 65 bytes, as evidence."""
    return pack((
        RECORD_VERSION, int(ballot.kind), ballot.epoch, ballot.slot, ballot.block_id,
        ballot.justify_slot, signature,
    ))  # fmt: skip


def statement(raw: bytes) -> tuple[Ballot, bytes]:
    """The ballot and the signature of a record; ``Invalid("dpos_offence")``."""
    try:
        _, kind, epoch, slot, block_id, justify_slot, signature = unpack(
            raw, _RECORD, RECORD_BYTES_MAX
        )
    except Invalid as refused:
        raise Invalid("dpos_offence", str(refused)) from None
    if justify_slot and kind != BallotKind.PREVOTE:
        raise Invalid("dpos_offence", "only a prevote says what it is justified by")
    return Ballot(BallotKind(kind), epoch, slot, block_id, justify_slot), signature


def prove(chain_id: int, first: bytes, second: bytes) -> ProvenOffence:
    """The offence that two records are; ``Invalid("dpos_offence")`` where they are none."""
    (one, one_signature), (other, other_signature) = statement(first), statement(second)
    name = offence(one, other)
    if not name:
        raise Invalid("dpos_offence", "an honest delegate may sign both")
    try:
        signer = recover(one.digest(chain_id), one_signature)
        same = signer == recover(other.digest(chain_id), other_signature)
    except Invalid:
        raise Invalid("dpos_offence", "a signature recovers no key") from None
    if not same:
        raise Invalid("dpos_offence", "the signatures are by two keys")
    return ProvenOffence(name, signer, max(one.epoch, other.epoch))
