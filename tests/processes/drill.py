"""The drill of a network that elects, loses and gets back its delegates, on real processes.

Each step acts on the network and then checks one sentence; the watcher checks what ``finalized``
means all the while (``drill_watch``). A step prints its observations, and raises where its sentence
does not hold.
"""

import statistics
import time
from collections.abc import Callable
from signal import SIGKILL, SIGTERM
from typing import Any

import httpx
import requests

from dipnet.primitives.codec import to_hex
from tests.processes.drill_accounts import ETHER, Account, shipped_abi
from tests.processes.drill_net import Network, Node
from tests.processes.drill_watch import Watcher

CANDIDATE_STAKE = 2_000 * ETHER
VOTER_STAKE = 1_000 * ETHER
AHEAD = 2
"""Votes of epoch e, and absence in it, take effect in epoch e + 2."""
YOUNG_SHARE = 4
"""An epoch is young in its first 1/YOUNG_SHARE."""
FLIGHT_SLOTS = 3
"""After so many slots no earlier message is on its way."""


class Drill:
    """A run. ``say`` takes a line for each observation."""

    def __init__(self, net: Network, watcher: Watcher, say: Callable[[str], None]) -> None:
        self.net = net
        self.watcher = watcher
        self.owner = {node.name: node.key for node in net.nodes}
        """The address of each node's delegate; genesis delegates are their keys'."""
        self.waiting: Node
        """The delegate that lost its seat to a candidate, and gets the next free seat."""
        self._begun = time.monotonic()
        self._say = say

    def say(self, text: str) -> None:
        self._say(f"{time.monotonic() - self._begun:7.1f} s  {text}")

    # --- reading and waiting

    def ask(self, method: str, *params: object) -> Any:
        """The answer of the first node that is up."""
        return self.net.up[0].ask(method, *params)

    def status(self) -> dict[str, Any]:
        return dict(self.ask("dpos_status"))

    def until(self, ready: Callable[[], Any], what: str, slots: int) -> Any:
        """The first true answer within so many slots; a fault of the watcher ends it, too."""
        limit_s = slots * self.net.slot_ms / 1000
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            assert not self.watcher.faults, self.watcher.faults[0]
            if answer := ready():
                return answer
            time.sleep(min(0.1, self.net.slot_ms / 4000))
        raise AssertionError(f"no {what} in {limit_s:.0f} s: {self.status()}")

    def slots_pass(self, count: int) -> None:
        last = self.status()["slot"] + count
        self.until(lambda: self.status()["slot"] > last, f"slot {last}", 2 * count + 10)

    def epoch(self, number: int) -> None:
        """Waits until blocks of an epoch are voted on by its own set."""
        slots = 5 * self.net.epoch_slots
        self.until(lambda: self.status()["votingEpoch"] >= number, f"epoch {number}", slots)

    def young_epoch(self) -> int:
        """Waits for the next epoch, unless this one has hardly begun; its number."""
        status = self.status()
        number = int(status["votingEpoch"])
        age = status["slot"] - status["border"]["slot"]
        if status["epoch"] != number or age * YOUNG_SHARE > self.net.epoch_slots:
            number += 1
            self.epoch(number)
        return number

    def set_of(self, *epoch: int) -> set[str]:
        """The nodes with a seat in the running epoch, or the next."""
        members = self.ask("dpos_schedule", *epoch)["members"]
        owners = {owner: name for name, owner in self.owner.items()}
        return {owners[bytes.fromhex(one[2:])] for one in members}

    def elected(self, epoch: int) -> set[str]:
        """The delegates that the present votes elect for an epoch, counted here."""
        found = self.ask("dpos_delegates")
        ranked = sorted(
            (one["jailedUntil"] > epoch, -int(one["votes"], 16), one["address"].lower())
            for one in found
        )
        owners = {to_hex(owner): name for name, owner in self.owner.items()}
        return {owners[one] for _, _, one in ranked[: self.net.genesis.parameters.delegates_active]}

    def blocks_of(self, node: Node, first: int) -> list[dict[str, Any]]:
        """The final blocks from a height on that a node's delegate made."""
        owner = to_hex(self.owner[node.name])
        last = int(self.ask("eth_getBlockByNumber", "finalized", False)["number"], 16)
        blocks = self.net.up[0].blocks(first, last)
        return [block for block in blocks if block["miner"] == owner]

    def turns(self, node: Node) -> list[int]:
        """The slots of the running epoch that are a node's turn."""
        shown = self.ask("dpos_schedule")
        owner = to_hex(self.owner[node.name])
        leaders = enumerate(shown["leaders"], shown["firstSlot"])
        return [slot for slot, leader in leaders if leader.lower() == owner]

    def all_final(self, height: int, what: str, slots: int) -> None:
        """Waits until every node that is up knows a block of a height to be final."""
        up = self.net.up
        self.until(lambda: min(self.watcher.finals(up)) >= height, what, slots)

    # --- the steps

    def begin(self) -> None:
        """All nodes are up, and blocks become final on each."""
        self.all_final(3, "final block on all nodes", 4 * self.net.epoch_slots)
        self.say(f"{len(self.net.nodes)} nodes: blocks become final on all")

    def calm(self) -> None:
        """Waits until no delegate is jailed; a node that was stopped or started late is."""

        def jailed() -> list[str]:
            epoch = self.status()["epoch"]  # until its term is over others may have its seat
            return [
                one["address"] for one in self.ask("dpos_delegates") if one["jailedUntil"] > epoch
            ]

        if jailed():
            self.say("waiting until nobody is jailed any more")
        slots = 12 * self.net.epoch_slots
        self.until(lambda: not jailed(), "epoch with nobody jailed", slots)

    def vote_in(self) -> None:
        """A candidate voted in produces from the right epoch, and one delegate makes room."""
        candidate = next(node for node in self.net.nodes if node.key not in self._genesis_keys())
        with requests.Session() as session:
            owner, voter = self._register(candidate, session)
            self.calm()
            voted = self.young_epoch()
            before = self.set_of()
            first = self.watcher.final + 1
            sent = [one.sends("vote", [owner.address]) for one in (owner, voter)]
            hashes = {to_hex(voter.receipt(one)["blockHash"]) for one in sent}
        epochs = {self.ask("eth_getBlockByHash", one, False)["epoch"] for one in hashes}
        self.say(f"web3.py staked, and voted for {candidate.name} in epoch {voted}")
        assert epochs == {voted}, f"epochs are too short: {epochs}"
        expected = self.elected(voted + AHEAD)
        assert candidate.name in expected
        self.epoch(voted + 1)
        assert self.set_of() == before
        assert self.set_of(voted + AHEAD) == expected
        self.epoch(voted + AHEAD)
        assert self.set_of() == expected
        turns = self.turns(candidate)
        self.epoch(voted + AHEAD + 1)
        made = self.blocks_of(candidate, first)
        seen = sorted({one["epoch"] for one in made})
        slots = [one["slot"] for one in made if one["epoch"] == voted + AHEAD]
        (gone,) = before - expected
        self.waiting = next(node for node in self.net.nodes if node.name == gone)
        self.say(
            f"{candidate.name} has the seat of {gone} from epoch {voted + AHEAD} on and made "
            f"{len(slots)} blocks in its {len(turns)} slots there; none before"
        )
        assert seen[0] == voted + AHEAD, seen
        assert set(slots) <= set(turns), (slots, turns)
        assert 2 * len(slots) >= len(turns), "most of its slots were missed"

    def _register(self, candidate: Node, session: requests.Session) -> tuple[Account, Account]:
        """Registers the candidate; its owner and its voter, which have staked and not yet voted."""
        abi, url = shipped_abi(), self.net.nodes[0].url
        owner, voter = (Account(url, session, self.net.accounts[n], abi) for n in (1, 2))
        self.owner[candidate.name] = owner.address
        sent = [
            owner.sends("stake", value=CANDIDATE_STAKE),
            voter.sends("stake", value=VOTER_STAKE),
            owner.registers("works", candidate.secret()),
        ]
        for one in sent:  # a vote for an account that is not registered is refused
            owner.receipt(one)
        return owner, voter

    def _genesis_keys(self) -> set[bytes]:
        return {one.address for one in self.net.genesis.delegates}

    def stop_one(self) -> None:
        """A delegate stopped for an epoch is replaced by the standby."""
        self.calm()
        absent = self.young_epoch()
        before = self.set_of()
        first = self.watcher.final + 1
        gone = next(node for node in self.net.nodes[1:] if node.name in before)
        gone.end(SIGTERM)
        self.say(f"{gone.name} is stopped in epoch {absent}")
        self.epoch(absent + 1)
        standing = self.ask("dpos_delegate", to_hex(self.owner[gone.name]))
        assert standing["jailed"], standing
        assert gone.name in self.set_of()  # for an epoch more: the set was known
        expected = (before - {gone.name}) | {self.waiting.name}
        assert self.set_of(absent + AHEAD) == expected, self.set_of(absent + AHEAD)
        gone.start()
        self.epoch(absent + AHEAD)
        assert self.set_of() == expected
        turns = self.turns(self.waiting)
        slots = 2 * self.net.epoch_slots
        made = self.until(
            lambda: self.blocks_of(self.waiting, first), "block of the standby", slots
        )
        self.say(
            f"{self.waiting.name}, the standby, has the seat of {gone.name} from epoch "
            f"{absent + AHEAD} on; its turns there are {turns}, its first block is of slot "
            f"{made[0]['slot']}"
        )
        assert made[0]["slot"] >= turns[0], "it produced before its epoch"
        self.until(gone.answers, f"answer of {gone.name}", 60)
        silent = gone.ask("dpos_status")["delegate"]["silent"]
        assert silent == "not in the set of this epoch", silent
        self.waiting = gone

    def victims(self, count: int) -> list[Node]:
        """So many members of the running set; never the first node, which is asked."""
        seated = self.set_of()
        found = [node for node in self.net.nodes[1:] if node.name in seated and not node.down]
        return found[-count:]

    def kill_two(self, slots: int) -> None:
        """Two of seven killed with -9: finality goes on."""
        self.calm()
        self.young_epoch()
        victims = self.victims((len(self.set_of()) - 1) // 3)
        for node in victims:
            node.end(SIGKILL)
        names = " and ".join(node.name for node in victims)
        at_s, height = time.time(), self.watcher.final
        self.slots_pass(slots)
        final = self.watcher.final
        pauses = self.watcher.pauses_ms(at_s, time.time())
        self.say(
            f"{names} killed: {final - height} blocks became final in {slots} slots; between two, "
            f"ms: median {statistics.median(pauses):.0f}, longest {max(pauses)}"
        )
        assert 2 * (final - height) >= slots
        self.back(victims, final)
        self.say(f"{names} are back and know what is final")

    def back(self, victims: list[Node], height: int) -> float:
        """Starts these; returns when each answers and knows ``height`` and more to be final.

        The time in seconds from the moment when all answered.
        """
        for node in victims:
            node.start()
        for node in victims:
            self.until(node.answers, f"answer of {node.name}", 120)
        at = time.monotonic()
        slots = 4 * len(self.net.nodes) + 60
        self.all_final(height + 1, f"final block above {height} on all", slots)
        return time.monotonic() - at

    def kill_three(self, slots: int) -> None:
        """Three killed: blocks go on, nothing is final, and it resumes after restart."""
        self.young_epoch()
        victims = self.victims((len(self.set_of()) - 1) // 3 + 1)
        for node in victims:
            node.end(SIGKILL)
        names = ", ".join(node.name for node in victims)
        self.slots_pass(FLIGHT_SLOTS)
        up = self.net.up
        finals = self.watcher.finals(up)
        height = self.status()["head"]["height"]
        self.slots_pass(slots)
        status = self.status()
        grown = status["head"]["height"] - height
        self.say(
            f"{names} killed: {grown} blocks in {slots} slots, final stays at {max(finals)} "
            f"on {len(up)} nodes; back-off step {status['backoffStep']}"
        )
        assert self.watcher.finals(up) == finals, (finals, self.watcher.finals(up))
        assert 3 * grown >= slots // status["backoffStep"]
        for node in up:
            ready = httpx.get(node.url + "/readyz")
            assert ready.status_code == 503, ready.text
            assert "finality" in ready.text
        took_s = self.back(victims, status["head"]["height"])
        self.say(
            f"{names} are back: {took_s * 1000 / self.net.slot_ms:.0f} slots after all answer, "
            f"every node knows block {self.watcher.final} to be final"
        )

    def end(self) -> None:
        """All nodes have the same chain, and no unexpected line in a log."""
        height = min(self.watcher.finals(self.net.nodes))
        chains = [[block["hash"] for block in node.blocks(0, height)] for node in self.net.nodes]
        assert all(chain == chains[0] for chain in chains), "the nodes' final chains differ"
        noise = [f"{node.name}: {line}" for node in self.net.nodes for line in node.noise()]
        assert not noise, "\n".join(noise[:20])
        answers, proven = self.watcher.told_in_all()
        self.say(
            f"{height} final blocks, the same on all nodes; of {answers} answers about finalized, "
            f"safe and latest none was wrong; {proven} certificates verified"
        )
        for node in self.net.nodes:
            self.say(
                f"{node.name:11} {node.rss_bytes() >> 20:4} MiB, {node.cpu_s():6.1f} s of "
                f"processor, {node.disk_bytes() >> 10:6} KiB of records, "
                f"{node.log_bytes() >> 10:4} KiB of logs"
            )
