"""What the commands that send to IDpos have in common: who signs, the receipt, what it tells.

Every one of them takes the same options for the account, waits for the receipt, and tells the
events. A refusal of the contract begins with a code of ours; it is told as that, with its remedy.
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
    """Who signs, and the node that it is sent to."""

    client: Client
    secret: bytes

    @property
    def address(self) -> bytes:
        """Of the account."""
        return keys.address_of(self.secret)


@dataclass(frozen=True, slots=True)
class Act:
    """One transaction to IDpos: a method, its arguments, and the wei that go with it."""

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
    """A command with the parameters of ``plan`` after its first, and those of every signer."""
    own = list(inspect.signature(plan).parameters.values())[1:]
    shared = list(inspect.signature(_account_options).parameters.values())

    def command(**given: Any) -> None:
        options = {one.name: given.pop(one.name) for one in shared}
        secret = unlocked(
            options["sender"], options["dev"], options["keystore"], options["password_file"]
        )
        with Client(options["url"]) as client:
            account = SendingAccount(client, secret)
            receipts = _all_performed(account, plan(account, **given), options["timeout"])
        _show(receipts, options["as_json"])

    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own + shared]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    command.__name__, command.__doc__ = plan.__name__, plan.__doc__
    return command


def _all_performed(
    account: SendingAccount, acts: Sequence[Act], timeout_s: float
) -> list[dict[str, Any]]:
    """Their receipts. Where one is refused, what those before it did is told on stderr."""
    receipts: list[dict[str, Any]] = []
    try:
        receipts.extend(_performed(account, act, timeout_s) for act in acts)
    except Invalid:
        for act, receipt in zip(acts, receipts, strict=False):
            note(f"done already: {act.method}, transaction {receipt['transactionHash']}")
        raise
    return receipts


def _performed(account: SendingAccount, act: Act, timeout_s: float) -> dict[str, Any]:
    """The receipt of a transaction that did what it was to do."""
    data = METHODS[act.method].call_data(*act.arguments)
    client, to = account.client, to_hex(DPOS_ADDRESS)
    try:
        tx_hash = transact(client, account.secret, DPOS_ADDRESS, act.wei, data)
        receipt = await_receipt(client, tx_hash, timeout_s)
        if receipt["status"] != "0x1":  # tried again where it failed, it says why
            call = {
                "from": to_hex(account.address), "to": to, "input": to_hex(data),
                "value": hex(act.wei),
            }  # fmt: skip
            client.call("eth_call", call, hex(int(receipt["blockNumber"], 16) - 1))
            raise Invalid("reverted", f"transaction {tx_hash}: the state was another then")
    except Invalid as refused:
        raise explained(refused) from None
    return receipt


def explained(refused: Invalid) -> Invalid:
    """The refusal of IDpos that a revert tells, under its own code; others as they are."""
    code, _, rest = refused.detail.partition(": ")
    if refused.code != "reverted" or code not in REFUSALS:
        return refused
    return Invalid(code, rest.removeprefix(REFUSALS[code].text).removeprefix(": "))


def events(receipt: dict[str, Any]) -> list[dict[str, Any]]:
    """What IDpos tells in a receipt: each event's name and its arguments."""
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
    """An argument of an event as JSON has it; a text that stands in 32 bytes as text."""
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
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
        for one in events(receipt):
            name = one.pop("event")
            fields[name] = ", ".join(f"{key} {_shown(value)}" for key, value in one.items())
        show_fields(fields)


def _shown(value: Any) -> str:
    """An argument of an event for people: so many wei are ether."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return ether(value) if isinstance(value, int) and value > ETHER_FROM_WEI else str(value)
