"""Delegates' keys in the simulator: the shipping rules and bytes over a simulated vote file.

A ``Signer`` refuses, keeps, then signs, in this order (docs/spec/consensus.md "Vote state"), and
its process may end between any two of them; the next one begins with what the file says. ``Shared``
is a process of its own that several hosts ask. ``Reckless`` signs whatever it is asked: a hostile
delegate's. ``Ballots`` remembers all that was ever signed, so that the promises can be checked by
a watch that sees every ballot.
"""

import random
from collections.abc import Callable

from dipnet.consensus.chain.schedule import seed_key
from dipnet.consensus.finality.votes import Ballot, BallotKind, Voter, VoteState
from dipnet.primitives import crypto
from dipnet.signing import votefile
from tests.sim.wires import Clock

KEEP_MS = (0, 6)  # a state is written and synced
SIGN_MS = (0, 1)  # a signature is made and told
SOCKET_MS = (0, 3)  # the one-way delay to a signer in another process

Answer = Callable[[bytes, VoteState], None]
Within = Callable[[Callable[[], None]], Callable[[], None]]
"""Makes an action void when the process that asked has ended."""


class Ballots:
    """Every ballot that was signed, by the address of the key that signed it."""

    def __init__(self) -> None:
        self.signed: dict[bytes, list[Ballot]] = {}
        self.commits: dict[tuple[bytes, int], dict[bytes, None]] = {}
        """Block, epoch -> the delegates that have signed a commit for it in that epoch."""

    def sign(self, secret: bytes, signer: bytes, ballot: Ballot, chain_id: int) -> bytes:
        """A signature of 65 bytes; the only way in which a delegate's key signs here."""
        self.signed.setdefault(signer, []).append(ballot)
        if ballot.kind is BallotKind.COMMIT:
            self.commits.setdefault((ballot.block_id, ballot.epoch), {})[signer] = None
        return crypto.sign(ballot.digest(chain_id), secret)


class Signer:
    """A delegate's key in the process of its node; the file outlives the process."""

    honest = True
    """Its node believes ballots of the key that it hears (ADR 84); a state may be set back."""

    def __init__(self, clock: Clock, secret: bytes, chain_id: int, ballots: Ballots) -> None:
        self.secret = secret
        self.public_key = crypto.public_key(secret)
        self.address = crypto.address(self.public_key)
        self.state = VoteState()
        """The vote state in the file, as this process has read it."""
        self.refused = 0
        """Ballots that were not signed."""
        self.lost = False
        """The file is gone: nothing may be signed until ``recover``."""
        self.lost_slot = 0
        """Nothing was signed after this slot when it was lost."""
        self._clock = clock
        self._chain_id = chain_id
        self._ballots = ballots
        self._asked: list[Ballot] = []
        self._free_ms = 0
        self._keep(self.state)

    def _keep(self, state: VoteState) -> None:
        """Durable, and then ours."""
        self._file = votefile.encode(self._chain_id, self.address, state)
        self.state = state

    @property
    def voter(self) -> Voter | None:
        """The vote state for a node that starts; None while the key must not sign."""
        if self.lost:
            return None
        return Voter(self.public_key, seed_key(self.secret), self.state)

    def ask(self, ballot: Ballot, within: Within, answer: Answer) -> None:
        """Sign it or refuse, some time later; ``within`` is the process that asks."""
        self._queue(ballot, within(lambda: self._work(within, answer)))

    def _queue(self, ballot: Ballot, work: Callable[[], None]) -> None:
        self._asked.append(ballot)
        self._free_ms = max(self._free_ms, self._clock.now_ms) + self._clock.draw(KEEP_MS)
        self._clock.at(self._free_ms, work)

    def _work(self, within: Within, answer: Answer) -> None:
        signature, state = self._signed(self._asked.pop(0))
        self._clock.after(SIGN_MS, within(lambda: answer(signature, state)))

    def _signed(self, ballot: Ballot) -> tuple[bytes, VoteState]:
        """Refuse, keep, sign."""
        if self.state.refuse(ballot):
            self.refused += 1
            return b"", self.state
        self._keep(self.state.after(ballot))
        return self._signature(ballot), self.state

    def _signature(self, ballot: Ballot) -> bytes:
        return self._ballots.sign(self.secret, self.address, ballot, self._chain_id)

    def crash(self, rng: random.Random, lose: bool) -> None:
        """The process ends; a state may have been kept whose signature was never made."""
        if self._asked and rng.random() < 0.5 and not self.state.refuse(self._asked[0]):
            self._keep(self.state.after(self._asked[0]))
        self._asked.clear()
        self._free_ms = 0
        self.state = votefile.decode(self._file, self._chain_id, self.address, "the simulator")
        self.lost = self.lost or lose

    def recover(self, state: VoteState) -> None:
        """An operator answers for ``state`` covering all that the key has signed."""
        self._keep(state)
        self.lost = False


class Shared(Signer):
    """The key in a process of its own that outlives those of the nodes that ask it."""

    def ask(self, ballot: Ballot, within: Within, answer: Answer) -> None:
        clock = self._clock

        def told(signature: bytes, state: VoteState) -> None:
            clock.after(SOCKET_MS, within(lambda: answer(signature, state)))

        def arrive() -> None:
            self._queue(ballot, lambda: self._work(lambda action: action, told))

        clock.after(SOCKET_MS, arrive)

    def crash(self, rng: random.Random, lose: bool) -> None:
        """A host ends; the signer does not."""


class Deaf(Signer):
    """A key with two memories, whose nodes do not listen for it: the fault at its worst."""

    honest = False


class Reckless(Signer):
    """A key without rules: it signs every ballot that it is asked for, at once."""

    honest = False

    def ask(self, ballot: Ballot, within: Within, answer: Answer) -> None:
        self.state = self.state.after(ballot)
        signature, state = self.sign(ballot), self.state
        self._clock.after(SIGN_MS, within(lambda: answer(signature, state)))

    def sign(self, ballot: Ballot) -> bytes:
        """The signature, for whatever purpose."""
        return self._signature(ballot)

    def crash(self, rng: random.Random, lose: bool) -> None:
        """It has nothing to remember."""
