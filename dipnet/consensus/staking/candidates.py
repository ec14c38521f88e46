"""Candidates: who may be elected, by which key, and what became of the slots they led.

An account is a candidate once: it registers, may change what it says of itself, and resigns or is
tombstoned for good. So every vote for it stays what it was when it was cast, and a key never has
to be handed over (ADR 71). The *roll* lists the registered ones, in no order that means anything.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dipnet.ledger.genesis import BPS_ALL, NAME_FORM, Genesis
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
    STATUS,  # uint8: one of the above
    COMMISSION,  # uint16: basis points, till another is in force
    KEY_PARITY,  # uint8: first byte of the compressed key, 2 or 3
    ROLL_AT,  # uint32: index in the roll
    JAILED_UNTIL,  # uint64: the first epoch for whose set it is no longer jailed
    READY,  # uint32: newest version of the rules that the delegate's node follows
    PROPOSED,  # uint32: the number of its open proposal of a parameter
    COMMITTED_AT,  # uint64: the slot of the block that made COMMITMENT
    COUNTED,  # uint64: the epoch of the next two
    PRODUCED,  # uint32
    MISSED,  # uint32
    PRODUCED_EVER,  # uint64
    MISSED_EVER,  # uint64
    VOTES,  # uint256: wei of stake that votes for it
    ACCRUED,  # uint256: what one wei of it has earned since ever, times 10^18
    KEY_X,  # bytes32
    ORGANISATION,  # bytes32
    COMMITMENT,  # bytes32: to the seed
    NAME,  # string
    URL,  # string
    ANNOUNCED,  # uint16: the commission that replaces it
    ANNOUNCED_FROM,  # uint64: the first epoch in which it does; 0 for none
) = struct(8, 16, 8, 32, 64, 32, 32, 64, 64, 32, 32, 64, 64, *[256] * 7, 16, 64)

KEY_BYTES: Final = 33
URL_BYTES_MAX: Final = 128
REGISTER_VERSION: Final = 1
_URL_FORM: Final = re.compile(r"[!-~]{0,128}", re.ASCII)
_UINT32_MAX: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Commission:
    """What a delegate keeps of rewards, basis points: ``announced`` from epoch ``starts`` on.

    ``starts`` is 0 where nothing was announced.
    """

    bps: int
    announced: int = 0
    starts: int = 0

    def at(self, epoch: int, most: int) -> int:
        """In an epoch in which ``most`` are allowed, whatever they were when it registered."""
        return min(self.announced if 0 < self.starts <= epoch else self.bps, most)

    def changed(self, bps: int, epoch: int, starts: int) -> "Commission":
        """Another one, of ``epoch``: lower at once, higher from epoch ``starts`` on (ADR 96)."""
        now = self.at(epoch, BPS_ALL)
        if bps <= now:
            return Commission(bps)
        if self.starts > epoch and bps == self.announced:
            return self  # said again, it comes neither sooner nor later
        return Commission(now, bps, starts)


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the contract knows of a candidate. Votes in wei of stake."""

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
    """What a candidate says of itself; the organisation (32 bytes) is zero for none."""

    name: str
    url: str
    commission_bps: int
    organisation: bytes

    def check(self, parameters: Genesis) -> None:
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


def place(root: StorageSlot, candidate: bytes) -> StorageSlot:
    """The struct of a candidate (address)."""
    return root.under(CANDIDATES, candidate)


def public_key(one: StorageSlot) -> bytes:
    """The compressed key of a candidate, 33 bytes."""
    return bytes((one[KEY_PARITY],)) + one[KEY_X].to_bytes(32, "big")


def commission(one: StorageSlot) -> Commission:
    """What a candidate keeps, and what it will."""
    return Commission(one[COMMISSION], one[ANNOUNCED], one[ANNOUNCED_FROM])


