"""IDpos in a real chain: transactions in blocks, and the boundaries that they decide."""

from typing import Any

from dipnet.consensus.chain.schedule import commitment, seed_key, seed_secret
from dipnet.consensus.staking import candidates
from dipnet.consensus.staking.idpos import DPOS_ADDRESS, METHODS, candidates_of
from dipnet.ledger.rules import RULES_KNOWN
from dipnet.ledger.state import Journal, supply
from dipnet.primitives.crypto import public_key, sign
from tests.fixtures.chain_builder import (
    CHAIN_ID,
    ETHER,
    Net,
    add,
    address_of,
    refusal,
    secret,
    sustain,
    transfer,
)

EPOCH = 4
GAS = 1_500_000


class Town:
    """A chain whose blocks are final at once, and senders of transactions."""

    def __init__(self, **parameters: Any) -> None:
        chosen: dict[str, Any] = {"delegates_active": 4, "delegates_standby": 2}
        self.net = Net.of(4, epoch_slots=EPOCH, **(chosen | parameters))
        self.chain, self.memory = self.net.chain()
        self.nonces: dict[str, int] = {}
        self.slot = 0

    def _nonce(self, user: str) -> int:
        self.nonces[user] = self.nonces.get(user, -1) + 1
        return self.nonces[user]

    def block(self, *calls: tuple[Any, ...]) -> None:
        """Makes a block in the next slot of calls ``(user, method, *arguments)``; ``stake`` takes
        wei."""
        self.slot += 1
        txs = []
        for user, method, *rest in calls:
            value = rest.pop() if method == "stake" else 0
            data = METHODS[method].call_data(*rest)
            txs.append(transfer(user, self._nonce(user), DPOS_ADDRESS, value, data=data, gas=GAS))
        block = self.net.child(self.chain, self.chain.head.hash, self.slot, txs)
        add(self.chain, self.memory, block)
        receipts = self.chain.receipts(block.hash)
        assert receipts is not None
        assert [receipt.status for receipt in receipts] == [1] * len(calls)
        self.net.certify(self.chain, self.memory, self.chain.head)

    def pay(self, *names: str) -> None:
        """Gives each account wei to pay for gas."""
        self.slot += 1
        txs = [
            transfer("user 7", self._nonce("user 7"), address_of(name), 9 * ETHER) for name in names
        ]
        block = self.net.child(self.chain, self.chain.head.hash, self.slot, txs)
        add(self.chain, self.memory, block)
        self.net.certify(self.chain, self.memory, self.chain.head)

    def rest(self, epoch: int) -> None:
        """Makes empty blocks until the head's children are of ``epoch``."""
        while self.chain.epoch.number < epoch:
            self.slot += 1
            sustain(self.net, self.chain, self.memory, [self.slot])

    def registration(self, owner: str, key: bytes) -> tuple[Any, ...]:
        digest = candidates.registration_digest(CHAIN_ID, address_of(owner))
        promised = commitment(seed_secret(seed_key(key), 0))
        return (
            owner, "", 1_000, public_key(key), promised, bytes(32), sign(digest, key),
        )  # fmt: skip


def test_a_candidate_that_is_voted_in_leads_from_the_epoch_after_the_next() -> None:
    town = Town(delegate_stake_min=100 * ETHER)
    newcomer, key = address_of("user 0"), secret("a server's key")
    town.net.secrets[newcomer] = key
    town.block(
        ("user 0", "stake", 100 * ETHER),
        ("user 0", "register", *town.registration("user 0", key)),
        *((f"user {n}", "stake", 900 * ETHER) for n in (1, 2)),
        *((f"user {n}", "vote", [newcomer]) for n in (1, 2)),
    )
    assert town.chain.epoch.number == 0
    sets = []
    for epoch in range(4):
        town.rest(epoch)
        sets.append(newcomer in town.chain.epoch.members.addresses)
    assert sets == [False, False, True, True]
    town.rest(4)
    journal = Journal(town.chain.head_state)
    (found,) = [candidate for candidate in candidates_of(journal) if candidate.address == newcomer]
    assert (found.produced, found.missed) == (2, 0)  # a fourth of the slots of two epochs
    assert town.chain.parameters == town.net.genesis.parameters


def test_a_vote_of_the_delegates_changes_the_length_of_slots_and_stops_old_programs() -> None:
    town = Town(parameter_delay_epochs=1)
    names = [f"delegate {n}" for n in range(3)]
    town.pay(*names)
    slots = b"slot_ms".ljust(32, b"\0")
    rules = b"rules".ljust(32, b"\0")
    town.block(
        (names[0], "proposeParameters", slots, 4_000),
        (names[1], "proposeParameters", rules, RULES_KNOWN + 1),
        *((name, "voteParameters", 1) for name in names[1:]),
        *((name, "voteParameters", 2) for name in (names[0], names[2])),
    )
    town.rest(2)
    boundary = town.chain.epoch.boundary.slot
    assert town.chain.parameters.slot_ms == 4_000
    assert town.chain.head.slot == boundary
    before = town.chain.head.timestamp_ms
    town.block(*((name, "signalReady", RULES_KNOWN + 1) for name in names))
    assert town.chain.head.timestamp_ms == before + 4_000
    town.rest(3)  # decided at this boundary
    assert town.chain.parameters.rules == RULES_KNOWN
    town.rest(4)
    assert town.chain.parameters.rules == RULES_KNOWN + 1
    child = town.net.child(town.chain, town.chain.head.hash, town.slot + 1)
    assert refusal(town.chain, child) == "rules_unknown"


def test_a_chain_that_forgets_nothing_mints_what_it_says() -> None:
    """Supply is genesis plus rewards less base fees; the balance covers all stake and rewards."""
    town = Town()
    town.pay("user 0")
    town.block(("user 0", "stake", 5), ("user 0", "vote", [address_of("delegate 0")]))
    town.rest(2)
    town.block(("user 0", "unstake", 2))
    reader, burned = town.chain.head_state, 0
    for height in range(1, town.chain.head.height + 1):
        block = town.chain.need_block(town.chain.hash_at(height) or b"")
        burned += block.header.gas_used * block.header.base_fee
    minted = town.chain.head.height * town.net.genesis.parameters.block_reward
    assert supply(reader) == town.net.genesis.supply() + minted - burned
