"""The cost of an election: the boundary of an epoch with 100,000 voters and 500 candidates.

The boundary is that of a node: jail, lapsing votes, ranking, the set, and the state's commit, over
records in LevelDB of which the journal has read none. Elections are incremental: each vote moves
the sums of the candidates it names, so that a boundary looks at candidates alone. Beside it stands
the peer that keeps no sums: the same votes, already in memory, counted at the boundary. Further
rows have a hundredth of the voters, a boundary at which all votes lapse at once, and a vote, which
pays for the sums, beside the recovery of its sender, which every transaction pays for.
"""

import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.harness import Figure, Raw, Row, Run, Scale, again, clocked, measure
from dipnet.consensus.staking import candidates, election, idpos, stakes
from dipnet.consensus.staking.block_context import BlockContext
from dipnet.consensus.staking.candidates import Profile
from dipnet.consensus.staking.idpos import DPOS_ADDRESS, METHODS
from dipnet.host.store import Store
from dipnet.ledger.genesis import Genesis
from dipnet.ledger.state import EMPTY_ROOT, Journal, Layer
from dipnet.primitives.codec import Reader
from dipnet.primitives.crypto import ADDRESS_ZERO, address, keccak256, public_key, recover, sign
from dipnet.vm.storage_layout import JournalStorage, StorageSlot
from dipnet.vm.transaction import TX_GAS_MAX, Env, call

VOTERS: Final = {"full": 100_000, "quick": 10_000, "tiny": 50}
CANDIDATES: Final = {"full": 500, "quick": 500, "tiny": 30}
CALLS: Final = {"full": 2_000, "quick": 500, "tiny": 5}
BOUNDARIES: Final = {"full": 5, "quick": 2, "tiny": 1}
FEWER: Final = 100
DELEGATES: Final = 21
NAMED_MAX: Final = 4  # delegates that a voter names, 1 to this many in turn
EXPIRY_EPOCHS: Final = 3
CHUNK: Final = 5_000  # voters in one commit
ETHER: Final = 10**18
CHAIN_ID: Final = 2018
GOAL_MS: Final = 1_000


@dataclass
class Country:
    """Candidates and voters, in a store, and the same votes as a list."""

    store: Store
    state: Reader
    genesis: Genesis
    root: bytes = EMPTY_ROOT
    epoch: int = 0
    voters: list[bytes] = field(default_factory=list)
    votes: list[tuple[int, tuple[bytes, ...]]] = field(default_factory=list)

    def journal(self) -> Journal:
        """The state, with nothing read yet."""
        return Journal(self.state, self.root)

    def commit(self, journal: Journal) -> None:
        """Writes the changes of ``journal`` to the store."""
        self.root, puts = journal.commit()
        self.store.stage(puts)
        self.store.commit()

    @property
    def context(self) -> BlockContext:
        """The last block of the epoch."""
        members = election.members(
            StorageSlot(JournalStorage(self.journal(), DPOS_ADDRESS)), self.epoch
        )
        slot = self.genesis.parameters.epoch_slots * (self.epoch + 1)
        return BlockContext(
            self.genesis.parameters, self.epoch, slot, slot, members.addresses[0], members
        )

    def later(self) -> "Country":
        """The same after the boundary, as a node keeps it: in a layer over the store."""
        journal = self.journal()
        idpos.at_boundary(journal, self.context)
        root, puts = journal.commit()
        return replace(self, state=Layer(self.state, puts), root=root, epoch=self.epoch + 1)


