"""A seed of the simulator: a network under load and faults, healed, then held to its promises."""

import random
import traceback
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from dipnet.consensus.chain.schedule import slot_at
from dipnet.consensus.finality.finality import backoff_step, system_only, voting_epoch
from dipnet.consensus.finality.header import HASH_ZERO
from dipnet.consensus.finality.tally import Offence
from dipnet.ledger.genesis import Genesis
from dipnet.primitives import crypto
from tests.sim.byzantine import VICES, Byzantine
from tests.sim.checks import LIVE_SLOTS, violations
from tests.sim.disasters import Disasters
from tests.sim.final import Watch, unanswered_ms
from tests.sim.hostile import Hostile
from tests.sim.load import WRONG_MS, Device, Ledger, Mischief, Payer, secret
from tests.sim.mix import DISASTERS, Mix
from tests.sim.signer import Deaf, Shared
from tests.sim.voters import ELECTORS, Elector, Registrar, Reporters, elector_key
from tests.sim.wires import Faults
from tests.sim.world import Host, World

OWNER = secret("owner of a key")
BALANCE = 10**24
STAKE = 10**22
ACCOUNTS, DEVICES = 3, 3
HOSTILE_PERCENT = 30
LOOK_MS = 250  # how often it is looked whether the network has settled
SETTLE_MS = 700  # the reckoning is this long after a slot began: its block has arrived
CLASSES = (
    "blocks", "final blocks", "boundaries", "hand-over blocks", "sets changed",
    "sets of nobody of the first", "blocks in back-off", "blocks without payments",
    "reorganisations", "restarts", "ballots of honest keys", "ballots that a signer refused",
    "keys that forgot and came back", "keys with two nodes", "keys with two memories",
    "peers that lie", "peers that vandalise", "hosts that start late", "clocks far off",
    "proofs of E0", "proofs of E1", "proofs of E2", "proofs of E3", "delegates punished",
    *(f"acts of {vice}" for vice in VICES), *(f"strikes of {name}" for name in DISASTERS),
)  # fmt: skip
"""The kinds of events that ``Outcome.happened`` counts: a long run must have each of them."""


def network(
    delegates: int, candidates: int = 0, unknown: bool = False, **fields: int
) -> tuple[Genesis, list[bytes], list[bytes]]:
    """Genesis, the delegates' secrets, the funded accounts' secrets; ``fields`` override.

    The first ``delegates`` have the seats, the candidates behind them a wei less of stake, or are
    ``unknown`` to genesis.
    """
    delegate_keys = [secret(f"delegate {i}") for i in range(delegates + candidates)]
    account_keys = [secret(f"account {i}") for i in range(ACCOUNTS)]
    funded = [*account_keys, *delegate_keys, *map(elector_key, range(ELECTORS)), OWNER]
    public = [crypto.public_key(key) for key in delegate_keys]
    usual: dict[str, Any] = {
        "chain_id": 2018,
        "time_ms": 1_700_000_000_000,
        "slot_ms": 1_000,
        "epoch_slots": 10,
        "backoff_slots": 8,
        "delegates_active": delegates,
        "delegates_standby": candidates,
        "undo_blocks_max": 64,
        "overlays_max": 8,
        "jail_epochs": 1,
        "vote_expiry_epochs": 1_000,
    }
    usual |= {
        "delegates": [
            {
                "name": f"d{i}",
                "address": crypto.checksum(crypto.address(k)),
                "public_key": k,
                "stake": STAKE - (i >= delegates),
            }
            for i, k in enumerate(public)
            if i < delegates or not unknown
        ],
        "balances": {
            crypto.checksum(crypto.address(crypto.public_key(k))): BALANCE for k in funded
        },
    }
    return Genesis.checked(usual | fields), delegate_keys, account_keys


@dataclass
class Outcome:
    """The outcome of a seed."""

    seed: int
    mix: str = ""
    trace: str = ""
    events: int = 0
    virtual_ms: int = 0
    height: int = 0
    final: int = 0
    epochs: int = 0
    vertices: int = 0
    payments: int = 0
    settled_ms: int | None = None
    """From the end of the load until the DAGs were equal."""
    resumed_slots: int | None = None
    """From the peace until a block was final on every honest node that was made after it."""
    bound_slots: int = 0
    """How long that may take."""
    latencies_ms: list[int] = field(default_factory=list)
    """Of finality in peace: from the start of a slot to each honest node's knowing it final."""
    happened: dict[str, int] = field(default_factory=dict)
    """How often each kind of ``CLASSES`` happened."""
    violations: list[str] = field(default_factory=list)


