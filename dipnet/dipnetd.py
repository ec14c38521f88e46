"""``dipnetd``: run a node, or make what one needs.

Rules that bind this file: what an operator can mend is one sentence on stderr with exit code 2,
storage that failed is 70, and neither is a traceback. Nothing that holds a chain or a key is
written over.
"""

import asyncio
import inspect
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, get_args

import typer
import uvloop

import dipnet
from dipnet import dipnetd_signer, keys, networks, testnet
from dipnet.config import Config, Loaded, load
from dipnet.consensus.block import Block
from dipnet.crypto import checksum
from dipnet.daemon import Daemon, Endpoints
from dipnet.errors import Invalid
from dipnet.genesis import Genesis
from dipnet.node import first_puts
from dipnet.signer import LocalSigner, Signer
from dipnet.signer_socket import RemoteSigner
from dipnet.store import Store
from dipnet.terminal import Json, group, out, program, show_fields, show_json, show_rows
from dipnet.votefile import VoteFile, path_beside

log = logging.getLogger("dipnet")

LOG_FORMAT: Final = "%(asctime)s %(levelname)-7s %(message)s"

app = program("A node of a dipnet network.")
config_app = group("What this node is set to.")
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
    """Runs a node to its end; leaves with its exit code."""
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
    """One line for each block, as an operator expects."""
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


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command a flag for every setting; it gets those given, as ``flags``.

    So that no setting is without its flag, and none is described twice.
    """
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "flags"]
    made = []
    for name, field in Config.model_fields.items():
        kind = _flag_type(field.annotation)
        option = typer.Option(help=field.description, show_default=False)
        made.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[kind, option],
            )
        )

    def wrapped(**given: Any) -> None:
        rest = {p.name: given.pop(p.name) for p in own}
        command(flags=given, **rest)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + made
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    return wrapped


def _flag_type(annotation: Any) -> Any:
    """What typer calls the type of a setting that may be absent."""
    if get_args(annotation) and not isinstance(annotation, UnionType):
        return list[str] | None
    return annotation if isinstance(annotation, UnionType) else annotation | None


def _load(flags: dict[str, object], file: Path | None) -> Loaded:
    return load(flags, os.environ, file)


ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", envvar="DIPNET_CONFIG", help="dipnet.toml; default: the one in data."),
]


@app.command()
@_with_settings
def run(flags: dict[str, object], config: ConfigFile = None) -> None:
    """Run a node. Settings: flag, then DIPNET_* environment, then dipnet.toml, then default."""
    settings = _load(flags, config).config
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
        Path | None, typer.Option(help="Keep the chain here; else a temporary one.")
    ] = None,
    rpc_port: Annotated[int, typer.Option(help="Port of JSON-RPC; 0: any free one.")] = 8545,
    listen_port: Annotated[int, typer.Option(help="Port for peers; 0: any free one.")] = 0,
    slot_ms: Annotated[
        int | None, typer.Option(help="Milliseconds between blocks; 1000 for a new chain.")
    ] = None,
    log_level: Annotated[
        str, typer.Option("--log", help="debug, info, warning or error.")
    ] = "info",
) -> None:
    """A chain of one node on this machine, with ten rich accounts whose keys everybody knows."""
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
    """The network of the directory, which is made when there is none."""
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
    if slot_ms not in (None, genesis.slot_ms):
        raise Invalid(
            "config",
            f"the chain in {directory} has slots of {genesis.slot_ms} ms; leave out --slot-ms or "
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
    out().print("\nThese keys are public: never use them where value is.\n", style="yellow")
    show_fields(
        {
            "mnemonic": keys.DEV_MNEMONIC,
            "balance": f"{networks.DEV_BALANCE_WEI // 10**18} each",
            "chain id": genesis.chain_id,
            "slot": f"{genesis.slot_ms} ms",
            "data": data or "temporary; --data DIR keeps the chain",
            "peers": " ".join(endpoints.addresses),
            "JSON-RPC": f"http://{url}  ws://{url}",
        }
    )


# --- making a node or a network


@app.command()
def init(
    data: Annotated[Path, typer.Option(help="Directory to make.")],
    chain_id: Annotated[int, typer.Option(help="Names the network to wallets.")] = 2018,
    name: Annotated[str, typer.Option(help="Name of the first delegate.")] = "delegate-1",
    slot_ms: Annotated[int, typer.Option(help="Milliseconds between blocks.")] = 1000,
    balance: Annotated[
        list[str] | None, typer.Option(help="ADDRESS=WEI at the start; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a new network of one delegate: genesis.json, keys, dipnet.toml."""
    delegate_secret, node_secret = keys.new_secret(), keys.new_secret()
    genesis = networks.new_genesis(
        [networks.delegate(name, delegate_secret)],
        chain_id,
        time.time_ns() // 1_000_000,
        dict(_balance(text) for text in balance or []),
        slot_ms=slot_ms,
    )
    networks.write_node(data, genesis, node_secret, delegate_secret, {})
    made: dict[str, object] = {
        "directory": str(data),
        "chainId": chain_id,
        "delegate": checksum(keys.address_of(delegate_secret)),
        "run": f"dipnetd run --config {data / 'dipnet.toml'}",
    }
    show_json(made) if as_json else show_fields(made)


