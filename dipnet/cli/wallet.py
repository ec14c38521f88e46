"""Keys, amounts and transactions at the terminal: the common part of commands that sign.

Rules that bind this file: a password is asked for on stderr and never shown. Prices and gas are the
node's suggestions. A contract's refusal is shown with its reason, before anything is sent when the
node can foresee it.
"""

import re
import time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from dipnet.ledger.tx import sign_tx
from dipnet.primitives.codec import to_hex
from dipnet.primitives.crypto import checksum
from dipnet.primitives.errors import Invalid
from dipnet.sdk import keys
from dipnet.sdk.client import Client

UNITS: Final = {"wei": 0, "gwei": 9, "ether": 18}
AMOUNT_DIGITS_MAX: Final = 78
POLL_S: Final = 0.1
TIMEOUT_S: Final = 60.0
KEYSTORE: Final = Path("~/.dipnet/keystore")

Keystore = Annotated[
    Path, typer.Option("--keystore", envvar="DIPNET_KEYSTORE", help="Directory of keystores.")
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file", envvar="DIPNET_PASSWORD_FILE", help="Mode 0600; default: you are asked."
    ),
]
Sender = Annotated[str | None, typer.Option("--from", help="Address or file of a keystore.")]
Dev = Annotated[int | None, typer.Option(min=0, max=9, help="Account of dipnetd dev.")]
Timeout = Annotated[float, typer.Option(help="Seconds to wait for the receipt.")]


# --- keys


def read_password(file: Path | None, *, new: bool = False) -> bytes:
    """The password in a file, or typed at the terminal; a new password is typed twice."""
    if file is not None:
        return keys.read_password(file.expanduser())
    text: str = typer.prompt("password", hide_input=True, confirmation_prompt=new, err=True)
    return text.encode()


def find_keystore(account: str, keystore: Path) -> Path:
    """The path of the keystore of an address, or the path itself; ``Invalid("key")``."""
    if not re.fullmatch(r"(0x)?[0-9a-fA-F]{40}", account):
        return Path(account).expanduser()
    wanted = read_address(account)
    found = keys.list_keystores(keystore.expanduser())
    if wanted not in found:
        raise Invalid("key", f"{keystore} has no key of {checksum(wanted)}; see dipnet keys list")
    return found[wanted]


def unlocked(
    sender: str | None, dev: int | None, keystore: Path, password_file: Path | None
) -> bytes:
    """The private key of ``--from`` or ``--dev``; ``Invalid("params")`` for both or neither."""
    if (sender is None) == (dev is None):
        raise Invalid("params", "give one of --from and --dev")
    if dev is not None:
        return keys.DEV_SECRETS[dev]
    return keys.read_keystore(find_keystore(sender or "", keystore), read_password(password_file))


# --- amounts


def read_address(text: str) -> bytes:
    """The 20 bytes of an address, whose mixed case must be its checksum (EIP-55).

    Raises ``Invalid("params")``.
    """
    digits = text.removeprefix("0x")
    if not re.fullmatch(r"[0-9a-fA-F]{40}", digits):
        raise Invalid("params", f"{text[:60]!r} is no address: write 0x and 40 hex digits")
    address = bytes.fromhex(digits)
    if digits not in (digits.lower(), digits.upper()) and checksum(address)[2:] != digits:
        raise Invalid("params", f"{text} has a typing error: its checksum is wrong (EIP-55)")
    return address


def read_amount(text: str) -> int:
    """Wei of an amount such as 1.5ether, 20gwei or 1000 (wei); ``Invalid("params")``."""
    match = re.fullmatch(r"([0-9]+)(?:\.([0-9]+))? ?(wei|gwei|ether)?", text.strip(), re.ASCII)
    if match is None or len(text) > AMOUNT_DIGITS_MAX:
        raise Invalid("params", f"{text[:60]!r} is no amount: write 1.5ether, 20gwei or 1000 (wei)")
    whole, fraction, unit = match.groups(default="")
    decimals = UNITS[unit or "wei"]
    if len(fraction.rstrip("0")) > decimals:
        raise Invalid("params", f"{text!r} has parts of a wei")
    scale: int = 10**decimals
    return int(whole) * scale + int(fraction.rstrip("0").ljust(decimals, "0") or "0")


def ether(wei: int) -> str:
    """An amount of wei as text in ether."""
    return f"{Decimal(wei).scaleb(-18).normalize():f} ether"


# --- transactions


def transact(client: Client, secret: bytes, to: bytes, wei: int, data: bytes = b"") -> str:
    """Signs and sends a transaction with the node's gas and prices; returns its hash.

    Raises the node's refusals, ``Invalid("reverted")`` when the contract would revert.
    """
    sender = to_hex(keys.address_of(secret))
    call = {"from": sender, "to": to_hex(to), "value": hex(wei), "input": to_hex(data)}
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
        data=data,
    )
    return str(client.call("eth_sendRawTransaction", to_hex(raw)))


def await_receipt(client: Client, tx_hash: str, timeout_s: float) -> dict[str, Any]:
    """Waits for the receipt; raises ``Invalid("not_found")`` after ``timeout_s``."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        receipt = client.call("eth_getTransactionReceipt", tx_hash)
        if receipt is not None:
            return dict(receipt)
        time.sleep(POLL_S)
    raise Invalid("not_found", f"no receipt of {tx_hash} after {timeout_s:g} s; it may still come")


def receipt_fields(receipt: dict[str, Any]) -> dict[str, str]:
    """A receipt as text for people, by name."""
    gas, price = int(receipt["gasUsed"], 16), int(receipt["effectiveGasPrice"], 16)
    return {
        "transaction": receipt["transactionHash"],
        "status": "success" if receipt["status"] == "0x1" else "failed",
        "block": f"{int(receipt['blockNumber'], 16)} {receipt['blockHash']}",
        "from": receipt["from"],
        "to": receipt["to"],
        "fee": f"{ether(gas * price)} ({gas} gas)",
    }
