"""Swarm: each seed draws its own mix of hosts, faults, clocks, disasters, liars and changes."""

import random
from dataclasses import dataclass, field

from tests.sim.byzantine import VICES
from tests.sim.wires import Faults, Span

SKEW_SHARE = 5  # of a slot: a node whose clock is off by more than half a slot is idle
FAR_MS = 30_000
DISASTERS = (
    "crash", "disk", "wipe", "amnesia", "partition", "one_way", "break_link", "clock", "quorum",
    "crawl",
)  # fmt: skip
CHANGES = {"shuffle": 2, "replace": 4, "register": 1}  # and how many candidates they need
SMALL = 6  # larger networks cost more: they have long slots and a light load
VICES_MAX = 4  # of a hostile delegate
PACES = (*3 * ((2_000, 1_500),), *2 * ((1_000, 600),), (300, 250))  # light to heavy
FAULTS_MS = (12_000, 20_000, 30_000)


@dataclass(frozen=True)
class Mix:
    """The load and the faults of a network. Times in virtual ms, chances in percent."""

    delegates: int = 4
    """Seats; so many hosts hold a delegate's key from genesis on."""
    candidates: int = 0
    """Hosts whose delegates have no seat in the first epochs."""
    observers: int = 0
    """Hosts that follow and propose nothing."""
    slot_ms: int = 1_000
    epoch_slots: int = 10
    backoff_slots: int = 8
    faults: Faults = field(default_factory=Faults)
    disasters: tuple[str, ...] = ()
    """Of ``DISASTERS``, those that strike this network."""
    every_ms: Span = (500, 12_000)
    """Between two of them."""
    down_ms: Span = (10, 8_000)
    """From a crash to the restart."""
    skew_ms: int = 0
    """Every clock is wrong by at most this."""
    far_ms: int = 0
    """The clock of host 0 is wrong by this until the peace."""
    lag_ms: int = 0
    """Each message from and to host 1 takes longer by this until the peace."""
    late_ms: int = 0
    """The last host is started for the first time this long after the others."""
    vices: tuple[tuple[str, ...], ...] = ()
    """Of each hostile delegate: they are the last of the first delegates."""
    hostile: str = ""
    """The conduct as a peer of the last hostile delegate, or of the last observer where there is
    no hostile delegate: "" honest, "liar" or "vandal"."""
    double: str = ""
    """The use that the last host, an observer, makes of the key of delegate 0: "" none, "shared"
    asks the same signer, "twin" signs with a memory of its own: a hostile delegate."""
    changes: str = ""
    """The votes of voters: "" none, "shuffle" all seats, "replace" the delegates by the candidates,
    or vote for a candidate that has to "register" first."""
    pay_ms: int = 1_000
    """Between two payments of an account, on average."""
    read_ms: int = 600
    """Between two readings of a device, on average."""
    doubled: int = 0
    """A client hands the same item to two nodes."""
    wrong: bool = False
    """Clients also send items that must be refused."""
    fault_ms: int = 30_000
    load_ms: int = 5_000
    """How long the load goes on in peace."""
    quiet_ms: int = 40_000
    """How long the network has for itself at most: longer than any pause of a peer or a dial."""
    settle_ms: int = 35_000
    """The DAGs are equal so soon after faults and load have ended."""

    @property
    def hosts(self) -> int:
        return self.delegates + self.candidates + self.observers

    @property
    def faulty(self) -> int:
        """Delegates that may break the rules, or have forgotten what they signed."""
        return len(self.vices) + (self.double == "twin") + ("amnesia" in self.disasters)

    @classmethod
    def draw(cls, rng: random.Random) -> "Mix":
        """The mix of a seed."""
        delegates = rng.choice((4, 4, 4, 4, 5, 7))
        observers = rng.choice((0, 0, 1)) if delegates < 7 else 0
        disasters = set(rng.sample(DISASTERS, rng.choice((0, 1, 2, 3, len(DISASTERS)))))
        faulty = (delegates - 1) // 3
        double = rng.choice(("", "shared", "twin")) if observers else ""
        faulty -= double == "twin"
        if not faulty or rng.randrange(2):
            disasters.discard("amnesia")
        faulty -= "amnesia" in disasters
        hostile = [rng.sample(VICES, rng.randint(1, VICES_MAX)) for _ in range(faulty)]
        vices = tuple(tuple(sorted(each)) for each in hostile) if rng.randrange(3) else ()
        changes = rng.choice(("", "", *CHANGES)) if delegates == 4 else ""
        low = rng.randrange(1, 40)
        large = delegates + CHANGES.get(changes, 0) > SMALL
        pay_ms, read_ms = PACES[0] if large else rng.choice(PACES)
        slot_ms = 1_000 if large else rng.choice((500, 1_000))
        return cls(
            delegates=delegates,
            candidates=CHANGES.get(changes, 0),
            observers=observers,
            slot_ms=slot_ms,
            faults=Faults(
                loss=rng.choice((0, 0, 2, 10, 25)),
                duplicate=rng.choice((0, 5, 30)),
                delay_ms=(low, low + rng.randrange(1, 200)),
                slow=rng.choice((0, 1, 5)),
                slow_ms=rng.randrange(500, 5000),
            ),
            disasters=tuple(sorted(disasters)),
            skew_ms=rng.choice((0, 50, slot_ms // SKEW_SHARE)),
            far_ms=rng.choice((0, 0, 0, FAR_MS, -FAR_MS, slot_ms // 2, -slot_ms // 2)),
            lag_ms=rng.choice((0, 0, 0, 300, 2_000)),
            late_ms=rng.choice((0, 0, rng.randrange(5_000, 25_000))),
            vices=vices,
            hostile=rng.choice(("", "liar", "vandal"))
            if vices or (observers and not double)
            else "",
            double=double,
            changes=changes,
            pay_ms=pay_ms,
            read_ms=read_ms,
            doubled=rng.choice((0, 10, 50)),
            wrong=rng.randrange(2) == 0,
            fault_ms=rng.choice(FAULTS_MS),
            load_ms=rng.choice((0, 5_000)),
        )
