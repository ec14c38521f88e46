"""The other delegates of the node's network: their votes and proposals, true and forged.

They know each other's keys and the node's key. They seldom use the node's key, for a node that
hears a foreign ballot of its key signs no more. They share one chain, which imports all blocks and
certificates that they hear of, so that they can build and vote on any block; it may end on another
branch than the node's.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from dipnet.consensus.chain import rules
from dipnet.consensus.chain.block import Block
from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.finality import finality
from dipnet.consensus.finality.header import Header
from dipnet.consensus.finality.members import Members
from dipnet.consensus.finality.votes import (
    Ballot,
    BallotKind,
    Certificate,
    Vote,
    VoteState,
    certificate_of,
)
from dipnet.primitives import crypto
from dipnet.primitives.errors import Corrupt, Invalid
from tests.fixtures.chain_builder import LATE_MS, Net, address_of, learn
from tests.fixtures.memory import Memory
from tests.fuzz.node_world import U64, US, World

KEPT = 64
SLOTS_TRIED = 400
"""Some turns at the longest step of the back-off."""
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def high_s(signature: bytes) -> bytes:
    """The other signature (r, n - s) of the same digest by the same key."""
    s = ORDER - int.from_bytes(signature[32:64], "big")
    recovery = bytes([signature[64] ^ 1]) if len(signature) > 64 else b""
    return signature[:32] + s.to_bytes(32, "big") + recovery


class Delegates:
    """All delegates of a network together."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.rng
        self.net: Net = world.net
        self.chain, self.disk = self.net.chain()
        self.blocks: list[Block] = []
        self.certificates: list[Certificate] = []
        self._states: dict[bytes, VoteState] = {}
        self._last: dict[tuple[int, BallotKind], Vote] = {}
        self._votes: dict[Ballot, dict[int, Vote]] = {}

    def sync(self) -> None:
        """The delegates follow the chain on the node's own disk."""
        self.disk = Memory(self.world.disk)
        self.chain = Chain(self.net.genesis, self.disk)

    # --- what they hear

    def follow(self, block: Block) -> None:
        """The delegates import the block and may build on it."""
        try:
            self.disk.apply(self.chain.on_block(block, LATE_MS).puts)
            self.blocks = [*self.blocks[-KEPT:], block]
        # the block is below the window, its slot is full, or its parent's branch is dead
        except Invalid:
            pass

    def hear(self, vote: Vote) -> None:
        """Count a vote of any signer, and follow the certificate that it completes."""
        if vote.ballot not in self._votes:
            kept = list(self._votes.items())[-KEPT:]
            self._votes = {**dict(kept), vote.ballot: {}}
        votes = self._votes[vote.ballot]
        votes[vote.index] = vote
        members = self.chain.sets.get(vote.ballot.epoch)
        if members is not None and len(votes) == members.quorum:
            self.know(certificate_of(list(votes.values()), members))

    def know(self, certificate: Certificate) -> None:
        """Remember a certificate and, where it is valid, follow it."""
        self.certificates = [*self.certificates[-KEPT:], certificate]
        with suppress(Invalid):
            learn(self.chain, self.disk, certificate)

    # --- what they vote

    def honest(self) -> list[Vote]:
        """The last and the new votes of the delegates that keep the rules, the node's excluded."""
        head, cast = self.chain.head, [*self._last.values()]
        if head.height:
            cast += self._cast(finality.prevote(head, self.chain.epoch_of(head).boundary))
        top = self.chain.certificates.highest.get(BallotKind.PREVOTE)
        if top is not None and top.ballot.slot > self.chain.final.slot:
            cast += self._cast(finality.commit(top.ballot))
        return cast

    def _cast(self, ballot: Ballot) -> list[Vote]:
        members = self.chain.sets.get(ballot.epoch)
        cast = []
        for index, address in enumerate(members.addresses if members is not None else ()):
            state = self._states.get(address, VoteState())
            if address != address_of(US) and not state.refuse(ballot):
                self._states[address] = state.after(ballot)
                cast.append(self._signed(ballot, index, address))
        for vote in cast:
            self.hear(vote)
            self._last[vote.index, vote.ballot.kind] = vote
        return cast

    def _signed(self, ballot: Ballot, index: int, address: bytes) -> Vote:
        digest = ballot.digest(self.net.genesis.chain_id)
        return Vote(ballot, index, crypto.sign(digest, self.net.secrets[address]))

    def ballot(self) -> Ballot:
        """A ballot that the rules allow for some block, or nearly."""
        rng, header = self.rng, self._header()
        if header.height:
            ballot = finality.prevote(header, self.chain.epoch_of(header).boundary)
        else:  # genesis, which no rule lets a delegate vote on
            ballot = Ballot(BallotKind.PREVOTE, 0, 0, header.hash, 0)
        if rng.random() < 0.5:
            ballot = finality.commit(ballot)
        if not self.world.bad(0.6):
            return ballot
        changes: list[dict[str, Any]] = [
            {"epoch": ballot.epoch + 1}, {"epoch": U64 - 1}, {"epoch": max(ballot.epoch - 1, 0)},
            {"slot": self.world.slot + rng.randrange(1, 9)}, {"slot": U64},
            {"slot": self.world.number()}, {"slot": ballot.slot - 1 if ballot.slot else 0},
            {"block_id": rng.randbytes(32)}, {"block_id": self._header().hash},
        ]  # fmt: skip
        if ballot.kind is BallotKind.PREVOTE:
            before = self.chain.epoch.before.slot
            changes += [{"justify_slot": slot} for slot in (before, self.world.number(), U64)]
        return replace(ballot, **rng.choice(changes))

    def _header(self) -> Header:
        """The header of a known block that votes may still be for."""
        headers = [self.chain.head, *(block.header for block in self.blocks[-4:])]
        alive = [header for header in headers if header.height and header.hash in self.chain._tree]
        return self.rng.choice(alive) if alive else self.chain.head

    def _members(self, ballot: Ballot) -> Members:
        return self.chain.sets.get(ballot.epoch, self.chain.epoch.members)

    def _others(self, members: Members) -> list[int]:
        """The indices of the members whose keys the delegates use."""
        if self.world.bad(0.01):
            return list(range(len(members)))
        others = [at for at, address in enumerate(members.addresses) if address != address_of(US)]
        return others or [0]

    def vote(self) -> bytes:
        """A vote, true or false."""
        rng, ballot = self.rng, self.ballot()
        members = self._members(ballot)
        index = rng.choice(self._others(members))
        vote = self._signed(ballot, index, members.addresses[index])
        if not self.world.bad(0.5):
            self.hear(vote)
            return vote.raw
        flipped = bytearray(vote.signature)
        flipped[rng.randrange(65)] ^= 1 << rng.randrange(8)
        forged = rng.choice((
            {"index": 100}, {"index": len(members)}, {"index": (index + 1) % len(members)},
            {"signature": high_s(vote.signature)}, {"signature": bytes(flipped)},
            {"signature": bytes(65)}, {"signature": b"\xff" * 65},
            {"ballot": replace(ballot, kind=BallotKind.PROPOSAL, justify_slot=0)},
            {"ballot": replace(ballot, kind=BallotKind.COMMIT, justify_slot=7)},
        ))  # fmt: skip
        return replace(vote, **forged).raw

    def certificate(self) -> bytes:
        """A certificate, true or false; often a certificate that was heard before."""
        rng = self.rng
        if self.certificates and rng.random() < 0.5:
            made = rng.choice(self.certificates[-4:])
        else:
            made = self._quorum(self.ballot())
        return self._spoilt(made).raw if self.world.bad(0.5) else made.raw

    def _quorum(self, ballot: Ballot) -> Certificate:
        """A certificate by a quorum, more members than a quorum, or less."""
        members = self._members(ballot)
        least = members.quorum - self.world.bad(0.3)
        others = self._others(members)
        count = min(self.rng.randrange(max(least, 1), len(members) + 1), len(others))
        chosen = sorted(self.rng.sample(others, count))
        votes = [self._signed(ballot, at, members.addresses[at]) for at in chosen]
        certificate = certificate_of(votes, members)
        if count >= members.quorum:
            self.know(certificate)
        return certificate

    def _spoilt(self, certificate: Certificate) -> Certificate:
        rng, bits = self.rng, int.from_bytes(certificate.bitmap, "little")
        flipped = bytearray(certificate.signatures)
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        signatures, ballot = certificate.signatures, certificate.ballot
        first, second = signatures[:64], signatures[64:128]
        forged: list[dict[str, Any]] = [
            {"bitmap": certificate.bitmap + b"\0"}, {"bitmap": b""},
            {"bitmap": (bits << 1).to_bytes(len(certificate.bitmap) + 1, "little")},
            {"bitmap": (bits | 1 << 7).to_bytes(len(certificate.bitmap), "little")},
            {"signatures": signatures + first}, {"signatures": signatures[64:]},
            {"signatures": bytes(flipped)}, {"signatures": high_s(first) + signatures[64:]},
            {"signatures": second + first + signatures[128:]},
            {"signatures": first + first + signatures[128:]},
            {"ballot": replace(ballot, epoch=ballot.epoch ^ 1)},
            {"ballot": replace(ballot, slot=ballot.slot ^ 1)},
            {"ballot": replace(ballot, justify_slot=ballot.justify_slot ^ 1)},
        ]  # fmt: skip
        return replace(certificate, **rng.choice(forged))

    # --- what they propose

    def block(self) -> bytes:
        """A block on any known block, honest or forged by its leader or by a stranger."""
        rng, chain = self.rng, self.chain
        parent = chain.head if rng.random() < 0.6 else self._header()
        if chain.state(parent.hash) is None or parent.hash not in chain._tree:
            parent = chain.head
        block = self._child(parent, self._section(parent))
        change: dict[str, Any] = rng.choice((
            {}, {}, {}, {"state_root": rng.randbytes(32)}, {"parent": rng.randbytes(32)},
            {"height": self.world.number()}, {"gas_used": self.world.number()},
            {"base_fee": self.world.number()}, {"proposer": address_of("delegate 1")},
            {"final": (rng.randbytes(32), self.world.number())}, {"tx_root": rng.randbytes(32)},
            {"justify": (bytes(32), 1, 1)}, {"justify": (parent.hash, parent.slot, parent.epoch)},
            {"epoch": self.world.number()}, {"next_set_hash": rng.randbytes(32)},
            {"cert_root": rng.randbytes(32)}, {"seed_reveal": rng.randbytes(32)},
            {"seed_commitment": rng.randbytes(32)}, {"slot": self.world.number()},
        ))  # fmt: skip
        if change and self.world.bad(0.5):
            return self.net.forged(block, **change).raw
        self.follow(block)
        return block.raw

    def _section(self, parent: Header) -> Sequence[Certificate]:
        """The certificates that a child of ``parent`` should carry, none of them, or others."""
        if self.world.bad(0.3) and self.certificates:
            chosen = self.rng.sample(self.certificates, min(len(self.certificates), 2))
            return sorted(chosen, key=lambda certificate: certificate.ballot.kind)
        return () if self.world.bad(0.2) else self.chain.section(parent)

    def _child(self, parent: Header, section: Sequence[Certificate]) -> Block:
        """A block by the leader of the next slot that the back-off allows."""
        rng, chain = self.rng, self.chain
        ahead = rng.choice((1, 4)) if self.world.bad(0.5) else 0
        first = max(parent.slot + 1, self.world.slot - rng.randrange(3) + ahead)
        for carried in (section, ()):
            for slot in range(first, first + SLOTS_TRIED):
                try:
                    position = chain.position(parent, slot, carried)
                except (Invalid, Corrupt):  # the certificate is of an unknown block
                    break
                leader = rules.leader(position.epoch, slot, position.links.final[1])
                ours = leader == address_of(US) and len(position.epoch.members) > 1
                if leader is not None and (not ours or self.world.bad(0.02)):
                    return self.net.child(chain, parent.hash, slot, (), carried)
        raise AssertionError("no slot is left to them")
