"""Twins: two nodes with one delegate's key, under scenarios of partitions, on the shipping node.

After Bano et al., "Twins: BFT Systems Made Robust": a delegate runs twice, each time honestly and
with a vote state of its own. So it does everything that a Byzantine delegate gains by (equivocate,
vote twice, forget), and needs no code of its own.

Scenarios are enumerated by the delegate that has the twin (by its turn to lead), by whether the
epoch ends on the way, and for each round, which is a slot, by the groups of nodes that hear each
other. Groups may change once in a round, after the block or after the prevotes, so that proposal,
prevotes and commits reach different nodes. Hosts are numbered by their turn, so that no two
scenarios differ in the names of delegates alone; of two scenarios that differ in the order of the
twins only one counts. ``numbers`` draws evenly from all scenarios that count.

After its rounds the network is healed. Held to: no two conflicting final blocks on honest nodes,
ever; no offence by an honest key; finality goes on after healing within the bound that
docs/spec/consensus.md "Liveness" gives.
"""

import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations, islice
from typing import Final

from dipnet.consensus.chain import epochs
from dipnet.consensus.chain.block import genesis_block, genesis_members
from dipnet.consensus.chain.schedule import slot_at, slot_start_ms
from dipnet.consensus.finality.finality import backoff_step
from dipnet.ledger.genesis import Genesis
from dipnet.ledger.tx import sign_tx
from dipnet.node.work import ClientTxs
from dipnet.primitives import crypto
from tests.sim.final import Watch, offences, unanswered_ms
from tests.sim.load import MAX_FEE, secret
from tests.sim.scenario import network
from tests.sim.wires import Faults
from tests.sim.world import World

DELEGATES: Final = 4
SLOT_MS: Final = 1_000
WARM_SLOTS: Final = 3  # until all nodes are connected and the first blocks are final
ROUNDS: Final = 3
CONTROL_ROUNDS: Final = 4  # each delegate leads once
CHANGES_MS: Final = (130, 250)
"""When the groups of a round may change. Messages take 30 to 60 ms and a vote state up to 34 ms to
be stored, so that by then most nodes have the block, or the prevotes of most nodes."""
EPOCH_SLOTS: Final = (WARM_SLOTS + 2, 40)  # the boundary is the second round, or there is none
DELAY_MS: Final = (30, 60)
PAY_BEFORE_MS: Final = 4  # a payment that only one of the twins has when they propose

Groups = tuple[int, ...]
"""For each host the number of its group; only members of one group hear each other."""

Phases = tuple[tuple[int, Groups], ...]
"""The groups of a slot, each with the time (ms) in the slot from which on they hold."""


def partitions(hosts: int) -> list[Groups]:
    """All partitions of the hosts into at most two groups."""
    return [(0, *(bits >> at & 1 for at in range(hosts - 1))) for bits in range(1 << hosts - 1)]


def rounds_of(hosts: int) -> list[Phases]:
    """All sequences of groups of a round."""
    all_groups = partitions(hosts)
    steady: list[Phases] = [((0, groups),) for groups in all_groups]
    return steady + [
        ((0, groups), (ms, then))
        for groups in all_groups
        for ms in CHANGES_MS
        for then in all_groups
        if then != groups
    ]


ALL_ROUNDS: Final = rounds_of(DELEGATES + 1)


@dataclass(frozen=True, slots=True)
class Scenario:
    """``twins``: the turns of the delegates that run twice. Their twins are the last hosts."""

    number: int
    twins: tuple[int, ...]
    epoch_slots: int
    rounds: tuple[Phases, ...]

    @staticmethod
    def of(number: int, rounds: int = ROUNDS) -> "Scenario":
        """The scenario of this number below ``count_of(rounds)``, with one twin."""
        rest, twin = divmod(number, DELEGATES)
        rest, epoch = divmod(rest, len(EPOCH_SLOTS))
        phases = []
        for _ in range(rounds):
            rest, chosen = divmod(rest, len(ALL_ROUNDS))
            phases.append(ALL_ROUNDS[chosen])
        return Scenario(number, (twin,), EPOCH_SLOTS[epoch], tuple(phases))

    @staticmethod
    def control(number: int) -> "Scenario":
        """Two delegates of four run twice, and each half has a quorum: a conflict must follow."""
        twins = list(combinations(range(DELEGATES), 2))[number]
        honest = [turn for turn in range(DELEGATES) if turn not in twins]
        halves = [int(turn == honest[0]) for turn in range(DELEGATES)]
        split: Phases = ((0, (*halves, 1, 1)),)
        return Scenario(number, twins, EPOCH_SLOTS[-1], (split,) * CONTROL_ROUNDS)

    @property
    def first(self) -> bool:
        """Whether this scenario counts, of the two that differ in the order of the twins alone."""
        return self.rounds <= tuple(
            tuple((ms, self._swapped(groups)) for ms, groups in phases) for phases in self.rounds
        )

    def _swapped(self, groups: Groups) -> Groups:
        one, other = self.twins[0], DELEGATES
        new = list(groups)
        new[one], new[other] = groups[other], groups[one]
        return tuple(group ^ new[0] for group in new)


def count_of(rounds: int = ROUNDS) -> int:
    """The number of scenarios of so many rounds; about half of them count."""
    return DELEGATES * len(EPOCH_SLOTS) * int(len(ALL_ROUNDS) ** rounds)


