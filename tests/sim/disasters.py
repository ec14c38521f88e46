"""The disasters of a network while faults last: crashes, disks, cuts, clocks, slow times."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from dipnet.consensus.chain.schedule import slot_at
from dipnet.signing.votefile import silenced
from tests.sim.final import Watch
from tests.sim.load import Ledger
from tests.sim.mix import Mix
from tests.sim.signer import Signer
from tests.sim.world import Host, World

WIPED_DOWN_MS = (2_000, 8_000)
CUT_MS = (1_000, 12_000)
JUMP_MS = (-4_000, 4_000)
WRONG_CLOCK_MS = (500, 10_000)
CRAWL_MS = (4_000, 15_000)  # how long messages take several slots
CRAWL_SLOTS = (1, 4)
QUORUM_MS = (5_000, 25_000)  # how long too many delegates are down
AHEAD_MS = 2_000  # a block may be so far ahead of a clock, and votes on it with it
LOOK_MS = (500, 500)  # how often an operator looks whether a key may sign again


class Disasters:
    """The disasters of a run; at most one disk is lost."""

    def __init__(
        self, world: World, rng: random.Random, mix: Mix, ledger: Ledger, watch: Watch
    ) -> None:
        self._world = world
        self._rng = rng
        self._mix = mix
        self._ledger = ledger
        self._watch = watch
        self.arrived_ms = 0
        """When the last message that crawls has arrived, at the latest."""
        self._wiped = False
        self._peace = False
        self._jumped: dict[int, int] = {}  # host -> how far its clock has jumped
        self.struck: Counter[str] = Counter()
        self.recovered = 0
        """Keys whose memory was lost and that sign again."""

    def plan(self, until_ms: int) -> None:
        """Strike now and then until then."""
        world, mix, rng = self._world, self._mix, self._rng
        at = world.now_ms + rng.randint(*mix.every_ms)
        strikes: dict[str, Callable[[], None]] = {
            "crash": self._crash,
            "disk": self._disk,
            "wipe": self._wipe,
            "amnesia": lambda: self._wipe(lose_votes=True),
            "partition": self._partition,
            "one_way": lambda: self._partition(one_way=True),
            "break_link": self._break_link,
            "clock": self._set_clock,
            "quorum": self._quorum,
            "crawl": self._crawl,
        }
        while mix.disasters and at < until_ms:
            name = rng.choice(mix.disasters)
            self.struck[name] += 1
            world.at(at, strikes[name])
            at += rng.randint(*mix.every_ms)

    def end(self) -> None:
        """Nothing strikes any more, and everything that is down comes back."""
        self._peace = True
        crawl_ms = max(CRAWL_SLOTS) * self._world.genesis.parameters.slot_ms
        self.arrived_ms = min(self.arrived_ms, self._world.now_ms + crawl_ms)
        for host in self._world.hosts:
            host.skew_ms -= self._jumped.get(host.index, 0)
            host.disk.failing = False
            self.restart(host.index)

    def restart(self, index: int) -> None:
        """Start the host unless it is up."""
        host = self._world.hosts[index]
        if host.node is None:
            self._world.start(index)
            if host.signer is not None and host.signer.lost:
                self._world.after(LOOK_MS, lambda: self._recover(host))

    # --- hosts and disks

    def _up(self) -> Host | None:
        up = list(self._world.alive())
        return self._rng.choice(up) if up else None

    def _crash(self) -> None:
        if (host := self._up()) is not None:
            self._take_down(host, self._mix.down_ms)

    def _wipe(self, lose_votes: bool = False) -> None:
        """At most one disk is lost: another host must still have the acknowledged items."""
        host = self._up()
        if host is None or self._wiped or (lose_votes and not _may_forget(host)):
            return
        if self._knows_alone(host):
            return
        self._wiped = True
        self._ledger.wiped(host.index)
        self._watch.wiped(host)
        if lose_votes and host.signer is not None:
            host.signer.lost_slot = self._slot_of(host)
        self._take_down(host, WIPED_DOWN_MS, wipe=True, lose_votes=lose_votes)

    def _knows_alone(self, host: Host) -> bool:
        """Whether a certificate is lost with this disk: a delegate that is locked on it votes no
        more, and where another delegate lies that is a fault too many."""
        ranks = [
            other.node.chain.certificates.rank
            for other in self._world.hosts
            if other.node is not None and other is not host
        ]
        return host.running.chain.certificates.rank > max(ranks, default=(0, 0))

    def _slot_of(self, host: Host) -> int:
        """The highest slot for which the host can have signed anything by now."""
        world = self._world
        return slot_at(world.genesis.parameters, world.now_ms + max(0, host.skew_ms) + AHEAD_MS)

    def _recover(self, host: Host) -> None:
        """The recovery of docs/operating.md for a delegate whose vote file is lost.

        It waits until a block is final that is later than any ballot that the key can have signed:
        then no vote of an epoch after that block's can have been cast with it.
        """
        signer, node = host.signer, host.node
        assert signer is not None
        if not signer.lost or node is None:
            return
        final = node.chain.final
        if final.slot <= signer.lost_slot:
            self._world.after(LOOK_MS, self._world.in_life(host, lambda: self._recover(host)))
            return
        signer.recover(silenced(node.chain.epoch_at(final).number, signer.lost_slot))
        self.recovered += 1
        self._world.crash(host.index)
        self._world.start(host.index)

    def _take_down(
        self, host: Host, span: tuple[int, int], wipe: bool = False, lose_votes: bool = False
    ) -> None:
        self._world.crash(host.index, wipe, lose_votes)
        self._world.after(span, lambda: self.restart(host.index))

    def _disk(self) -> None:
        """The next write fails; the process ends with it and is started again."""
        if (host := self._up()) is not None:
            host.disk.failing = True
            self._world.after(self._mix.down_ms, lambda: self.restart(host.index))

    def _quorum(self) -> None:
        """More delegates are down than may be: blocks go on, nothing is final."""
        delegates = [host for host in self._world.alive() if host.signer is not None]
        count = (len(delegates) + 2) // 3 + self._rng.randrange(2)
        for host in self._rng.sample(delegates, min(count, len(delegates))):
            self._take_down(host, QUORUM_MS)

    # --- links and clocks

    def _partition(self, one_way: bool = False) -> None:
        count = len(self._world.hosts)
        group = set(self._rng.sample(range(count), self._rng.randrange(1, count)))
        self._world.partition(group, one_way)
        self._world.after(CUT_MS, self._world.heal)

    def _break_link(self) -> None:
        if self._world.links:
            self._world.disconnect(self._rng.choice(sorted(self._world.links)), "reset")

    def _crawl(self) -> None:
        """Every message takes slots, in no order."""
        world, usual = self._world, self._mix.faults
        slots = self._rng.randint(*CRAWL_SLOTS)
        late_ms = slots * world.genesis.parameters.slot_ms
        world.faults = replace(usual, delay_ms=(late_ms // 2, late_ms))
        self.arrived_ms = world.now_ms + CRAWL_MS[1] + late_ms

        def over() -> None:
            if not self._peace:
                world.faults = usual
                self.arrived_ms = world.now_ms + late_ms

        world.after(CRAWL_MS, over)

    def _set_clock(self) -> None:
        """A clock jumps, and some time later back."""
        host, ms = self._rng.choice(self._world.hosts), self._rng.randint(*JUMP_MS)
        self._jump(host, ms)

        def back() -> None:
            if not self._peace:
                self._jump(host, -ms)

        self._world.after(WRONG_CLOCK_MS, back)

    def _jump(self, host: Host, ms: int) -> None:
        host.skew_ms += ms
        self._jumped[host.index] = self._jumped.get(host.index, 0) + ms


def _may_forget(host: Host) -> bool:
    """Only an honest key of its own has a file to lose."""
    return type(host.signer) is Signer
