"""The world of one shipping node: its disk, its clock, and the signer that keeps its vote state.

The world checks the node: it never asks for two ballots of which the second breaks V1 or V2, it
never reverts a final block, and its disk restores it.
"""

from random import Random
from typing import Any

from dipnet.consensus.chain.schedule import seed_key
from dipnet.consensus.finality.header import Header
from dipnet.consensus.finality.votes import Ballot, BallotKind, Voter, VoteState, offence
from dipnet.node.effects import Sign, Signed
from dipnet.node.node import Node, first_puts
from dipnet.primitives import crypto
from tests.fixtures.chain_builder import TIME_MS, Net, secret
from tests.fixtures.memory import Memory
from tests.fixtures.peer_ids import address, peer_id

SLOT_MS = 1_000
DELEGATES = 4
US = "delegate 0"
U64 = 2**64 - 1
NUMBERS = (0, 1, 2, 3, 5, 127, 128, 2**31, 2**32, 2**53, 2**63, U64)


class World:
    """A node and its surroundings; ``malice`` (0 to 1) scales the chance of every fault."""

    def __init__(self, rng: Random, malice: float) -> None:
        self.rng = rng
        self.malice = malice
        self.net = Net.of(
            DELEGATES, slot_ms=SLOT_MS, epoch_slots=16, backoff_slots=8, undo_blocks_max=6,
            overlays_max=3, pool_txs_max=24, pool_account_txs_max=12, gas_limit=40 * 21_000,
        )  # fmt: skip
        self.disk = Memory()
        self.disk.apply(first_puts(self.net.genesis, self.disk))
        self.now_ms = TIME_MS + 10 * SLOT_MS
        self.state = VoteState()
        """The vote state of the node's signer."""
        self.signed: list[Ballot] = []
        self._asked = VoteState()
        self.final: Header
        self.node: Node
        self.be_born()

    def be_born(self) -> None:
        """The node starts from the records on its disk."""
        self.node = self.born()
        self._asked = self.state
        self.final = self.node.chain.final

    def born(self) -> Node:
        """A new node from the records on the disk."""
        voter = Voter(crypto.public_key(secret(US)), seed_key(secret(US)), self.state)
        return Node(
            self.net.genesis, self.disk, peer_id=peer_id(999), addresses=[address(999)],
            voter=voter, bootstrap=[address(n) for n in (1, 77)], local=True,
            seed=self.rng.getrandbits(64),
        )  # fmt: skip

    @property
    def slot(self) -> int:
        """The current slot."""
        return max(self.now_ms - TIME_MS, 0) // SLOT_MS

    def bad(self, chance: float) -> bool:
        """Whether a peer or delegate misbehaves now, with probability ``chance`` times
        ``malice``."""
        return self.rng.random() < chance * self.malice

    def number(self) -> int:
        """A random number, often a small number."""
        return self.rng.choice((*NUMBERS, self.rng.randrange(50), self.node.chain.head.height))

    def sign(self, asked: Sign) -> Signed:
        """The signer, which also serves another node and sometimes fails."""
        ballot = asked.ballot
        assert not self._asked.refuse(ballot), "the node breaks its own word"
        self._asked = self._asked.after(ballot)
        if self.bad(0.1):
            other = Ballot(BallotKind.PROPOSAL, ballot.epoch, ballot.slot + 1, bytes(32), 0)
            if not self.state.refuse(other):
                self.state = self.state.after(other)
        if self.state.refuse(ballot) or self.bad(0.05):
            return Signed(asked.ticket, b"", self.state)
        self.state = self.state.after(ballot)
        self.signed.append(ballot)
        digest = ballot.digest(self.net.genesis.chain_id)
        return Signed(asked.ticket, crypto.sign(digest, secret(US)), self.state)

    def check_step(self) -> None:
        """Checks the finality of the chain after a step: no final block is reverted."""
        chain = self.node.chain
        if chain.final != self.final:
            assert chain.final.height > self.final.height
            assert chain.hash_at(self.final.height) == self.final.hash
            self.final = chain.final

    def check_restart(self) -> None:
        """Checks that a node from the disk equals the node and knows its vote state."""
        again, ours = self.born(), self.node
        assert standing(again) == standing(ours)
        voter = again.voting.voter
        assert voter is not None
        assert voter.state == self.state

    def check_signed(self) -> None:
        """Checks that no two signatures of the node are an offence."""
        for at, ballot in enumerate(self.signed):
            for later in self.signed[:at]:
                assert not offence(ballot, later)


def standing(node: Node) -> tuple[Any, ...]:
    """The values of a node that must be the same after a restart."""
    chain = node.chain
    hashes = [chain.hash_at(height) for height in range(chain.head.height + 1)]
    return (
        chain.head, chain.base, chain.final, chain.safe, chain.epoch, chain.sets,
        list(chain.certificates), hashes, len(node.dag), node.dag.sum,
    )  # fmt: skip
