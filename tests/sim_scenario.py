"""One seed of the simulator: a network under load and faults, healed, then held to its promises."""

import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from dipnet import crypto
from dipnet.genesis import Genesis
from tests.sim import Faults, Host, World
from tests.sim_checks import violations
from tests.sim_hostile import Hostile
from tests.sim_load import PAY_MS, READ_MS, WRONG_MS, Device, Ledger, Mischief, Payer, secret
from tests.sim_mix import Mix

BALANCE = 10**21
ACCOUNTS, DEVICES = 5, 4
HOSTILE_PERCENT = 30
WIPED_DOWN_MS = (2_000, 8_000)
CUT_MS = (1_000, 12_000)
JUMP_MS = (-4_000, 4_000)
WRONG_CLOCK_MS = (500, 10_000)
LOOK_MS = 250  # how often it is looked whether the DAGs are equal
SETTLE_MS = 700  # the reckoning is this long after a slot began: its block has arrived


def network(delegates: int) -> tuple[Genesis, list[bytes], list[bytes]]:
    """Genesis, the delegates' secrets, the funded accounts' secrets."""
    delegate_keys = [secret(f"delegate {i}") for i in range(delegates)]
    account_keys = [secret(f"account {i}") for i in range(ACCOUNTS)]
    public = [crypto.public_key(key) for key in delegate_keys]
    genesis = Genesis(
        chain_id=2018,
        time_ms=1_700_000_000_000,
        slot_ms=1000,
        epoch_slots=30,
        delegates=[
            {
                "name": f"d{i}",
                "address": crypto.checksum(crypto.address(k)),
                "public_key": k,
                "stake": BALANCE,
            }
            for i, k in enumerate(public)
        ],
        delegates_active=delegates,
        delegates_standby=0,
        undo_blocks_max=64,
        overlays_max=8,
        balances={
            crypto.checksum(crypto.address(crypto.public_key(k))): BALANCE for k in account_keys
        },
    )
    return genesis, delegate_keys, account_keys


@dataclass
class Outcome:
    """What one seed did."""

    seed: int
    mix: str = ""
    trace: str = ""
    events: int = 0
    virtual_ms: int = 0
    height: int = 0
    vertices: int = 0
    payments: int = 0
    settled_ms: int | None = None
    """From the end of the load until the DAGs were equal."""
    violations: list[str] = field(default_factory=list)


