"""Kills around persist, sign and send, and the ballots that the key has signed in all its lives.

A *history* is a key that lives through many kills on one disk. Its clients are hostile: they ask
for two blocks in every slot, with any justify, and for epochs that jump. A signature counts as sent
from the moment that the signer hands it over. No two ballots of a history may be an offence
(docs/spec/consensus.md "Vote state"), and after every kill the file can be read: it holds the old
state or the new state.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from random import Random

from dipnet.consensus.finality.votes import Ballot, BallotKind, VoteState, offence
from dipnet.primitives import crypto
from dipnet.primitives.errors import Corrupt, Invalid
from dipnet.signing.signer import Answer, LocalSigner
from dipnet.signing.votefile import VoteFile, encode, write
from tests.processes.crash_points_disk import Crash, CrashDisk

CHAIN_ID = 2018
SECRET = crypto.keccak256(b"a delegate")
ACCOUNT = crypto.address(crypto.public_key(SECRET))
PATH = Path("/votes/delegate.votes")
KILLS_OF_HISTORY = 25
HISTORIES_TO_CATCH = 20
POINTS_OF_LIFE = 200
"""About as many as a dozen ballots pass: lives are short, so that kills are many."""

Open = Callable[[CrashDisk, "History"], LocalSigner]


class Broken(AssertionError):
    """An offence: the test fails."""


@dataclass
class History:
    """The statements that one key has sent, and how often it was killed."""

    seed: int
    kills: int = 0
    power_cuts: int = 0
    crashed: Counter[str] = field(default_factory=Counter)
    sent: list[Ballot] = field(default_factory=list)

    def send(self, ballot: Ballot) -> None:
        self.sent.append(ballot)

    def check(self) -> None:
        """Raises ``Broken`` for the first offence."""
        for one, other in combinations(self.sent, 2):
            if found := offence(one, other):
                raise Broken(f"{found} by seed {self.seed}: {one} {other}")


def opened(disk: CrashDisk) -> VoteFile:
    """The shipping vote file on the modelled disk."""
    return VoteFile(PATH, CHAIN_ID, ACCOUNT, disk, lock=lambda path: -1)


def open_signer(disk: CrashDisk, history: History) -> LocalSigner:
    """The shipping signer."""
    return LocalSigner(SECRET, opened(disk), CHAIN_ID)


def draw(random: Random, state: VoteState) -> Ballot:
    """A ballot that is close to the state: about half of them may be signed."""
    kind = BallotKind(random.randrange(3))
    last = (state.proposed, state.prevoted, state.committed)[kind]
    slot = max(1, last + random.randint(-1, 2))
    justify = random.randint(max(0, state.committed - 1), state.committed + 1)
    return Ballot(
        kind,
        state.epoch + (random.random() < 0.03),
        slot,
        random.choice((b"A", b"B")) * 32,
        min(justify, slot) if kind is BallotKind.PREVOTE else 0,
    )


def live(disk: CrashDisk, history: History, open_it: Open, random: Random) -> None:
    """One life: ballots until the crash."""
    signer = open_it(disk, history)
    asked: list[Ballot] = []
    while True:
        again = asked and random.random() < 0.3
        ballot = random.choice(asked) if again else draw(random, signer.state)
        asked.append(ballot)
        answer = signer.sign(ballot)
        disk.point("signed or refused, not sent")
        if answer.signature:
            history.send(ballot)
        disk.point("sent")


def run_history(seed: int, kills: int, open_it: Open = open_signer, deaf: str = "") -> History:
    """A key's lives up to ``kills`` of them; ``Broken`` when something is wrong."""
    random = Random(seed)
    disk = CrashDisk(random)
    write(PATH, encode(CHAIN_ID, ACCOUNT, VoteState()), disk)
    disk.deaf = deaf
    history = History(seed)
    while history.kills < kills:
        disk.crash_at = disk.points + random.randint(1, POINTS_OF_LIFE)
        failing = random.random() < 0.1
        disk.fail_syncs = failing
        try:
            live(disk, history, open_it, random)
        except Crash:
            pass
        except Corrupt:
            assert failing, "storage is said to have failed, and it has not"
        except Invalid as error:
            raise Broken(f"seed {seed}, kill {history.kills}: {error}") from None
        history.kills += 1
        power_cut = random.random() < 0.6
        history.power_cuts += power_cut
        disk.restart(power_cut)
    history.crashed = disk.crashed
    history.check()
    return history


def run_all(kills: int, first_seed: int) -> tuple[int, Counter[str]]:
    """Histories until there were so many kills: the signatures they sent, and where they died."""
    sent, crashed = 0, Counter[str]()
    for n in range(-(-kills // KILLS_OF_HISTORY)):
        history = run_history(first_seed + n, KILLS_OF_HISTORY)
        sent += len(history.sent)
        crashed += history.crashed
    return sent, crashed


# --- positive controls


class SendsFirst(LocalSigner):
    """Signs and sends before it persists."""

    history: History

    def sign(self, ballot: Ballot) -> Answer:
        if not self.state.refuse(ballot):
            self.history.send(ballot)
        answer = super().sign(ballot)
        return Answer(b"", answer.state, "sent already")


def open_sends_first(disk: CrashDisk, history: History) -> LocalSigner:
    """A signer with the order of persisting and sending turned round."""
    signer = SendsFirst(SECRET, opened(disk), CHAIN_ID)
    signer.history = history
    return signer


class PersistsLate(LocalSigner):
    """The same for a real process: what it signs is persisted when it is asked the next time."""

    late: VoteState | None = None

    @property
    def state(self) -> VoteState:
        return self.late or self._votes.state

    def sign(self, ballot: Ballot) -> Answer:
        state = self.state
        refusal = state.refuse(ballot)
        if refusal:
            return Answer(b"", state, refusal)
        self._votes.keep(state)
        self.late = state.after(ballot)
        return Answer(crypto.sign(ballot.digest(self._chain_id), self._secret), self.late)


def caught(open_it: Open, deaf: str = "") -> str:
    """What the first of some histories says that breaks; empty when a mutant lives."""
    for seed in range(HISTORIES_TO_CATCH):
        try:
            run_history(seed, KILLS_OF_HISTORY, open_it, deaf)
        except Broken as broken:
            return str(broken)
    return ""
