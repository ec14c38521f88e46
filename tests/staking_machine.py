"""IDpos beside the naive model: every step is done by both.

After every step: votes, stakes and sets are equal; what accounts may claim is what they earned, to
the wei that rounding takes; the contract's balance covers all it owes; no wei came from nowhere.
A call succeeds exactly where the model allows it, costs no more for all that went before, and one
that is refused leaves the state's root as it was.
"""

import random
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dipnet.consensus import evidence, stakes
from dipnet.consensus.candidates import VOTES, commission, place
from dipnet.consensus.idpos import DPOS_ADDRESS
from dipnet.consensus.votes import Ballot, Kind
from dipnet.crypto import sign
from tests.staking import CHAIN_ID, STAKE, World, address_of, network, secret
from tests.staking_model import BPS, Delegate, Model, Person

NAMES = [f"d{n}" for n in range(3)] + [f"u{n}" for n in range(4)]
ADDRESSES = {name: address_of(name) for name in NAMES}
NAME_OF = {address: name for name, address in ADDRESSES.items()}
ORGANISATIONS = [bytes(32), b"\1" * 32]
names = st.sampled_from(NAMES)
likely = st.sampled_from(NAMES[:5])  # delegates, and who soon may be one
GAS_MAX = 800_000  # of any call here: it looks at five candidates and four votes at the most
ballots = st.lists(likely, unique=True, max_size=3) | st.lists(names, max_size=5)
amounts = st.sampled_from([1, 3, 7, STAKE // 3, STAKE - 1, STAKE, 2 * STAKE + 1])


def scale_loss(amount: int) -> Fraction:
    """What rounding may take of one share in one block: its number ends at 1/10^18 wei."""
    return Fraction(amount, 10**18) + 2


class Machine(RuleBasedStateMachine):
    """The contract and the model, step by step."""

    step = ""

    @initialize(stakers=st.lists(names, max_size=4))
    def begin(self, stakers: list[str]) -> None:
        genesis = network(
            3, 4, delegate_stake_min=STAKE, delegates_active=3, vote_expiry_epochs=3,
            seats_per_organisation_max=1, unbonding_epochs=2, evidence_epochs=2, jail_epochs=1,
        )  # fmt: skip
        self.world, self.model = World(genesis), Model()
        for name in NAMES[:3]:
            who = ADDRESSES[name]
            self.model.delegates[who] = Delegate(0, bytes(32))
            self.model.people[who] = Person(STAKE, (who,), 3)
        self.blocks = 0
        self.most = STAKE
        for name in stakers:
            self.stake(name, STAKE + 7)

    def act(self, name: str, allowed: bool, method: str, *arguments: Any, value: int = 0) -> Any:
        """A call that must succeed exactly where the model allows it."""
        if allowed:
            found = self.world.send(name, method, *arguments, value=value)
        else:
            root = self.world.journal.commit()[0]
            assert self.world.refused(name, method, *arguments, value=value), method
            assert self.world.journal.commit()[0] == root
            found = None
        assert self.world.gas_used <= GAS_MAX, method
        return found

    @rule(name=names, amount=amounts)
    def stake(self, name: str, amount: int) -> None:
        self.act(name, True, "stake", value=amount)
        one = self.model.person(ADDRESSES[name])
        self.drop_lapsed(one)
        one.stake += amount
        self.most = max(self.most, one.stake)

    @rule(name=names, amount=amounts)
    def unstake(self, name: str, amount: int) -> None:
        who = ADDRESSES[name]
        one, delegate = self.model.person(who), self.model.delegates.get(who)
        keeps = STAKE if delegate and delegate.status == 1 else 0
        allowed = amount <= one.stake and one.stake - amount >= keeps and not one.unbonding
        self.act(name, allowed, "unstake", amount)
        if allowed:
            self.drop_lapsed(one)
            one.stake -= amount
            one.unbonding = amount
            one.release = self.model.epoch + 2 + (2 if delegate else 0)

    @rule(name=names, chosen=ballots)
    def vote(self, name: str, chosen: list[str]) -> None:
        delegates = [ADDRESSES[one] for one in chosen]
        one = self.model.person(ADDRESSES[name])
        allowed = (
            len(delegates) <= 4
            and len({*delegates}) == len(delegates)
            and all(
                d in self.model.delegates and self.model.delegates[d].status == 1 for d in delegates
            )
            and (not delegates or one.stake >= len(delegates))
            and (not delegates or one.voted < self.model.epoch)
        )
        self.act(name, allowed, "vote", delegates)
        if allowed:
            one.votes = tuple(delegates)
            one.expires = self.model.epoch + 3 if delegates else 0
            one.voted = self.model.epoch if delegates else one.voted

    @rule(
        name=names,
        bps=st.sampled_from([0, 1, 3_333, 5_000]),
        organisation=st.sampled_from(ORGANISATIONS),
    )
    def register(self, name: str, bps: int, organisation: bytes) -> None:
        who = ADDRESSES[name]
        delegate = self.model.delegates.get(who)
        allowed = delegate.status == 1 if delegate else self.model.person(who).stake >= STAKE
        fields = {"commission": bps, "organisation": organisation}
        self.act(name, allowed, "register", *self.world.register(name, **fields))
        if allowed and delegate:
            self.model.charge(delegate, bps)
            delegate.organisation = organisation
        elif allowed:
            self.model.delegates[who] = Delegate(bps, organisation)

    @rule(name=names)
    def resign(self, name: str) -> None:
        delegate = self.model.delegates.get(ADDRESSES[name])
        allowed = bool(delegate and delegate.status == 1)
        self.act(name, allowed, "resign")
        if delegate and allowed:
            delegate.status = 2

    @rule(name=names, reporter=names, age=st.integers(0, 4))
    def report(self, name: str, reporter: str, age: int) -> None:
        who = ADDRESSES[name]
        epoch = max(0, self.model.epoch - age)
        pair = [Ballot(Kind.PREVOTE, epoch, 5, bytes([n]) * 32, 1) for n in (1, 2)]
        records = [evidence.record(one, sign(one.digest(CHAIN_ID), secret(name))) for one in pair]
        delegate = self.model.delegates.get(who)
        allowed = bool(delegate and delegate.status != 3 and self.model.epoch <= epoch + 2)
        self.drop_lapsed(self.model.person(who)) if allowed else None
        reward = self.act(reporter, allowed, "submitEvidence", *records)
        if allowed:
            assert reward == (self.model.slash(who, 1_000) * 1_000 // 10_000,)

    @rule(name=names)
    def claim(self, name: str) -> None:
        who = ADDRESSES[name]
        one = self.model.person(who)
        owed = self.world.view("rewardsOf", who)
        released = one.unbonding if one.release <= self.model.epoch else 0
        paid = self.act(name, bool(owed + released), "claim")
        if paid:
            assert paid == (owed + released,)
            one.earned -= owed
            one.unbonding -= released
        self.drop_lapsed(one)

    @rule(
        proposer=st.integers(0, 2),
        tips=st.sampled_from([0, 1, 10**15 + 1]),
        absent=st.lists(st.integers(0, 2), max_size=2),
    )
    def block(self, proposer: int, tips: int, absent: list[int]) -> None:
        members = self.world.members.addresses
        who, missed = members[proposer % len(members)], [members[n % len(members)] for n in absent]
        self.world.block(who, missed, tips)
        self.model.block(who, tips + self.world.parameters.block_reward, tuple(missed))
        self.blocks += 1

    @rule(times=st.sampled_from([1, 1, 2, 3]))
    def borders(self, times: int) -> None:
        for _ in range(times):
            self.border()

    def border(self) -> None:
        before = self.world.sets[self.world.epoch + 1]
        elected = self.world.border()
        self.model.border(1)
        expected = self.model.elect(3, 1) or list(before.addresses)
        assert list(elected.members.addresses) == expected
        pairs = self.world.view("activeSet", self.world.epoch + 1)[0]
        assert [
            bytes.fromhex(one[2:]) if isinstance(one, str) else one for one in pairs
        ] == expected

    def drop_lapsed(self, one: Person) -> None:
        """The contract forgets lapsed votes when it settles: a new stake does not wake them."""
        if one.expires <= self.model.epoch:
            one.votes, one.expires = (), 0

    @invariant()
    def equal(self) -> None:
        if not hasattr(self, "world"):
            return
        root = self.world.root
        for who, delegate in self.model.delegates.items():
            assert place(root, who)[VOTES] == self.model.votes(who)
            kept = commission(place(root, who)).at(self.model.epoch, BPS)
            assert kept == delegate.commission
        owed = Fraction(0)
        for who, one in self.model.people.items():
            held = stakes.place(root, who)
            assert held[stakes.STAKE] == one.stake
            assert held[stakes.UNBONDING] == one.unbonding
            rewards = stakes.rewards(root, who)
            assert rewards <= one.earned
            assert one.earned - rewards <= (self.blocks + 1) * 5 * scale_loss(self.most)
            owed += rewards + one.stake + one.unbonding
        balance = self.world.journal.balance(DPOS_ADDRESS)
        assert owed <= balance
        assert balance - owed <= self.model.dust + (self.blocks + 1) * 40 * scale_loss(self.most)

    def teardown(self) -> None:
        """No wei came from nowhere."""
        if hasattr(self, "world"):
            world = self.world
            burned = world.view("burned")
            assert world.supply() == world.genesis.supply() + world.minted - burned


# How often a long walk does what: it must not run out of delegates.
PACE = {
    "stake": 4, "unstake": 3, "vote": 8, "register": 2, "resign": 1, "report": 1, "claim": 4,
    "block": 12, "borders": 4,
}  # fmt: skip
STEPS = 120


def walk(machine: Machine, seed: int) -> None:
    """What chance alone seldom reaches: votes that lapse while much happens around them."""
    rng = random.Random(seed)
    machine.begin(["u0", "u1", "u2"])
    for _ in range(STEPS):
        name, absent = rng.choice(NAMES), rng.sample(range(3), rng.randrange(3))
        arguments: dict[str, tuple[Any, ...]] = {
            "stake": (name, rng.choice([1, STAKE // 3, STAKE])),
            "unstake": (name, rng.choice([1, STAKE // 3, STAKE])),
            "vote": (name, rng.sample(NAMES[:5], rng.randrange(4))),
            "register": (name, rng.choice([0, 3_333]), rng.choice(ORGANISATIONS)),
            "resign": (name,),
            "report": (name, rng.choice(NAMES), rng.randrange(5)),
            "claim": (name,),
            "block": (rng.randrange(3), rng.randrange(10**15), absent),
            "borders": (rng.randrange(1, 3),),
        }  # fmt: skip
        (step,) = rng.choices(list(PACE), list(PACE.values()))
        machine.step = f"{step}{arguments[step]}"
        getattr(machine, step)(*arguments[step])
        machine.equal()
    machine.teardown()
