"""``make soak MINUTES=n``: seven real nodes under load, of which up to two are killed all the time.

A seed draws the nodes that are killed with -9, and when; the first two nodes never are, so that
growth of their memory would show. Throughout, the watcher of the drill checks what ``finalized``
means. In the end every node has every acknowledged payment and vertex, and no log an unexpected
line.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from signal import SIGKILL

from dipnet.sdk.client import Client
from tests.processes.drill import Drill
from tests.processes.drill_net import BATCH, Node, network, pace_ms
from tests.processes.drill_watch import Watcher
from tests.processes.soak_load import Device, Payer, Source

SAFE_NODES = 2
UP_S = (5.0, 20.0)
DOWN_S = (1.0, 12.0)
REPORT_S = 30.0
BACK_SLOTS = 90
WARM_S = 180.0
"""Memory is compared with its size after this time: caches are full."""
GROWTH_MAX = 1.25
LOG_BYTES_PER_BLOCK_MAX = 400
SLOT_MS = 1_000


class Soak:
    """A run."""

    def __init__(self, drill: Drill, random: Random) -> None:
        self.drill = drill
        self.nodes = drill.net.nodes
        self.random = random
        self.kills = 0
        self.back_s: list[float] = []
        self.warm: dict[str, int] = {}
        genesis, accounts = drill.net.genesis, drill.net.accounts
        paying = zip(self.nodes, accounts, strict=False)
        self.payers = [Payer(node, genesis, 2.0, secret) for node, secret in paying]
        self.devices = [Device(node, genesis, 2.0, random) for node in self.nodes]
        self.sources: list[Source] = [*self.payers, *self.devices]

    def run(self, minutes: float) -> None:
        """Kills and restarts for so many minutes under load, then checks the network."""
        for source in self.sources:
            source.start()
        begun = reported = time.monotonic()
        while time.monotonic() < begun + 60 * minutes:
            self.round()
            if time.monotonic() > reported + REPORT_S:
                reported = time.monotonic()
                self.report()
            if not self.warm and time.monotonic() > begun + WARM_S:
                self.warm = {node.name: node.rss_bytes() for node in self.nodes[:SAFE_NODES]}
        for source in self.sources:
            source.finish()
        self.check_taken()
        self.check_growth()
        self.drill.end()

    def round(self) -> None:
        """One or two deaths, and the return of these nodes to the head of the others."""
        time.sleep(self.random.uniform(*UP_S))
        victims = self.random.sample(self.nodes[SAFE_NODES:], self.random.choice((1, 1, 2)))
        before = self.drill.watcher.final
        for node in victims:
            node.end(SIGKILL)
            self.kills += 1
            time.sleep(self.random.uniform(0, 2))
        self.drill.slots_pass(int(self.random.uniform(*DOWN_S)))
        after = self.drill.watcher.final
        for node in victims:
            node.start()
        for node in victims:
            self.drill.until(node.answers, f"answer of {node.name}", BACK_SLOTS)
        begun, now = time.monotonic(), self.drill.watcher.final
        names = " and ".join(node.name for node in victims)
        assert now > before, f"nothing became final while {names} was dead: {before}, {after}"
        self.drill.all_final(now + 1, f"final block above {now} on all", BACK_SLOTS)
        self.back_s.append(time.monotonic() - begun)

    def report(self) -> None:
        heights = self.drill.watcher.finals(self.nodes)
        lag = self.drill.status()["finalityLagSlots"]
        self.drill.say(
            f"{self.kills:3} kills; final {max(heights)}, {lag} slots ago; "
            f"{self.count(self.payers)} payments, {self.count(self.devices)} vertices; MiB "
            + " ".join(f"{node.rss_bytes() >> 20}" for node in self.nodes)
            + "; records KiB "
            + " ".join(f"{node.disk_bytes() >> 10}" for node in self.nodes)
        )

    @staticmethod
    def count(sources: "list[Payer] | list[Device]") -> int:
        return sum(len(source.taken) for source in sources)

    def check_taken(self) -> None:
        """Every acknowledged item is on every node."""
        count = self.count(self.devices)

        def equal() -> bool:
            counts = {node.ask("dipnet_status")["dag"]["vertices"] for node in self.nodes}
            return len(counts) == 1 and max(counts) >= count

        self.drill.until(equal, f"{count} vertices on all nodes", BACK_SLOTS)
        self.drill.slots_pass(5)
        height = self.drill.status()["head"]["height"]
        self.drill.all_final(height, "final block after the last payment", BACK_SLOTS)
        for node in self.nodes:
            for device in self.devices:
                told = self.asked(node, "dag_status", device.taken)
                assert set(told) <= {"accepted"}, (node.name, set(told))
            for payer in self.payers:
                receipts = self.asked(node, "eth_getTransactionReceipt", payer.taken)
                assert all(receipts), (node.name, receipts.count(None))
        refused = [line for source in self.sources for line in source.refused]
        self.drill.say(
            f"{self.kills} kills; {self.count(self.payers)} payments and {count} vertices are on "
            f"every node; {len(refused)} refused {refused[:3]}; after a restart final again on all "
            f"in {max(self.back_s):.1f} s at most"
        )

    @staticmethod
    def asked(node: Node, method: str, ids: list[str]) -> "list[object]":
        """The node's answer for each of these."""
        answers: list[object] = []
        with Client(node.url) as client:
            for at in range(0, len(ids), BATCH):
                answers += client.batch([(method, (one,)) for one in ids[at : at + BATCH]])
        return answers

    def check_growth(self) -> None:
        """Neither memory nor logs grow beyond what the chain explains."""
        for node in self.nodes[:SAFE_NODES]:
            warm, now = self.warm.get(node.name, node.rss_bytes()), node.rss_bytes()
            self.drill.say(f"{node.name}: {warm >> 20} MiB when warm, {now >> 20} MiB now")
            assert now <= warm * GROWTH_MAX, f"{node.name} grows"
        height = self.drill.watcher.final
        for node in self.nodes:
            assert node.log_bytes() <= 100_000 + height * LOG_BYTES_PER_BLOCK_MAX, node.name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a new directory for the network; it stays")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dipnet-soak-") as name:
        out = given.keep or Path(name) / "net"
        slot_ms = pace_ms(SLOT_MS)
        pace = (f"--slot-ms={slot_ms}", "--epoch-slots=30")
        print(f"slots of {slot_ms} ms", flush=True)
        with network(out, "--delegates=7", *pace) as net, Watcher(net) as watcher:
            drill = Drill(net, watcher, lambda line: print(line, flush=True))
            soak = Soak(drill, Random(given.seed))
            try:
                drill.begin()
                soak.run(given.minutes)
            except AssertionError as failure:
                print(f"FAILED: {failure}", flush=True)
                for fault in watcher.faults[:20]:
                    print(f"watcher: {fault}")
                sys.exit(1)
    print("all of it holds")


if __name__ == "__main__":
    main()