def _balance(text: str) -> tuple[bytes, int]:
    account, _, amount = text.partition("=")
    try:
        address, wei = bytes.fromhex(account.removeprefix("0x")), int(amount)
    except ValueError:
        address, wei = b"", -1
    if len(address) != 20 or not 0 <= wei < 1 << 255:
        raise Invalid("config", f"--balance {text[:120]!r}: write 0xADDRESS=WEI")
    return address, wei


@app.command("testnet")
def make_testnet(
    out_dir: Annotated[Path, typer.Option("--out", help="Directory of the network.")],
    delegates: Annotated[int, typer.Option(help="Nodes, each a delegate.")] = 4,
    candidates: Annotated[
        int, typer.Option(help="Nodes more, with a key to be registered and voted for.")
    ] = 0,
    slot_ms: Annotated[
        int, typer.Option(help="Milliseconds between blocks.")
    ] = networks.DEV_SLOT_MS,
    epoch_slots: Annotated[int, typer.Option(help="Slots of an epoch.")] = networks.DEV_EPOCH_SLOTS,
    start: Annotated[bool, typer.Option("--start", help="Run the nodes until Ctrl-C.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start again a node that ends.")
    ] = False,
) -> None:
    """Make a network of several nodes on this machine, and with --start run it."""
    if not (start and testnet.exists(out_dir)):
        layout = testnet.Layout(delegates, candidates, slot_ms, epoch_slots)
        lead_ms = testnet.lead_ms(len(layout.names)) if start else 0
        testnet.write(out_dir, layout, time.time_ns() // 1_000_000 + lead_ms)
    net = testnet.read(out_dir)
    show_rows(
        ["node", "JSON-RPC", "peers", "run by hand"],
        [
            [node["name"], node["rpc"], node["p2p"], f"dipnetd run --config {node['config']}"]
            for node in net["nodes"]
        ],
    )
    out().print(f"described in {out_dir / testnet.NET_NAME}")
    if start:
        testnet.Supervisor(out_dir, typer.echo, restart=restart).run()


# --- telling


@config_app.command("show")
@_with_settings
def show_config(
    flags: dict[str, object],
    config: ConfigFile = None,
    origin: Annotated[bool, typer.Option("--origin", help="Where each value comes from.")] = False,
    as_json: Json = False,
) -> None:
    """What a node would run with."""
    loaded = _load(flags, config)
    values = loaded.config.model_dump(mode="json")
    if as_json:
        show_json(
            {
                name: {"value": value, "origin": loaded.origins[name]}
                for name, value in values.items()
            }
            if origin
            else values
        )
    elif origin:
        show_rows(
            ["setting", "value", "from"],
            [[name, _shown(value), loaded.origins[name]] for name, value in values.items()],
        )
    else:
        show_fields({name: _shown(value) for name, value in values.items()})


def _shown(value: object) -> str:
    return (
        " ".join(map(str, value))
        if isinstance(value, list)
        else ""
        if value is None
        else str(value)
    )


@app.command()
def version(as_json: Json = False) -> None:
    """Which dipnetd this is."""
    if as_json:
        show_json({"version": dipnet.__version__})
    else:
        typer.echo(f"dipnetd {dipnet.__version__}")


if __name__ == "__main__":
    app()
