"""Twins: two nodes with one delegate's key, under scenarios of partitions, on the shipping code.

After Bano et al., "Twins: BFT Systems Made Robust": a delegate that runs twice, each time honestly
and with a vote state of its own, does what a Byzantine one could gain by (equivocate, vote twice,
forget), and needs no code of its own. A *scenario* says for each slot who can hear whom, in up to
three *phases* of the slot, so that proposal, prevotes and commits can reach different nodes. The
leaders follow from the schedule; which of them has the twin, and in which order they come, is
drawn. After the scenario the network is healed.

Held to: no two conflicting final blocks on honest nodes, ever; no offence by an honest key; and
finality goes on after healing, within the bound of specs/consensus.md 1.
"""

import random
import traceback
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from dipnet import crypto
from dipnet.consensus.finality import backoff_step
from dipnet.consensus.schedule import slot_at, slot_start_ms
from dipnet.tx import sign_tx
from tests.sim import Host, World
from tests.sim_final import Watch, offences
from tests.sim_load import MAX_FEE, secret
from tests.sim_scenario import MEET_SLOTS, network
from tests.sim_wires import Faults

DELEGATES: Final = 4
SLOT_MS: Final = 1_000
WARM_SLOTS: Final = 3  # until all know all, and the first blocks are final
ROUNDS: Final = (3, 9)
PHASES_MS: Final = ((0,), (0, 130), (0, 130, 250))
"""When a phase begins in a slot. Messages take 30 to 60 ms: a block is with all others by 130."""
EPOCH_SLOTS: Final = (5, 9, 40)
DELAY_MS: Final = (30, 60)
PAY_BEFORE_MS: Final = 4  # a payment that only one of the twins has when they propose
GROUPS_MAX: Final = 3

