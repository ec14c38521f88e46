"""``dipnet``: the client. It calls a node by JSON-RPC and imports nothing of the node.

``dipnet keys | send | status | delegate | device | dag | verify-header``; the last four are in
``cli/delegate.py``, ``cli/device.py`` and ``cli/light.py``.
"""

from pathlib import Path
from typing import Annotated

import typer

import dipnet
from dipnet.cli.delegate_queries import delegate_app
from dipnet.cli.device import dag_app, device_app
from dipnet.cli.light import verify_header
from dipnet.cli.terminal import URL, Json, Url, group, program, show_fields, show_json, show_rows
from dipnet.cli.wallet import (
    KEYSTORE,
    TIMEOUT_S,
    Dev,
    Keystore,
    PasswordFile,
    Sender,
    Timeout,
    await_receipt,
    ether,
    find_keystore,
    read_address,
    read_amount,
    read_password,
    receipt_fields,
    transact,
    unlocked,
)
from dipnet.primitives.codec import to_hex
from dipnet.primitives.crypto import checksum
from dipnet.sdk import keys
from dipnet.sdk.client import Client
from dipnet.sdk.mnemonic import is_phrase, secret_of

app = program("Payments, devices and keys on a dipnet network.")
keys_app = group("Keys in keystores (Web3 secret storage v3).")
app.add_typer(keys_app, name="keys")
app.add_typer(delegate_app, name="delegate")
app.add_typer(device_app, name="device")
app.add_typer(dag_app, name="dag")
app.command("verify-header")(verify_header)

# --- keys


def _keep(directory: Path, secret: bytes, file: Path | None, as_json: bool) -> None:
    """Makes a keystore of the key and shows its address."""
    path = keys.add_keystore(directory.expanduser(), secret, read_password(file, new=True))
    told = {"address": checksum(keys.address_of(secret)), "file": str(path)}
    show_json(told) if as_json else show_fields(told)


@keys_app.command("new")
def keys_new(
    keystore: Keystore = KEYSTORE, password_file: PasswordFile = None, as_json: Json = False
) -> None:
    """Make a key."""
    _keep(keystore, keys.new_secret(), password_file, as_json)


@keys_app.command("list")
def keys_list(keystore: Keystore = KEYSTORE, as_json: Json = False) -> None:
    """List the keys."""
    found = keys.list_keystores(keystore.expanduser())
    rows = [(checksum(account), str(path)) for account, path in found.items()]
    if as_json:
        show_json([{"address": account, "file": path} for account, path in rows])
    else:
        show_rows(["address", "file"], rows)


@keys_app.command("show")
def keys_show(
    account: Annotated[str, typer.Argument(help="Address, or keystore file.")],
    private: Annotated[bool, typer.Option("--private", help="The private key too.")] = False,
    keystore: Keystore = KEYSTORE,
    password_file: PasswordFile = None,
    as_json: Json = False,
) -> None:
    """Show the address and file of a key, with --private the key itself."""
    path = find_keystore(account, keystore)
    claimed = keys.keystore_address(keys.read_private(path, keys.KEYSTORE_BYTES_MAX))
    told = {"address": checksum(claimed) if claimed else "?", "file": str(path)}
    if private:
        secret = keys.read_keystore(path, read_password(password_file))
        told |= {"address": checksum(keys.address_of(secret)), "privateKey": to_hex(secret)}
    show_json(told) if as_json else show_fields(told)


@keys_app.command("import")
def keys_import(
    file: Annotated[
        Path, typer.Argument(help="File with 64 hex digits, a mnemonic, or another keystore.")
    ],
    account: Annotated[int, typer.Option(help="Which account of a mnemonic.")] = 0,
    keystore: Keystore = KEYSTORE,
    password_file: PasswordFile = None,
    as_json: Json = False,
) -> None:
    """Make a keystore of the key in a file; the file is not changed."""
    raw = keys.read_private(file, keys.KEYSTORE_BYTES_MAX)
    if raw.lstrip().startswith(b"{"):
        typer.echo(f"password of {file}", err=True)
        secret = keys.decrypt(raw, read_password(password_file), str(file))
    elif is_phrase(text := raw.decode("ascii", "replace")):
        secret = secret_of(text, account)
    else:
        secret = keys.key_from_hex(raw, str(file))
    _keep(keystore, secret, password_file, as_json)


# --- payments


@app.command()
def send(
    to: Annotated[str, typer.Option(help="Address.")],
    value: Annotated[str, typer.Option(help="1.5ether, 20gwei, or wei.")],
    sender: Sender = None,
    dev: Dev = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the receipt.")] = False,
    timeout: Timeout = TIMEOUT_S,
    keystore: Keystore = KEYSTORE,
    password_file: PasswordFile = None,
    url: Url = URL,
    as_json: Json = False,
) -> None:
    """Pay (an EIP-1559 transaction)."""
    receiver, wei = read_address(to), read_amount(value)
    secret = unlocked(sender, dev, keystore, password_file)
    with Client(url) as client:
        tx_hash = transact(client, secret, receiver, wei)
        if not wait:
            show_json({"transactionHash": tx_hash}) if as_json else typer.echo(tx_hash)
            return
        receipt = await_receipt(client, tx_hash, timeout)
    if as_json:
        show_json(receipt)
    else:
        show_fields(receipt_fields(receipt) | {"value": ether(wei)})


# --- status


@app.command()
def status(url: Url = URL, as_json: Json = False) -> None:
    """Show the state of the node."""
    with Client(url) as client:
        found = client.call("dipnet_status")
    if as_json:
        show_json(found)
        return
    head, final = found["head"], found["finalized"]
    faults = [f"{name}: {fault}" for name, fault in found["components"].items() if fault]
    show_fields(
        {
            "node": f"{url}, dipnetd {found['version']}, up {found['uptimeMs'] // 1000} s",
            "chain": f"{found['chainId']}, genesis {found['genesisHash']}",
            "head": f"{head['height']} {head['hash']} slot {head['slot']}",
            "finalized": f"{final['height']} slot {final['slot']}",
            "slot": f"{found['slot']}, epoch {found['epoch']}, {found['slotMs']} ms",
            "peers": len(found["peers"]),
            "pool": f"{found['pool']['pending']} pending, {found['pool']['queued']} queued",
            "dag": f"{found['dag']['vertices']} vertices, {found['dag']['tips']} tips",
            "syncing": "yes" if found["syncing"] else "no",
            "ready": "yes" if found["ready"] else "no: " + "; ".join(faults),
        }
    )


@app.command()
def version(as_json: Json = False) -> None:
    """Print the version."""
    if as_json:
        show_json({"version": dipnet.__version__})
    else:
        typer.echo(f"dipnet {dipnet.__version__}")


if __name__ == "__main__":
    app()