def numbers(rounds: int = ROUNDS) -> Iterator[int]:
    """The numbers of all scenarios that count, so ordered that every prefix is spread evenly.

    Each step is the golden section of the count, whose multiples lie as evenly as possible.
    """
    count = count_of(rounds)
    step = count * 618_034 // 1_000_000 | 1
    while _divisor(step, count) > 1:
        step += 2
    for at in range(count):
        number = at * step % count
        if Scenario.of(number, rounds).first:
            yield number


def _divisor(one: int, other: int) -> int:
    while other:
        one, other = other, one % other
    return one


CONTROLS: Final = range(DELEGATES * (DELEGATES - 1) // 2)


@dataclass(slots=True)
class Outcome:
    """The result of a scenario. ``resumed_slots``: from healing to a newer final block on every
    honest node."""

    number: int
    events: int = 0
    final: int = 0
    epochs: int = 0
    equivocations: int = 0  # slots in which the twins proposed two blocks
    parted: bool = False  # whether honest heads differed when the rounds were over
    resumed_slots: int | None = None
    violations: list[str] = field(default_factory=list)


class Twins:
    """The world of one scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.genesis, keys, self.payers = network(
            DELEGATES, slot_ms=SLOT_MS, epoch_slots=scenario.epoch_slots,
        )  # fmt: skip
        keys = by_turn(self.genesis, keys)
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
        """Run the scenario, heal the network, and check the promises."""
        world, scenario = self.world, self.scenario
        for host in world.hosts:
            world.start(host.index)
        self._run_to(WARM_SLOTS)
        for phases in scenario.rounds:
            self._round(phases)
        parted = len({host.running.chain.head.hash for host in self.honest}) > 1
        world.heal()
        bound = self._bound()
        resumed = self._resume(bound)
        honest = [host.proposer for host in self.honest if host.proposer]
        broken = [*self.watch.violations, *offences(world, honest)]
        if resumed is None:
            broken.append(f"finality did not resume within {bound} slots")
        chain = self.honest[0].running.chain
        return Outcome(
            scenario.number, world.events, chain.final.height, chain.epoch.number,
            self._equivocations(), parted, resumed, broken,
        )  # fmt: skip

    # --- steps

    @property
    def _slot(self) -> int:
        return slot_at(self.genesis.parameters, self.world.now_ms)

    def _run_to(self, slot: int) -> None:
        self.world.run(slot_start_ms(self.genesis.parameters, slot))

    def _round(self, phases: Phases) -> None:
        """One slot, from the moment before it begins."""
        start_ms = slot_start_ms(self.genesis.parameters, self._slot + 1)
        self.world.at(start_ms - PAY_BEFORE_MS, self._pay_twins)
        for offset_ms, groups in phases:
            self.world.at(start_ms - 1 + offset_ms, partial(self._part, groups))
        self.world.run(start_ms + SLOT_MS - 2)

    def _part(self, groups: Groups) -> None:
        """Stop messages between the groups; connections stay."""
        self.world.heal()
        for number in sorted({*groups}):
            group = {index for index, its in enumerate(groups) if its == number}
            self.world.partition(group)

    def _pay_twins(self) -> None:
        """Give each twin a payment that the other does not know yet, so that their blocks
        differ."""
        first = self.scenario.twins[0]
        pair = (self.world.hosts[first], self.world.hosts[DELEGATES])
        for which, host in enumerate(pair):
            raw = sign_tx(
                self.payers[which], chain_id=self.genesis.chain_id, nonce=self._paid[which],
                gas=21_000, max_fee=MAX_FEE, max_priority_fee=10**9,
                to=crypto.keccak256(b"shop")[12:], value=1,
            )  # fmt: skip
            self._paid[which] += 1
            self.world.submit(host.index, ClientTxs((raw,)), lambda _: None)

    def _bound(self) -> int:
        """The bound in slots: lost messages are requested again, and docs/spec/consensus.md
        "Liveness"."""
        lost_slots = -(-unanswered_ms(self.honest) // SLOT_MS)
        step = backoff_step(self._slot - self.watch.lowest(), self.genesis.parameters.backoff_slots)
        return lost_slots + 2 * DELEGATES * step

    def _resume(self, bound: int) -> int | None:
        """The slots until every honest node has a final block that is younger than the healing."""
        healed = self._slot
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


def by_turn(genesis: Genesis, keys: list[bytes]) -> list[bytes]:
    """The delegates' secrets in the order in which they lead from the first round on."""
    header = genesis_block(genesis)[0].header
    order = epochs.first(genesis, header, genesis_members(genesis)).order
    turns = [order[(WARM_SLOTS + 1 + at) % len(order)] for at in range(len(order))]
    return sorted(keys, key=lambda key: turns.index(crypto.address(crypto.public_key(key))))


def run(scenario: Scenario) -> Outcome:
    """The result of a scenario, the same in every process; an exception is a violation."""
    try:
        return Twins(scenario).go()
    except Exception:
        return Outcome(scenario.number, violations=[traceback.format_exc()])


def run_scenario(number: int) -> Outcome:
    """The result of the scenario with this number."""
    return run(Scenario.of(number))


def run_control(number: int) -> Outcome:
    """The result of the control with this number, which is in ``CONTROLS``."""
    return run(Scenario.control(number))


def search(scenarios: int) -> str:
    """The first violation in so many scenarios; empty for none."""
    for number in islice(numbers(), scenarios):
        if found := run_scenario(number).violations:
            return f"scenario {number}: {found[0].strip().splitlines()[-1][:120]}"
    return ""