Groups = tuple[int, ...]
"""For each host the number of its group; only members of one group hear each other."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """``twins``: delegates that run twice. ``rounds``: of each slot its phases (ms, groups)."""

    number: int
    twins: tuple[int, ...]
    epoch_slots: int
    rounds: tuple[tuple[tuple[int, Groups], ...], ...]

    @staticmethod
    def draw(number: int, twins: int = 1) -> "Scenario":
        """The scenario of this number, the same everywhere."""
        rng = random.Random(number)
        who = tuple(rng.sample(range(DELEGATES), twins))
        epoch_slots = rng.choice(EPOCH_SLOTS)
        rounds = []
        for _ in range(rng.randint(*ROUNDS)):
            starts = rng.choice(PHASES_MS)
            rounds.append(tuple((start, _groups(rng, DELEGATES + twins)) for start in starts))
        return Scenario(number, who, epoch_slots, tuple(rounds))


def _groups(rng: random.Random, hosts: int) -> Groups:
    """A partition of the hosts into at most ``GROUPS_MAX`` groups; all together now and then."""
    count = rng.randint(1, GROUPS_MAX)
    return tuple(rng.randrange(count) for _ in range(hosts))


@dataclass(slots=True)
class Outcome:
    """What one scenario did. ``resumed_slots``: from healing to a newer final block on all."""

    number: int
    events: int = 0
    final: int = 0
    epochs: int = 0
    equivocations: int = 0  # slots in which the twins proposed two blocks
    resumed_slots: int | None = None
    violations: list[str] = field(default_factory=list)


class Twins:
    """The world of one scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.genesis, keys, self.payers = network(
            DELEGATES, slot_ms=SLOT_MS, epoch_slots=scenario.epoch_slots,
            chain_id=1 + scenario.number % 2**20,
        )  # fmt: skip
        hosts: list[tuple[bytes, bytes | None]] = [(key, key) for key in keys]
        hosts += [(secret(f"twin {index}"), keys[index]) for index in scenario.twins]
        self.world = World(self.genesis, hosts, scenario.number, Faults(delay_ms=DELAY_MS))
        self.honest = [
            host for host in self.world.hosts[:DELEGATES] if host.index not in scenario.twins
        ]
        self.watch = Watch(self.world, self.honest)
        self.world.watch = self.watch.look
        self._paid = [0] * len(self.payers)

    def go(self) -> Outcome:
        """The scenario, healing, the reckoning."""
        world, scenario = self.world, self.scenario
        for host in world.hosts:
            world.start(host.index)
        self._run_to(WARM_SLOTS)
        for phases in scenario.rounds:
            self._round(phases)
        world.heal()
        resumed = self._resume()
        honest = [host.proposer for host in self.honest if host.proposer]
        broken = [*self.watch.violations, *offences(world, honest)]
        if resumed is None:
            broken.append(f"finality did not resume within {self._bound()} slots")
        chain = self.honest[0].running.chain
        return Outcome(
            scenario.number, world.events, chain.final.height, chain.epoch.number,
            self._equivocations(), resumed, broken,
        )  # fmt: skip

    # --- the acts

    @property
    def _slot(self) -> int:
        return slot_at(self.genesis, self.world.now_ms)

    def _run_to(self, slot: int, more_ms: int = 0) -> None:
        self.world.run(slot_start_ms(self.genesis, slot) + more_ms)

    def _round(self, phases: tuple[tuple[int, Groups], ...]) -> None:
        """One slot, from the moment before it begins."""
        start_ms = slot_start_ms(self.genesis, self._slot + 1)
        self.world.at(start_ms - PAY_BEFORE_MS, self._pay_twins)
        for offset_ms, groups in phases:
            self.world.at(start_ms - 1 + offset_ms, partial(self._part, groups))
        self.world.run(start_ms + SLOT_MS - 2)

    def _part(self, groups: Groups) -> None:
        """Silence between the groups; connections stay."""
        self.world.heal()
        for number in sorted({*groups}):
            group = {index for index, its in enumerate(groups) if its == number}
            self.world.partition(group)

    def _pay_twins(self) -> None:
        """Each of a pair knows a payment that the other does not know yet: their blocks differ."""
        first = self.scenario.twins[0]
        pair = (self.world.hosts[first], self.world.hosts[DELEGATES])
        for which, host in enumerate(pair):
            raw = sign_tx(
                self.payers[which], chain_id=self.genesis.chain_id, nonce=self._paid[which],
                gas=21_000, max_fee=MAX_FEE, max_priority_fee=10**9,
                to=crypto.keccak256(b"shop")[12:], value=1,
            )  # fmt: skip
            self._paid[which] += 1
            self.world.submit(host.index, "txs", (raw,), lambda _: None)

    def _bound(self) -> int:
        step = backoff_step(self._slot - self.watch.lowest(), self.genesis.backoff_slots)
        return 2 * DELEGATES * step + MEET_SLOTS

    def _resume(self) -> int | None:
        """Slots until every honest node has a final block that was made after the healing."""
        healed, bound = self._slot, self._bound()
        for slots in range(1, bound + 1):
            self._run_to(healed + 1 + slots)
            if self.watch.lowest() > healed:
                return slots
        return None

    def _equivocations(self) -> int:
        keys = [self.world.hosts[index].proposer for index in self.scenario.twins]
        signed = [self.world.ballots.signed.get(key or b"", []) for key in keys]
        return sum(
            len({one.block_id for one in ballots if one.kind == 0 and one.slot == slot}) > 1
            for ballots in signed
            for slot in sorted({one.slot for one in ballots if one.kind == 0})
        )


def run_scenario(number: int, twins: int = 1) -> Outcome:
    """One scenario, the same in every process; a bug met on the way is a violation."""
    try:
        return Twins(Scenario.draw(number, twins)).go()
    except Exception:
        return Outcome(number, violations=[traceback.format_exc()])


def honest_hosts(world: World, twins: tuple[int, ...]) -> list[Host]:
    """Hosts whose delegate runs once."""
    return [host for host in world.hosts[:DELEGATES] if host.index not in twins]
