"""The simulator is deterministic, finds bugs put in on purpose, and holds the node to its word."""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace

import pytest

from dipnet.consensus.chain.schedule import slot_start_ms
from dipnet.dag.vertex import VertexDraft, sign_vertex, topic_of
from dipnet.node.work import ClientVertices
from dipnet.p2p.vertexsync import REST_MS, UNEQUAL_MS, VertexSync
from dipnet.primitives.codec import Puts
from tests import ROOT
from tests.fixtures.memory import Memory
from tests.mutants.sim_mutants import FINALITY, MUTANTS, SEEDS_MAX, SHORT
from tests.sim import run as sim_run
from tests.sim.byzantine import VICES
from tests.sim.disk import Disk, Records
from tests.sim.load import secret
from tests.sim.mix import CHANGES, DISASTERS, Mix
from tests.sim.scenario import CLASSES, network, run_seed
from tests.sim.world import Faults, World

FOUND = ("mints a wei too much", "V1 without the lock", "a half is a quorum")
FULL_SEED = 3


@pytest.mark.parametrize("name", FOUND)
def test_a_bug_is_found(name: str) -> None:
    """Some of those that ``make mutants`` looks for."""
    (mutant,) = (one for one in (*MUTANTS, *FINALITY) if one.name == name)
    assert mutant.find(), f"{SEEDS_MAX} seeds, and no violation"


def test_bugs_have_names_of_their_own() -> None:
    names = [one.name for one in (*MUTANTS, *FINALITY)]
    assert len({*names}) == len(names)