class Run:
    """One network from its start to its reckoning."""

    def __init__(self, seed: int, mix: Mix | None = None) -> None:
        self.rng = random.Random(seed)
        self.mix = mix or Mix.draw(self.rng)
        self.genesis, keys, self.payers = network(self.mix.delegates)
        hosts: list[tuple[bytes, bytes | None]] = [(key, key) for key in keys]
        hosts += [(secret(f"observer {i}"), None) for i in range(self.mix.observers)]
        if self.mix.twin:
            hosts[-1] = (hosts[-1][0], keys[0])
        self.world = World(self.genesis, hosts, seed, replace(self.mix.faults))
        self.ledger = Ledger()
        self.loaded = True
        self.wiped = False
        self.settled_ms: int | None = None
        self.liar = self.world.hosts[-2] if self.mix.hostile else None

    @property
    def honest(self) -> list[Host]:
        """All hosts but the hostile one."""
        return [host for host in self.world.hosts if host is not self.liar]

    def some_host(self) -> Host | None:
        """An honest node that is up, while there is load."""
        up = [host for host in self.honest if host.node is not None]
        return self.rng.choice(up) if up and self.loaded else None

    def go(self) -> Outcome:
        """Load and faults, then peace, then the reckoning."""
        world, mix, start = self.world, self.mix, self.genesis.time_ms
        self._start_hosts()
        self._start_load()
        self._plan_disasters(start + mix.fault_ms)
        world.run(start + mix.fault_ms)
        self._make_peace()
        world.run(start + mix.fault_ms + mix.load_ms)
        self.loaded = False
        self._watch(world.now_ms)
        world.run(start + mix.fault_ms + mix.load_ms + mix.quiet_ms + SETTLE_MS)
        return self._reckon()

    def _watch(self, since_ms: int) -> None:
        """Note when the DAGs were first equal after the load had ended."""
        nodes = [host.node for host in self.honest]
        if len({node and (len(node.dag), node.dag.sum) for node in nodes}) == 1:
            self.settled_ms = self.world.now_ms - since_ms
        else:
            self.world.after((LOOK_MS, LOOK_MS), lambda: self._watch(since_ms))

    # --- the acts

    def _start_hosts(self) -> None:
        world, mix = self.world, self.mix
        for host in world.hosts:
            host.skew_ms = self.rng.randint(-mix.skew_ms, mix.skew_ms)
        world.hosts[0].skew_ms += mix.far_ms
        world.hosts[1].lag_ms = mix.lag_ms
        if self.liar is not None:
            seed, only_lies = self.rng.getrandbits(64), mix.hostile == "liar"
            self.liar.rewriter = Hostile(self.genesis, seed, HOSTILE_PERCENT, only_lies)
        on_time = world.hosts[:-1] if mix.late_ms else world.hosts
        for host in on_time:
            world.start(host.index)
        if mix.late_ms:
            world.at(world.now_ms + mix.late_ms, lambda: self._restart(len(world.hosts) - 1))

    def _start_load(self) -> None:
        genesis_hash = next(self.world.alive()).node.chain.genesis_hash  # type: ignore[union-attr]
        for key in self.payers:
            self.world.after(PAY_MS, Payer(self, key).pay)
        for number in range(DEVICES):
            self.world.after(READ_MS, Device(self, genesis_hash, number).read)
        if self.mix.wrong:
            self.world.after(WRONG_MS, Mischief(self, self.payers[0]).send)

    def _plan_disasters(self, until_ms: int) -> None:
        at = self.world.now_ms + self.rng.randint(*self.mix.every_ms)
        strikes: dict[str, Callable[[], None]] = {
            "crash": self._crash,
            "disk": self._disk,
            "wipe": self._wipe,
            "partition": self._partition,
            "one_way": lambda: self._partition(one_way=True),
            "break_link": self._break_link,
            "clock": self._set_clock,
        }
        while self.mix.disasters and at < until_ms:
            self.world.at(at, strikes[self.rng.choice(self.mix.disasters)])
            at += self.rng.randint(*self.mix.every_ms)

    def _make_peace(self) -> None:
        world = self.world
        world.faults = Faults()
        world.heal()
        world.hosts[0].skew_ms -= self.mix.far_ms
        world.hosts[1].lag_ms = 0
        for host in world.hosts:
            host.disk.failing = False
            self._restart(host.index)

    # --- disasters

    def _up(self) -> Host | None:
        up = list(self.world.alive())
        return self.rng.choice(up) if up else None

    def _crash(self) -> None:
        if (host := self._up()) is not None:
            self._take_down(host, self.mix.down_ms)

    def _wipe(self) -> None:
        """At most one disk is lost: somebody must still have what it alone had acknowledged."""
        host = self._up()
        if host is not None and not self.wiped:
            self.wiped = True
            self.ledger.wiped(host.index)
            self._take_down(host, WIPED_DOWN_MS, wipe=True)

    def _take_down(self, host: Host, span: tuple[int, int], wipe: bool = False) -> None:
        self.world.crash(host.index, wipe)
        self.world.after(span, lambda: self._restart(host.index))

    def _disk(self) -> None:
        """The next write fails; the process ends with it and is started again."""
        if (host := self._up()) is not None:
            host.disk.failing = True
            self.world.after(self.mix.down_ms, lambda: self._restart(host.index))

    def _restart(self, index: int) -> None:
        if self.world.hosts[index].node is None:
            self.world.start(index)

    def _partition(self, one_way: bool = False) -> None:
        count = len(self.world.hosts)
        group = set(self.rng.sample(range(count), self.rng.randrange(1, count)))
        self.world.partition(group, one_way)
        self.world.after(CUT_MS, self.world.heal)

    def _break_link(self) -> None:
        if self.world.links:
            self.world.disconnect(self.rng.choice(sorted(self.world.links)), "reset")

    def _set_clock(self) -> None:
        """A clock jumps, and some time later back."""
        host, jump = self.rng.choice(self.world.hosts), self.rng.randint(*JUMP_MS)

        def jump_back() -> None:
            host.skew_ms -= jump

        host.skew_ms += jump
        self.world.after(WRONG_CLOCK_MS, jump_back)

    # --- the reckoning

    def _reckon(self) -> Outcome:
        world = self.world
        signers = {host.proposer: None for host in self.honest if host.proposer}
        if self.mix.twin:
            del signers[world.hosts[0].proposer]
        node = self.honest[0].node
        assert node is not None
        broken = list(violations(world, self.ledger, self.honest, signers))
        if self.settled_ms is not None and self.settled_ms > self.mix.settle_ms:
            broken.append(f"the DAGs were equal only after {self.settled_ms} ms")
        return Outcome(
            seed=0,
            mix=str(self.mix),
            trace=world.trace,
            events=world.events,
            virtual_ms=world.now_ms - self.genesis.time_ms,
            height=node.chain.head.height,
            vertices=len(node.dag),
            payments=len(self.ledger.payments),
            settled_ms=self.settled_ms,
            violations=broken,
        )


def run_seed(seed: int, mix: Mix | None = None) -> Outcome:
    """The outcome of one seed, the same in every process; a bug met on the way is a violation."""
    run = Run(seed, mix)
    try:
        outcome = run.go()
    except Exception:
        outcome = Outcome(0, str(run.mix), run.world.trace, run.world.events)
        outcome.violations.append(traceback.format_exc())
    outcome.seed = seed
    return outcome
