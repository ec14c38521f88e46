"""Chains of headers with borders and certificates, signed by keys that a test has.

Headers only: no bodies, no state. A ``Fleet`` has keys and signs for any of its members; a
``LightChain`` follows the rules of epochs (specs/consensus.md 1) as far as headers show them, with
``forged`` to make what breaks them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, Final

from dipnet.codec import Puts
from dipnet.consensus import borders
from dipnet.consensus.borders import BorderProof, FinalProof
from dipnet.consensus.header import HASH_ZERO, Header
from dipnet.consensus.members import Members
from dipnet.consensus.votes import Ballot, Certificate, Kind, Vote, certificate_of
from dipnet.crypto import address, keccak256, public_key, sign
from dipnet.light import LightState, genesis_state

CHAIN_ID: Final = 2018
TIME_MS: Final = 1_700_000_000_000
SLOT_MS: Final = 1_000


@cache
def secret(index: int) -> bytes:
    """The private key of delegate ``index``."""
    return keccak256(b"light" + index.to_bytes(4, "big"))


@cache
def pair(index: int) -> tuple[bytes, bytes]:
    """His address and public key."""
    key = public_key(secret(index))
    return address(key), key


def members_of(indices: Sequence[int]) -> Members:
    """The set of these delegates."""
    return Members.of(pair(index) for index in indices)


_SECRETS: Final[dict[bytes, bytes]] = {}


def signature(ballot: Ballot, key: bytes, chain_id: int = CHAIN_ID) -> bytes:
    """The ballot's signature by the delegate of this public key."""
    if key not in _SECRETS:
        _SECRETS.update({pair(index)[1]: secret(index) for index in range(256)})
    return sign(ballot.digest(chain_id), _SECRETS[key])


def certificate(
    ballot: Ballot, members: Members, signers: int | None = None, chain_id: int = CHAIN_ID
) -> Certificate:
    """A certificate by the first ``signers`` of the set, a quorum of them by default."""
    count = members.quorum if signers is None else signers
    votes = [
        Vote(ballot, index, signature(ballot, key, chain_id))
        for index, key in enumerate(members.keys[:count])
    ]
    return certificate_of(votes, members)


def commit(header: Header, epoch: int | None = None) -> Ballot:
    """The commit to a block, in its own epoch by default."""
    voting = header.epoch if epoch is None else epoch
    return Ballot(Kind.COMMIT, voting, header.slot, header.hash, 0)


def with_fields(header: Header, **changes: Any) -> Header:
    """``header`` with other fields."""
    kept = {one.name: getattr(header, one.name) for one in fields(Header) if one.init}
    return Header(**(kept | changes))


def genesis_header(members: Members, chain_id: int = CHAIN_ID) -> Header:
    """The first header of a chain whose first set this is."""
    return Header(
        chain_id=chain_id, parent=HASH_ZERO, height=0, slot=0, epoch=0, timestamp_ms=TIME_MS,
        proposer=bytes(20), state_root=HASH_ZERO, tx_root=HASH_ZERO, receipt_root=HASH_ZERO,
        logs_bloom=bytes(256), gas_limit=1, gas_used=0, base_fee=10**9, justify=(HASH_ZERO, 0, 0),
        final=(HASH_ZERO, 0), cert_root=HASH_ZERO, next_set_hash=members.digest(0),
        seed_reveal=HASH_ZERO, seed_commitment=HASH_ZERO, dag_root=HASH_ZERO, dag_count=0,
        dag_bytes=0, dag_acc=HASH_ZERO,
    )  # fmt: skip


def child(parent: Header, epoch: int | None = None, slots: int = 1, **changes: Any) -> Header:
    """A block on ``parent``, ``slots`` later."""
    slot = parent.slot + slots
    fixed = {
        "parent": parent.hash,
        "height": parent.height + 1,
        "slot": slot,
        "epoch": parent.epoch if epoch is None else epoch,
        "timestamp_ms": TIME_MS + slot * SLOT_MS,
        "next_set_hash": HASH_ZERO,
    }
    return with_fields(parent, **(fixed | changes))


@dataclass
class LightChain:
    """A chain that grows by whole epochs; ``sets[e]`` is Set(e), known one epoch ahead."""

    sets: list[Members]
    epoch_slots: int = 30
    chain_id: int = CHAIN_ID
    head: Header = field(init=False)
    settled: Header = field(init=False)
    genesis: Header = field(init=False)
    borders: list[BorderProof] = field(init=False, default_factory=list)
    disk: Puts = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.genesis = self.head = self.settled = genesis_header(self.sets[0], self.chain_id)

    @property
    def start(self) -> LightState:
        """What a client knows from genesis.json."""
        return genesis_state(self.genesis, self.sets[0])

    @property
    def epoch(self) -> int:
        """The epoch of the next block."""
        return self.head.epoch + 1 if self.head.next_set_hash != HASH_ZERO and self.head.height \
            else self.head.epoch  # fmt: skip

    def block(self) -> Header:
        """One more block of the epoch that is, no border."""
        self.head = child(self.head, self.epoch, **self._links)
        return self.head

    @property
    def _links(self) -> dict[str, Any]:
        one = self.settled
        return {"justify": (one.hash, one.slot, one.epoch), "final": (one.hash, one.slot)}

    def border(self, hand_over: int = 0) -> BorderProof:
        """The epoch's border, certified on the block ``hand_over`` above it."""
        epoch = self.epoch
        following = self.sets[epoch + 1]
        slots = self.epoch_slots - self.head.slot % self.epoch_slots
        self.head = border = child(
            self.head, epoch, slots, next_set_hash=following.digest(epoch + 1), **self._links
        )
        path = tuple(self.block() for _ in range(hand_over))
        top = path[-1] if path else border
        proof = certificate(commit(top, epoch), self.sets[epoch], chain_id=self.chain_id)
        self.settled = border
        self.borders.append(BorderProof(border, path, proof, following))
        self.disk |= borders.record(self.borders[-1], self.sets[epoch])
        return self.borders[-1]

    def finality(self, above: int = 0) -> FinalProof:
        """A new block, final by the certificate on the block ``above`` higher."""
        header = self.block()
        path = tuple(self.block() for _ in range(above))
        top = path[-1] if path else header
        proof = certificate(commit(top), self.sets[top.epoch], chain_id=self.chain_id)
        self.settled = top
        return FinalProof(header, path, proof)


def rotating(epochs: int, size: int, every: int, leave: int = 1) -> list[Members]:
    """Sets of so many epochs: each ``every`` epochs ``leave`` delegates go and others come."""
    sets = []
    for epoch in range(epochs + 1):
        first = max(epoch - 1, 0) // every * leave  # Set(0) is Set(1)
        sets.append(members_of([(first + at) % 256 for at in range(size)]))
    return sets


def signed_by(proof: Certificate, members: Members, signers: Members) -> Certificate:
    """The certificate's ballot with a quorum of ``signers`` under the bits of ``members``."""
    by_signers = certificate(proof.ballot, signers)
    bitmap = by_signers.bitmap.ljust((len(members) + 7) // 8, b"\0")
    return replace(by_signers, bitmap=bitmap)
