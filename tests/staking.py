"""IDpos on a journal of its own: calls through the door, blocks and borders without a chain."""

from collections.abc import Iterable
from typing import Any

import pytest

from dipnet.consensus import candidates, idpos
from dipnet.consensus.idpos import DPOS_ADDRESS, METHODS, Around, Elected
from dipnet.consensus.layout import Held, Place
from dipnet.consensus.members import Members
from dipnet.crypto import ADDRESS_ZERO, address, keccak256, public_key, sign
from dipnet.genesis import Genesis
from dipnet.state import Journal, supply
from dipnet.vm.system import ERROR_SELECTOR
from dipnet.vm.transaction import TX_GAS_MAX, Env, Outcome, call
from tests.memory import Memory

ETHER = 10**18
STAKE = 1_000 * ETHER
CHAIN_ID = 2018


def secret(name: str) -> bytes:
    """A private key of its own for each name."""
    return keccak256(name.encode())


def address_of(name: str) -> bytes:
    """The address of ``secret(name)``."""
    return address(public_key(secret(name)))


def network(delegates: int = 4, users: int = 6, **parameters: Any) -> Genesis:
    """A genesis of delegates ``d0`` ... and rich accounts ``u0`` ..., with short periods."""
    people = [
        {"name": f"d{n}", "address": address_of(f"d{n}"), "public_key": public_key(secret(f"d{n}")),
         "stake": STAKE}
        for n in range(delegates)
    ]  # fmt: skip
    names = [f"u{n}" for n in range(users)] + [f"d{n}" for n in range(delegates)]
    return Genesis.checked(
        {
            "chain_id": CHAIN_ID, "time_ms": 1_700_000_000_000, "delegates": people,
            "delegates_active": delegates, "delegates_standby": 2, "vote_expiry_epochs": 4,
            "unbonding_epochs": 3, "evidence_epochs": 3, "jail_epochs": 2,
            "parameter_delay_epochs": 2, "votes_per_account_max": 4, "block_reward": 2 * ETHER,
            "balances": {address_of(name): 100 * STAKE for name in names},
        }
        | parameters
    )  # fmt: skip


class World:
    """The contract, the sets it elected and the parameters it decided, as a chain would go on."""

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = self.parameters = genesis
        self.memory = Memory()
        self.journal = Journal(self.memory)
        for who, amount in genesis.balances.items():
            self.journal.add_balance(who, amount)
        idpos.genesis_state(self.journal, genesis)
        first = genesis.delegates[: genesis.delegates_active]
        members = Members.of((one.address, one.public_key) for one in first)
        self.sets = {0: members, 1: members}
        self.epoch = self.height = self.slot = self.minted = self.gas_used = 0

    @property
    def root(self) -> Place:
        """The contract's variables."""
        return Place(Held(self.journal, DPOS_ADDRESS))

    @property
    def members(self) -> Members:
        """The set of this epoch."""
        return self.sets[self.epoch]

    def around(self, proposer: bytes = ADDRESS_ZERO) -> Around:
        """The block that is being made."""
        return Around(self.parameters, self.epoch, self.slot, self.height, proposer, self.members)

    def run(self, who: bytes, data: bytes, value: int = 0, gas: int = TX_GAS_MAX) -> Outcome:
        """One call of the contract with any bytes."""
        env = Env(CHAIN_ID, self.height, 0, ADDRESS_ZERO, 0, TX_GAS_MAX, self.slot, DPOS_ADDRESS)
        system = idpos.system(self.around())
        outcome = call(self.journal, env, who, DPOS_ADDRESS, value, data, gas, system)
        self.gas_used = outcome.gas_used
        return outcome

    def send(self, name: str, method: str, *arguments: Any, value: int = 0) -> tuple[Any, ...]:
        """A call by the account of a name that succeeds; what it returns."""
        outcome = self.run(address_of(name), METHODS[method].call_data(*arguments), value)
        assert outcome.ok, reason(outcome)
        return METHODS[method].values(outcome.output)

    def view(self, method: str, *arguments: Any) -> Any:
        """The one value, or the tuple of values, of a view."""
        values = self.send("u0", method, *arguments)
        return values[0] if len(values) == 1 else values

    def refused(self, name: str, method: str, *arguments: Any, value: int = 0) -> str:
        """The reason of a revert, which changes nothing."""
        mark = self.journal.snapshot()
        outcome = self.run(address_of(name), METHODS[method].call_data(*arguments), value)
        assert not outcome.ok
        assert outcome.logs == ()
        assert self.journal.snapshot() == mark
        return reason(outcome)

    def register(self, who: str, by: str = "", **fields: Any) -> tuple[Any, ...]:
        """Arguments of ``register`` for an account, signed by the key of another name."""
        return registration(address_of(who), secret(by or who), **fields)

    def candidate(self, who: str, stake: int = STAKE, **fields: Any) -> bytes:
        """Stakes and registers; the address."""
        self.send(who, "stake", value=stake)
        self.send(who, "register", *self.register(who, **fields))
        return address_of(who)

    def block(self, proposer: bytes, missed: Iterable[bytes] = (), tips: int = 0) -> None:
        """Ends a block; the tips come from nowhere and are counted as minted."""
        self.height, self.slot = self.height + 1, self.slot + 1
        self.journal.add_balance(DPOS_ADDRESS, tips)
        self.minted += tips + self.parameters.block_reward
        idpos.end_block(self.journal, self.around(proposer), tips, tuple(missed), bytes([7]) * 32)

    def border(self) -> Elected:
        """Ends the epoch."""
        elected = idpos.at_border(self.journal, self.around())
        self.sets[self.epoch + 2] = elected.members
        self.parameters = elected.parameters
        self.epoch += 1
        return elected

    def borders(self, count: int) -> None:
        """Ends so many epochs."""
        for _ in range(count):
            self.border()

    def supply(self) -> int:
        """All wei there are."""
        puts = self.journal.commit()[1]
        after = Memory(self.memory)
        after.apply(puts)
        return supply(after)

    def status(self, who: bytes) -> int:
        """Of a candidate."""
        return candidates.place(self.root, who)[candidates.STATUS]


def registration(who: bytes, signer: bytes, **fields: Any) -> tuple[Any, ...]:
    """Arguments of ``register`` for an account, signed by a key."""
    chosen: dict[str, Any] = {
        "name": "somebody", "url": "https://a.example", "commission": 1_000,
        "key": public_key(signer), "commitment": bytes(31) + b"\1", "organisation": bytes(32),
        "signature": sign(candidates.registration_digest(CHAIN_ID, who), signer),
    }  # fmt: skip
    return tuple((chosen | fields).values())


def reason(outcome: Outcome) -> str:
    """The text of a revert, empty where there was no gas."""
    if not outcome.output:
        return ""
    assert outcome.output[:4] == ERROR_SELECTOR
    size = int.from_bytes(outcome.output[36:68], "big")
    return outcome.output[68 : 68 + size].decode()


@pytest.fixture
def world() -> World:
    """Four delegates, six rich accounts."""
    return World(network())