def read(root: StorageSlot, candidate: bytes) -> Candidate:
    """All of it; ``status`` is ``NONE`` of a stranger."""
    one = place(root, candidate)
    return Candidate(
        candidate, one[STATUS], one.text(NAME).decode(), one.text(URL).decode(), commission(one),
        public_key(one), one[ORGANISATION].to_bytes(32, "big"), one[VOTES], one[PRODUCED_EVER],
        one[MISSED_EVER], one[JAILED_UNTIL], one[READY],
    )  # fmt: skip


def is_open(root: StorageSlot, candidate: bytes) -> bool:
    """Whether it is registered, so that it may be voted for."""
    return place(root, candidate)[STATUS] == REGISTERED


def roll(root: StorageSlot) -> tuple[bytes, ...]:
    """The registered candidates."""
    return root.addresses(ROLL)


def owner_of(root: StorageSlot, signer: bytes) -> bytes:
    """The delegate that signs with the key of this address; zeros where there is none."""
    return to_address(root.under(KEY_OWNERS, signer)[WORD])


# --- changes


def registration_digest(chain_id: int, candidate: bytes) -> bytes:
    """What the signing key of a candidate signs, to show that it is his (docs/spec/bytes.md
    "Digests")."""
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
    one = place(root, candidate)
    one[STATUS] = REGISTERED
    one[KEY_PARITY], one[KEY_X] = key[0], int.from_bytes(key[1:], "big")
    one[COMMITMENT] = int.from_bytes(commitment, "big")
    describe(one, profile)
    one[COMMISSION] = profile.commission_bps
    one[ROLL_AT] = at
    root.element(ROLL, at)[WORD] = int.from_bytes(candidate, "big")
    root[ROLL] = at + 1


def describe(one: StorageSlot, profile: Profile) -> None:
    """Replaces what a candidate says of itself, but for its commission."""
    one[ORGANISATION] = int.from_bytes(profile.organisation, "big")
    one.set_text(NAME, profile.name.encode())
    one.set_text(URL, profile.url.encode())


def charge(one: StorageSlot, bps: int, epoch: int, starts: int) -> None:
    """Changes the commission of a candidate as ``Commission.changed`` says."""
    new = commission(one).changed(bps, epoch, starts)
    one[COMMISSION], one[ANNOUNCED], one[ANNOUNCED_FROM] = new.bps, new.announced, new.starts


def close(root: StorageSlot, candidate: bytes, status: int) -> None:
    """Takes a candidate out for good, ``RESIGNED`` or ``TOMBSTONED``, and its votes with it."""
    one = place(root, candidate)
    if one[STATUS] == REGISTERED:
        last = root[ROLL] - 1
        moved = root.element(ROLL, last)
        root.element(ROLL, one[ROLL_AT])[WORD] = moved[WORD]
        place(root, to_address(moved[WORD]))[ROLL_AT] = one[ROLL_AT]
        moved[WORD] = 0
        root[ROLL] = last
    one[STATUS] = status
    one[ROLL_AT] = one[VOTES] = 0


def count(root: StorageSlot, epoch: int, producer: bytes, missed: Sequence[bytes]) -> None:
    """Counts the slots that a block ends: one produced, the others passed without a block."""
    tally: dict[bytes, int] = {}
    for delegate in missed:
        tally[delegate] = tally.get(delegate, 0) + 1
    _tally(place(root, producer), epoch, 1, 0)
    for delegate, times in tally.items():
        _tally(place(root, delegate), epoch, 0, times)


def _tally(one: StorageSlot, epoch: int, produced: int, missed: int) -> None:
    if one[COUNTED] != epoch:
        one[COUNTED], one[PRODUCED], one[MISSED] = epoch, 0, 0
    one[PRODUCED] = min(one[PRODUCED] + produced, _UINT32_MAX)
    one[MISSED] = min(one[MISSED] + missed, _UINT32_MAX)
    one[PRODUCED_EVER] += produced
    one[MISSED_EVER] += missed


def is_absent(one: StorageSlot, epoch: int) -> bool:
    """Whether the candidate missed at least half of the slots that were his in ``epoch``."""
    return one[COUNTED] == epoch and one[MISSED] > 0 and one[MISSED] >= one[PRODUCED]