def run(scale: Scale, say: Callable[[str], None]) -> list[Figure]:
    """Milliseconds of a boundary, microseconds of a vote."""
    voters, who = VOTERS[scale.name], CANDIDATES[scale.name]
    with tempfile.TemporaryDirectory() as directory:
        say(f"  {voters:,} accounts vote for up to {NAMED_MAX} of {who} candidates each")
        many = _country(Path(directory) / "many", who, voters)
        few = _country(Path(directory) / "few", who, max(1, voters // FEWER))
        turns = BOUNDARIES[scale.name]
        rows = [
            _boundary(f"{voters:,} voters, {who} candidates", many, turns, turns),
            _boundary(f"{len(few.voters):,} voters, {who} candidates", few, turns, FEWER * turns),
            _boundary(f"{voters:,} voters whose votes lapse", many.later().later(), turns, turns),
            Row(
                f"vote for {NAMED_MAX}", "us",
                again(partial(_vote, many.later(), CALLS[scale.name])),
                partial(_recover, CALLS[scale.name]), "recover its sender, 1 thread", more=False,
            ),
        ]  # fmt: skip
        figures = measure(rows, scale, say)
        for country in (many, few):
            country.store.close()
    return figures


def _boundary(name: str, country: Country, turns: int, counts: int) -> Row:
    """``turns`` boundaries in a slice of the subject, ``counts`` counts in a slice of the limit."""
    return Row(
        f"boundary, {name}", "ms", again(partial(_at_boundary, country, turns)),
        partial(_counted, country, counts), "counting the same votes in memory",
        f"<= {GOAL_MS:,}", more=False,
    )  # fmt: skip


# --- a country


def _genesis() -> Genesis:
    secrets = [keccak256(b"delegate %d" % n) for n in range(DELEGATES)]
    keys = [public_key(secret) for secret in secrets]
    return Genesis.checked({
        "chain_id": CHAIN_ID, "time_ms": 0, "epoch_slots": 30, "balances": {},
        "vote_expiry_epochs": EXPIRY_EPOCHS,
        "delegates": [
            {"name": f"d{n}", "address": address(key), "public_key": key, "stake": 1_000 * ETHER}
            for n, key in enumerate(keys)
        ],
    })  # fmt: skip


def _country(path: Path, who: int, voters: int) -> Country:
    store = Store(path)
    country = Country(store, store, _genesis())
    journal = country.journal()
    idpos.genesis_state(journal, country.genesis)
    root = StorageSlot(JournalStorage(journal, DPOS_ADDRESS))
    for n in range(who - DELEGATES):
        owner, key = _account(f"candidate {n}"), public_key(keccak256(b"candidate %d" % n))
        organisation = keccak256(b"%d" % (n % 9)) if n % 3 else bytes(32)
        profile = Profile(f"c{n}", "https://x.example", 1_000, organisation)
        candidates.enter(root, owner, profile, key, bytes(32), who)
    named = candidates.roll(root)
    country.commit(journal)
    rng = random.Random(voters)
    for first in range(0, voters, CHUNK):
        journal = country.journal()
        for n in range(first, min(first + CHUNK, voters)):
            stake = rng.randrange(ETHER, 1_000 * ETHER)
            chosen = tuple(rng.sample(named, 1 + n % NAMED_MAX))
            _settle_down(journal, _account(f"voter {n}"), stake, chosen)
            country.voters.append(_account(f"voter {n}"))
            country.votes.append((stake, chosen))
        country.commit(journal)
    return country


def _account(name: str) -> bytes:
    return keccak256(name.encode())[:20]


def _settle_down(journal: Journal, who: bytes, stake: int, chosen: tuple[bytes, ...]) -> None:
    """The writes of the two calls of a voter, without their gas."""
    root = StorageSlot(JournalStorage(journal, DPOS_ADDRESS))
    journal.add_balance(DPOS_ADDRESS, stake)
    stakes.change_stake(root, who, stake, 0)
    stakes.cast(root, who, chosen, 0, EXPIRY_EPOCHS)


# --- the subjects and their peers


def _at_boundary(country: Country, turns: int) -> Run:
    seats, context = country.genesis.parameters.delegates_active, country.context
    with clocked() as clock:
        for _ in range(turns):
            journal = country.journal()
            elected = idpos.at_boundary(journal, context)
            journal.commit()
    if not country.epoch:  # later the votes have lapsed
        assert list(elected.members.addresses) == sorted(_count(country)[:seats])
    return Run(clock.wall_s / turns * 1e3, clock.cpu_s / turns * 1e6)


def _counted(country: Country, turns: int) -> Raw:
    with clocked() as clock:
        for _ in range(turns):
            _count(country)
    return Raw(clock.wall_s / turns * 1e3, clock.cpu_s / turns * 1e6)


def _count(country: Country) -> list[bytes]:
    """The candidates by their votes, the organisations' cap observed: every vote looked at."""
    sums = {one.address: one.stake for one in country.genesis.delegates}
    for stake, chosen in country.votes:
        share = stake // len(chosen)
        for one in chosen:
            sums[one] = sums.get(one, 0) + share
    cap = country.genesis.parameters.seats_per_organisation_max
    found: list[bytes] = []
    held: dict[bytes, int] = {}
    for one in sorted(sums, key=lambda one: (-sums[one], one)):
        organisation = _ORGANISATIONS.get(one, b"")
        held[organisation] = held.get(organisation, 0) + bool(organisation)
        if held[organisation] <= cap:
            found.append(one)
    return found


_ORGANISATIONS: Final = {
    _account(f"candidate {n}"): keccak256(b"%d" % (n % 9))
    for n in range(max(CANDIDATES.values()))
    if n % 3
}


def _vote(country: Country, calls: int) -> Run:
    """Calls through the door, an epoch later, each in place of a vote before."""
    rng, journal = random.Random(7), country.journal()
    env = Env(CHAIN_ID, 9, 0, ADDRESS_ZERO, 0, TX_GAS_MAX, 31, DPOS_ADDRESS)
    system = idpos.system(country.context)
    named = sorted({one for _, chosen in country.votes for one in chosen})
    work = [
        (who, METHODS["vote"].call_data(rng.sample(named, NAMED_MAX)))
        for who in rng.choices(country.voters, k=calls)
    ]
    work = list(dict(work).items())  # once an epoch
    with clocked() as clock:
        for who, data in work:
            assert call(journal, env, who, DPOS_ADDRESS, 0, data, TX_GAS_MAX, system).ok
    return Run(clock.wall_s / len(work) * 1e6, clock.cpu_s / len(work) * 1e6)


def _recover(calls: int) -> Raw:
    digest = keccak256(b"a transaction")
    signature = sign(digest, keccak256(b"sender"))
    with clocked() as clock:
        for _ in range(calls):
            recover(digest, signature)
    return Raw(clock.wall_s / calls * 1e6, clock.cpu_s / calls * 1e6)