def test_one_seed_has_one_trace_whatever_the_hash_seed() -> None:
    told = []
    for hash_seed in ("0", "1"):
        process = subprocess.run(
            [sys.executable, "-m", "tests.sim.worker", str(FULL_SEED)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=True,
        )
        told.append(process.stdout)
    assert told[0] == told[1]
    outcome = json.loads(told[0])
    assert (outcome["seed"], outcome["violations"]) == (FULL_SEED, [])
    assert set(outcome["happened"]) == set(CLASSES)
    assert outcome["happened"]["final blocks"] > 10
    assert outcome["vertices"] > 20
    assert outcome["payments"] > 20


def test_another_seed_has_another_trace() -> None:
    one, again, other = (run_seed(seed, SHORT) for seed in (1, 1, 2))
    assert one == again
    assert one.trace != other.trace


def test_one_node_alone_is_a_network() -> None:
    outcome = run_seed(0, replace(SHORT, delegates=2, observers=0, late_ms=5_000))
    assert outcome.violations == []


# --- what only a designed case shows


class Quiet:
    """Four nodes without load; vertices of strangers where a test wants them."""

    def __init__(self) -> None:
        self.genesis, keys, _ = network(4, dag_max_parent_age=10)
        self.world = World(self.genesis, [(key, key) for key in keys], 1, Faults())
        self.number = 0
        for host in self.world.hosts:
            self.world.start(host.index)
        self.pass_slots(3)  # all have met

    def pass_slots(self, slots: int) -> None:
        self.world.run(self.world.now_ms + slots * self.genesis.parameters.slot_ms)

    def submit(self, index: int) -> None:
        """A vertex without parents, so that nothing is named by it."""
        self.number += 1
        node = self.world.hosts[index].node
        assert node is not None
        draft = VertexDraft(
            chain_id=self.genesis.chain_id,
            ref_height=node.chain.final.height,
            ref_hash=node.chain.final.hash[:8],
            seq=1,
            prev=bytes(32),
            timestamp_ms=self.world.now_ms,
            topic=topic_of("lonely"),
            payload=b"",
        )
        wire = sign_vertex(secret(f"stranger {self.number}"), draft)
        self.world.submit(index, ClientVertices((wire,)), lambda _: None)

    def forget_old_tips(self) -> None:
        """A tip that has aged leaves the set when a template meets it."""
        for host in self.world.hosts:
            assert host.node is not None
            host.node.dag.template(bytes(20), 2, host.node.chain.final.height, 0)
            assert host.node.dag.tips(256, 0) == []
        self.pass_slots(1)  # the last announcements are lost too

    def counts(self) -> list[int]:
        return [len(host.node.dag) for host in self.world.hosts if host.node is not None]

    def sums(self) -> int:
        """How many different sets of vertices there are."""
        return len({host.node.dag.sum for host in self.world.hosts if host.node is not None})


def lonely() -> Quiet:
    """Nodes 2 and 3 were cut off, one after the other; each misses what no child will name."""
    quiet = Quiet()
    for index in (2, 3):
        quiet.world.partition({index})
        quiet.pass_slots(1)
        quiet.submit(0)
        quiet.pass_slots(30)
        quiet.forget_old_tips()
        quiet.world.heal()
        quiet.pass_slots(2)
    return quiet


def test_a_lonely_vertex_lost_long_ago_reaches_all() -> None:
    quiet = lonely()
    quiet.pass_slots((UNEQUAL_MS + 3 * REST_MS) // quiet.genesis.parameters.slot_ms)
    assert quiet.counts() == [2, 2, 2, 2]
    assert quiet.sums() == 1


def test_without_audits_it_never_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VertexSync, "on_compared", lambda *_: None)
    quiet = lonely()
    quiet.pass_slots(100)
    assert quiet.counts() == [2, 2, 1, 1]
    assert quiet.sums() == 3


def test_deep_differences_are_found_too() -> None:
    """Far behind the newest common vertex, where no walk at hello begins."""
    quiet = Quiet()
    quiet.world.partition({2})
    quiet.pass_slots(1)
    quiet.submit(0)
    quiet.pass_slots(30)
    quiet.forget_old_tips()
    quiet.world.heal()
    for _ in range(700):
        quiet.submit(0)
    quiet.pass_slots(2)
    assert quiet.counts()[2] == 700
    quiet.pass_slots((UNEQUAL_MS + 5 * REST_MS) // quiet.genesis.parameters.slot_ms)
    assert quiet.sums() == 1


def test_a_clock_far_behind_follows_and_is_banned_by_nobody() -> None:
    quiet = Quiet()
    far = quiet.world.hosts[3]
    far.skew_ms = -30_000
    quiet.pass_slots(60)
    far.skew_ms = 0
    quiet.pass_slots(20)
    assert len(quiet.world.links) == 6
    chains = [host.node.chain for host in quiet.world.hosts if host.node is not None]
    assert min(one.final.slot for one in chains) + 1 >= max(one.head.slot for one in chains) > 70


def test_half_the_network_down_is_no_end() -> None:
    quiet = Quiet()
    for index in (0, 1):
        quiet.world.crash(index)
    quiet.pass_slots(20)
    for index in (0, 1):
        quiet.world.start(index)
    quiet.pass_slots(20)
    node = quiet.world.hosts[0].node
    assert node is not None
    assert node.chain.head.height > 20
    assert (
        slot_start_ms(quiet.genesis.parameters, node.chain.head.slot) > quiet.world.now_ms - 3_000
    )


# --- its own parts


def test_a_crash_keeps_a_prefix_and_a_failed_write_nothing() -> None:
    seen = set()
    for seed in range(40):
        disk = Disk()
        disk.stage({b"a": b"0"})
        disk.sync(1)
        for number in range(3):
            disk.stage({b"a": b"%d" % (number + 1), b"n%d" % number: b""})
        disk.failing = seed % 2 == 1
        disk.crash(random.Random(seed))
        kept = len(list(disk.view.scan(b"n")))
        assert disk.view[b"a"] == b"%d" % kept
        assert not disk.failing
        if seed % 2:
            assert kept == 0
        seen.add(kept)
    assert seen == {0, 1, 2, 3}


def test_records_scan_as_memory_does() -> None:
    rng = random.Random(3)
    fast, slow = Records(), Memory()
    for _ in range(300):
        puts: Puts = {
            rng.randbytes(rng.randrange(1, 4)): rng.choice((b"v", None)) for _ in range(5)
        }
        puts = {bytes([key[0] % 3]) + key[1:]: value for key, value in puts.items()}
        fast.apply(puts)
        slow.apply(puts)
        prefix = bytes([rng.randrange(3)]) + rng.randbytes(rng.randrange(2))
        start = rng.choice((b"", prefix + rng.randbytes(1)))
        for reverse in (False, True):
            found = list(fast.scan(prefix, start, reverse))
            assert found == list(slow.scan(prefix, start, reverse))
    assert dict(fast) == dict(slow) == dict(Records(fast))


def test_every_mix_is_another() -> None:
    rng = random.Random(0)
    mixes = [Mix.draw(rng) for _ in range(300)]
    assert len(set(map(str, mixes))) == 300
    assert {mix.hostile for mix in mixes} == {"", "liar", "vandal"}
    assert {disaster for mix in mixes for disaster in mix.disasters} == {*DISASTERS}
    assert {vice for mix in mixes for vices in mix.vices for vice in vices} == {*VICES}
    assert {mix.changes for mix in mixes} == {"", *CHANGES}
    assert {mix.double for mix in mixes} == {"", "shared", "twin"}
    assert all(3 * mix.faulty < mix.delegates for mix in mixes)


# --- the runner


def outcome(**fields: object) -> dict[str, object]:
    """As a worker tells it."""
    usual: dict[str, object] = {
        "seed": 0, "trace": "a", "events": 1, "virtual_ms": 1, "settled_ms": 250,
        "resumed_slots": 1, "bound_slots": 8, "latencies_ms": [100],
        "happened": {"blocks": 1}, "violations": [],
    }  # fmt: skip
    return usual | fields


def run_of(monkeypatch: pytest.MonkeyPatch, told: list[dict[str, object]]) -> sim_run.Totals:
    monkeypatch.setattr(sim_run, "outcomes", lambda *_: iter([dict(one) for one in told]))
    return sim_run.run(0, 1, 1, alone=False)


def test_a_run_fails_on_a_violation_an_unequal_trace_and_a_seed_that_did_not_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = run_of(monkeypatch, [outcome(), outcome()])
    assert (good.failed, good.twice) == (False, 1)
    assert run_of(monkeypatch, [outcome(), outcome(trace="b")]).unequal == 1
    broken = outcome(violations=["a promise"])
    totals = run_of(monkeypatch, [broken, broken])
    assert (totals.broken, totals.failed) == (1, True)
    assert "tests.sim.run --seed 0" in capsys.readouterr().out
    assert run_of(monkeypatch, [outcome()]).unfinished == [0]


def test_a_long_run_must_have_had_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = [outcome(happened={"blocks": 0}) for _ in range(2)]
    assert not run_of(monkeypatch, nothing).failed
    monkeypatch.setattr(sim_run, "LONG", 1)
    assert run_of(monkeypatch, nothing).missing == ["blocks"]
    assert not run_of(monkeypatch, [outcome(), outcome()]).failed


def test_each_seed_runs_under_both_hash_seeds() -> None:
    parts = list(sim_run.jobs_of(5, 23))
    for hash_seed in sim_run.HASH_SEEDS:
        seeds = [seed for one, some in parts for seed in some if one == hash_seed]
        assert seeds == list(range(5, 28))


def test_a_percentile_of_few() -> None:
    assert sim_run.percentile([], 50) == 0
    assert sim_run.percentile([3], 99) == 3
    assert sim_run.percentile(list(range(100)), 99) == 99
