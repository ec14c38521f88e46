"""Decisions of the delegates against a naive model, over random proposals, votes and sets.

The model is the text of docs/staking.md in Python: it keeps proposals, votes and their epochs, and
derives the state of each proposal at each boundary. The values here are valid alone and in the
pairs that can meet, so the model needs no rules of genesis.json.
"""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from dipnet.consensus.staking import parameters
from tests.fixtures.staking import STAKE, World, address_of, network

NAMES = ["d0", "d1", "d2", "d3", "u0", "u1", "u2"]
LIVE = 4  # epochs that a proposal stays open, in place of 336
STATES = {"open": 1, "passed": 2, "effective": 3, "expired": 4, "refused": 5, "decided": 6}
VALUES = {
    "gas_limit": (10**8, 10**9), "parameter_delay_epochs": (1, 2, 3), "slash_bps": (0, 500),
    "delegates_active": (4, 5, 6), "rules": (3, 4, 5),
}  # fmt: skip
EPOCHS, STEPS = 30, 8


@dataclass
class Motion:
    """A proposal. ``starts`` is the epoch in which it comes into force, once that is known."""

    name: str
    value: int
    by: str
    expires: int
    voters: list[str]
    state: str = "open"
    starts: int = 0

    @property
    def pending(self) -> bool:
        return self.state in ("open", "passed", "decided")


@dataclass
class Council:
    """The model: all proposals, votes and signals of the delegates."""

    force: dict[str, int]
    motions: list[Motion] = field(default_factory=list)
    ready: dict[str, int] = field(default_factory=dict)

    def may_propose(self, delegate: str, name: str, value: int) -> bool:
        idle = not any(motion.pending and motion.by == delegate for motion in self.motions)
        return idle and (name != "rules" or value > self.force["rules"])

    def enough(self, yes: list[str], members: list[str]) -> bool:
        return 3 * len([address for address in members if address in yes]) > 2 * len(members)

    def boundary(self, epoch: int, members: list[str]) -> None:
        """Updates the motions that pass, expire or take effect, before the election."""
        delay = self.force["parameter_delay_epochs"]
        for motion in self.motions:
            if motion.state == "open" and self.enough(motion.voters, members):
                motion.state, motion.starts = "passed", epoch + 1 + delay
                motion.expires = motion.starts + LIVE
            if motion.state in ("open", "passed") and motion.expires == epoch + 1:
                motion.state = "expired"
            due = "decided" if motion.name == "rules" else "passed"
            if motion.state == due and motion.starts == epoch + 1:
                late = motion.name == "rules" and motion.value <= self.force["rules"]
                motion.state = "refused" if late else "effective"
                if not late:
                    self.force[motion.name] = motion.value

    def decide(self, epoch: int, running: list[list[str]]) -> None:
        """Updates motions after the election: their proposer left, or both sets are ready for
        rules."""
        for motion in self.motions:
            if motion.state == "open" and not any(motion.by in members for members in running):
                motion.state = "expired"
            if (motion.state, motion.name) == ("passed", "rules") and motion.starts <= epoch + 2:
                ready = [
                    delegate for delegate, version in self.ready.items() if version >= motion.value
                ]
                if all(self.enough(ready, members) for members in running):
                    motion.state, motion.starts = "decided", epoch + 2


class Session:
    """Runs the world and the model side by side."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.world = World(network(4, 3, delegates_active=4))
        self.council = Council(
            {name: getattr(self.world.genesis.parameters, name) for name in VALUES}
        )
        self.registered = NAMES[:4]
        self.name_of = {address_of(name): name for name in NAMES}

    def members(self, epoch: int) -> list[str]:
        return [self.name_of[address] for address in self.world.sets[epoch].addresses]

    def act(self, delegate: str, allowed: bool, method: str, *arguments: Any) -> None:
        if allowed:
            self.world.send(delegate, method, *arguments)
        else:
            assert self.world.refused(delegate, method, *arguments)

    def propose(self, delegate: str) -> None:
        name = self.rng.choice([*VALUES, "rules"])
        value = self.rng.choice(VALUES[name])
        seated = delegate in self.members(self.world.epoch)
        allowed = seated and self.council.may_propose(delegate, name, value)
        self.act(delegate, allowed, "proposeParameters", name.encode().ljust(32, b"\0"), value)
        if allowed:
            expires = self.world.epoch + LIVE
            self.council.motions.append(Motion(name, value, delegate, expires, [delegate]))

    def vote(self, delegate: str) -> None:
        number = self.rng.randrange(1, len(self.council.motions) + 2)
        motion = self.council.motions[number - 1] if number <= len(self.council.motions) else None
        seated = delegate in self.members(self.world.epoch)
        allowed = bool(
            motion and seated and motion.state == "open" and delegate not in motion.voters
        )
        self.act(delegate, allowed, "voteParameters", number)
        if motion and allowed:
            motion.voters.append(delegate)

    def signal(self, delegate: str) -> None:
        version = self.rng.choice([1, 2, 3, 4, 4])
        self.act(delegate, delegate in self.registered, "signalReady", version)
        if delegate in self.registered:
            self.council.ready[delegate] = version

    def come(self, delegate: str) -> None:
        if delegate not in self.registered:
            address = self.world.candidate(delegate, stake=self.rng.randrange(1, 9) * STAKE)
            self.world.send(delegate, "vote", [address])
            self.registered.append(delegate)

    def boundary(self) -> None:
        epoch = self.world.epoch
        self.council.boundary(epoch, self.members(epoch))
        self.world.boundary()
        self.council.decide(epoch, [self.members(epoch + 1), self.members(epoch + 2)])

    def compare(self) -> None:
        for name, value in self.council.force.items():
            assert getattr(self.world.parameters, name) == value
        members = self.members(self.world.epoch)
        for number, motion in enumerate(self.council.motions, 1):
            found = self.world.view("proposal", number)
            assert found == (
                motion.name.encode().ljust(32, b"\0"), motion.value, address_of(motion.by),
                STATES[motion.state], motion.expires, motion.starts,
                len([name for name in motion.voters if name in members]),
            )  # fmt: skip


def session(seed: int) -> Session:
    """A session that has run; world and model agreed at every boundary."""
    run = Session(seed)
    for _ in range(EPOCHS):
        for _ in range(STEPS):
            steps = (
                run.propose,
                run.vote,
                run.vote,
                run.vote,
                run.signal,
            )
            run.rng.choice(steps)(run.rng.choice(NAMES))
        if run.rng.randrange(6) == 0:
            run.come(run.rng.choice(NAMES))
        run.boundary()
        run.compare()
    return run


def test_decisions_are_those_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parameters, "PROPOSAL_EPOCHS", LIVE)
    sessions = [session(seed) for seed in range(8)]
    motions = [motion for each in sessions for motion in each.council.motions]
    reached = {(motion.name == "rules", motion.state) for motion in motions}
    assert {(rules, state) for rules in (False, True) for state in ("effective", "expired")} <= (
        reached
    )
    sets = [{tuple(each.members(at)) for at in range(EPOCHS)} for each in sessions]
    assert sum(len(members) > 1 for members in sets) > len(sets) // 2
