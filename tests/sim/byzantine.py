"""Hostile delegates: an honest node whose key signs anything and whose frames are rewritten.

A ``Byzantine`` holds one delegate's key (``Reckless``) and stands between its node and the network.
Its *vices* are those of docs/simulator.md "A seed"; each draws what
it does from the seed of the run. Fewer than a third of the delegates have any, so that all promises
hold for the rest.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from dipnet.consensus.chain import schedule
from dipnet.consensus.chain.block import (
    Block,
    cert_root,
    constant_fields,
    decode_block,
    ordered_root,
    seal,
)
from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.chain.produce import BlockDraft
from dipnet.consensus.chain.rules import leader
from dipnet.consensus.chain.schedule import slot_at, slot_start_ms
from dipnet.consensus.finality import finality
from dipnet.consensus.finality.header import Header
from dipnet.consensus.finality.members import Members
from dipnet.consensus.finality.votes import (
    CERTIFIED_BYTES,
    Ballot,
    BallotKind,
    Certificate,
    Vote,
    decode_vote,
)
from dipnet.consensus.staking.idpos import DPOS_ADDRESS, METHODS
from dipnet.ledger.state import KEY_ACCOUNT, Account
from dipnet.ledger.tx import Tx, decode_batch, sign_tx
from dipnet.p2p import messages as m
from dipnet.p2p.messages import Topic
from dipnet.primitives import crypto
from tests.sim.signer import Reckless
from tests.sim.wires import End
from tests.sim.world import Host, World

VICES = (
    "equivocate", "double_vote", "mute", "hide", "invalid", "stale", "early", "certificates",
    "flood", "late_votes", "ahead", "forged",
)  # fmt: skip
PERCENT = 60  # of its slots in which a vice is lived out
FLOOD_BLOCKS, FLOOD_SHARES = (
    5,
    3,
)  # blocks of a slot that a peer is told, and the number of different sets of them
HELD_SLOTS = (1, 4)  # how long a hidden block is held back
PAST_BLOCKS = 10
AHEAD_SLOTS = (2, 12)  # how far ahead of the clock a block is made
STAKE_GAS, STAKE_FEE = 500_000, 10**11
ACT_MS = (20, 400)  # in a slot, when the key signs on its own account
ROOTS = ("state_root", "receipt_root", "tx_root", "gas_used", "base_fee", "parent", "justify",
         "final", "epoch", "seed_reveal", "next_set_hash", "height")  # fmt: skip


class Byzantine:
    """A hostile delegate, its node on ``host``, from the host's start on."""

    def __init__(self, world: World, host: Host, vices: tuple[str, ...], seed: int) -> None:
        assert host.signer is not None
        self._world = world
        self._host = host
        self._vices = vices
        self._rng = random.Random(seed)
        self._key = Reckless(world, host.signer.secret, world.genesis.chain_id, world.ballots)
        self.lived: Counter[str] = Counter()
        """How often it lived each vice."""
        self._now: frozenset[str] = frozenset()  # the vices of this slot
        self._others: dict[bytes, list[bytes]] = {}  # own block -> blocks told in its place
        host.signer = self._key
        host.rewriters.append(self)
        self._next_slot()

    # --- each slot

    def _next_slot(self) -> None:
        world = self._world
        slot = slot_at(world.genesis.parameters, world.now_ms) + 1
        world.at(slot_start_ms(world.genesis.parameters, slot), self._on_slot)

    def _on_slot(self) -> None:
        self._next_slot()
        lived = [vice for vice in self._vices if self._rng.randrange(100) < PERCENT]
        self._now = frozenset(lived)
        self._others.clear()
        acts: dict[str, Callable[[], None]] = {
            "double_vote": self._vote_for_all,
            "early": self._vote_early,
            "certificates": self._lie_of_certificates,
            "late_votes": self._vote_for_the_past,
            "ahead": self._propose_ahead,
        }
        for vice in lived:
            if vice in acts:
                self._world.after(ACT_MS, self._world.in_life(self._host, acts[vice]))

    # --- frames that leave

    def frames(self, to: End, protocol: str, data: bytes) -> Iterator[tuple[str, bytes]]:
        """The frames that are sent instead of a frame of the node."""
        message = m.decode(protocol, data)
        match message:
            case m.Votes(raws):
                kept = tuple(raw for raw in raws if not self._silent(to, raw))
                if kept:
                    yield protocol, m.encode(m.Votes(kept))
            case m.Items(topic=Topic.BLOCK, raws=raws):
                for raw in raws:
                    yield from self._blocks(to, raw)
            case _:
                yield protocol, data

    def _silent(self, to: End, raw: bytes) -> bool:
        """Whether a vote of ours is kept from a peer: from all, or from every other one."""
        if "mute" not in self._now:
            return False
        vote = decode_vote(raw)
        if vote.index != self._index(vote.ballot.epoch) or (vote.ballot.slot + to.index) % 3 == 0:
            return False
        self.lived["mute"] += 1
        return True

    def _blocks(self, to: End, raw: bytes) -> Iterator[tuple[str, bytes]]:
        """The blocks that a peer gets in place of a block; foreign blocks are relayed."""
        block = decode_block(raw, self._world.genesis)
        for told in self._instead(to, block):
            yield "gossip", m.encode(m.Items(Topic.BLOCK, (told,)))

    def _instead(self, to: End, block: Block) -> list[bytes]:
        if block.signer != self._key.address:
            return [block.raw]
        if "hide" in self._now:
            self._hide(to, block.raw)
            return []
        for vice in ("equivocate", "stale"):
            if vice in self._now:
                self.lived[vice] += 1
                return [block.raw] if to.index % 2 else self._told(block, self._twins)
        if "forged" in self._now:
            return self._told(block, self._falsely_certified)
        if "flood" in self._now:
            twins = self._told(block, self._many)
            at = to.index % FLOOD_SHARES * FLOOD_BLOCKS
            return twins[at : at + FLOOD_BLOCKS]
        if "invalid" in self._now:
            return self._told(block, self._spoiled)
        return [block.raw]

    def _told(self, block: Block, make: Callable[[Block], list[bytes]]) -> list[bytes]:
        if block.hash not in self._others:
            self._others[block.hash] = make(block)
        return self._others[block.hash]

    def _hide(self, to: End, raw: bytes) -> None:
        """The peer gets the block some slots late, or never."""
        self.lived["hide"] += 1
        if self._rng.randrange(4):
            late = self._rng.randint(*HELD_SLOTS) * self._world.genesis.parameters.slot_ms
            frame = m.encode(m.Items(Topic.BLOCK, (raw,)))
            send = lambda: self._world.transmit(self._host, to, "gossip", frame)  # noqa: E731
            self._world.after((late, late), self._world.in_life(self._host, send))

    # --- blocks of our own

    def _twins(self, block: Block) -> list[bytes]:
        """Another block of the same slot, on the same parent or on an old block."""
        chain = self._chain
        parent = chain.need(block.header.parent)
        stale = "stale" in self._now
        back = self._rng.randrange(6) if stale else 0
        while back and parent.height > chain.final.height:
            parent, back = chain.need(parent.parent), back - 1
        return [self._forged_twin(parent, block.header, 1, stale)]

    def _many(self, block: Block) -> list[bytes]:
        """So many blocks of a slot that every peer gets other blocks, and as many as it keeps."""
        self.lived["flood"] += 1
        parent = self._chain.need(block.header.parent)
        numbers = range(FLOOD_BLOCKS * FLOOD_SHARES)
        return [self._forged_twin(parent, block.header, number) for number in numbers]

    def _falsely_certified(self, block: Block) -> list[bytes]:
        """Our block with a commit certificate for its parent that no quorum has signed."""
        chain, parent = self._chain, self._chain.need(block.header.parent)
        if parent.height == 0:
            return [block.raw]
        prevote = finality.prevote(parent, chain.epoch_of(parent).boundary)
        members = chain.sets.get(prevote.epoch)
        if members is None:
            return [block.raw]
        self.lived["forged"] += 1
        section = (self._certificate(finality.commit(prevote), members),)
        return [self._twin(parent, block.header.slot, block.header.proposer, 1, section)]

    def _propose_ahead(self) -> None:
        """A block of a slot of ours that is to come."""
        chain, now = self._chain, slot_at(self._world.genesis.parameters, self._world.now_ms)
        parent, index = chain.head, chain.epoch.members.index_of_key(self._key.public_key)
        if index is None:
            return
        ours, section = chain.epoch.members.addresses[index], chain.section(parent)
        for slot in range(now + AHEAD_SLOTS[0], now + AHEAD_SLOTS[1]):
            final_slot = chain.position(parent, slot, section).links.final[1]
            if slot > parent.slot and leader(chain.epoch, slot, final_slot) == ours:
                self.lived["ahead"] += 1
                raw = self._twin(parent, slot, ours, 2, section)
                self._tell_all("gossip", m.encode(m.Items(Topic.BLOCK, (raw,))), 100)
                return

    def _forged_twin(
        self, parent: Header, header: Header, number: int, stale: bool = False
    ) -> bytes:
        """A valid block beside ``header`` if our leadership allows one on this parent.

        ``stale``: it knows of no certificate that its parent does not know.
        """
        section = () if stale else self._chain.section(parent)
        return self._twin(parent, header.slot, header.proposer, number, section)

    def _twin(
        self,
        parent: Header,
        slot: int,
        proposer: bytes,
        number: int,
        section: tuple[Certificate, ...],
    ) -> bytes:
        chain, key = self._chain, self._key
        twin = sibling(chain, parent, slot, proposer, key.secret, number, section)
        return twin.sealed(key.sign(twin.header.proposal), key.public_key).raw

    def _spoiled(self, block: Block) -> list[bytes]:
        """Our block with one field that is wrong, well signed."""
        self.lived["invalid"] += 1
        name = self._rng.choice(ROOTS)
        wrong = _spoil(getattr(block.header, name), self._rng)
        header = replace(block.header, **{name: wrong})
        signature = self._key.sign(header.proposal)
        return [seal(header, block.txs, signature, self._key.address, block.certificates).raw]

    # --- votes of our own

    @property
    def _chain(self) -> Chain:
        return self._host.running.chain

    def _index(self, epoch: int) -> int | None:
        members = self._chain.sets.get(epoch)
        return None if members is None else members.index_of_key(self._key.public_key)

    def _recent(self) -> list[Header]:
        """All blocks above the final one that the node has, and the final one."""
        chain = self._chain
        return [one for one in chain._tree.above(chain.final.hash) if one.height > 0]

    def _vote(self, ballot: Ballot, percent: int) -> None:
        """Sign, and tell some of the peers."""
        index = self._index(ballot.epoch)
        if index is None:
            return
        raw = Vote(ballot, index, self._key.sign(ballot)).raw
        self._tell_all("votes", m.encode(m.Votes((raw,))), percent)

    def _tell_all(self, protocol: str, frame: bytes, percent: int) -> None:
        """Sends to each other end with this chance."""
        for other in self._world.hosts:
            if other is not self._host and self._rng.randrange(100) < percent:
                self._world.transmit(self._host, other, protocol, frame)

    def _vote_for_all(self) -> None:
        """Prevote and commit whatever there is, certified or not, twice in a slot if need be."""
        chain = self._chain
        self.lived["double_vote"] += 1
        for header in self._recent()[-4:]:
            prevote = finality.prevote(header, chain.epoch_of(header).boundary)
            self._vote(prevote, 50)
            self._vote(finality.commit(prevote), 50)
        kind = self._rng.choice((BallotKind.PREVOTE, BallotKind.COMMIT, None, None))
        if kind is not None:  # each key is convicted once, of the first offence that is seen
            self._vote(Ballot(kind, chain.head.epoch, chain.head.slot, self._noise(), 0), 100)

    def _vote_for_the_past(self) -> None:
        """Commit old blocks, and prevote them again with another justify."""
        chain, header = self._chain, self._chain.head
        for _ in range(self._rng.randrange(1, PAST_BLOCKS)):
            if header.height > 1:
                header = chain.need(header.parent)
        if header.height > 0:
            self.lived["late_votes"] += 1
            prevote = finality.prevote(header, chain.epoch_of(header).boundary)
            self._vote(finality.commit(prevote), 100)
            self._vote(replace(prevote, justify_slot=prevote.justify_slot // 2), 100)

    def _vote_early(self) -> None:
        """Vote in the epoch that a block opens although its boundary is not final, and too late."""
        chain = self._chain
        self.lived["early"] += 1
        for header in self._recent()[-3:]:
            epoch = chain.epoch_of(header).number
            for number in (epoch - 1, epoch + 1, epoch):
                if number >= 0:
                    justify = self._rng.choice((0, header.justify[1], header.slot - 1))
                    self._vote(
                        Ballot(BallotKind.PREVOTE, number, header.slot, header.hash, justify), 70
                    )
                    self._vote(Ballot(BallotKind.COMMIT, number, header.slot, header.hash, 0), 70)

    def _lie_of_certificates(self) -> None:
        """Quorums that are none: too few, copied, of another ballot, of another epoch."""
        chain = self._chain
        header = self._rng.choice(self._recent() or [chain.final])
        if header.height == 0:
            return
        prevote = finality.prevote(header, chain.epoch_of(header).boundary)
        ballot = self._rng.choice(
            (prevote, finality.commit(prevote), replace(finality.commit(prevote), slot=2**40))
        )
        members = chain.sets.get(ballot.epoch)
        if members is None:
            return
        self.lived["certificates"] += 1
        lie = self._certificate(ballot, members)
        self._tell_all("votes", m.encode(m.Certificates((lie.raw,))), 100)

    def _certificate(self, ballot: Ballot, members: Members) -> Certificate:
        signature = self._key.sign(ballot)[:CERTIFIED_BYTES]
        index = members.index_of_key(self._key.public_key) or 0
        known = list(self._chain.certificates)
        match self._rng.randrange(4):
            case 0:  # ours alone
                indices, signatures = [index], signature
            case 1:  # our vote for every peer
                indices = list(range(members.quorum))
                signatures = signature * members.quorum
            case 2 if known:  # signatures for something else
                other = self._rng.choice(known)
                indices, signatures = list(other.indices()), other.signatures
            case _:  # noise
                indices = list(range(members.quorum))
                signatures = self._rng.randbytes(CERTIFIED_BYTES * members.quorum)
        bits = sum(1 << at for at in indices)
        return Certificate(ballot, bits.to_bytes((len(members) + 7) // 8, "little"), signatures)

    def _noise(self) -> bytes:
        return self._rng.randbytes(32)


def sibling(
    chain: Chain,
    parent: Header,
    slot: int,
    proposer: bytes,
    secret: bytes,
    number: int,
    section: tuple[Certificate, ...],
) -> BlockDraft:
    """A block of ``slot`` on any parent, as ``produce.build`` makes one on the head.

    Its one transaction stakes ``number`` wei, which tells it from other blocks.
    """
    position = chain.position(parent, slot, section)
    execution = chain.execution(position, proposer)
    tx = _stake(chain, parent, secret, number)
    execution.add(tx)
    key = schedule.seed_key(secret)
    committed, committed_slot = chain.committed(parent, proposer)
    reveal = schedule.NO_SECRET
    if committed != reveal:
        reveal = schedule.seed_secret(key, committed_slot)
    commitment = schedule.commitment(schedule.seed_secret(key, slot))
    executed = execution.finish(position.missed, commitment, position.boundary)
    fields: dict[str, Any] = {
        **constant_fields(chain.genesis),
        **position.fields,
        **executed.fields,
        "proposer": proposer,
        "tx_root": ordered_root([tx.raw]),
        "cert_root": cert_root([one.raw for one in section]),
        "seed_reveal": reveal,
        "seed_commitment": commitment,
    }
    return BlockDraft(Header(**fields), (tx,), section, ())


def _stake(chain: Chain, parent: Header, secret: bytes, number: int) -> Tx:
    """A transaction that may be in any block on ``parent``."""
    state = chain.state(parent.hash)
    assert state is not None
    record = state.get(KEY_ACCOUNT + crypto.address(crypto.public_key(secret)))
    raw = sign_tx(
        secret,
        chain_id=chain.genesis.chain_id,
        nonce=0 if record is None else Account.decode(record).nonce,
        gas=STAKE_GAS,
        max_fee=STAKE_FEE,
        max_priority_fee=0,
        to=DPOS_ADDRESS,
        value=number + 1,
        data=METHODS["stake"].call_data(),
    )
    (tx,) = decode_batch([raw], chain.genesis.chain_id)
    assert isinstance(tx, Tx), tx
    return tx


def _spoil(value: Any, rng: random.Random) -> Any:
    match value:
        case bytes():
            return rng.randbytes(len(value))
        case int():
            return value + rng.choice((1, 1 << 20))
        case (block_id, *numbers):
            return rng.choice(
                ((rng.randbytes(len(block_id)), *numbers), (block_id, *(n + 1 for n in numbers)))
            )
    raise AssertionError(value)
