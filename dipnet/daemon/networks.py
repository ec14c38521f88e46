"""The files of a new network or node: genesis.json, keys, dipnet.toml.

Rules that bind this file: no file is overwritten; secrets have mode 0600; paths in a dipnet.toml
are relative to it, so that a directory can be moved; a vote state is made with the delegate's key.
"""

import random
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from dipnet.host.config import FILE_NAME, to_toml
from dipnet.ledger.genesis import GENESIS_BYTES_MAX, Delegate, Genesis
from dipnet.primitives.crypto import public_key
from dipnet.primitives.errors import Invalid
from dipnet.sdk import keys
from dipnet.signing import votefile

LOOPBACK: Final = "127.0.0.1"
PORTS: Final = range(20_000, 32_768)
"""Below the ports that Linux gives to connections and to listeners on port 0."""
DEV_CHAIN_ID: Final = 2018
DEV_SLOT_MS: Final = 1_000
DEV_EPOCH_SLOTS: Final = 30
DEV_STANDBY: Final = 5
DEV_JAIL_EPOCHS: Final = 2
"""Short: on a machine that slept, or started late, all delegates have missed their slots."""
DEV_BALANCE_WEI: Final = 10_000 * 10**18
DELEGATE_STAKE_WEI: Final = 1_000 * 10**18
GENESIS_NAME: Final = "genesis.json"
NODE_KEY: Final = "node.key"
DELEGATE_KEYSTORE: Final = "delegate.json"
DELEGATE_PASSWORD: Final = "delegate.password"
DELEGATE_VOTES: Final = "delegate.votes"
RECORDS: Final = "records"
PASSWORD_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node of a test network before it is written."""

    name: str
    directory: Path
    rpc_port: int
    listen_port: int
    node_secret: bytes
    delegate_secret: bytes


def delegate(name: str, secret: bytes, stake: int = DELEGATE_STAKE_WEI) -> Delegate:
    """A delegate of genesis.json by its key; ``stake`` in wei."""
    return Delegate(
        name=name, address=keys.address_of(secret), public_key=public_key(secret), stake=stake
    )


def new_genesis(
    delegates: Sequence[Delegate],
    chain_id: int,
    time_ms: int,
    balances: dict[bytes, int],
    **more: Any,
) -> Genesis:
    """A network of these delegates, all of them active; ``Invalid("genesis")``."""
    return Genesis.checked(
        {
            "chain_id": chain_id,
            "time_ms": time_ms,
            "delegates": tuple(delegates),
            "delegates_active": len(delegates),
            "delegates_standby": 0,
            "balances": balances,
        }
        | more
    )


def dev_genesis(
    delegates: Sequence[Delegate],
    time_ms: int,
    slot_ms: int = DEV_SLOT_MS,
    epoch_slots: int = DEV_EPOCH_SLOTS,
) -> Genesis:
    """A network for development: the ten known accounts are rich, epochs are short."""
    balances = {keys.address_of(secret): DEV_BALANCE_WEI for secret in keys.DEV_SECRETS}
    return new_genesis(
        delegates, DEV_CHAIN_ID, time_ms, balances, slot_ms=slot_ms, epoch_slots=epoch_slots,
        delegates_standby=DEV_STANDBY, jail_epochs=DEV_JAIL_EPOCHS,
    )  # fmt: skip


def read_genesis(path: Path) -> Genesis:
    """The network of a genesis.json; ``Invalid("genesis")`` says what to do."""
    try:
        with path.open("rb") as file:
            raw = file.read(GENESIS_BYTES_MAX + 1)
    except FileNotFoundError:
        raise Invalid(
            "genesis",
            f"there is no {path}; put the network's genesis.json there, name it with --genesis, "
            "or make a new network with dipnetd init",
        ) from None
    except OSError as error:
        raise Invalid("genesis", f"cannot read {path}: {error.strerror}") from None
    try:
        return Genesis.decode(raw)
    except Invalid as error:
        raise Invalid("genesis", f"{path}: {error.detail}") from None


def write_text(path: Path, text: str) -> None:
    """A new file that anyone may read; ``Invalid("config")`` when it is there already."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise Invalid("config", f"{path} is there already; choose another directory") from None
    except OSError as error:
        raise Invalid("config", f"cannot write {path}: {error.strerror}") from None


def write_genesis(directory: Path, genesis: Genesis) -> None:
    """``genesis.json`` in the directory."""
    write_text(directory / GENESIS_NAME, genesis.encode().decode())


def write_dev(directory: Path, genesis: Genesis) -> None:
    """The files of ``dipnetd dev``: ``genesis.json``, and the vote state of account 0's key."""
    write_genesis(directory, genesis)
    account = keys.address_of(keys.DEV_SECRETS[0])
    votefile.create(directory / DELEGATE_VOTES, genesis.chain_id, account)


def write_node(
    directory: Path,
    genesis: Genesis,
    node_secret: bytes,
    delegate_secret: bytes,
    settings: dict[str, str | int | bool | list[str]],
    scrypt_n: int = keys.SCRYPT_N,
) -> None:
    """A node's directory, for ``dipnetd run --config DIRECTORY/dipnet.toml``."""
    made = (
        GENESIS_NAME, NODE_KEY, DELEGATE_KEYSTORE, DELEGATE_PASSWORD, DELEGATE_VOTES, FILE_NAME
    )  # fmt: skip
    for name in made:
        if (directory / name).exists():
            raise Invalid(
                "config", f"{directory / name} is there already; choose another directory"
            )
    password = secrets.token_urlsafe(PASSWORD_BYTES).encode()
    keys.write_private(directory / DELEGATE_PASSWORD, password + b"\n")
    keystore = keys.encrypt(delegate_secret, password, scrypt_n)
    keys.write_private(directory / DELEGATE_KEYSTORE, keystore)
    account = keys.address_of(delegate_secret)
    votefile.create(directory / DELEGATE_VOTES, genesis.chain_id, account)
    keys.write_key(directory / NODE_KEY, node_secret)
    write_genesis(directory, genesis)
    named: dict[str, str | int | bool | list[str]] = {
        "data": ".",
        "delegate_keystore": DELEGATE_KEYSTORE,
        "delegate_password": DELEGATE_PASSWORD,
    }
    write_text(directory / FILE_NAME, to_toml(named | settings))


def free_ports(count: int) -> list[int]:
    """TCP ports of loopback that are free now, all different.

    They are of ``PORTS``: no connection and no listener on port 0 takes one of them before it is
    used. Raises ``Invalid("config")`` where fewer are free.
    """
    free = filter(_is_free, random.sample(PORTS, len(PORTS)))
    found = list(islice(free, count))
    if len(found) < count:
        raise Invalid("config", f"{count} free ports: only {len(found)} left; end other programs")
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
