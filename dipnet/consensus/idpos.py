"""IDpos at 0x...0d02: what the chain asks of the contract at the end of a block and at a border."""

from dataclasses import dataclass
from typing import Final

from dipnet.consensus.members import Members
from dipnet.crypto import keccak256
from dipnet.genesis import Genesis
from dipnet.state import Journal
from dipnet.vm.system import Call, System

DPOS_ADDRESS: Final = bytes(18) + b"\x0d\x02"
CODE: Final = b"\xfe"
"""INVALID: an account needs code to have storage (EIP-161); the contract itself is in Python."""


@dataclass(frozen=True, slots=True)
class Around:
    """The block that a call or the end of a block belongs to.

    ``parameters`` are those in force, ``members`` the set of ``epoch``, ``proposer`` a delegate's
    address.
    """

    parameters: Genesis
    epoch: int
    slot: int
    height: int
    proposer: bytes
    members: Members


@dataclass(frozen=True, slots=True)
class Elected:
    """What a border decides: Set(epoch + 2), and the parameters in force after it."""

    members: Members
    parameters: Genesis


def system(around: Around) -> System:
    """The table with which the transactions of a block, or a call on its state, are run."""

    def run(call: Call) -> bytes:
        raise NotImplementedError

    return {DPOS_ADDRESS: run}


def genesis_state(journal: Journal, genesis: Genesis) -> None:
    """Writes the contract's account before the first block: code, stakes, Sets 0 and 1."""
    journal.set_code(DPOS_ADDRESS, CODE)
    journal.add_balance(DPOS_ADDRESS, sum(one.stake for one in genesis.delegates))


def commitment_of(journal: Journal, delegate: bytes) -> tuple[bytes, int]:
    """The seed commitment (32 bytes) that the delegate's next reveal must open; zeros for none.

    With the slot of the block that made it, 0 for his registration.
    """
    value = journal.slot(DPOS_ADDRESS, keccak256(b"c" + delegate))
    return value.to_bytes(32, "big"), journal.slot(DPOS_ADDRESS, keccak256(b"s" + delegate))


def is_tombstoned(journal: Journal, signer: bytes) -> bool:
    """Whether the delegate whose key has the address ``signer`` was slashed."""
    return False


def end_block(
    journal: Journal, around: Around, tips: int, missed: tuple[bytes, ...], commitment: bytes
) -> None:
    """Pays the proposer's pot, counts who produced and who missed, keeps the new commitment."""
    journal.add_balance(DPOS_ADDRESS, around.parameters.block_reward)
    value = int.from_bytes(commitment, "big")
    journal.set_slot(DPOS_ADDRESS, keccak256(b"c" + around.proposer), value)
    journal.set_slot(DPOS_ADDRESS, keccak256(b"s" + around.proposer), around.slot)


def at_border(journal: Journal, around: Around) -> Elected:
    """After ``end_block`` of the border block of ``around.epoch``: evictions and the election."""
    return Elected(around.members, around.parameters)
