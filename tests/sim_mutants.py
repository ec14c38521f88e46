"""Bugs on purpose: each is one line that somebody could get wrong, put into the shipping code.

A simulator that finds none of them proves nothing. Each has a mix of faults of which a few
seeds find it; ``tests/test_sim.py`` shows that one does, and is clean without it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from _pytest.monkeypatch import MonkeyPatch

from dipnet import node
from dipnet.consensus import chain, pool, rules
from dipnet.consensus.chain import Chain
from dipnet.consensus.execute import Executed, Execution
from dipnet.consensus.pool import Pool
from dipnet.consensus.records import KEY_TX
from dipnet.dag.graph import Dag
from dipnet.effects import Barrier, Effect, Write
from dipnet.node import Node
from dipnet.p2p.blocksync import BlockSync
from dipnet.p2p.gossip import Gossip
from tests.sim import Faults
from tests.sim_mix import Mix

LOSSY = Faults(loss=25, duplicate=5, delay_ms=(20, 150))
SHORT = Mix(delegates=3, fault_ms=10_000, load_ms=0, quiet_ms=24_000)
CRASHES = replace(SHORT, disasters=("crash", "disk"), every_ms=(100, 700))
LOSSES = replace(SHORT, faults=LOSSY, settle_ms=6_000)
SPLITS = replace(SHORT, disasters=("partition",), every_ms=(500, 3_000), doubled=50)
LONELY = replace(SHORT, disasters=("partition", "one_way"), every_ms=(500, 3_000), settle_ms=4_000)
CLOCKS = replace(SHORT, disasters=("clock", "crash"), every_ms=(100, 900), down_ms=(10, 500))
LIARS = replace(SHORT, delegates=4, hostile="liar")
WRONG = replace(SHORT, wrong=True)
AHEAD = replace(SHORT, delegates=4, far_ms=30_000, quiet_ms=28_000)
BEHIND = replace(SHORT, delegates=4, far_ms=-30_000, fault_ms=40_000)


@dataclass(frozen=True)
class Mutant:
    """What is broken, how, and the mix whose seeds find it."""

    name: str
    put: Callable[[MonkeyPatch], None]
    mix: Mix


def _replace(owner: Any, name: str, new: Any) -> Callable[[MonkeyPatch], None]:
    return lambda patch: patch.setattr(owner, name, new)


def _around(owner: Any, name: str, wrap: Callable[..., Any]) -> Callable[[MonkeyPatch], None]:
    """``wrap`` is called with the method that it replaces, then with its arguments."""
    old = getattr(owner, name)
    return lambda patch: patch.setattr(
        owner, name, lambda *args, **named: wrap(old, *args, **named)
    )


def _send_at_once(_old: Any, self: Barrier, effects: list[Effect]) -> Iterator[Effect]:
    self._staged += sum(isinstance(effect, Write) for effect in effects)
    return iter(effects)


def _leave_index(old: Any, self: Chain, *args: Any) -> Any:
    imported = old(self, *args)
    gone = [key for key, value in imported.puts.items() if key[:1] == KEY_TX and value is None]
    return replace(imported, puts={k: v for k, v in imported.puts.items() if k not in gone})


def _forget_reverted(old: Any, self: Chain, *args: Any) -> Any:
    return replace(old(self, *args), reverted=())


def _lose_released(old: Any, self: Dag, accepted: Any, _puts: Any, doomed: Any) -> None:
    old(self, accepted, {}, doomed)


class _Unchecked(Execution):
    def finish(self) -> Executed:
        executed = super().finish()
        return replace(executed, fields={})


def _mint(old: Any, self: Execution) -> Executed:
    self._journal.add_balance(self._env.proposer, 1)
    return old(self)  # type: ignore[no-any-return]


def _offended(old: Any, self: BlockSync, *args: Any) -> Any:
    return old(self, *args[:-1], False)


def _back_with_the_clock(old: Any, self: Node, now_ms: int, event: Any) -> Any:
    self.steady_ms -= max(0, self._now_ms - now_ms)
    return old(self, now_ms, event)


MUTANTS = (
    Mutant(
        "replies before the write is durable", _around(Barrier, "admit", _send_at_once), CRASHES
    ),
    Mutant("forgets what slot it signed", _replace(node, "unpack_proposed", lambda _: 0), CLOCKS),
    Mutant("announces no tips", _replace(Gossip, "tips", lambda *_: None), LONELY),
    Mutant("asks once for a missing parent", _replace(Dag, "wanted", lambda *_: []), LOSSES),
    Mutant("asks one peer alone for an id", _replace(Gossip, "on_tick", lambda *_: {}), LOSSES),
    Mutant("stores no released orphan", _around(Dag, "_release", _lose_released), LOSSES),
    Mutant("compares no roots", _replace(chain, "Execution", _Unchecked), LIARS),
    Mutant("mints a wei too much", _around(Execution, "finish", _mint), SHORT),
    Mutant("checks no payment", _replace(pool, "check", lambda *_: None), WRONG),
    Mutant("keeps what is in a block", _replace(Pool, "on_head", lambda *_: None), SHORT),
    Mutant("drops what a reorg reverts", _around(Chain, "on_block", _forget_reverted), SPLITS),
    Mutant("leaves the index of it", _around(Chain, "on_block", _leave_index), SPLITS),
    Mutant("asks for no blocks", _replace(BlockSync, "requests", lambda *_: []), SPLITS),
    Mutant("takes blocks of any time", _replace(rules, "CLOCK_SKEW_MS", 10**9), AHEAD),
    Mutant("blames others for its clock", _around(BlockSync, "on_imported", _offended), BEHIND),
    Mutant("sets deadlines back", _around(Node, "step", _back_with_the_clock), AHEAD),
)
