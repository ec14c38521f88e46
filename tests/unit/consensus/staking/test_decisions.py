"""Decisions of the delegates against a naive model, over random proposals, votes and sets.

The model is the text of docs/staking.md in Python: it keeps what was said and when, and works out
at each boundary what follows. What a genesis.json may not say it asks of no model: the values here
are valid alone, and in the pairs that can meet.
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
    """One proposal. ``starts`` is the epoch in which it is to be in force, once that is known."""

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
    """All that the delegates said."""

    force: dict[str, int]
    motions: list[Motion] = field(default_factory=list)
    ready: dict[str, int] = field(default_factory=dict)

    def may_propose(self, who: str, name: str, value: int) -> bool:
        idle = not any(one.pending and one.by == who for one in self.motions)
        return idle and (name != "rules" or value > self.force["rules"])

    def enough(self, yes: list[str], members: list[str]) -> bool:
        return 3 * len([one for one in members if one in yes]) > 2 * len(members)

    def boundary(self, epoch: int, members: list[str]) -> None:
        """What has passed, run out or begins, before the election."""
        delay = self.force["parameter_delay_epochs"]
        for one in self.motions:
            if one.state == "open" and self.enough(one.voters, members):
                one.state, one.starts = "passed", epoch + 1 + delay
                one.expires = one.starts + LIVE
            if one.state in ("open", "passed") and one.expires == epoch + 1:
                one.state = "expired"
            due = "decided" if one.name == "rules" else "passed"
            if one.state == due and one.starts == epoch + 1:
                late = one.name == "rules" and one.value <= self.force["rules"]
                one.state = "refused" if late else "effective"
                if not late:
                    self.force[one.name] = one.value

    def decide(self, epoch: int, running: list[list[str]]) -> None:
        """After the election: whose proposer left, and rules for which both sets are ready."""
        for one in self.motions:
            if one.state == "open" and not any(one.by in members for members in running):
                one.state = "expired"
            if (one.state, one.name) == ("passed", "rules") and one.starts <= epoch + 2:
                ready = [who for who, version in self.ready.items() if version >= one.value]
                if all(self.enough(ready, members) for members in running):
                    one.state, one.starts = "decided", epoch + 2


class Session:
    """World and model together."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.world = World(network(4, 3, delegates_active=4))
        self.council = Council(
            {name: getattr(self.world.genesis.parameters, name) for name in VALUES}
        )
        self.registered = NAMES[:4]
        self.name_of = {address_of(one): one for one in NAMES}

    def members(self, epoch: int) -> list[str]:
        return [self.name_of[one] for one in self.world.sets[epoch].addresses]

    def act(self, who: str, allowed: bool, method: str, *arguments: Any) -> None:
        if allowed:
            self.world.send(who, method, *arguments)
        else:
            assert self.world.refused(who, method, *arguments)

    def propose(self, who: str) -> None:
        name = self.rng.choice([*VALUES, "rules"])
        value = self.rng.choice(VALUES[name])
        seated = who in self.members(self.world.epoch)
        allowed = seated and self.council.may_propose(who, name, value)
        self.act(who, allowed, "proposeParameters", name.encode().ljust(32, b"\0"), value)
        if allowed:
            expires = self.world.epoch + LIVE
            self.council.motions.append(Motion(name, value, who, expires, [who]))

    def vote(self, who: str) -> None:
        number = self.rng.randrange(1, len(self.council.motions) + 2)
        one = self.council.motions[number - 1] if number <= len(self.council.motions) else None
        seated = who in self.members(self.world.epoch)
        allowed = bool(one and seated and one.state == "open" and who not in one.voters)
        self.act(who, allowed, "voteParameters", number)
        if one and allowed:
            one.voters.append(who)

    def signal(self, who: str) -> None:
        version = self.rng.choice([1, 2, 3, 4, 4])
        self.act(who, who in self.registered, "signalReady", version)
        if who in self.registered:
            self.council.ready[who] = version

    def come(self, who: str) -> None:
        if who not in self.registered:
            address = self.world.candidate(who, stake=self.rng.randrange(1, 9) * STAKE)
            self.world.send(who, "vote", [address])
            self.registered.append(who)

    def boundary(self) -> None:
        epoch = self.world.epoch
        self.council.boundary(epoch, self.members(epoch))
        self.world.boundary()
        self.council.decide(epoch, [self.members(epoch + 1), self.members(epoch + 2)])

    def compare(self) -> None:
        for name, value in self.council.force.items():
            assert getattr(self.world.parameters, name) == value
        members = self.members(self.world.epoch)
        for number, one in enumerate(self.council.motions, 1):
            found = self.world.view("proposal", number)
            assert found == (
                one.name.encode().ljust(32, b"\0"), one.value, address_of(one.by),
                STATES[one.state], one.expires, one.starts,
                len([who for who in one.voters if who in members]),
            )  # fmt: skip


def session(seed: int) -> Session:
    """One that has run, and was right at every boundary."""
    one = Session(seed)
    for _ in range(EPOCHS):
        for _ in range(STEPS):
            steps = (one.propose, one.vote, one.vote, one.vote, one.signal)
            one.rng.choice(steps)(one.rng.choice(NAMES))
        if one.rng.randrange(6) == 0:
            one.come(one.rng.choice(NAMES))
        one.boundary()
        one.compare()
    return one


def test_decisions_are_those_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parameters, "PROPOSAL_EPOCHS", LIVE)
    sessions = [session(seed) for seed in range(8)]
    motions = [one for each in sessions for one in each.council.motions]
    reached = {(one.name == "rules", one.state) for one in motions}
    assert {(rules, state) for rules in (False, True) for state in ("effective", "expired")} <= (
        reached
    )
    sets = [{tuple(each.members(at)) for at in range(EPOCHS)} for each in sessions]
    assert sum(len(one) > 1 for one in sets) > len(sets) // 2
