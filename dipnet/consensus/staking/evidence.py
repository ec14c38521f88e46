"""Evidence: two records under one key that an honest delegate does not sign
(docs/spec/consensus.md "The protocol").

A *record* is a ballot with the signature of its author: ``[1, kind, epoch, slot, block_id,
justify_slot, signature]``. Two records prove an offence without any other data: the signatures give
the key, and ``votes.offence`` says that its owner may not sign both. Any account may report.
"""

from dataclasses import dataclass
from typing import Final

from dipnet.consensus.finality.votes import SIGNATURE_BYTES, Ballot, BallotKind, offence
from dipnet.primitives.codec import UINT, Bin, Uint, pack, unpack
from dipnet.primitives.crypto import address, keccak256, public_key, recover
from dipnet.primitives.errors import Invalid

REPORTER_SECRET: Final = keccak256(b"DIPNET/reporter")
"""A published secret: proposers report without a fee from its account (``reports.py``)."""
REPORTER: Final = address(public_key(REPORTER_SECRET))

RECORD_VERSION: Final = 1
RECORD_BYTES_MAX: Final = 128
"""So that the call data of a report, selector and padding included, has at most 388 bytes."""

_RECORD: Final = (
    RECORD_VERSION, Uint(max(BallotKind)), UINT, UINT, Bin(32), UINT, Bin(SIGNATURE_BYTES),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProvenOffence:
    """The offence that two records prove: ``E0`` to ``E3``, the key's address, the later epoch."""

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
        raise Invalid("dpos_offence", "only a prevote has a justify slot")
    return Ballot(BallotKind(kind), epoch, slot, block_id, justify_slot), signature


def prove(chain_id: int, first: bytes, second: bytes) -> ProvenOffence:
    """The offence that two records are; ``Invalid("dpos_offence")`` where they are none."""
    ballot, signature = statement(first)
    rival, rival_signature = statement(second)
    name = offence(ballot, rival)
    if not name:
        raise Invalid("dpos_offence", "an honest delegate may sign both")
    try:
        signer = recover(ballot.digest(chain_id), signature)
        same = signer == recover(rival.digest(chain_id), rival_signature)
    except Invalid:
        raise Invalid("dpos_offence", "a signature recovers no key") from None
    if not same:
        raise Invalid("dpos_offence", "the signatures are by two keys")
    return ProvenOffence(name, signer, max(ballot.epoch, rival.epoch))
