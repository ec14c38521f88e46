"""Who holds a delegate's secret key, and signs only what the key may sign (rules V1 and V2).

A node has a ``Signer`` and never the key: ``LocalSigner`` in its own process, or a
``signer_socket.RemoteSigner`` that asks another one. The order inside ``sign`` is what keeps an
honest key from ever making an offence: refuse, persist and fsync, then sign (docs/spec/consensus.md
"Vote state").
"""

import threading
from dataclasses import dataclass
from typing import Protocol

from dipnet.consensus.chain.schedule import seed_key
from dipnet.consensus.finality.votes import Ballot, BallotKind, VoteState
from dipnet.primitives import crypto
from dipnet.signing.votefile import VoteFile


@dataclass(frozen=True, slots=True)
class Answer:
    """A signature of 65 bytes, or none and why; and what the key has signed by now."""

    signature: bytes
    state: VoteState
    refusal: str = ""


class Signer(Protocol):
    """One delegate's key. ``sign`` blocks on a disk or a socket: not for an event loop's thread."""

    @property
    def public_key(self) -> bytes:
        """33 bytes."""

    @property
    def seed_key(self) -> bytes:
        """32 bytes that the delegate's commitments to the seed are made of (``schedule.py``)."""

    @property
    def state(self) -> VoteState:
        """What the key has signed, as far as is known here."""

    @property
    def complaint(self) -> str | None:
        """Why nothing is signed at present, for people."""

    def sign(self, ballot: Ballot) -> Answer:
        """Signs, or refuses. Raises ``Corrupt`` when the state could not be kept."""

    def close(self) -> None:
        """Ends it: nothing is signed afterwards."""


class LocalSigner:
    """The key in this process, its memory in a file. Safe to call from several threads."""

    def __init__(self, secret: bytes, votes: VoteFile, chain_id: int) -> None:
        """``votes`` is the file of this key on this chain, which is closed with the signer."""
        self._secret = secret
        self._votes = votes
        self._chain_id = chain_id
        self._one_at_a_time = threading.Lock()
        self._last: dict[BallotKind, tuple[Ballot, bytes]] = {}
        self.public_key = crypto.public_key(secret)
        self.seed_key = seed_key(secret)

    def __repr__(self) -> str:
        return f"LocalSigner({crypto.checksum(crypto.address(self.public_key))})"

    @property
    def state(self) -> VoteState:
        """What the key has signed."""
        return self._votes.state

    @property
    def complaint(self) -> str | None:
        """None: what fails here ends the process."""
        return None

    def sign(self, ballot: Ballot) -> Answer:
        """Signs, or refuses; ``Corrupt`` when the state could not be kept."""
        with self._one_at_a_time:
            state = self._votes.state
            refusal = state.refuse(ballot)  # V1, V2, E0
            if refusal:
                last, signature = self._last.get(ballot.kind, (None, b""))
                if last == ballot:  # a twin asks, or its answer was lost: one statement, said twice
                    return Answer(signature, state)
                return Answer(b"", state, refusal)
            self._votes.keep(state.after(ballot))  # before a signature exists
            signature = crypto.sign(ballot.digest(self._chain_id), self._secret)
            self._last[ballot.kind] = ballot, signature
            return Answer(signature, self._votes.state)

    def close(self) -> None:
        """Lets go of the file."""
        with self._one_at_a_time:
            self._votes.close()
