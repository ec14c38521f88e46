"""The values that the chain passes to IDpos for a block, and the decision of a boundary."""

from dataclasses import dataclass
from typing import Final

from dipnet.consensus.finality.members import Members
from dipnet.ledger.parameters import Parameters

DPOS_ADDRESS: Final = bytes(18) + b"\x0d\x02"


@dataclass(frozen=True, slots=True)
class BlockContext:
    """The block that a call or the end of a block belongs to.

    ``parameters`` are those in force, ``members`` the set of ``epoch``, ``proposer`` a delegate's
    address.
    """

    parameters: Parameters
    epoch: int
    slot: int
    height: int
    proposer: bytes
    members: Members


@dataclass(frozen=True, slots=True)
class Elected:
    """The decision of a boundary: Set(epoch + 2), and the parameters in force above it."""

    members: Members
    parameters: Parameters
