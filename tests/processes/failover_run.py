"""``make failover KILLS=n``: two hot nodes on one remote signer, either killed again and again.

A network of real processes on this machine. One delegate has its key in ``dipnetd signer``, and two
nodes that ask it; the other delegates are ordinary nodes, and an observer writes down every ballot
that it hears (``wire_witness.py``). A fail-over is a ``kill -9`` of one of the two at a random time
and its start a little later. What must hold in the end:

* no two ballots of the delegate, signed or heard on the wire, are an offence; no node knows of one;
* after every kill the delegate's next prevote on the wire is at most ``TAKEOVER_SLOTS_MAX`` away;
* the chain became final beyond the last kill.
"""

import argparse
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from dipnet.consensus.chain.schedule import slot_at
from dipnet.consensus.finality.votes import Ballot, BallotKind
from dipnet.daemon import networks
from dipnet.ledger.genesis import Genesis
from dipnet.sdk import keys
from tests.fixtures.processes import Process, ask, running, until
from tests.processes import real_network
from tests.processes.wire_witness import LINES_NAME, Heard, offences

TAKEOVER_SLOTS_MAX = 2
DOWN_S = (0.2, 2.0)
CALM_SLOTS = 3
"""Between the return of one node and the next kill."""

SIGNED = re.compile(
    r"(proposal|prevote|commit) epoch (\d+) slot (\d+) justify (\d+) block ([0-9a-f]{64}): signed"
)


@dataclass(frozen=True)
class Outcome:
    """The outcome of all fail-overs; ``takeovers`` in slots, for each."""

    signed: int
    heard: int
    offences: tuple[str, ...]
    takeovers: tuple[int, ...]
    final_height: int


class Network:
    """The directories of it: the signer's, ``hot0``, ``hot1``, the witness's, the others'."""

    def __init__(self, root: Path, others: int, slot_ms: int) -> None:
        self.signer = root / "signer"
        ordinary = [f"node{n}" for n in range(others)]
        self.members = real_network.members(root, ["hot0", "hot1", "witness", *ordinary])
        delegates = {name: keys.new_secret() for name in ["hot", *ordinary]}
        self.account = keys.address_of(delegates["hot"])
        self.genesis = networks.dev_genesis(
            [networks.delegate(name, secret) for name, secret in delegates.items()],
            time.time_ns() // 1_000_000,
            slot_ms,
        )
        networks.write_node(
            self.signer, self.genesis, keys.new_secret(), delegates["hot"], {}, keys.SCRYPT_N_TEST
        )
        for member in self.members:
            if member.name in delegates:
                secret = delegates[member.name]
                real_network.write_delegate(member, self.members, self.genesis, secret)
            else:
                hot = member.name.startswith("hot")
                more = {"signer": str(self.signer / "signer.sock")} if hot else {}
                real_network.write_keyless(member, self.members, self.genesis, **more)
        self.lives: dict[str, Process] = {}
        self._witness = Heard(self.members[2].directory / LINES_NAME)

    def start(self, name: str) -> None:
        (member,) = (one for one in self.members if one.name == name)
        program = "tests.processes.wire_witness" if name == "witness" else "dipnetd"
        self.lives[name] = member.start(program)

    def stop(self) -> None:
        for life in self.lives.values():
            life.stop()

    def heard(self) -> list[Ballot]:
        """The delegate's ballots on the wire so far."""
        return self._witness.by(self.account)

    def prevoted(self, after: int) -> int | None:
        """The slot of the delegate's first prevote on the wire beyond a slot."""
        slots = [one.slot for one in self.heard() if one.kind is BallotKind.PREVOTE]
        return min((slot for slot in slots if slot > after), default=None)

    @contextmanager
    def signer_running(self) -> Iterator[Process]:
        at = self.signer
        arguments = {
            "keystore": at / networks.DELEGATE_KEYSTORE,
            "password": at / networks.DELEGATE_PASSWORD,
            "genesis": at / networks.GENESIS_NAME,
            "socket": at / "signer.sock",
            "log": "debug",
        }
        flags = [f"--{name}={value}" for name, value in arguments.items()]
        with running(at / "signer.log", "dipnetd", "signer", *flags) as process:
            process.says("signs for")
            yield process


def signed_ballots(log: str) -> list[Ballot]:
    """The ballots that the signer signed, in order."""
    return [
        Ballot(BallotKind[kind.upper()], int(epoch), int(slot), bytes.fromhex(block), int(justify))
        for kind, epoch, slot, justify, block in SIGNED.findall(log)
    ]


def slot_now(genesis: Genesis) -> int:
    return slot_at(genesis.parameters, time.time_ns() // 1_000_000)


def one_kill(network: Network, random: Random, slot_ms: int) -> int:
    """Kills one of the two; how many slots later the other voted. Both run again in the end."""
    member = network.members[random.randrange(2)]
    time.sleep(random.uniform(0, slot_ms / 1000))
    network.lives[member.name].kill()
    slot = slot_now(network.genesis)
    first: int = until(lambda: network.prevoted(slot), "prevote")
    time.sleep(random.uniform(*DOWN_S))
    network.start(member.name)
    back = slot_now(network.genesis)
    until(lambda: member.final()["slot"] > back, "node", network.lives[member.name])  # hot again
    calm = slot_now(network.genesis) + CALM_SLOTS
    until(lambda: network.prevoted(calm), "calm prevote")
    return first - slot


def fail_over(root: Path, others: int, kills: int, slot_ms: int, seed: int) -> Outcome:
    """Runs the network through so many kills."""
    random = Random(seed)
    network = Network(root, others, slot_ms)
    takeovers: list[int] = []
    with ExitStack() as stack:
        signer = stack.enter_context(network.signer_running())
        stack.callback(network.stop)
        for member in network.members:
            network.start(member.name)
        for member in network.members:
            life = network.lives[member.name]
            until(partial(member.is_final_above, "height", 1), "final block", life)
        for n in range(kills):
            takeovers.append(one_kill(network, random, slot_ms))
            most = max(takeovers)
            print(f"fail-over {n + 1}: {takeovers[-1]} slots, at most {most}", flush=True)
        height = int(ask(network.members[1].url, "eth_blockNumber"), 16)
        for member in network.members:
            life = network.lives[member.name]
            until(partial(member.is_final_above, "height", height), "final block", life)
        known = [e["offence"] for m in network.members for e in ask(m.url, "dpos_evidence")]
        final = network.members[0].final()["height"]
    signed, wire = signed_ballots(signer.output()), network.heard()
    known += offences(list({*signed, *wire}))
    return Outcome(len(set(signed)), len(wire), tuple(known), tuple(takeovers), final)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument(
        "--others", type=int, default=3, help="ordinary delegates beside the hot one"
    )
    parser.add_argument("--slot-ms", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        told = fail_over(Path(name), given.others, given.kills, given.slot_ms, given.seed)
    late = sum(slots > TAKEOVER_SLOTS_MAX for slots in told.takeovers)
    counts = {n: told.takeovers.count(n) for n in sorted(set(told.takeovers))}
    print(
        f"{given.kills} fail-overs, {told.signed} signatures, {told.heard} ballots heard, "
        f"final to block {told.final_height}"
    )
    print(f"double signatures: {len(told.offences)} {' '.join(told.offences)}")
    most = max(told.takeovers)
    print(f"take-over in slots: {counts}, at most {most}, {late} over {TAKEOVER_SLOTS_MAX}")
    print(f"{time.monotonic() - began:.0f} s")
    if told.offences or late:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
