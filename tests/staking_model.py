"""What IDpos must do, in the most naive way: every vote looked at each time, fractions for wei.

It shares no code and no idea with the contract: no sums kept, no accumulator, no buckets.
"""

from dataclasses import dataclass, field
from fractions import Fraction

BPS = 10_000


@dataclass
class Person:
    """An account."""

    stake: int = 0
    votes: tuple[bytes, ...] = ()
    expires: int = 0
    voted: int = -1
    earned: Fraction = Fraction(0)
    unbonding: int = 0
    release: int = 0


@dataclass
class Delegate:
    """A candidate; ``status`` as in the contract."""

    commission: int
    organisation: bytes
    status: int = 1
    jailed_until: int = 0
    produced: int = 0
    missed: int = 0
    raised: tuple[int, int] | None = None
    """The epoch from which the commission is higher, and what it is then."""


@dataclass
class Model:
    """All of it."""

    people: dict[bytes, Person] = field(default_factory=dict)
    delegates: dict[bytes, Delegate] = field(default_factory=dict)
    epoch: int = 0
    dust: Fraction = Fraction(0)
    """What the rules leave with the contract on purpose."""

    def person(self, who: bytes) -> Person:
        return self.people.setdefault(who, Person())

    def live(self, who: bytes) -> tuple[bytes, ...]:
        one = self.person(who)
        return one.votes if one.expires > self.epoch else ()

    def weights(self, delegate: bytes) -> dict[bytes, int]:
        """Who votes for a delegate, with how much."""
        found = {}
        for who, one in self.people.items():
            votes = self.live(who)
            if delegate in votes and self.delegates[delegate].status == 1:
                found[who] = one.stake // len(votes)
        return found

    def votes(self, delegate: bytes) -> int:
        return sum(self.weights(delegate).values())

    def charge(self, delegate: Delegate, bps: int) -> None:
        if bps <= delegate.commission:
            delegate.commission, delegate.raised = bps, None
        elif not delegate.raised or delegate.raised[1] != bps:
            delegate.raised = (self.epoch + 2, bps)

    def block(self, proposer: bytes, amount: int, missed: tuple[bytes, ...]) -> None:
        delegate = self.delegates[proposer]
        own = amount * delegate.commission // BPS
        weights = self.weights(proposer)
        total = sum(weights.values())
        if delegate.status != 1:
            self.dust += amount - own
        elif not total:
            own = amount
        for who, weight in weights.items() if total else ():
            self.people[who].earned += Fraction((amount - own) * weight, total)
        self.person(proposer).earned += own
        delegate.produced += 1
        for who in missed:
            self.delegates[who].missed += 1

    def border(self, jail_epochs: int) -> None:
        """Up to the election."""
        for delegate in self.delegates.values():
            slots = delegate.produced + delegate.missed
            if delegate.status == 1 and delegate.missed and 2 * delegate.missed >= slots:
                delegate.jailed_until = self.epoch + 2 + jail_epochs
            delegate.produced = delegate.missed = 0
        self.epoch += 1
        for delegate in self.delegates.values():
            if delegate.raised and delegate.raised[0] == self.epoch:
                delegate.commission, delegate.raised = delegate.raised[1], None

    def elect(self, seats: int, cap: int) -> list[bytes]:
        """After ``border``: the set of the epoch after the new one."""
        ranked = sorted(
            (who for who, one in self.delegates.items() if one.status == 1),
            key=lambda who: (
                self.delegates[who].jailed_until > self.epoch + 1, -self.votes(who), who,
            ),
        )  # fmt: skip
        chosen: list[bytes] = []
        for who in ranked:
            organisation = self.delegates[who].organisation
            rivals = [one for one in chosen if self.delegates[one].organisation == organisation]
            if len(chosen) < seats and (not any(organisation) or len(rivals) < cap):
                chosen.append(who)
        return sorted(chosen)

    def slash(self, delegate: bytes, bps: int) -> int:
        one = self.person(delegate)
        lost = (one.stake + one.unbonding) * bps // BPS
        taken = min(lost, one.stake)
        one.stake -= taken
        one.unbonding -= lost - taken
        self.delegates[delegate].status = 3
        return lost
