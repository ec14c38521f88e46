"""``dipnet``: the client. Talks to a node by JSON-RPC and knows nothing of how one is made.

``dipnet keys | send | status | device | dag | verify-header``; devices and the DAG are in
``cli_device``, the light client in ``cli_light``.
"""

import re
import time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final

import typer

import dipnet
from dipnet import keys
from dipnet.cli_device import dag_app, device_app
from dipnet.cli_light import verify_header
from dipnet.client import Client
from dipnet.codec import to_hex
from dipnet.crypto import checksum
from dipnet.errors import Invalid
from dipnet.mnemonic import is_phrase, secret_of
from dipnet.terminal import URL, Json, Url, group, program, show_fields, show_json, show_rows
from dipnet.tx import sign_tx

UNITS: Final = {"wei": 0, "gwei": 9, "ether": 18}
AMOUNT_DIGITS_MAX: Final = 78
POLL_S: Final = 0.1
KEYSTORE: Final = Path("~/.dipnet/keystore")

app = program("Payments, devices and keys on a dipnet network.")
keys_app = group("Keys in keystores (Web3 secret storage v3).")
app.add_typer(keys_app, name="keys")
app.add_typer(device_app, name="device")
app.add_typer(dag_app, name="dag")
app.command("verify-header")(verify_header)

Keystore = Annotated[
    Path, typer.Option("--keystore", envvar="DIPNET_KEYSTORE", help="Directory of keystores.")
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file", envvar="DIPNET_PASSWORD_FILE", help="Mode 0600; else you are asked."
    ),
]


# --- keys


def _password(file: Path | None, *, new: bool = False) -> bytes:
    if file is not None:
        return keys.read_password(file.expanduser())
    text: str = typer.prompt("password", hide_input=True, confirmation_prompt=new, err=True)
    return text.encode()


def _keep(directory: Path, secret: bytes, file: Path | None, as_json: bool) -> None:
    """Makes a keystore of the key and tells its address."""
    path = keys.add_keystore(directory.expanduser(), secret, _password(file, new=True))
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
    """The keys that are there."""
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
    """One key: its address and file, with --private the key itself."""
    path = _find(account, keystore)
    claimed = keys.keystore_address(keys.read_private(path, keys.KEYSTORE_BYTES_MAX))
    told = {"address": checksum(claimed) if claimed else "?", "file": str(path)}
    if private:
        secret = keys.read_keystore(path, _password(password_file))
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
    """Take a key from a file, which stays as it is."""
    raw = keys.read_private(file, keys.KEYSTORE_BYTES_MAX)
    if raw.lstrip().startswith(b"{"):
        typer.echo(f"password of {file}", err=True)
        secret = keys.decrypt(raw, _password(password_file), str(file))
    elif is_phrase(text := raw.decode("ascii", "replace")):
        secret = secret_of(text, account)
    else:
        secret = keys.key_from_hex(raw, str(file))
    _keep(keystore, secret, password_file, as_json)


def _find(account: str, keystore: Path) -> Path:
    """The keystore file that an address or a path names."""
    if not re.fullmatch(r"(0x)?[0-9a-fA-F]{40}", account):
        return Path(account).expanduser()
    wanted = read_address(account)
    found = keys.list_keystores(keystore.expanduser())
    if wanted not in found:
        raise Invalid("key", f"{keystore} has no key of {checksum(wanted)}; see dipnet keys list")
    return found[wanted]


# --- payments


def read_address(text: str) -> bytes:
    """An address; mixed case must be its checksum (EIP-55)."""
    digits = text.removeprefix("0x")
    if not re.fullmatch(r"[0-9a-fA-F]{40}", digits):
        raise Invalid("params", f"{text[:60]!r} is no address: write 0x and 40 hex digits")
    address = bytes.fromhex(digits)
    if digits not in (digits.lower(), digits.upper()) and checksum(address)[2:] != digits:
        raise Invalid("params", f"{text} has a typing error: its checksum is wrong (EIP-55)")
    return address


