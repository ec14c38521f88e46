"""A network of real processes on loopback: directories, settings, lives and logs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dipnet.daemon import networks
from dipnet.daemon.networks import LOOPBACK
from dipnet.host.config import FILE_NAME, to_toml
from dipnet.ledger.genesis import Genesis
from dipnet.sdk import keys
from dipnet.transport.net import peer_id
from tests.fixtures.processes import Process, ask

Settings = dict[str, str | int | bool | list[str]]


@dataclass(frozen=True)
class Member:
    """A process of a network, before and while it runs."""

    name: str
    directory: Path
    rpc_port: int
    listen_port: int
    identity: bytes

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.rpc_port}"

    @property
    def address(self) -> str:
        return f"/ip4/{LOOPBACK}/tcp/{self.listen_port}/p2p/{peer_id(self.identity)}"

    def start(self, program: str = "dipnetd") -> Process:
        """``PROGRAM run`` on its directory; each life has a log of its own."""
        life = len(list(self.directory.glob("life*.log")))
        config = str(self.directory / FILE_NAME)
        return Process(self.directory / f"life{life:04}.log", program, "run", "--config", config)

    def is_final_above(self, field: str, value: int) -> bool:
        """Whether its newest final block has a larger ``field`` (height or slot)."""
        return int(self.final()[field]) > value

    def final(self) -> dict[str, Any]:
        """The newest final block that it knows: height, hash, slot."""
        status = ask(self.url, "dpos_status")
        return dict(status["finalized"]) if status else {"height": 0, "slot": 0}


def members(root: Path, names: Sequence[str]) -> list[Member]:
    """A member of each name in a directory of its own."""
    ports = networks.free_ports(2 * len(names))
    return [
        Member(name, root / name, ports[2 * at], ports[2 * at + 1], keys.new_secret())
        for at, name in enumerate(names)
    ]


def settings(member: Member, everybody: Sequence[Member], **more: str) -> Settings:
    """Its dipnet.toml: it dials all others."""
    return {
        "listen": f"/ip4/{LOOPBACK}/tcp/{member.listen_port}",
        "rpc_port": member.rpc_port,
        "local": True,
        "disk_refuse_bytes": 0,
        "disk_stop_bytes": 0,
        "bootstrap": [one.address for one in everybody if one != member],
        **more,
    }


def write_delegate(
    member: Member, everybody: Sequence[Member], genesis: Genesis, secret: bytes
) -> None:
    """The directory of a delegate that has its key."""
    networks.write_node(
        member.directory, genesis, member.identity, secret, settings(member, everybody),
        keys.SCRYPT_N_TEST,
    )  # fmt: skip


def write_keyless(
    member: Member, everybody: Sequence[Member], genesis: Genesis, **more: str
) -> None:
    """The directory of a node without a key: an observer, or one that asks a ``signer``."""
    networks.write_genesis(member.directory, genesis)
    keys.write_key(member.directory / networks.NODE_KEY, member.identity)
    text = to_toml(settings(member, everybody, data=".", **more))
    networks.write_text(member.directory / FILE_NAME, text)
