"""``dipnetd init`` and ``dipnetd testnet``: they make a new network.

Rule that binds this file: no file with a chain or a key is written over.
"""

import time
from pathlib import Path
from typing import Annotated

import typer

from dipnet.cli.terminal import Json, out, show_fields, show_json, show_rows
from dipnet.daemon import networks
from dipnet.dipnetd import testnet
from dipnet.primitives.crypto import checksum
from dipnet.primitives.errors import Invalid
from dipnet.sdk import keys

app = typer.Typer()


@app.command()
def init(
    data: Annotated[Path, typer.Option(help="Directory to make.")],
    chain_id: Annotated[int, typer.Option(help="Number of the network for wallets.")] = 2018,
    name: Annotated[str, typer.Option(help="Name of the first delegate.")] = "delegate-1",
    slot_ms: Annotated[int, typer.Option(help="Milliseconds between blocks.")] = 1000,
    balance: Annotated[
        list[str] | None, typer.Option(help="ADDRESS=WEI of genesis; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a new network of a single delegate: genesis.json, keys, dipnet.toml."""
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
    delegates: Annotated[int, typer.Option(help="Nodes that are delegates.")] = 4,
    candidates: Annotated[
        int, typer.Option(help="Further nodes, whose keys can be registered and voted for.")
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
