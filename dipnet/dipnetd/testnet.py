"""A network of several processes on this machine: its files and its supervisor.

``write`` makes DIR/node1 ... and DIR/net.json, which has the addresses, ports and paths of all
nodes. ``Supervisor`` runs the processes, prints a line for each block that a node takes, reports
the end of a process, and ends them all on SIGINT or SIGTERM. The nodes are ordinary: each can be
run by hand from its directory.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dipnet.daemon.networks import (
    DELEGATE_KEYSTORE,
    DEV_EPOCH_SLOTS,
    DEV_SLOT_MS,
    LOOPBACK,
    NodePlan,
    delegate,
    dev_genesis,
    free_ports,
    write_node,
)
from dipnet.host.config import FILE_NAME
from dipnet.ledger.genesis import Genesis
from dipnet.primitives import jsontext
from dipnet.primitives.crypto import checksum
from dipnet.primitives.errors import Invalid
from dipnet.sdk import keys
from dipnet.sdk.client import Client
from dipnet.transport.net import peer_id

NET_NAME: Final = "net.json"
LOG_NAME: Final = "dipnetd.log"
NODES_MAX: Final = 32
START_MS: Final = 2_000
START_CPU_MS: Final = 1_500
"""Time until a process answers, and its share of processor time, on a slow machine."""
NET_BYTES_MAX: Final = 1 << 20
_NET: Final = jsontext.JsonBounds(NET_BYTES_MAX)
RESTART_S: Final = 3.0
STOP_S: Final = 10.0
ANSWER_S: Final = 5.0
BLOCKS_SHOWN_MAX: Final = 20  # of the blocks that a node catches up with at once


@dataclass(frozen=True, slots=True)
class Layout:
    """The size of a network: ``delegates`` nodes have seats from the first block on; ``candidates``
    further nodes have a key that is not registered yet."""

    delegates: int
    candidates: int = 0
    slot_ms: int = DEV_SLOT_MS
    epoch_slots: int = DEV_EPOCH_SLOTS

    @property
    def names(self) -> list[str]:
        """The names of the nodes, delegates first."""
        return [f"node{n + 1}" for n in range(self.delegates)] + [
            f"candidate{n + 1}" for n in range(self.candidates)
        ]


def lead_ms(nodes: int) -> int:
    """Milliseconds until ``nodes`` processes have started.

    In a chain that begins earlier all delegates miss most of their slots of the first epoch.
    """
    return START_MS + START_CPU_MS * nodes // (os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class TestnetNode:
    """A node of a written network, from net.json."""

    name: str
    rpc: str
    config: Path

    @property
    def command(self) -> str:
        """The command that runs the node by hand."""
        return f"dipnetd run --config {self.config}"


# --- writing


def write(out: Path, layout: Layout, time_ms: int) -> None:
    """Writes the directories of a new network and its net.json.

    The first slot begins at Unix time ``time_ms``. Raises ``Invalid("config")`` for a wrong size
    and when ``out`` is not empty.
    """
    names = layout.names
    if layout.delegates < 1 or layout.candidates < 0 or len(names) > NODES_MAX:
        raise Invalid("config", f"delegates and candidates: 1 to {NODES_MAX}, not {len(names)}")
    if out.exists() and any(out.iterdir()):
        raise Invalid("config", f"{out} is not empty; choose another --out")
    ports = free_ports(2 * len(names))
    plans = [
        NodePlan(
            name=name,
            directory=out / name,
            rpc_port=ports[2 * n],
            listen_port=ports[2 * n + 1],
            node_secret=keys.new_secret(),
            delegate_secret=keys.new_secret(),
        )
        for n, name in enumerate(names)
    ]
    members = [delegate(plan.name, plan.delegate_secret) for plan in plans[: layout.delegates]]
    genesis = dev_genesis(members, time_ms, layout.slot_ms, layout.epoch_slots)
    addresses = [
        f"/ip4/{LOOPBACK}/tcp/{plan.listen_port}/p2p/{peer_id(plan.node_secret)}" for plan in plans
    ]
    for plan in plans:
        settings: dict[str, str | int | bool | list[str]] = {
            "listen": f"/ip4/{LOOPBACK}/tcp/{plan.listen_port}",
            "rpc_host": LOOPBACK,
            "rpc_port": plan.rpc_port,
            "local": True,
            "bootstrap": [a for other, a in zip(plans, addresses, strict=True) if other != plan],
        }
        write_node(
            plan.directory,
            genesis,
            plan.node_secret,
            plan.delegate_secret,
            settings,
            scrypt_n=keys.SCRYPT_N_TEST,
        )
    _save(out, _described(genesis, plans, addresses))


def _described(genesis: Genesis, plans: list[NodePlan], addresses: list[str]) -> dict[str, Any]:
    seated = {member.address for member in genesis.delegates}
    return {
        "chainId": genesis.chain_id,
        "slotMs": genesis.parameters.slot_ms,
        "epochSlots": genesis.parameters.epoch_slots,
        "accounts": [
            {"address": checksum(keys.address_of(secret)), "privateKey": "0x" + secret.hex()}
            for secret in keys.DEV_SECRETS
        ],
        "nodes": [
            {
                "name": plan.name,
                "rpc": f"http://{LOOPBACK}:{plan.rpc_port}",
                "p2p": address,
                "delegate": checksum(keys.address_of(plan.delegate_secret)),
                "seated": keys.address_of(plan.delegate_secret) in seated,
                "keystore": str((plan.directory / DELEGATE_KEYSTORE).resolve()),
                "data": str(plan.directory.resolve()),
                "config": str((plan.directory / FILE_NAME).resolve()),
                "pid": None,
            }
            for plan, address in zip(plans, addresses, strict=True)
        ],
    }


def read(out: Path) -> dict[str, Any]:
    """The content of net.json; ``Invalid("config")``."""
    path = out / NET_NAME
    try:
        with path.open("rb") as file:
            net = jsontext.load(file.read(NET_BYTES_MAX + 1), _NET)
        for node in net["nodes"]:
            Client(node["rpc"], float(net["slotMs"]))
            Path(node["config"])
        return dict(net)
    except OSError as error:
        raise Invalid("config", f"cannot read {path}: {error.strerror}") from None
    except (KeyError, TypeError, ValueError):
        raise Invalid("config", f"{path} describes no network; choose another --out") from None


def exists(out: Path) -> bool:
    """Whether ``out`` has a network."""
    return (out / NET_NAME).is_file()


def _save(out: Path, net: dict[str, Any]) -> None:
    """Replaces net.json as a whole: programs read it while nodes start and end."""
    fresh = out / (NET_NAME + ".new")
    fresh.write_text(json.dumps(net, indent=2) + "\n")
    os.replace(fresh, out / NET_NAME)


# --- running


class Supervisor:
    """The processes of a network. ``say`` prints a line and is called from several threads."""

    def __init__(self, out: Path, say: Callable[[str], None], *, restart: bool = False) -> None:
        self._out = out
        self._say = say
        self._restart = restart
        self._net = read(out)
        self._nodes = [
            TestnetNode(node["name"], node["rpc"], Path(node["config"]))
            for node in self._net["nodes"]
        ]
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._due: dict[str, float] = {}
        self._stop = threading.Event()

    def run(self) -> None:
        """Runs all nodes until SIGINT or SIGTERM. Call it in the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._stop.set())
        watchers = [
            threading.Thread(target=self._watch, args=(node,), daemon=True) for node in self._nodes
        ]
        try:
            for node in self._nodes:
                self._start(node)
            self._record()
            for watcher in watchers:
                watcher.start()
            while not self._stop.wait(0.2):
                self._look_after()
        finally:
            self._end()

    def _start(self, node: TestnetNode) -> None:
        with (node.config.parent / LOG_NAME).open("ab") as log:
            self._children[node.name] = subprocess.Popen(
                [sys.executable, "-m", "dipnet.dipnetd.main", "run", "--config", str(node.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which ends them
            )
        self._say(f"{node.name}: pid {self._children[node.name].pid}, {node.rpc}")

    def _look_after(self) -> None:
        """Reports processes that ended, and restarts those that are due."""
        for node in self._nodes:
            child = self._children.get(node.name)
            if child is not None and child.poll() is not None:
                del self._children[node.name]
                self._record()
                self._say(
                    f"{node.name}: ended with {child.returncode}, see "
                    f"{node.config.parent / LOG_NAME}; start it again with: {node.command}"
                )
                if self._restart:
                    self._due[node.name] = time.monotonic() + RESTART_S
            if node.name in self._due and self._due[node.name] <= time.monotonic():
                del self._due[node.name]
                self._start(node)
                self._record()

    def _record(self) -> None:
        for node in self._net["nodes"]:
            child = self._children.get(node["name"])
            node["pid"] = child.pid if child else None
        _save(self._out, self._net)

    def _end(self) -> None:
        """Sends SIGTERM to all processes, and SIGKILL to those that do not end in time."""
        self._stop.set()
        for child in self._children.values():
            child.terminate()
        until = time.monotonic() + STOP_S
        for name, child in self._children.items():
            try:
                child.wait(max(until - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                self._say(f"{name}: does not end, killed")
                child.kill()
                child.wait()
        self._children.clear()
        self._record()

    # --- a thread for each node shows its blocks

    def _watch(self, node: TestnetNode) -> None:
        client = Client(node.rpc, timeout_s=ANSWER_S)
        pause_s = min(self._net["slotMs"] / 4000, 1.0)
        shown, answered = "", True
        while not self._stop.wait(pause_s):
            try:
                shown = self._show_new(node, client, shown)
                if not answered:
                    self._say(f"{node.name}: answers")
                answered = True
            except Invalid as error:
                if answered and shown:
                    self._say(f"{node.name}: {error}")
                    answered = False

    def _show_new(self, node: TestnetNode, client: Client, shown: str) -> str:
        """Prints a line for each block above the block ``shown``; returns the hash of the head."""
        status = client.call("dipnet_status")
        head, peers = status["head"], len(status["peers"])
        lines: list[str] = []
        at = head["hash"]
        while at != shown and len(lines) < (BLOCKS_SHOWN_MAX if shown else 1):
            block = client.call("eth_getBlockByHash", at, False)
            if block is None or block["number"] == "0x0":
                break
            lines.append(
                f"{node.name}: block {int(block['number'], 16)} {at[2:10]} "
                f"txs {len(block['transactions'])} by {block['miner'][2:10]} peers {peers}"
            )
            at = block["parentHash"]
        for line in reversed(lines):
            self._say(line)
        return str(head["hash"])
