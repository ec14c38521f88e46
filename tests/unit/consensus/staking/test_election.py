"""Elections against an oracle that keeps no sums: all votes are counted anew each time.

The oracle remembers every ballot that was cast and works from the rules as they are written
(docs/staking.md): it knows no sums, no shares kept, no lapses, no roll.
"""

import random
from collections import Counter
from dataclasses import dataclass

import pytest

from dipnet.consensus.staking.idpos import DPOS_ADDRESS, candidates_of
from tests.fixtures.staking import STAKE, World, address_of, network

SEATS, STANDBY, CAP, EXPIRY, JAIL = 5, 2, 2, 3, 2
CANDIDATES = [f"c{n}" for n in range(14)]
VOTERS = [f"v{n}" for n in range(40)]
EPOCHS = 9
ORGANISATIONS = [bytes(32), b"\1" * 32, b"\2" * 32, b"\3" * 32]


@dataclass(frozen=True)
class Cast:
    """A ballot: the voter, its stake, the delegates, the epoch."""

    stake: int
    delegates: tuple[bytes, ...]
    epoch: int


class Oracle:
    """All that was ever said."""

    def __init__(self) -> None:
        self.casts: dict[str, Cast] = {}
        self.organisations: dict[bytes, bytes] = {}
        self.gone: list[bytes] = []
        self.slots: list[tuple[int, bytes, bool]] = []  # epoch, whose, missed

    def votes(self, epoch: int) -> Counter[bytes]:
        """What counts at the boundary of ``epoch``."""
        found: Counter[bytes] = Counter()
        for one in self.casts.values():
            if epoch + 1 < one.epoch + EXPIRY:
                for delegate in one.delegates:
                    found[delegate] += one.stake // len(one.delegates)
        return found

    def jailed(self, delegate: bytes, epoch: int) -> bool:
        """Whether at the boundary of ``epoch`` the delegate is kept out of the elected set."""
        for past in range(max(0, epoch - JAIL + 1), epoch + 1):
            missed = [gone for at, who, gone in self.slots if (at, who) == (past, delegate)]
            if any(missed) and 2 * sum(missed) >= len(missed):
                return True
        return False

    def elected(self, epoch: int) -> tuple[list[bytes], list[bytes]]:
        """Seats and standby that the boundary of ``epoch`` gives."""
        votes, rest = self.votes(epoch), {**self.organisations}
        taken: list[bytes] = []
        for one in self.gone:
            rest.pop(one, None)
        while rest and len(taken) < SEATS + STANDBY:
            best = min(rest, key=lambda one: (self.jailed(one, epoch), -votes[one], one))
            organisation = rest.pop(best)
            rivals = [one for one in taken if self.organisations[one] == organisation]
            if organisation == bytes(32) or len(rivals) < CAP:
                taken.append(best)
        return sorted(taken[:SEATS]), taken[SEATS:]


def settled(rng: random.Random) -> tuple[World, Oracle]:
    """A world whose candidates and voters are all there."""
    genesis = network(
        1, 0, delegates_active=SEATS, delegates_standby=STANDBY, vote_expiry_epochs=EXPIRY,
        seats_per_organisation_max=CAP, jail_epochs=JAIL, votes_per_account_max=6,
        balances={address_of(one): 1_000 * STAKE for one in ("d0", "u0", *CANDIDATES, *VOTERS)},
    )  # fmt: skip
    world, oracle = World(genesis), Oracle()
    oracle.organisations[address_of("d0")] = bytes(32)
    oracle.casts["d0"] = Cast(STAKE, (address_of("d0"),), 0)
    for one in CANDIDATES:
        organisation = rng.choice(ORGANISATIONS)
        oracle.organisations[world.candidate(one, organisation=organisation)] = organisation
    for one in VOTERS:
        world.send(one, "stake", value=rng.randrange(1, 20) * STAKE + rng.randrange(9))
    return world, oracle


@pytest.mark.parametrize("seed", range(6))
def test_elections_are_those_of_the_oracle(seed: int) -> None:
    rng = random.Random(seed)
    world, oracle = settled(rng)
    seats = []
    for epoch in range(EPOCHS):
        open_now = [one for one in oracle.organisations if one not in oracle.gone]
        for voter in rng.sample(VOTERS, 15):
            delegates = rng.sample(open_now, rng.randrange(1, min(6, len(open_now)) + 1))
            world.send(voter, "vote", delegates)
            stake = world.view("stakeOf", address_of(voter))
            oracle.casts[voter] = Cast(stake, tuple(delegates), epoch)
        for _ in range(20):
            members = world.members.addresses
            producer, absent = rng.choice(members), rng.choices(members, k=rng.randrange(2))
            world.block(producer, absent)
            oracle.slots += [(epoch, producer, False), *((epoch, one, True) for one in absent)]
        if epoch % 3 == 2:
            leaver = rng.choice(CANDIDATES)
            if address_of(leaver) not in oracle.gone:
                world.send(leaver, "resign")
                oracle.gone.append(address_of(leaver))
        world.boundary()
        expected, waiting = oracle.elected(epoch)
        assert list(world.sets[epoch + 2].addresses) == expected
        assert world.view("activeSet", epoch + 2) == (tuple(expected), tuple(waiting))
        votes = oracle.votes(epoch)
        for one in candidates_of(world.journal):
            assert one.votes == votes[one.address]
        seats.append(tuple(expected))
    assert len({*seats}) > EPOCHS // 2, "sets change"
    assert world.journal.balance(DPOS_ADDRESS) > 40 * STAKE