class Run:
    """A network from its start to its checks."""

    def __init__(self, seed: int, mix: Mix | None = None) -> None:
        self.rng = random.Random(seed)
        self.mix = mix = mix or Mix.draw(self.rng)
        self.genesis, keys, self.payers = network(
            mix.delegates, mix.candidates, mix.changes == "register", slot_ms=mix.slot_ms,
            epoch_slots=mix.epoch_slots, backoff_slots=mix.backoff_slots,
        )  # fmt: skip
        hosts: list[tuple[bytes, bytes | None]] = [(key, key) for key in keys]
        hosts += [(secret(f"observer {i}"), None) for i in range(mix.observers)]
        if mix.double:
            hosts[-1] = (hosts[-1][0], keys[0])
        self.world = World(self.genesis, hosts, seed, replace(mix.faults))
        self.byzantine = self.world.hosts[mix.delegates - len(mix.vices) : mix.delegates]
        self.liar = self._liar() if mix.hostile else None
        self.ledger = Ledger()
        self.watch = Watch(self.world, self.honest)
        self.reporters = Reporters(self.world)
        self.disasters = Disasters(self.world, self.rng, mix, self.ledger, self.watch)
        self.villains: list[Byzantine] = []
        self.loaded = True
        self.settled_ms: int | None = None
        self.resumed_ms: int | None = None
        self.healed_ms = 0
        """When no fault is left: neither slow frames nor lost disks."""

    def _liar(self) -> Host:
        return self.byzantine[-1] if self.byzantine else self.world.hosts[-1]

    @property
    def honest(self) -> list[Host]:
        """All hosts that are not hostile."""
        hostile = [*self.byzantine, self.liar]
        return [host for host in self.world.hosts if host not in hostile]

    @property
    def signers(self) -> dict[bytes, None]:
        """The addresses of the keys that must never make an offence."""
        honest = {h.signer.address: None for h in self.honest if h.signer}
        if self.mix.double == "twin":
            del honest[self.world.hosts[0].proposer or b""]
        return honest

    def some_host(self) -> Host | None:
        """An honest node that is up, while there is load."""
        up = [host for host in self.honest if host.node is not None]
        return self.rng.choice(up) if up and self.loaded else None

    def go(self) -> Outcome:
        """Load and faults, then peace, then the reckoning."""
        world, mix, start = self.world, self.mix, self.genesis.time_ms
        self._start_hosts()
        self._start_load()
        self.disasters.plan(start + mix.fault_ms)
        world.run(start + mix.fault_ms)
        peace_ms = world.now_ms
        lost_ms, bound = unanswered_ms(self.honest), self._bound_slots()
        self._make_peace()
        self.healed_ms = max(peace_ms + lost_ms, self.disasters.arrived_ms)
        self._watch_finality(slot_at(self.genesis.parameters, peace_ms))
        world.run(peace_ms + mix.load_ms)
        self.loaded = False
        self._watch_dags(world.now_ms)
        self._rest(peace_ms + mix.load_ms + mix.quiet_ms)
        return self._reckon(peace_ms, bound)

    # --- the acts

    def _start_hosts(self) -> None:
        world, mix = self.world, self.mix
        world.watch = self.watch.look
        world.on_publish = self.watch.published
        world.on_report = self._report
        for host, vices in zip(self.byzantine, mix.vices, strict=True):
            self.villains.append(Byzantine(world, host, vices, self.rng.getrandbits(64)))
        key = world.hosts[0].signer
        assert key is not None
        if mix.double == "twin":
            for host in (world.hosts[0], world.hosts[-1]):
                host.signer = Deaf(world, key.secret, self.genesis.chain_id, world.ballots)
        if mix.double == "shared":
            shared = Shared(world, key.secret, self.genesis.chain_id, world.ballots)
            world.hosts[0].signer = world.hosts[-1].signer = shared
        for host in world.hosts:
            host.skew_ms = self.rng.randint(-mix.skew_ms, mix.skew_ms)
        world.hosts[0].skew_ms += mix.far_ms
        world.hosts[1].lag_ms = mix.lag_ms
        if self.liar is not None:
            seed, only_lies = self.rng.getrandbits(64), mix.hostile == "liar"
            liar = Hostile(self.genesis, self.liar, seed, HOSTILE_PERCENT, only_lies)
            self.liar.rewriters.append(liar)
        on_time = world.hosts[:-1] if mix.late_ms else world.hosts
        for host in on_time:
            world.start(host.index)
        if mix.late_ms:
            last = len(world.hosts) - 1
            world.at(world.now_ms + mix.late_ms, lambda: self.disasters.restart(last))

    def _start_load(self) -> None:
        genesis_hash = next(self.world.alive()).running.chain.genesis_hash
        for key in self.payers:
            payer = Payer(self, key)
            self.world.after(payer.pause_ms, payer.pay)
        for number in range(DEVICES):
            device = Device(self, genesis_hash, number)
            self.world.after(device.pause_ms, device.read)
        if self.mix.wrong:
            self.world.after(WRONG_MS, Mischief(self, self.payers[0]).send)
        self._start_voters()

    def _start_voters(self) -> None:
        """The voters that change the sets, as the mix says."""
        mix, hosts = self.mix, self.world.hosts
        keys = [host.proposer or b"" for host in hosts[: mix.delegates + mix.candidates]]
        late = keys[mix.delegates :]
        if mix.changes == "register":
            late = [crypto.address(crypto.public_key(OWNER))]
            key = hosts[mix.delegates].signer
            assert key is not None
            Registrar(self, OWNER, key.secret)
        for number in range(ELECTORS if mix.changes else 0):
            these = [*keys[: mix.delegates], *late] if mix.changes == "shuffle" else late
            Elector(self, number, these, always=mix.changes != "shuffle")

    def _report(self, host: Host, offence: Offence) -> None:
        """A report by the offender's accomplice may be none."""
        if host in self.honest:
            self.reporters.report(host, offence)

    def _make_peace(self) -> None:
        world = self.world
        world.faults = Faults()
        world.heal()
        world.hosts[0].skew_ms -= self.mix.far_ms
        world.hosts[1].lag_ms = 0
        self.disasters.end()

    def _bound_slots(self) -> int:
        """How soon finality is to resume: within 2n x step slots."""
        now = slot_at(self.genesis.parameters, self.world.now_ms)
        unfinal = now - self.watch.lowest()
        step = backoff_step(unfinal, self.genesis.parameters.backoff_slots)
        return 2 * self.mix.delegates * step

    def _watch_finality(self, slot: int) -> None:
        """Note when every honest node has a final block of the peace."""
        if self.watch.lowest() > slot:
            self.resumed_ms = self.world.now_ms
        else:
            self.world.after((LOOK_MS, LOOK_MS), lambda: self._watch_finality(slot))

    def _watch_dags(self, since_ms: int) -> None:
        """Note when the DAGs were first equal after the load had ended."""
        nodes = [host.node for host in self.honest]
        if len({node and (len(node.dag), node.dag.sum) for node in nodes}) == 1:
            self.settled_ms = self.world.now_ms - since_ms
        else:
            self.world.after((LOOK_MS, LOOK_MS), lambda: self._watch_dags(since_ms))

    def _rest(self, until_ms: int) -> None:
        """Until the network has settled, then so long that its liveness can be seen."""
        world, slot_ms = self.world, self.genesis.parameters.slot_ms
        while world.now_ms < until_ms and None in (self.settled_ms, self.resumed_ms):
            world.run(world.now_ms + LOOK_MS)
        end_slot = slot_at(self.genesis.parameters, world.now_ms) + LIVE_SLOTS + 1
        world.run(self.genesis.time_ms + end_slot * slot_ms + SETTLE_MS * slot_ms // 1_000)

    # --- the reckoning

    def _reckon(self, peace_ms: int, bound: int) -> Outcome:
        world, mix = self.world, self.mix
        node = self.honest[0].running
        broken = self.watch.violations + list(
            violations(
                world,
                self.ledger,
                self.honest,
                self.signers,
                self.reporters.known,
                slot_at(self.genesis.parameters, peace_ms),
                bool(mix.vices),
            )
        )
        if self.settled_ms is None or self.settled_ms > mix.settle_ms:
            broken.append(f"the DAGs were equal only after {self.settled_ms} ms")
        resumed = None
        if self.resumed_ms is not None:
            resumed = max(0, self.resumed_ms - self.healed_ms) // self.genesis.parameters.slot_ms
        if resumed is None or resumed > bound:
            broken.append(f"finality resumed after {resumed} slots, {bound} are allowed")
        return Outcome(
            seed=0,
            mix=str(mix),
            trace=world.trace,
            events=world.events,
            virtual_ms=world.now_ms - self.genesis.time_ms,
            height=node.chain.head.height,
            final=node.chain.final.height,
            epochs=node.chain.epoch.number,
            vertices=len(node.dag),
            payments=len(self.ledger.payments),
            settled_ms=self.settled_ms,
            resumed_slots=resumed,
            bound_slots=bound,
            latencies_ms=sorted(self.watch.latencies_ms(self.resumed_ms or 0, world.now_ms)),
            happened=self._happened(),
            violations=broken,
        )

    def _happened(self) -> dict[str, int]:
        """How often each kind of ``CLASSES`` happened."""
        mix, hosts = self.mix, self.world.hosts
        signers = {host.signer for host in hosts if host.signer is not None}
        counts = Counter(self.watch.seen) + self._chain_counts()
        counts += Counter({f"strikes of {name}": n for name, n in self.disasters.struck.items()})
        for villain in self.villains:
            counts += Counter({f"acts of {name}": n for name, n in villain.lived.items()})
        counts += Counter(f"proofs of {one.name}" for one in self.reporters.known.values())
        counts += Counter({
            "restarts": sum(host.life - 1 for host in hosts if host.life),
            "ballots of honest keys": self._ballots(list(self.signers)),
            "ballots that a signer refused": sum(signer.refused for signer in signers),
            "keys that forgot and came back": self.disasters.recovered,
            "peers that lie": mix.hostile == "liar",
            "peers that vandalise": mix.hostile == "vandal",
            "keys with two nodes": mix.double == "shared",
            "keys with two memories": mix.double == "twin",
            "hosts that start late": mix.late_ms > 0,
            "clocks far off": mix.far_ms != 0,
        })  # fmt: skip
        return dict.fromkeys(CLASSES, 0) | counts

    def _chain_counts(self) -> "Counter[str]":
        """The kinds of events on the chain of an honest node."""
        node, genesis = self.honest[0].running, self.genesis
        chain, view = node.chain, node.view
        headers = [chain.need(view.block_hash_at(h)) for h in range(1, chain.head.height + 1)]
        boundaries = [header for header in headers if header.next_set_hash != HASH_ZERO]
        sets = [chain.epoch_at(header).members for header in boundaries]
        behind = [header.slot - header.final[1] for header in headers]
        return Counter({
            "blocks": len(headers),
            "final blocks": chain.final.height,
            "boundaries": len(boundaries),
            "hand-over blocks": sum(
                voting_epoch(chain.epoch_of(one).boundary, one.final[1]) < one.epoch
                for one in headers
            ),
            "sets changed": sum(one != other for one, other in pairwise(sets)),
            "sets of nobody of the first": sum(
                {*one.addresses}.isdisjoint(sets[0].addresses) for one in sets
            ),
            "blocks in back-off": sum(
                backoff_step(slots, genesis.parameters.backoff_slots) > 1 for slots in behind
            ),
            "blocks without payments": sum(
                system_only(slots, genesis.parameters.backoff_slots) for slots in behind
            ),
            "delegates punished": sum(
                chain.is_tombstoned(one) for one in self.world.ballots.signed
            ),
        })  # fmt: skip

    def _ballots(self, signers: list[bytes]) -> int:
        return sum(len(self.world.ballots.signed.get(one, ())) for one in signers)


def run_seed(seed: int, mix: Mix | None = None) -> Outcome:
    """The outcome of a seed, the same in every process; an exception is a violation."""
    run = Run(seed, mix)
    try:
        outcome = run.go()
    except Exception:
        outcome = Outcome(0, str(run.mix), run.world.trace, run.world.events)
        outcome.violations.append(traceback.format_exc())
    outcome.seed = seed
    return outcome
