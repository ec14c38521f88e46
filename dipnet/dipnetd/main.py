"""``dipnetd``: runs a node. ``dipnetd/new.py`` makes the directory of a node or network.

Rules that bind this file: a failure that an operator can mend is a sentence on stderr with exit
code 2; failed storage has exit code 70; neither shows a traceback. No file with a chain or a key is
written over.
"""

import asyncio
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer
import uvloop

import dipnet
from dipnet.cli.terminal import Json, out, program, show_fields, show_json, show_rows
from dipnet.consensus.chain.block import Block
from dipnet.daemon import networks
from dipnet.daemon.daemon import Daemon, Endpoints
from dipnet.dipnetd import new as dipnetd_new
from dipnet.dipnetd import signer as dipnetd_signer
from dipnet.dipnetd.settings import ConfigFile, config_app, load_settings, with_settings
from dipnet.host.config import Config, load
from dipnet.host.store import Store
from dipnet.ledger.genesis import Genesis
from dipnet.node.node import first_puts
from dipnet.primitives.crypto import checksum
from dipnet.primitives.errors import Invalid
from dipnet.sdk import keys
from dipnet.signing.signer import LocalSigner, Signer
from dipnet.signing.signer_socket import RemoteSigner
from dipnet.signing.votefile import VoteFile, path_beside

log = logging.getLogger("dipnet")

LOG_FORMAT: Final = "%(asctime)s %(levelname)-7s %(message)s"

app = program("A node of a dipnet network.")
app.add_typer(dipnetd_new.app)
app.add_typer(config_app, name="config")
app.add_typer(dipnetd_signer.app)


# --- running a node


def run_node(
    config: Config,
    genesis: Genesis,
    identity: bytes,
    open_signer: Callable[[], Signer | None],
    ready: Callable[[Endpoints], None],
) -> None:
    """Runs a node to its end and exits with its exit code."""
    _log_to_stderr(config.log)
    store = Store(config.data / networks.RECORDS)
    puts = first_puts(genesis, store)
    if puts:
        store.stage(puts)
        store.commit()  # from now on the directory is of this network
    daemon = Daemon(config, genesis, store, identity, open_signer())
    tasks: list[asyncio.Task[None]] = []

    def started(endpoints: Endpoints) -> None:
        tasks.append(asyncio.get_running_loop().create_task(_log_blocks(daemon)))
        ready(endpoints)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(daemon.run(started))
    raise typer.Exit(code)


async def _log_blocks(daemon: Daemon) -> None:
    """Logs a line for each new block."""
    feed = daemon.subscribe("newHeads")
    while True:
        block = await feed.next()
        assert isinstance(block, Block)
        header = block.header
        log.info(
            "block %d %s slot %d txs %d gas %d by %s peers %d",
            header.height,
            header.hash.hex()[:8],
            header.slot,
            len(block.txs),
            header.gas_used,
            header.proposer.hex()[:8],
            len(daemon.peers()),
        )


def _log_to_stderr(level: str) -> None:
    logging.basicConfig(level=logging.WARNING, format=LOG_FORMAT)
    log.setLevel(level.upper())


@app.command()
@with_settings
def run(flags: dict[str, object], config: ConfigFile = None) -> None:
    """Run a node. Settings: flag, then DIPNET_* environment, then dipnet.toml, then default."""
    settings = load_settings(flags, config).config
    genesis = networks.read_genesis(settings.genesis_path)
    delegate_secret = _delegate_secret(settings)
    identity = keys.load_or_make_key(settings.data / networks.NODE_KEY)

    def ready(endpoints: Endpoints) -> None:
        log.info(
            "dipnetd %s chain %d rpc http://%s:%d peers %s",
            dipnet.__version__,
            genesis.chain_id,
            endpoints.rpc_host,
            endpoints.rpc_port,
            " ".join(endpoints.addresses),
        )
        if settings.paused:
            log.warning("signing is paused: dipnet delegate resume --data %s", settings.data)

    run_node(
        settings, genesis, identity, lambda: _signer(settings, genesis, delegate_secret), ready
    )


def _delegate_secret(settings: Config) -> bytes | None:
    if settings.delegate_keystore is None or settings.delegate_password is None:
        return None
    password = keys.read_password(settings.delegate_password)
    return keys.read_keystore(settings.delegate_keystore, password)


