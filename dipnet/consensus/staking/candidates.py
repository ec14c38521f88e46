"""Candidates: the accounts that may be elected, their signing keys, and a count of their slots.

An account is a candidate once: it registers, may change its profile, and resigns or is tombstoned
for good. So a vote keeps the meaning that it had when it was cast, and no key is handed over
(ADR 71). The *roll* lists the registered candidates; its order has no meaning.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dipnet.ledger.genesis import NAME_FORM
from dipnet.ledger.parameters import BPS_ALL, Parameters
from dipnet.primitives.codec import pack
from dipnet.primitives.crypto import address, keccak256, recover
from dipnet.primitives.errors import Invalid
from dipnet.vm.storage_layout import (
    CANDIDATES,
    KEY_OWNERS,
    ROLL,
    WORD,
    StorageSlot,
    struct,
    to_address,
)

NONE: Final = 0
REGISTERED: Final = 1
RESIGNED: Final = 2
TOMBSTONED: Final = 3

(
    STATUS,  # uint8: NONE, REGISTERED, RESIGNED or TOMBSTONED
    COMMISSION,  # uint16: basis points, until ANNOUNCED is in force
    KEY_PARITY,  # uint8: first byte of the compressed key, 2 or 3
    ROLL_AT,  # uint32: index in the roll
    JAILED_UNTIL,  # uint64: the first epoch whose set it may join again
    READY,  # uint32: newest version of the rules that the delegate's node follows
    PROPOSED,  # uint32: the number of its open proposal of a parameter
    COMMITTED_AT,  # uint64: the slot of the block that made COMMITMENT
    COUNTED,  # uint64: the epoch of PRODUCED and MISSED
    PRODUCED,  # uint32
    MISSED,  # uint32
    PRODUCED_EVER,  # uint64
    MISSED_EVER,  # uint64
    VOTES,  # uint256: wei of stake that votes for it
    ACCRUED,  # uint256: the earnings of a wei of VOTES since genesis, times 10^18
    KEY_X,  # bytes32
    ORGANISATION,  # bytes32
    COMMITMENT,  # bytes32: to the seed
    NAME,  # string
    URL,  # string
    ANNOUNCED,  # uint16: the commission that replaces COMMISSION
    ANNOUNCED_FROM,  # uint64: the first epoch of ANNOUNCED; 0 for none
) = struct(8, 16, 8, 32, 64, 32, 32, 64, 64, 32, 32, 64, 64, *[256] * 7, 16, 64)

KEY_BYTES: Final = 33
URL_BYTES_MAX: Final = 128
REGISTER_VERSION: Final = 1
_URL_FORM: Final = re.compile(r"[!-~]{0,128}", re.ASCII)
_UINT32_MAX: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Commission:
    """The part of rewards that a delegate keeps, in basis points.

    ``announced`` replaces ``bps`` from epoch ``starts`` on; ``starts`` is 0 for no announcement.
    """

    bps: int
    announced: int = 0
    starts: int = 0

    def at(self, epoch: int, most: int) -> int:
        """The commission in an epoch whose ``commission_bps_max`` is ``most``."""
        return min(self.announced if 0 < self.starts <= epoch else self.bps, most)

    def changed(self, bps: int, epoch: int, starts: int) -> "Commission":
        """After a change in ``epoch``: lower at once, higher from epoch ``starts`` on (ADR 96)."""
        now = self.at(epoch, BPS_ALL)
        if bps <= now:
            return Commission(bps)
        if self.starts > epoch and bps == self.announced:
            return self  # a repeated announcement keeps its epoch
        return Commission(now, bps, starts)


@dataclass(frozen=True, slots=True)
class Candidate:
    """The contract's record of a candidate. ``votes`` in wei of stake."""

    address: bytes
    status: int
    name: str
    url: str
    commission: Commission
    public_key: bytes
    organisation: bytes
    votes: int
    produced: int
    missed: int
    jailed_until: int
    ready: int


@dataclass(frozen=True, slots=True)
class Profile:
    """A candidate's description of itself; ``organisation`` (32 bytes) is zero for none."""

    name: str
    url: str
    commission_bps: int
    organisation: bytes

    def check(self, parameters: Parameters) -> None:
        """Raises ``Invalid("dpos_profile")``."""
        if not NAME_FORM.fullmatch(self.name):
            raise Invalid("dpos_profile", "name: 1 to 32 letters, digits and . _ - or space")
        if not _URL_FORM.fullmatch(self.url):
            raise Invalid("dpos_profile", f"url: at most {URL_BYTES_MAX} printable characters")
        if self.commission_bps > parameters.commission_bps_max:
            raise Invalid(
                "dpos_profile",
                f"commission {self.commission_bps}, at most {parameters.commission_bps_max}",
            )


# --- reads


def record_of(root: StorageSlot, candidate: bytes) -> StorageSlot:
    """The struct of a candidate (address)."""
    return root.under(CANDIDATES, candidate)


def public_key(record: StorageSlot) -> bytes:
    """The compressed key of a candidate, 33 bytes."""
    return bytes((record[KEY_PARITY],)) + record[KEY_X].to_bytes(32, "big")


def commission(record: StorageSlot) -> Commission:
    """The commission of a candidate, with its announcement."""
    return Commission(record[COMMISSION], record[ANNOUNCED], record[ANNOUNCED_FROM])


