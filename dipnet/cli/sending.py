"""The common part of the commands that send to IDpos: the account, the receipt, its events.

Each command has the same options for the account, waits for the receipts, and shows their events. A
revert of the contract that begins with a code of ``REFUSALS`` is shown as that refusal, with its
remedy.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dipnet.cli.terminal import URL, Json, Url, note, show_fields, show_json
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
    receipt_fields,
    transact,
    unlocked,
)
from dipnet.consensus.staking.actions import EVENTS
from dipnet.consensus.staking.idpos import DPOS_ADDRESS, METHODS
from dipnet.primitives.codec import from_hex, to_hex
from dipnet.primitives.crypto import checksum
from dipnet.primitives.errors import REFUSALS, Invalid
from dipnet.sdk import keys
from dipnet.sdk.client import Client

ADDRESS_BYTES: Final = 20
WORD_BYTES: Final = 32
ETHER_FROM_WEI: Final = 10**12  # smaller numbers in an event are shown as they are


@dataclass(frozen=True, slots=True)
class SendingAccount:
    """An account that signs, with its key (32 bytes), and the client of a node."""

    client: Client
    secret: bytes

    @property
    def address(self) -> bytes:
        """The address of the account, 20 bytes."""
        return keys.address_of(self.secret)


@dataclass(frozen=True, slots=True)
class Act:
    """A transaction to IDpos: a method, its arguments, and the wei that it transfers."""

    method: str
    arguments: tuple[Any, ...] = ()
    wei: int = 0


def _account_options(
    sender: Sender = None,
    dev: Dev = None,
    timeout: Timeout = TIMEOUT_S,
    keystore: Keystore = KEYSTORE,
    password_file: PasswordFile = None,
    url: Url = URL,
    as_json: Json = False,
) -> None:
    """The options of every command that signs."""


def signing(plan: Callable[..., Sequence[Act]]) -> Callable[..., None]:
    """A command that sends the acts of ``plan``.

    Its parameters are those of ``plan`` without the first, and those of ``_account_options``.
    """
    own = list(inspect.signature(plan).parameters.values())[1:]
    shared = list(inspect.signature(_account_options).parameters.values())

    def command(**given: Any) -> None:
        options = {each.name: given.pop(each.name) for each in shared}
        secret = unlocked(
            options["sender"], options["dev"], options["keystore"], options["password_file"]
        )
        with Client(options["url"]) as client:
            account = SendingAccount(client, secret)
            receipts = _all_performed(account, plan(account, **given), options["timeout"])
        _show(receipts, options["as_json"])

    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own + shared]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    command.__name__, command.__doc__ = plan.__name__, plan.__doc__
    return command


def _all_performed(
    account: SendingAccount, acts: Sequence[Act], timeout_s: float
) -> list[dict[str, Any]]:
    """The receipts of all acts. After a refusal stderr shows the acts that succeeded before it."""
    receipts: list[dict[str, Any]] = []
    try:
        receipts.extend(_performed(account, act, timeout_s) for act in acts)
    except Invalid:
        for act, receipt in zip(acts, receipts, strict=False):
            note(f"done already: {act.method}, transaction {receipt['transactionHash']}")
        raise
    return receipts


def _performed(account: SendingAccount, act: Act, timeout_s: float) -> dict[str, Any]:
    """The receipt of a successful transaction; raises ``Invalid`` with the contract's refusal."""
    data = METHODS[act.method].call_data(*act.arguments)
    client, to = account.client, to_hex(DPOS_ADDRESS)
    try:
        tx_hash = transact(client, account.secret, DPOS_ADDRESS, act.wei, data)
        receipt = await_receipt(client, tx_hash, timeout_s)
        if receipt["status"] != "0x1":  # the same call on the same state gives the reason
            call = {
                "from": to_hex(account.address), "to": to, "input": to_hex(data),
                "value": hex(act.wei),
            }  # fmt: skip
            client.call("eth_call", call, hex(int(receipt["blockNumber"], 16) - 1))
            raise Invalid("reverted", f"transaction {tx_hash}: it failed on another state")
    except Invalid as refused:
        raise explained(refused) from None
    return receipt


def explained(refused: Invalid) -> Invalid:
    """The refusal of IDpos in a revert, under its own code; any other ``Invalid`` unchanged."""
    code, _, rest = refused.detail.partition(": ")
    if refused.code != "reverted" or code not in REFUSALS:
        return refused
    return Invalid(code, rest.removeprefix(REFUSALS[code].text).removeprefix(": "))


def events(receipt: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of IDpos in a receipt: ``event`` is the name, the other keys are arguments."""
    known = {event.topic: event for event in EVENTS}
    told = []
    for log in receipt["logs"]:
        topics = [from_hex(topic) for topic in log["topics"]]
        event = known.get(topics[0]) if topics else None
        if event is not None:
            arguments = event.values(topics, from_hex(log["data"]))
            told.append({"event": event.name} | {n: _plain(v) for n, v in arguments.items()})
    return told


def _plain(value: Any) -> Any:
    """An argument of an event as JSON; 32 bytes that are a padded ASCII text become a string."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if not isinstance(value, bytes):
        return value
    if len(value) == ADDRESS_BYTES:
        return checksum(value)
    text = value.rstrip(b"\0")
    named = len(value) == WORD_BYTES and text.isascii() and text.decode().isprintable()
    return text.decode() if named else to_hex(value)


def _show(receipts: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        told = [receipt | {"events": events(receipt)} for receipt in receipts]
        show_json(told[0] if len(told) == 1 else told)
        return
    for receipt in receipts:
        fields: dict[str, object] = {**receipt_fields(receipt)}
        for event in events(receipt):
            name = event.pop("event")
            fields[name] = ", ".join(f"{key} {_shown(value)}" for key, value in event.items())
        show_fields(fields)


def _shown(value: Any) -> str:
    """An argument of an event for people: a large integer is an amount of wei, shown as ether."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return ether(value) if isinstance(value, int) and value > ETHER_FROM_WEI else str(value)
