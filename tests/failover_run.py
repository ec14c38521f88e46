"""``make failover KILLS=n``: two hot nodes on one remote signer, either killed again and again.

A network of real processes on this machine. One delegate has its key in ``dipnetd signer``, and two
nodes that ask it; the other delegates, if any, are ordinary nodes. A fail-over is a ``kill -9`` of
one of the two at a random time and its start a little later. What must hold in the end:

* no two ballots that the signer gave a signature for are an offence, and no node knows of one;
* after every kill the delegate's next prevote is at most ``TAKEOVER_SLOTS_MAX`` slots away;
* the chain became final beyond the last kill.
"""

import argparse
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from random import Random

from dipnet import keys, networks
from dipnet.config import FILE_NAME, to_toml
from dipnet.consensus.schedule import slot_at
from dipnet.consensus.votes import Ballot, Kind, offence
from dipnet.genesis import Genesis
from dipnet.net import peer_id
from dipnet.networks import LOOPBACK
from tests.processes import Process, ask, running, until

TAKEOVER_SLOTS_MAX = 2
DOWN_S = (0.2, 2.0)
CALM_SLOTS = 3
"""Between the return of one node and the next kill."""

SIGNED = re.compile(
    r"(proposal|prevote|commit) epoch (\d+) slot (\d+) justify (\d+) block ([0-9a-f]{64}): signed"
)


@dataclass(frozen=True)
class Member:
    """One process of the network before it runs."""

    name: str
    directory: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"


@dataclass(frozen=True)
class Outcome:
    """What came of all fail-overs; ``takeovers`` in slots, one each."""

    signed: int
    offences: tuple[str, ...]
    takeovers: tuple[int, ...]
    final_height: int


class Network:
    """The directories of it: the signer's, ``hot0`` and ``hot1``, then the others'."""

    def __init__(self, root: Path, others: int, slot_ms: int) -> None:
        self.signer = root / "signer"
        names = ["hot0", "hot1", *(f"node{n}" for n in range(others))]
        secrets = {name: keys.new_secret() for name in names}
        delegates = {name: keys.new_secret() for name in ["hot", *names[2:]]}
        self.genesis = networks.dev_genesis(
            [networks.delegate(name, secret) for name, secret in delegates.items()],
            time.time_ns() // 1_000_000,
            slot_ms,
        )
        ports = networks.free_ports(2 * len(names))
        listens = dict(zip(names, ports[len(names) :], strict=True))
        self.members = [
            Member(name, root / name, port) for name, port in zip(names, ports, strict=False)
        ]
        networks.write_node(
            self.signer, self.genesis, keys.new_secret(), delegates["hot"], {}, keys.SCRYPT_N_TEST
        )
        for member in self.members:
            settings: dict[str, str | int | bool | list[str]] = {
                "listen": f"/ip4/{LOOPBACK}/tcp/{listens[member.name]}",
                "rpc_port": member.port,
                "local": True,
                "disk_refuse_bytes": 0,
                "disk_stop_bytes": 0,
                "bootstrap": [
                    f"/ip4/{LOOPBACK}/tcp/{listens[name]}/p2p/{peer_id(secrets[name])}"
                    for name in names
                    if name != member.name
                ],
            }
            if member.name.startswith("hot"):
                settings |= {"data": ".", "signer": str(self.signer / "signer.sock")}
                networks.write_genesis(member.directory, self.genesis)
                keys.write_key(member.directory / networks.NODE_KEY, secrets[member.name])
                networks.write_text(member.directory / FILE_NAME, to_toml(settings))
            else:
                networks.write_node(
                    member.directory, self.genesis, secrets[member.name], delegates[member.name],
                    settings, keys.SCRYPT_N_TEST,
                )  # fmt: skip

    def node(self, member: Member) -> Process:
        """Starts it; its log goes on from one life to the next."""
        life = len(list(member.directory.glob("life*.log")))
        config = str(member.directory / FILE_NAME)
        return Process(
            member.directory / f"life{life:04}.log", "dipnetd", "run", "--config", config
        )

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
    """What the signer gave a signature for, in order."""
    return [
        Ballot(Kind[kind.upper()], int(epoch), int(slot), bytes.fromhex(block), int(justify))
        for kind, epoch, slot, justify, block in SIGNED.findall(log)
    ]


def slot_now(genesis: Genesis) -> int:
    return slot_at(genesis, time.time_ns() // 1_000_000)


def _prevoted(signer: Process, slot: int) -> int | None:
    """The slot of the first prevote after ``slot`` that was signed."""
    slots = (b.slot for b in signed_ballots(signer.output()) if b.kind is Kind.PREVOTE)
    return next((one for one in slots if one > slot), None)


def _final(url: str) -> int:
    status = ask(url, "dpos_status")
    return int(status["finalized"]["height"]) if status else 0


def fail_over(root: Path, others: int, kills: int, slot_ms: int, seed: int) -> Outcome:
    """Runs the network through so many kills."""
    random = Random(seed)
    network = Network(root, others, slot_ms)
    takeovers: list[int] = []
    with ExitStack() as stack:
        signer = stack.enter_context(network.signer_running())
        lives = {member.name: network.node(member) for member in network.members}
        stack.callback(lambda: [one.stop() for one in lives.values()])
        for member in network.members:
            until(lambda url=member.url: _final(url) > 1, "final block", lives[member.name])
        for n in range(kills):
            member = network.members[random.randrange(2)]
            time.sleep(random.uniform(0, slot_ms / 1000))
            lives[member.name].kill()
            slot = slot_now(network.genesis)
            first = until(lambda after=slot: _prevoted(signer, after), "prevote")
            takeovers.append(first - slot)
            time.sleep(random.uniform(*DOWN_S))
            lives[member.name] = network.node(member)
            until(lambda url=member.url: ask(url, "eth_blockNumber"), "node", lives[member.name])
            calm = slot_now(network.genesis) + CALM_SLOTS
            until(lambda after=calm: _prevoted(signer, after), "calm prevote")
            if n % 10 == 9:
                print(f"{n + 1} fail-overs, take-over {max(takeovers)} slots at most", flush=True)
        height = int(ask(network.members[1].url, "eth_blockNumber"), 16)
        for member in network.members:
            until(lambda url=member.url: _final(url) > height, "final block", lives[member.name])
        evidence = [e for m in network.members for e in ask(m.url, "dpos_evidence")]
        ballots = signed_ballots(signer.output())
        final = _final(network.members[0].url)
    return Outcome(len(ballots), _offences(ballots, evidence), tuple(takeovers), final)


def _offences(ballots: list[Ballot], evidence: list[dict[str, str]]) -> tuple[str, ...]:
    known = [one["offence"] for one in evidence]
    return (*known, *filter(None, (offence(a, b) for a, b in combinations(ballots, 2))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument(
        "--others", type=int, default=3, help="ordinary delegates beside the hot one"
    )
    parser.add_argument("--slot-ms", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        told = fail_over(Path(name), given.others, given.kills, given.slot_ms, given.seed)
    late = sum(slots > TAKEOVER_SLOTS_MAX for slots in told.takeovers)
    counts = {n: told.takeovers.count(n) for n in sorted(set(told.takeovers))}
    print(f"{given.kills} fail-overs, {told.signed} signatures, final to block {told.final_height}")
    print(f"double signatures: {len(told.offences)} {' '.join(told.offences)}")
    print(f"take-over by slots: {counts}, {late} later than {TAKEOVER_SLOTS_MAX}")
    if told.offences or late:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
