"""A real observer node that writes down every ballot that it hears on the wire.

python -m tests.processes.wire_witness run --config FILE     (its lines are beside the file, in
LINES_NAME)

It is ``dipnetd`` with two of its functions looked at on their way. A ballot counts once its author
is proven: votes come here after their signatures were checked, proposals with their block.
"""

import json
from itertools import combinations
from pathlib import Path
from typing import TextIO

from dipnet.consensus.chain.block import Block
from dipnet.consensus.finality.votes import Ballot, BallotKind, Certificate, Vote, offence
from dipnet.daemon.daemon import Daemon
from dipnet.dipnetd import main as dipnetd
from dipnet.node.voting import Voting

LINES_NAME = "ballots.jsonl"


class Witness:
    """Writes each ballot once, as soon as it is heard."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._heard: set[tuple[bytes, Ballot]] = set()

    def hear(self, signer: bytes, ballot: Ballot) -> None:
        if (signer, ballot) not in self._heard:
            self._heard.add((signer, ballot))
            line = [signer.hex(), ballot.kind, ballot.epoch, ballot.slot, ballot.block_id.hex(),
                    ballot.justify_slot]  # fmt: skip
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()


def watch(witness: Witness) -> None:
    """Every ballot that a node of this process counts is heard by ``witness``."""
    add, add_proposal = Voting.add, Voting.add_proposal

    def heard_add(self: Voting, vote: Vote, now_ms: int) -> Certificate | None:
        members = self.chain.sets.get(vote.ballot.epoch)
        if members is not None:
            witness.hear(members.signers[vote.index], vote.ballot)
        return add(self, vote, now_ms)

    def heard_add_proposal(self: Voting, block: Block, now_ms: int) -> None:
        witness.hear(block.signer, block.header.proposal)
        add_proposal(self, block, now_ms)

    Voting.add = heard_add  # type: ignore[method-assign]
    Voting.add_proposal = heard_add_proposal  # type: ignore[method-assign]


class Heard:
    """The file of a witness, read as it grows: the ballots of each key, named by its address."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._ballots: dict[bytes, list[Ballot]] = {}

    def by(self, account: bytes) -> list[Ballot]:
        """All that is heard by now of the key of ``account``."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read += len(whole)
            for line in whole.splitlines():
                signer, kind, epoch, slot, block, justify = json.loads(line)
                ballot = Ballot(BallotKind(kind), epoch, slot, bytes.fromhex(block), justify)
                self._ballots.setdefault(bytes.fromhex(signer), []).append(ballot)
        return self._ballots.get(account, [])


def offences(ballots: list[Ballot]) -> list[str]:
    """Each pair of one key's ballots that is an offence, as text: all pairs are compared."""
    pairs = combinations(ballots, 2)
    return [f"{name} by {one} and {other}" for one, other in pairs if (name := offence(one, other))]


class _Opened(Daemon):
    """The witness's lines lie in the node's directory."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        watch(Witness((self.config.data / LINES_NAME).open("a")))


if __name__ == "__main__":
    dipnetd.Daemon = _Opened  # type: ignore[attr-defined]
    dipnetd.app()