def _signer(settings: Config, genesis: Genesis, secret: bytes | None) -> Signer | None:
    if settings.signer is not None:
        return RemoteSigner(settings.signer, genesis.chain_id)
    if secret is None or settings.delegate_keystore is None:
        return None
    votes = settings.delegate_votes or path_beside(settings.delegate_keystore)
    return _local_signer(secret, votes, genesis)


def _local_signer(secret: bytes, votes: Path, genesis: Genesis) -> LocalSigner:
    held = VoteFile(votes, genesis.chain_id, keys.address_of(secret))
    return LocalSigner(secret, held, genesis.chain_id)


# --- a chain for development


@app.command()
def dev(
    data: Annotated[
        Path | None, typer.Option(help="Keep the chain here; default: temporary.")
    ] = None,
    rpc_port: Annotated[int, typer.Option(help="Port of JSON-RPC; 0: any free port.")] = 8545,
    listen_port: Annotated[int, typer.Option(help="Port for peers; 0: any free port.")] = 0,
    slot_ms: Annotated[
        int | None, typer.Option(help="Milliseconds between blocks; 1000 for a new chain.")
    ] = None,
    log_level: Annotated[
        str, typer.Option("--log", help="debug, info, warning or error.")
    ] = "info",
) -> None:
    """Run a chain of a single node on this machine, with ten rich accounts of public keys."""
    directory = Path(tempfile.mkdtemp(prefix="dipnet-dev-")) if data is None else data
    flags: dict[str, object] = {
        "data": directory,
        "listen": f"/ip4/{networks.LOOPBACK}/tcp/{listen_port}",
        "rpc_port": rpc_port,
        "local": True,
        "log": log_level,
    }
    try:
        settings = load(flags, {}).config
        genesis = _dev_network(settings.data, slot_ms)
        node_secret = keys.load_or_make_key(settings.data / networks.NODE_KEY)
        run_node(
            settings,
            genesis,
            node_secret,
            lambda: _local_signer(
                keys.DEV_SECRETS[0], settings.data / networks.DELEGATE_VOTES, genesis
            ),
            lambda endpoints: _dev_banner(genesis, endpoints, data),
        )
    finally:
        if data is None:
            shutil.rmtree(directory, ignore_errors=True)


def _dev_network(directory: Path, slot_ms: int | None) -> Genesis:
    """The network of a directory, which is made when it has none."""
    path = directory / networks.GENESIS_NAME
    if not path.exists():
        member = networks.delegate("dev", keys.DEV_SECRETS[0])
        made = networks.dev_genesis(
            [member], time.time_ns() // 1_000_000, slot_ms or networks.DEV_SLOT_MS
        )
        networks.write_dev(directory, made)
    genesis = networks.read_genesis(path)
    if [d.address for d in genesis.delegates] != [keys.address_of(keys.DEV_SECRETS[0])]:
        raise Invalid("config", f"{directory} is no development chain; start it with dipnetd run")
    kept_ms = genesis.parameters.slot_ms
    if slot_ms not in (None, kept_ms):
        raise Invalid(
            "config",
            f"the chain in {directory} has slots of {kept_ms} ms; leave out --slot-ms or "
            "choose another --data",
        )
    return genesis


def _dev_banner(genesis: Genesis, endpoints: Endpoints, data: Path | None) -> None:
    url = f"{endpoints.rpc_host}:{endpoints.rpc_port}"
    show_rows(
        ["account", "address", "private key"],
        [
            [n, checksum(keys.address_of(secret)), "0x" + secret.hex()]
            for n, secret in enumerate(keys.DEV_SECRETS)
        ],
    )
    out().print("\nThese keys are public: never use them for anything of value.\n", style="yellow")
    show_fields(
        {
            "mnemonic": keys.DEV_MNEMONIC,
            "balance": f"{networks.DEV_BALANCE_WEI // 10**18} each",
            "chain id": genesis.chain_id,
            "slot": f"{genesis.parameters.slot_ms} ms",
            "data": data or "temporary; --data DIR keeps the chain",
            "peers": " ".join(endpoints.addresses),
            "JSON-RPC": f"http://{url}  ws://{url}",
        }
    )


# --- version


@app.command()
def version(as_json: Json = False) -> None:
    """Print the version."""
    if as_json:
        show_json({"version": dipnet.__version__})
    else:
        typer.echo(f"dipnetd {dipnet.__version__}")


if __name__ == "__main__":
    app()
