"""Elections against an oracle that keeps no sums: all votes are counted anew each time.

The oracle keeps every vote that was cast and applies the rules of docs/staking.md directly; it
keeps no sums, shares or lists.
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
    """The votes of an account: its stake in wei, the delegates, the epoch."""

    stake: int
    delegates: tuple[bytes, ...]
    epoch: int


class Oracle:
    """All votes, candidates and slots since the start."""

    def __init__(self) -> None:
        self.casts: dict[str, Cast] = {}
        self.organisations: dict[bytes, bytes] = {}
        self.gone: list[bytes] = []
        self.slots: list[tuple[int, bytes, bool]] = []  # (epoch, leader, missed)

    def votes(self, epoch: int) -> Counter[bytes]:
        """The votes that count at the boundary of ``epoch``, in wei by delegate."""
        found: Counter[bytes] = Counter()
        for cast in self.casts.values():
            if epoch + 1 < cast.epoch + EXPIRY:
                for delegate in cast.delegates:
                    found[delegate] += cast.stake // len(cast.delegates)
        return found

    def jailed(self, delegate: bytes, epoch: int) -> bool:
        """Whether at the boundary of ``epoch`` the delegate is kept out of the elected set."""
        for past in range(max(0, epoch - JAIL + 1), epoch + 1):
            missed_slots = [
                missed for at, leader, missed in self.slots if (at, leader) == (past, delegate)
            ]
            if any(missed_slots) and 2 * sum(missed_slots) >= len(missed_slots):
                return True
        return False

    def elected(self, epoch: int) -> tuple[list[bytes], list[bytes]]:
        """The seats and the standby that the boundary of ``epoch`` elects."""
        votes, rest = self.votes(epoch), {**self.organisations}
        taken: list[bytes] = []
        for address in self.gone:
            rest.pop(address, None)
        while rest and len(taken) < SEATS + STANDBY:
            best = min(
                rest, key=lambda address: (self.jailed(address, epoch), -votes[address], address)
            )
            organisation = rest.pop(best)
            rivals = [address for address in taken if self.organisations[address] == organisation]
            if organisation == bytes(32) or len(rivals) < CAP:
                taken.append(best)
        return sorted(taken[:SEATS]), taken[SEATS:]


def settled(rng: random.Random) -> tuple[World, Oracle]:
    """A world in which all candidates have registered and all voters have staked."""
    genesis = network(
        1, 0, delegates_active=SEATS, delegates_standby=STANDBY, vote_expiry_epochs=EXPIRY,
        seats_per_organisation_max=CAP, jail_epochs=JAIL, votes_per_account_max=6,
        balances={address_of(name): 1_000 * STAKE for name in ("d0", "u0", *CANDIDATES, *VOTERS)},
    )  # fmt: skip
    world, oracle = World(genesis), Oracle()
    oracle.organisations[address_of("d0")] = bytes(32)
    oracle.casts["d0"] = Cast(STAKE, (address_of("d0"),), 0)
    for name in CANDIDATES:
        organisation = rng.choice(ORGANISATIONS)
        oracle.organisations[world.candidate(name, organisation=organisation)] = organisation
    for name in VOTERS:
        world.send(name, "stake", value=rng.randrange(1, 20) * STAKE + rng.randrange(9))
    return world, oracle


@pytest.mark.parametrize("seed", range(6))
def test_elections_are_those_of_the_oracle(seed: int) -> None:
    rng = random.Random(seed)
    world, oracle = settled(rng)
    seats = []
    for epoch in range(EPOCHS):
        open_now = [address for address in oracle.organisations if address not in oracle.gone]
        for voter in rng.sample(VOTERS, 15):
            delegates = rng.sample(open_now, rng.randrange(1, min(6, len(open_now)) + 1))
            world.send(voter, "vote", delegates)
            stake = world.view("stakeOf", address_of(voter))
            oracle.casts[voter] = Cast(stake, tuple(delegates), epoch)
        for _ in range(20):
            members = world.members.addresses
            producer, absent = rng.choice(members), rng.choices(members, k=rng.randrange(2))
            world.block(producer, absent)
            oracle.slots += [
                (epoch, producer, False),
                *((epoch, address, True) for address in absent),
            ]
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
        for candidate in candidates_of(world.journal):
            assert candidate.votes == votes[candidate.address]
        seats.append(tuple(expected))
    assert len({*seats}) > EPOCHS // 2, "sets change"
    assert world.journal.balance(DPOS_ADDRESS) > 40 * STAKE
