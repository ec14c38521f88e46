"""The holder of a delegate's secret key; it signs only ballots that rules V1 and V2 allow.

A node has a ``Signer`` and never the key: a ``LocalSigner`` in its own process, or a
``signer_socket.RemoteSigner``, which asks another process. The order inside ``sign`` keeps an
honest key from committing an offence: refuse, persist and fsync, then sign
(docs/spec/consensus.md "Vote state").
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
    """The answer to a ballot.

    ``signature`` has 65 bytes, or is empty and ``refusal`` gives the reason. ``state`` covers all
    that the key has signed by now.
    """

    signature: bytes
    state: VoteState
    refusal: str = ""


class Signer(Protocol):
    """The key of a delegate. ``sign`` waits for a disk or a socket: call it off the event loop."""

    @property
    def public_key(self) -> bytes:
        """33 bytes, compressed."""

    @property
    def seed_key(self) -> bytes:
        """32 bytes that the delegate's commitments to the seed are made of (``schedule.py``)."""

    @property
    def state(self) -> VoteState:
        """The key's vote state, as far as this process knows."""

    @property
    def complaint(self) -> str | None:
        """Why nothing is signed at present, in words; None while the signer signs."""

    def sign(self, ballot: Ballot) -> Answer:
        """Signs the ballot or refuses; raises ``Corrupt`` when the state could not be kept."""

    def close(self) -> None:
        """Ends the signer: nothing is signed afterwards."""


class LocalSigner:
    """A key in this process with its vote state in a file. Safe to call from several threads."""

    def __init__(self, secret: bytes, votes: VoteFile, chain_id: int) -> None:
        """``secret``: 32 bytes. ``votes``: the open file of this key on this chain."""
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
        """The key's vote state."""
        return self._votes.state

    @property
    def complaint(self) -> str | None:
        """None: a failure of this signer ends the process."""
        return None

    def sign(self, ballot: Ballot) -> Answer:
        """Signs the ballot or refuses; raises ``Corrupt`` when the state could not be kept."""
        with self._one_at_a_time:
            state = self._votes.state
            refusal = state.refuse(ballot)  # V1, V2, E0
            if refusal:
                last, signature = self._last.get(ballot.kind, (None, b""))
                if last == ballot:  # asked again, as after a lost answer: the same statement
                    return Answer(signature, state)
                return Answer(b"", state, refusal)
            self._votes.keep(state.after(ballot))  # before a signature exists
            signature = crypto.sign(ballot.digest(self._chain_id), self._secret)
            self._last[ballot.kind] = ballot, signature
            return Answer(signature, self._votes.state)

    def close(self) -> None:
        """Closes the file; nothing is signed afterwards."""
        with self._one_at_a_time:
            self._votes.close()
