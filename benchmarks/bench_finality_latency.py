"""How long a block takes to be final across three regions, in the simulator's virtual time.

The shipping nodes, 21 of them, seven in each region, are on a network on which every message takes
as long as the map says. Nothing fails, and a check or a sync takes the time that
``tests/sim/world.py`` gives it: the figures show the protocol and the node's own waiting, not the
machine. A latency is that of a block on a node: from the start of its slot until the node knows the
commit certificate. The reference is the latency of the map alone, with nodes that take no time.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import count
from statistics import mean
from typing import Final

from benchmarks.harness import Figure, Row, Run, Scale, again, measure
from benchmarks.network import only_errors
from dipnet.consensus.finality.members import quorum_of
from tests.sim.final import Watch
from tests.sim.run import percentile
from tests.sim.scenario import network
from tests.sim.wires import Faults, Span
from tests.sim.world import World

NODES: Final = {"full": 21, "quick": 21, "tiny": 4}
SLOTS: Final = {"full": 8, "quick": 6, "tiny": 4}
SEEDS_MAX: Final = 3  # virtual time is the same on every machine: only the seed differs
MEET_SLOTS: Final = 3
REGIONS: Final = 3
LIKE: Final = 0.05  # a message takes so much more or less than the map says
GOAL_DELAYS: Final = 3.5
PACES_MS: Final = (500, 1_000, 3_000)
MAP_MS: Final = ((45, 60, 110), (60, 45, 85), (110, 85, 45))
"""One-way delays between regions, on the diagonal within a region."""


def spans() -> tuple[tuple[Span, ...], ...]:
    """The map as the simulator wants it."""
    return tuple(
        tuple((round(ms * (1 - LIKE)), round(ms * (1 + LIKE))) for ms in row) for row in MAP_MS
    )


def delays_ms(nodes: int) -> list[list[int]]:
    """The one-way delay from each node to each."""
    places = [index % REGIONS for index in range(nodes)]
    return [
        [0 if a == b else MAP_MS[places[a]][places[b]] for b in range(nodes)] for a in range(nodes)
    ]


def heard_ms(said_ms: Sequence[float], delays: Sequence[Sequence[int]]) -> list[float]:
    """When each node has heard a quorum, if node i speaks at ``said_ms[i]`` to all directly."""
    needed = quorum_of(len(said_ms)) - 1
    return [
        sorted(said + row[node] for said, row in zip(said_ms, delays, strict=True))[needed]
        for node in range(len(said_ms))
    ]


def one_way_ms(nodes: int) -> float:
    """The one-way delay that every step of the protocol waits for: to a quorum, the node itself
    included; the mean over nodes."""
    return mean(heard_ms([0.0] * nodes, delays_ms(nodes)))


def network_ms(nodes: int) -> float:
    """p50 of finality if nodes took no time: proposal, prevotes and commits are three messages."""
    delays = delays_ms(nodes)
    found = [
        known
        for leader in range(nodes)
        for known in heard_ms(heard_ms(delays[leader], delays), delays)
    ]
    return float(percentile(sorted(round(one) for one in found), 50))


@cache
def latencies_ms(nodes: int, slots: int, slot_ms: int, seed: int) -> tuple[int, ...]:
    """Sorted: of each block of ``slots`` slots on each node."""
    genesis, keys, _ = network(nodes, slot_ms=slot_ms, epoch_slots=10 * slots)
    world = World(genesis, [(key, key) for key in keys], seed, Faults(regions=spans()))
    watch = Watch(world, world.hosts)
    world.watch = watch.look
    for host in world.hosts:
        host.region = host.index % REGIONS
        world.start(host.index)
    from_ms = genesis.time_ms + MEET_SLOTS * slot_ms
    until_ms = from_ms + slots * slot_ms
    world.run(until_ms + 2 * slot_ms)
    if watch.violations:
        raise AssertionError(watch.violations)
    found = sorted(watch.latencies_ms(from_ms, until_ms))
    if len(found) < nodes * (slots - 1):
        raise AssertionError(f"{len(found)} of {nodes * slots} are final")
    return tuple(found)


def run(scale: Scale, say: Callable[[str], None]) -> list[Figure]:
    """p50 and p99 at each length of the slot."""
    nodes, slots = NODES[scale.name], SLOTS[scale.name]
    delay_ms = one_way_ms(nodes)
    rows = []
    for slot_ms in PACES_MS:
        for percent, goal_ms in ((50, GOAL_DELAYS * delay_ms), (99, float(slot_ms))):
            rows.append(
                Row(
                    f"finality p{percent}, {nodes} nodes, slots of {slot_ms} ms",
                    "virtual ms",
                    again(_measured(nodes, slots, slot_ms, percent, delay_ms)),
                    reference=network_ms(nodes) if percent == 50 else None,
                    limit_name="the network alone" if percent == 50 else "",
                    goal=f"<= {goal_ms:,.0f}",
                    more=False,
                )
            )
    few = replace(scale, repetitions=min(scale.repetitions, SEEDS_MAX))
    with only_errors():
        return measure(rows, few, say)


def _measured(
    nodes: int, slots: int, slot_ms: int, percent: int, delay_ms: float
) -> Callable[[], Run]:
    seeds = count()

    def measured() -> Run:
        value = percentile(list(latencies_ms(nodes, slots, slot_ms, next(seeds))), percent)
        return Run(value, notes={"one_way_delays": value / delay_ms})

    return measured
