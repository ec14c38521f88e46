"""Accounts that change the sets: they stake and vote, register as a candidate, report.

All of it are transactions to IDpos through whatever node answers, as a wallet would send them.
"""

from dataclasses import dataclass, field
from typing import Any

from dipnet.consensus.chain import schedule
from dipnet.consensus.chain.schedule import slot_at
from dipnet.consensus.finality.tally import Offence
from dipnet.consensus.staking.candidates import registration_digest
from dipnet.consensus.staking.idpos import DPOS_ADDRESS, METHODS
from dipnet.node.work import ClientTxs
from dipnet.primitives import crypto
from dipnet.primitives.errors import Invalid
from tests.sim.load import MAX_FEE, Field, payment, secret
from tests.sim.world import Host, World

ELECTORS = 3
STAKED = 10**23  # wei of an elector: ten times the stake of a delegate of genesis
STAKE_MS = (500, 3_000)  # when an elector begins
VOTE_MS = (4_000, 12_000)  # between two votes
AGAIN_MS = 3_000  # until a step is tried again whose transaction was lost
CALL_GAS = 1_500_000
NO_ORGANISATION = bytes(32)


def elector_key(number: int) -> bytes:
    return secret(f"elector {number}")


def call(run: Field, host: Host, key: bytes, method: str, *arguments: Any, value: int = 0) -> bytes:
    """A signed call of IDpos with the sender's next nonce."""
    node, sender = host.running, crypto.address(crypto.public_key(key))
    nonce = node.pool.pending_nonce(sender, node.chain.account(sender).nonce)
    data = METHODS[method].call_data(*arguments)
    fields = {"to": DPOS_ADDRESS, "data": data, "gas": CALL_GAS, "value": value}
    return payment(run, key, nonce, max_fee=MAX_FEE, **fields)


class Elector:
    """An account that stakes, then votes again and again: for all of ``these``, or for some."""

    def __init__(self, run: Field, number: int, these: list[bytes], always: bool) -> None:
        self.run = run
        self.key = elector_key(number)
        self.sender = crypto.address(crypto.public_key(self.key))
        self._these = these
        self._always = always
        run.world.after(STAKE_MS, self._stake)

    def _stake(self) -> None:
        host = self.run.some_host()
        if host is None:
            self.run.world.after((AGAIN_MS, AGAIN_MS), self._stake)
            return
        if host.running.chain.account(self.sender).nonce == 0:
            submit(self.run, host, call(self.run, host, self.key, "stake", value=STAKED))
            self.run.world.after((AGAIN_MS, AGAIN_MS), self._stake)
            return
        self._vote()

    def _vote(self) -> None:
        self.run.world.after(VOTE_MS, self._vote)
        host = self.run.some_host()
        if host is None:
            return
        chosen = self._these
        if not self._always:
            chosen = self.run.rng.sample(self._these, self.run.rng.randint(1, len(self._these)))
        submit(self.run, host, call(self.run, host, self.key, "vote", sorted(chosen)))


class Registrar:
    """The owner of a key that genesis does not know: stakes, then registers it."""

    def __init__(self, run: Field, owner: bytes, delegate: bytes) -> None:
        self.run = run
        self.owner = owner
        self.address = crypto.address(crypto.public_key(owner))
        self._delegate = delegate
        run.world.after(STAKE_MS, self._next)

    def _next(self) -> None:
        """Calls again and again, for a transaction may be lost; a second call is refused."""
        run, host = self.run, self.run.some_host()
        run.world.after((AGAIN_MS, AGAIN_MS), self._next)
        if host is None:
            return
        match host.running.chain.account(self.address).nonce:
            case 0:
                submit(run, host, call(run, host, self.owner, "stake", value=STAKED))
            case 1:
                digest = registration_digest(run.genesis.chain_id, self.address)
                signature = crypto.sign(digest, self._delegate)
                key = crypto.public_key(self._delegate)
                first = schedule.seed_secret(schedule.seed_key(self._delegate), 0)
                commitment = schedule.commitment(first)
                submit(run, host, call(
                    run, host, self.owner, "register", "late", "", 100, key, commitment,
                    NO_ORGANISATION, signature,
                ))  # fmt: skip


@dataclass
class Known:
    """An offence that honest nodes have proof of."""

    name: str
    hosts: dict[int, int] = field(default_factory=dict)
    """The host that knows it -> since which slot."""


class Reporters:
    """Offences that honest nodes found; install as ``world.on_report``. The leaders report them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.known: dict[bytes, Known] = {}
        """By the offender's signer."""

    def report(self, host: Host, offence: Offence) -> None:
        """An honest node knows of it."""
        slot = slot_at(self._world.genesis.parameters, self._world.now_ms)
        known = self.known.setdefault(offence.signer, Known(offence.name))
        known.hosts[host.index] = slot


def submit(run: Field, host: Host, raw: bytes) -> None:
    """Hands a transaction to a node; the chain shows whether it is executed."""
    run.world.submit(host.index, ClientTxs((raw,)), _ignore)


def _ignore(results: tuple[object, ...]) -> None:
    for result in results:
        if isinstance(result, Invalid) and result.code in ("tx_form", "sender", "chain_id"):
            raise AssertionError(result)