def read_amount(text: str) -> int:
    """Wei of an amount such as 1.5ether, 20gwei or 1000, which is wei."""
    match = re.fullmatch(r"([0-9]+)(?:\.([0-9]+))? ?(wei|gwei|ether)?", text.strip(), re.ASCII)
    if match is None or len(text) > AMOUNT_DIGITS_MAX:
        raise Invalid("params", f"{text[:60]!r} is no amount: write 1.5ether, 20gwei or 1000 (wei)")
    whole, fraction, unit = match.groups(default="")
    decimals = UNITS[unit or "wei"]
    if len(fraction.rstrip("0")) > decimals:
        raise Invalid("params", f"{text!r} has parts of a wei")
    scale: int = 10**decimals
    return int(whole) * scale + int(fraction.rstrip("0").ljust(decimals, "0") or "0")


def _ether(wei: int) -> str:
    return f"{Decimal(wei).scaleb(-18).normalize():f} ether"


@app.command()
def send(
    to: Annotated[str, typer.Option(help="Address.")],
    value: Annotated[str, typer.Option(help="1.5ether, 20gwei, or wei.")],
    sender: Annotated[
        str | None, typer.Option("--from", help="Address or file of a keystore.")
    ] = None,
    dev: Annotated[int | None, typer.Option(min=0, max=9, help="Account of dipnetd dev.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="For the receipt.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = 60.0,
    keystore: Keystore = KEYSTORE,
    password_file: PasswordFile = None,
    url: Url = URL,
    as_json: Json = False,
) -> None:
    """Pay (an EIP-1559 transaction)."""
    receiver, wei = read_address(to), read_amount(value)
    if (sender is None) == (dev is None):
        raise Invalid("params", "give one of --from and --dev")
    if dev is not None:
        secret = keys.DEV_SECRETS[dev]
    else:
        secret = keys.read_keystore(_find(sender or "", keystore), _password(password_file))
    with Client(url) as client:
        tx_hash = pay(client, secret, receiver, wei)
        if not wait:
            show_json({"transactionHash": tx_hash}) if as_json else typer.echo(tx_hash)
            return
        receipt = await_receipt(client, tx_hash, timeout)
    if as_json:
        show_json(receipt)
        return
    gas, price = int(receipt["gasUsed"], 16), int(receipt["effectiveGasPrice"], 16)
    show_fields(
        {
            "transaction": tx_hash,
            "status": "success" if receipt["status"] == "0x1" else "failed",
            "block": f"{int(receipt['blockNumber'], 16)} {receipt['blockHash']}",
            "from": receipt["from"],
            "to": receipt["to"],
            "value": _ether(wei),
            "fee": f"{_ether(gas * price)} ({gas} gas)",
        }
    )


def pay(client: Client, secret: bytes, to: bytes, wei: int) -> str:
    """Signs and sends a payment with the node's suggestions; the transaction's hash."""
    sender = to_hex(keys.address_of(secret))
    call = {"from": sender, "to": to_hex(to), "value": hex(wei)}
    answers = client.batch(
        [
            ("eth_chainId", ()),
            ("eth_getTransactionCount", (sender, "pending")),
            ("eth_maxPriorityFeePerGas", ()),
            ("eth_getBlockByNumber", ("latest", False)),
            ("eth_estimateGas", (call,)),
        ]
    )
    for answer in answers:
        if isinstance(answer, Invalid):
            raise answer
    chain_id, nonce, tip, block, gas = answers
    raw = sign_tx(
        secret,
        chain_id=int(chain_id, 16),
        nonce=int(nonce, 16),
        gas=int(gas, 16),
        max_fee=2 * int(block["baseFeePerGas"], 16) + int(tip, 16),
        max_priority_fee=int(tip, 16),
        to=to,
        value=wei,
    )
    return str(client.call("eth_sendRawTransaction", to_hex(raw)))


def await_receipt(client: Client, tx_hash: str, timeout_s: float) -> dict[str, Any]:
    """The receipt, once there is one."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        receipt = client.call("eth_getTransactionReceipt", tx_hash)
        if receipt is not None:
            return dict(receipt)
        time.sleep(POLL_S)
    raise Invalid("not_found", f"no receipt of {tx_hash} after {timeout_s:g} s; it may still come")


# --- telling


@app.command()
def status(url: Url = URL, as_json: Json = False) -> None:
    """The node at a glance."""
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
            "finalized": f"{final['height']}" + (" (advisory)" if final.get("advisory") else ""),
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
    """Which dipnet this is."""
    if as_json:
        show_json({"version": dipnet.__version__})
    else:
        typer.echo(f"dipnet {dipnet.__version__}")


if __name__ == "__main__":
    app()
