"""Sets of delegates with known keys, and their votes."""

from collections.abc import Iterable
from functools import lru_cache

from dipnet.consensus.members import Members
from dipnet.consensus.votes import Ballot, Certificate, Kind, Vote, certificate_of
from dipnet.crypto import address, keccak256, public_key, sign

CHAIN_ID = 2018
BLOCK = keccak256(b"a block")
OTHER = keccak256(b"another block")


@lru_cache
def secrets_of(count: int) -> dict[bytes, bytes]:
    """So many secret keys by public key."""
    secrets = [keccak256(b"delegate %d" % index) for index in range(count)]
    return {public_key(one): one for one in secrets}


@lru_cache
def members_of(count: int) -> Members:
    """The set of so many delegates, each with the address of his key."""
    return Members.of((address(key), key) for key in secrets_of(count))


def prevotes(slot: int = 7, block: bytes = BLOCK, justify: int = 5, epoch: int = 3) -> Ballot:
    return Ballot(Kind.PREVOTE, epoch, slot, block, justify)


def commits(slot: int = 7, block: bytes = BLOCK, epoch: int = 3) -> Ballot:
    return Ballot(Kind.COMMIT, epoch, slot, block, 0)


def proposes(slot: int = 7, block: bytes = BLOCK, epoch: int = 3) -> Ballot:
    return Ballot(Kind.PROPOSAL, epoch, slot, block, 0)


def signed(ballot: Ballot, index: int, count: int, chain_id: int = CHAIN_ID) -> bytes:
    """The signature (65 bytes) of the member ``index``."""
    key = members_of(count).keys[index]
    return sign(ballot.digest(chain_id), secrets_of(count)[key])


def vote(ballot: Ballot, index: int, count: int) -> Vote:
    return Vote(ballot, index, signed(ballot, index, count))


def certificate(ballot: Ballot, indices: Iterable[int], count: int) -> Certificate:
    """That of the votes of these members."""
    return certificate_of([vote(ballot, index, count) for index in indices], members_of(count))
