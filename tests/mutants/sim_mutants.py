"""Bugs on purpose: each is a line that is easy to get wrong, put into the shipping code.

A simulator that catches none of them proves nothing. Each has a mix of faults of which a few seeds
catch it; ``make mutants`` names the first such seed, which has no violation without the bug.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from _pytest.monkeypatch import MonkeyPatch

from dipnet.consensus.chain import chain, epochs, pool, rules
from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.chain.epochs import Epoch
from dipnet.consensus.chain.execute import Executed, Execution
from dipnet.consensus.chain.pool import Pool
from dipnet.consensus.chain.records import KEY_TX
from dipnet.consensus.finality import finality, members
from dipnet.consensus.finality.certified import KnownCertificates
from dipnet.consensus.finality.votes import Ballot, BallotKind, VoteState
from dipnet.consensus.staking import candidates
from dipnet.dag.graph import Dag
from dipnet.node import checks
from dipnet.node.effects import Barrier, Effect, Write
from dipnet.node.node import Node
from dipnet.p2p.blocksync import BlockSync
from dipnet.p2p.gossip import Gossip
from dipnet.p2p.vertexsync import VertexSync
from dipnet.signing import votefile
from tests.sim.mix import Mix
from tests.sim.scenario import run_seed
from tests.sim.world import Faults

WIDTH = 110
SEEDS_MAX = 20  # at least one of them catches the bug
MISFITS = ("AttributeError:", "NameError:", "TypeError:")  # errors of a bug that is planted wrongly

LOSSY = Faults(loss=30, duplicate=5, delay_ms=(20, 150))
SHORT = Mix(delegates=3, fault_ms=10_000, load_ms=0, quiet_ms=24_000)
CRASHES = replace(SHORT, disasters=("crash", "disk"), every_ms=(100, 700))
LOSSES = replace(SHORT, faults=LOSSY, settle_ms=5_000)
SPLITS = replace(SHORT, disasters=("partition",), every_ms=(500, 3_000), doubled=50)
LONELY = replace(SHORT, disasters=("partition", "one_way"), every_ms=(500, 3_000), settle_ms=4_000)
SHARED = replace(SHORT, observers=1, double="shared")
WRONG = replace(SHORT, wrong=True)
AHEAD = replace(
    SHORT, delegates=4, far_ms=30_000, quiet_ms=28_000, disasters=("crash",), every_ms=(300, 1_500),
)  # fmt: skip
BEHIND = replace(SHORT, delegates=4, far_ms=-30_000, fault_ms=40_000)


VICIOUS = replace(SHORT, delegates=4, fault_ms=15_000)
FORKED = replace(
    VICIOUS, vices=(("equivocate", "hide", "mute", "stale"),), disasters=("crawl", "partition"),
    every_ms=(500, 4_000), fault_ms=25_000,
)  # fmt: skip
INVALID = replace(VICIOUS, vices=(("invalid",),))
FALSE = replace(VICIOUS, vices=(("certificates", "forged"),))
EARLY = replace(VICIOUS, vices=(("ahead",),))
EVIL = replace(VICIOUS, vices=(("double_vote", "early", "equivocate", "late_votes"),))
SHUFFLED = replace(
    FORKED, changes="replace", candidates=4, vices=(("early", "hide", "mute"),), slot_ms=500,
    fault_ms=20_000, pay_ms=4_000, read_ms=4_000,
)  # fmt: skip
ELECTED = replace(
    SHORT, delegates=4, candidates=2, changes="shuffle", slot_ms=500, fault_ms=30_000, pay_ms=4_000,
    read_ms=4_000,
)  # fmt: skip
FORGETFUL = replace(FORKED, disasters=("crash", "crawl", "partition"), every_ms=(200, 1_500),
                    down_ms=(10, 500))  # fmt: skip
SLOW = replace(
    VICIOUS, slot_ms=500, faults=Faults(loss=20, delay_ms=(100, 1_500)), disasters=("partition",),
    every_ms=(300, 1_500), fault_ms=25_000, pay_ms=4_000, read_ms=4_000,
)  # fmt: skip
SILENT = replace(SHORT, delegates=4, disasters=("quorum",), every_ms=(2_000, 4_000),
                 slot_ms=500, fault_ms=40_000)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """The bug, how to plant it, and the mix whose seeds catch it."""

    name: str
    plant: Callable[[MonkeyPatch], None]
    mix: Mix

    def put(self, patch: MonkeyPatch) -> None:
        """Nothing yet: ``find`` plants it, to look without it too."""

    def find(self) -> str:
        """The first seed that has a violation with the bug and none without; else nothing."""
        for seed in range(SEEDS_MAX):
            found = self.broken(seed)
            if any(fault in text for text in found for fault in MISFITS):
                raise RuntimeError(f"the bug does not fit the code any more: {found[0][-WIDTH:]}")
            if found and not run_seed(seed, self.mix).violations:
                return f"seed {seed}: {found[0].strip()[-WIDTH:]}"
        return ""

    def broken(self, seed: int) -> list[str]:
        """The violations of a seed with the bug."""
        with MonkeyPatch.context() as patch:
            self.plant(patch)
            return run_seed(seed, self.mix).violations


def _replace(owner: Any, name: str, new: Any) -> Callable[[MonkeyPatch], None]:
    return lambda patch: patch.setattr(owner, name, new)


def _around(owner: Any, name: str, wrap: Callable[..., Any]) -> Callable[[MonkeyPatch], None]:
    """``wrap`` is called with the method that it replaces, then with its arguments."""
    old = getattr(owner, name)
    return lambda patch: patch.setattr(
        owner, name, lambda *args, **named: wrap(old, *args, **named)
    )


def _unaudited(put: Callable[[MonkeyPatch], None]) -> Callable[[MonkeyPatch], None]:
    """Audits heal whatever else is broken with the DAG, only late: seen best without them."""

    def both(patch: MonkeyPatch) -> None:
        put(patch)
        patch.setattr(VertexSync, "on_compared", lambda *_: None)

    return both


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


class _Unlisted(dict[str, Any]):
    """A proposer can put these fields into its header; a follower finds none to compare."""

    def items(self) -> Any:
        return ()


class _Unchecked(Execution):
    def finish(self, missed: tuple[bytes, ...], commitment: bytes, boundary: bool) -> Executed:
        executed = super().finish(missed, commitment, boundary)
        return replace(executed, fields=_Unlisted(executed.fields))


def _mint(old: Any, self: Execution, *args: Any) -> Any:
    self._journal.add_balance(self._env.proposer, 1)
    return old(self, *args)


def _offended(old: Any, self: BlockSync, *args: Any) -> Any:
    *rest, delivery, have = args
    return old(self, *rest, replace(delivery, early=False), have)


def _back_with_the_clock(old: Any, self: Node, now_ms: int, event: Any) -> Any:
    self.steady_ms -= max(0, self._now_ms - now_ms)
    return old(self, now_ms, event)


def _seen_as(
    kind: BallotKind, change: Callable[[VoteState, Ballot], VoteState]
) -> Callable[[MonkeyPatch], None]:
    """A ballot of ``kind`` is judged by another vote state."""
    refuse = VoteState.refuse

    def new(self: VoteState, ballot: Ballot) -> str:
        return refuse(change(self, ballot) if ballot.kind is kind else self, ballot)

    return _replace(VoteState, "refuse", new)


def _forgets(kind: BallotKind) -> Callable[[MonkeyPatch], None]:
    """A ballot of ``kind`` leaves no trace."""
    return _around(VoteState, "after", lambda old, state, one: state if one.kind is kind
                   else old(state, one))  # fmt: skip


def _unlocked(old: Any, *args: Any) -> VoteState:
    return replace(old(*args), committed=0)


def _check_certificates(new: Callable[..., None]) -> Callable[[MonkeyPatch], None]:
    def both(patch: MonkeyPatch) -> None:
        patch.setattr(chain, "check_certificate", new)
        patch.setattr(checks, "check_certificate", new)

    return both


def _unwritten(old: Any, *args: Any) -> Any:
    old(*args)
    return {}


def _same_set(old: Any, epoch: Epoch, *args: Any) -> Epoch:
    return replace(old(epoch, *args), members=epoch.members)


MUTANTS = (
    Mutant(
        "replies before the write is durable", _around(Barrier, "admit", _send_at_once), CRASHES
    ),
    Mutant("forgets what slot it signed", _forgets(BallotKind.PROPOSAL), SHARED),
    Mutant("announces no tips", _unaudited(_replace(Gossip, "tips", lambda *_: None)), LONELY),
    Mutant(
        "asks once for a missing parent", _unaudited(_replace(Dag, "wanted", lambda *_: [])), LOSSES
    ),
    Mutant(
        "asks one peer alone for an id",
        _unaudited(_replace(Gossip, "on_tick", lambda *_: {})),
        LOSSES,
    ),
    Mutant("stores no released orphan", _around(Dag, "_release", _lose_released), LOSSES),
    Mutant("compares no roots", _replace(chain, "Execution", _Unchecked), INVALID),
    Mutant("mints a wei too much", _around(Execution, "finish", _mint), SHORT),
    Mutant("checks no payment", _replace(pool, "check", lambda *_: None), WRONG),
    Mutant("keeps what is in a block", _replace(Pool, "on_head", lambda *_: None), SHORT),
    Mutant("drops what a reorg reverts", _around(Chain, "on_block", _forget_reverted), SPLITS),
    Mutant("leaves the index of it", _around(Chain, "on_block", _leave_index), SPLITS),
    Mutant("asks for no blocks", _replace(BlockSync, "requests", lambda *_: []), SPLITS),
    Mutant("takes blocks of any time", _replace(rules, "CLOCK_SKEW_MS", 10**9), EARLY),
    Mutant("blames others for its clock", _around(BlockSync, "on_imported", _offended), BEHIND),
    Mutant("sets deadlines back", _around(Node, "step", _back_with_the_clock), AHEAD),
)

FINALITY = (
    Mutant(
        "V1 without the lock",
        _seen_as(BallotKind.PREVOTE, lambda state, _: replace(state, committed=0)),
        FORKED,
    ),
    Mutant(
        "V1 prevotes twice in a slot",
        _seen_as(BallotKind.PREVOTE, lambda state, _: replace(state, prevoted=state.prevoted - 1)),
        FORKED,
    ),
    Mutant(
        "V2 dropped",
        _seen_as(BallotKind.COMMIT, lambda state, _: replace(state, prevoted=0, committed=0)),
        FORKED,
    ),
    Mutant("forgets its prevotes", _forgets(BallotKind.PREVOTE), FORKED),
    Mutant("forgets its lock", _forgets(BallotKind.COMMIT), FORKED),
    Mutant("forgets its votes over a restart", _around(votefile, "decode", _unlocked), FORGETFUL),
    Mutant("verifies no certificate", _check_certificates(lambda *_: None), FALSE),
    Mutant("a half is a quorum", _replace(members, "quorum_of", lambda n: n // 2), SPLITS),
    Mutant(
        "fork choice ignores certificates", _replace(KnownCertificates, "top", lambda _: b""), SLOW
    ),
    Mutant("no back-off", _replace(finality, "backoff_step", lambda *_: 1), SILENT),
    Mutant(
        "payments while nothing is final",
        _replace(finality, "system_only", lambda *_: False),
        SILENT,
    ),
    Mutant(
        "the new set votes before the boundary is final",
        _replace(finality, "voting_epoch", lambda boundary, _: boundary.epoch),
        SHUFFLED,
    ),
    Mutant(
        "old certificates count beyond the boundary",
        _replace(finality, "made_final", lambda one: (one.ballot.block_id, one.ballot.slot)),
        SHUFFLED,
    ),
    Mutant(
        "a boundary above an unfinal boundary",
        _replace(epochs, "is_boundary", lambda _boundary, end, slot, _final: slot >= end),
        SILENT,
    ),
    Mutant("hand-over to the wrong set", _around(epochs, "following", _same_set), ELECTED),
    Mutant("keeps no certificate", _around(KnownCertificates, "raise_to", _unwritten), FORGETFUL),
    Mutant("evidence has no effect", _replace(candidates, "close", lambda *_: None), EVIL),
)
"""Rules of votes and finality."""
