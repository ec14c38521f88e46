"""Swarm: each seed draws its own mix of hosts, link faults, clocks, disasters and liars."""

import random
from dataclasses import dataclass, field

from tests.sim import Faults

SKEW_MS = 200
FAR_MS = 30_000
DISASTERS = ("crash", "disk", "wipe", "partition", "one_way", "break_link", "clock")


@dataclass(frozen=True)
class Mix:
    """What happens to one network. Times in virtual ms, chances in percent."""

    delegates: int = 4
    observers: int = 0
    """Hosts that follow and propose nothing."""
    faults: Faults = field(default_factory=Faults)
    disasters: tuple[str, ...] = ()
    """Of ``DISASTERS``, those that strike this network."""
    every_ms: tuple[int, int] = (500, 12_000)
    """Between two of them."""
    down_ms: tuple[int, int] = (10, 8_000)
    """From a crash to the restart."""
    skew_ms: int = 0
    """Every clock is wrong by at most this."""
    far_ms: int = 0
    """The clock of host 0 is wrong by this until the peace."""
    lag_ms: int = 0
    """Each message from and to host 1 takes longer by this until the peace."""
    late_ms: int = 0
    """The last host is started for the first time this long after the others."""
    hostile: str = ""
    """"" or what the host before the last is: "liar" or "vandal"."""
    twin: bool = False
    """The last host, an observer, also signs with the key of delegate 0."""
    doubled: int = 0
    """A client hands the same item to two nodes."""
    wrong: bool = False
    """Clients also send what must be refused."""
    fault_ms: int = 40_000
    load_ms: int = 15_000
    """How long the load goes on in peace."""
    quiet_ms: int = 40_000
    """How long the network then has for itself: longer than any pause of a peer or a dial."""

    settle_ms: int = 15_000
    """The DAGs are equal so soon after faults and load have ended."""

    @property
    def hosts(self) -> int:
        return self.delegates + self.observers

    @classmethod
    def draw(cls, rng: random.Random) -> "Mix":
        """The mix of a seed."""
        delegates = rng.choice((3, 4, 4, 4, 5))
        observers = rng.choice((0, 0, 1)) if delegates < 5 else 0
        low = rng.randrange(1, 40)
        return cls(
            delegates=delegates,
            observers=observers,
            faults=Faults(
                loss=rng.choice((0, 0, 2, 10, 25)),
                duplicate=rng.choice((0, 5, 30)),
                delay_ms=(low, low + rng.randrange(1, 200)),
                slow=rng.choice((0, 1, 5)),
                slow_ms=rng.randrange(500, 5000),
            ),
            disasters=tuple(sorted(rng.sample(DISASTERS, rng.choice((0, 1, 2, 3, 7))))),
            skew_ms=rng.choice((0, 50, SKEW_MS)),
            far_ms=rng.choice((0, 0, 0, FAR_MS, -FAR_MS)),
            lag_ms=rng.choice((0, 0, 0, 300, 2_000)),
            late_ms=rng.choice((0, 0, rng.randrange(5_000, 35_000))),
            hostile=rng.choice(("", "", "liar", "vandal")) if delegates > 3 else "",
            twin=bool(observers) and rng.randrange(3) == 0,
            doubled=rng.choice((0, 10, 50)),
            wrong=rng.randrange(2) == 0,
            load_ms=rng.choice((0, 15_000)),
        )