def read(root: StorageSlot, candidate: bytes) -> Candidate:
    """The record of a candidate; ``status`` is ``NONE`` for any other account."""
    record = record_of(root, candidate)
    return Candidate(
        candidate, record[STATUS], record.text(NAME).decode(), record.text(URL).decode(),
        commission(record), public_key(record), record[ORGANISATION].to_bytes(32, "big"),
        record[VOTES], record[PRODUCED_EVER], record[MISSED_EVER], record[JAILED_UNTIL],
        record[READY],
    )  # fmt: skip


def is_open(root: StorageSlot, candidate: bytes) -> bool:
    """Whether it is registered, so that it may be voted for."""
    return record_of(root, candidate)[STATUS] == REGISTERED


def roll(root: StorageSlot) -> tuple[bytes, ...]:
    """The registered candidates."""
    return root.addresses(ROLL)


def owner_of(root: StorageSlot, signer: bytes) -> bytes:
    """The delegate whose signing key has the address ``signer``; zeros for no delegate."""
    return to_address(root.under(KEY_OWNERS, signer)[WORD])


# --- changes


def registration_digest(chain_id: int, candidate: bytes) -> bytes:
    """The digest that the signing key signs to show that it serves the candidate
    (docs/spec/bytes.md "Digests")."""
    return keccak256(b"DIPNET/register" + pack([REGISTER_VERSION, chain_id, candidate]))


def check_key(chain_id: int, candidate: bytes, key: bytes, signature: bytes) -> None:
    """Raises ``Invalid("dpos_key")`` unless ``key`` (33 bytes) has signed for the candidate."""
    try:
        signer = recover(registration_digest(chain_id, candidate), signature)
        valid = len(key) == KEY_BYTES and signer == address(key)
    except (Invalid, ValueError):  # recovers no key; no point of the curve; of another length
        valid = False
    if not valid:
        raise Invalid("dpos_key", "no signature of the public key over chain and sender")


def enter(
    root: StorageSlot, candidate: bytes, profile: Profile, key: bytes, commitment: bytes, most: int
) -> None:
    """Puts a new candidate on the roll of at most ``most``.

    Raises ``Invalid``: ``dpos_candidates`` (the roll is full), ``dpos_key`` (another's).
    """
    at = root[ROLL]
    if at >= most:
        raise Invalid("dpos_candidates", f"{at} of {most}")
    owner = root.under(KEY_OWNERS, address(key))
    if owner[WORD]:
        raise Invalid("dpos_key", "the public key serves another delegate")
    owner[WORD] = int.from_bytes(candidate, "big")
    record = record_of(root, candidate)
    record[STATUS] = REGISTERED
    record[KEY_PARITY], record[KEY_X] = key[0], int.from_bytes(key[1:], "big")
    record[COMMITMENT] = int.from_bytes(commitment, "big")
    describe(record, profile)
    record[COMMISSION] = profile.commission_bps
    record[ROLL_AT] = at
    root.element(ROLL, at)[WORD] = int.from_bytes(candidate, "big")
    root[ROLL] = at + 1


def describe(record: StorageSlot, profile: Profile) -> None:
    """Replaces the profile of a candidate except its commission."""
    record[ORGANISATION] = int.from_bytes(profile.organisation, "big")
    record.set_text(NAME, profile.name.encode())
    record.set_text(URL, profile.url.encode())


def charge(record: StorageSlot, bps: int, epoch: int, starts: int) -> None:
    """Changes the commission of a candidate as ``Commission.changed`` says."""
    new = commission(record).changed(bps, epoch, starts)
    record[COMMISSION], record[ANNOUNCED], record[ANNOUNCED_FROM] = (
        new.bps,
        new.announced,
        new.starts,
    )


def close(root: StorageSlot, candidate: bytes, status: int) -> None:
    """Takes a candidate out for good, ``RESIGNED`` or ``TOMBSTONED``, and its votes with it."""
    record = record_of(root, candidate)
    if record[STATUS] == REGISTERED:
        last = root[ROLL] - 1
        moved = root.element(ROLL, last)
        root.element(ROLL, record[ROLL_AT])[WORD] = moved[WORD]
        record_of(root, to_address(moved[WORD]))[ROLL_AT] = record[ROLL_AT]
        moved[WORD] = 0
        root[ROLL] = last
    record[STATUS] = status
    record[ROLL_AT] = record[VOTES] = 0


def count(root: StorageSlot, epoch: int, producer: bytes, missed: Sequence[bytes]) -> None:
    """Counts a block's slot as produced, and the empty slots before it as missed."""
    tally: dict[bytes, int] = {}
    for delegate in missed:
        tally[delegate] = tally.get(delegate, 0) + 1
    _tally(record_of(root, producer), epoch, 1, 0)
    for delegate, times in tally.items():
        _tally(record_of(root, delegate), epoch, 0, times)


def _tally(record: StorageSlot, epoch: int, produced: int, missed: int) -> None:
    if record[COUNTED] != epoch:
        record[COUNTED], record[PRODUCED], record[MISSED] = epoch, 0, 0
    record[PRODUCED] = min(record[PRODUCED] + produced, _UINT32_MAX)
    record[MISSED] = min(record[MISSED] + missed, _UINT32_MAX)
    record[PRODUCED_EVER] += produced
    record[MISSED_EVER] += missed


def is_absent(record: StorageSlot, epoch: int) -> bool:
    """Whether the candidate missed at least half of its slots in ``epoch``."""
    return record[COUNTED] == epoch and record[MISSED] > 0 and record[MISSED] >= record[PRODUCED]
