"""``dipnet delegate``: stakes, votes and proposals sent to IDpos, and what becomes of them.

Every command that signs takes the same options for the account, waits for the receipt, and tells
the events. A refusal of the contract begins with a code of ours; it is told as that, with its
remedy. ``pause`` and ``resume`` go to the admin socket of a node on this machine.
"""

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from dipnet import keys
from dipnet.client import Client
from dipnet.codec import from_hex, to_hex
from dipnet.consensus.actions import EVENTS
from dipnet.consensus.candidates import registration_digest
from dipnet.consensus.evidence import record
from dipnet.consensus.idpos import DPOS_ADDRESS, METHODS
from dipnet.consensus.schedule import commitment, seed_key, seed_secret
from dipnet.consensus.votes import Ballot, Kind
from dipnet.crypto import checksum, public_key, sign
from dipnet.errors import REFUSALS, Invalid
from dipnet.genesis import AMENDABLE, RULES_KNOWN
from dipnet.terminal import URL, Json, Url, group, note, show_fields, show_json
from dipnet.wallet import (
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

ADDRESS_BYTES: Final = 20
ORGANISATION_BYTES: Final = 32

delegate_app = group("Delegates: stakes, votes, elections, proposals.")


@dataclass(frozen=True, slots=True)
class Account:
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


# --- sending


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


def _signing(plan: Callable[..., Sequence[Act]]) -> Callable[..., None]:
    """A command with the parameters of ``plan`` after its first, and those of every signer."""
    own = list(inspect.signature(plan).parameters.values())[1:]
    shared = list(inspect.signature(_account_options).parameters.values())

    def command(**given: Any) -> None:
        options = {one.name: given.pop(one.name) for one in shared}
        secret = unlocked(
            options["sender"], options["dev"], options["keystore"], options["password_file"]
        )
        with Client(options["url"]) as client:
            account = Account(client, secret)
            receipts = [
                _performed(account, act, options["timeout"]) for act in plan(account, **given)
            ]
        _show(receipts, options["as_json"])

    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own + shared]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    command.__name__, command.__doc__ = plan.__name__, plan.__doc__
    return command


def _performed(account: Account, act: Act, timeout_s: float) -> dict[str, Any]:
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
    named = len(value) == ORGANISATION_BYTES and text.isascii() and text.decode().isprintable()
    return text.decode() if named else to_hex(value)


def _show(receipts: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        told = [receipt | {"events": events(receipt)} for receipt in receipts]
        show_json(told[0] if len(told) == 1 else told)
        return
    for receipt in receipts:
        fields: dict[str, object] = {**receipt_fields(receipt)}
        for one in events(receipt):
            fields[one.pop("event")] = ", ".join(f"{n} {_shown(v)}" for n, v in one.items())
        show_fields(fields)


def _shown(value: Any) -> str:
    """An argument of an event for people: so many wei are ether."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return ether(value) if isinstance(value, int) and value > 10**12 else str(value)


# --- being a delegate


def read_commission(text: str) -> int:
    """Basis points of a percentage such as 5 or 2.5%."""
    match = re.fullmatch(r"([0-9]{1,3})(?:\.([0-9]{1,2}))? ?%?", text.strip(), re.ASCII)
    points = int(match[1]) * 100 + int((match[2] or "").ljust(2, "0")) if match else -1
    if not 0 <= points <= 10_000:
        raise Invalid("params", f"{text[:20]!r} is no percentage: write 5% or 2.5%")
    return points


def read_organisation(text: str) -> bytes:
    """The 32 bytes that stand for an organisation."""
    raw = text.encode()
    if len(raw) > ORGANISATION_BYTES or not text.isascii() or "\0" in text:
        raise Invalid("params", f"organisation: at most {ORGANISATION_BYTES} ASCII characters")
    return raw.ljust(ORGANISATION_BYTES, b"\0")


@delegate_app.command("register")
@_signing
def register(
    account: Account,
    name: Annotated[str, typer.Option(help="Up to 32 letters, digits, . _ - and spaces.")],
    link: Annotated[str, typer.Option("--link", help="Where to read about the delegate.")] = "",
    commission: Annotated[str, typer.Option(help="What it keeps of rewards: 5%.")] = "0%",
    organisation: Annotated[str, typer.Option(help="Whose it is; seats of one are capped.")] = "",
    key: Annotated[
        str | None, typer.Option(help="Keystore of the signing key; default: the account's key.")
    ] = None,
    key_password_file: Annotated[Path | None, typer.Option(help="Its password.")] = None,
    stake: Annotated[str | None, typer.Option(help="Stake this first: 1000ether.")] = None,
) -> list[Act]:
    """Become a candidate, or change what one says of itself; the signing key stays.

    A candidate votes for itself like anybody else: see dipnet delegate vote.
    """
    signing = account.secret
    if key is not None:
        signing = keys.read_keystore(find_keystore(key, KEYSTORE), read_password(key_password_file))
    chain_id = int(account.client.call("eth_chainId"), 16)
    proof = sign(registration_digest(chain_id, account.address), signing)
    first_secret = seed_secret(seed_key(signing), 0)
    arguments = (
        name, link, read_commission(commission), public_key(signing), commitment(first_secret),
        read_organisation(organisation), proof,
    )  # fmt: skip
    staked = [] if stake is None else [Act("stake", wei=read_amount(stake))]
    return [*staked, Act("register", arguments)]


@delegate_app.command("resign")
@_signing
def resign(
    account: Account,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> list[Act]:
    """Leave the candidates, for good: the account and its signing key cannot come back."""
    if not yes:
        typer.confirm(f"resign {checksum(account.address)} for good?", abort=True, err=True)
    return [Act("resign")]


@delegate_app.command("ready")
@_signing
def ready(
    account: Account,
    rules: Annotated[int, typer.Option(min=1, help="Newest version that your node has.")] = (
        RULES_KNOWN
    ),
) -> list[Act]:
    """Tell the others up to which version of the rules your node goes."""
    return [Act("signalReady", (rules,))]


@delegate_app.command("evidence")
@_signing
def evidence(account: Account) -> list[Act]:
    """Report the offences that the node has proof of; the reporter is rewarded."""
    found = account.client.call("dpos_evidence")
    if not found:
        note("the node knows of no offence")
    records = [[_record(one) for one in offence["statements"]] for offence in found]
    return [Act("submitEvidence", (first, second)) for first, second in records]


def _record(statement: dict[str, Any]) -> bytes:
    ballot = Ballot(
        Kind[statement["kind"].upper()],
        statement["epoch"],
        statement["slot"],
        from_hex(statement["blockId"]),
        statement["justifySlot"],
    )
    return record(ballot, from_hex(statement["signature"]))


# --- stakes and votes


@delegate_app.command("stake")
@_signing
def stake(
    account: Account, amount: Annotated[str, typer.Argument(help="100ether, or wei.")]
) -> list[Act]:
    """Add to the account's stake; its votes weigh so much more."""
    return [Act("stake", wei=read_amount(amount))]


@delegate_app.command("unstake")
@_signing
def unstake(
    account: Account, amount: Annotated[str, typer.Argument(help="100ether, wei, or all.")]
) -> list[Act]:
    """Begin to release stake; claim it when it is free."""
    if amount == "all":
        held = account.client.call("dpos_account", to_hex(account.address))["stake"]
        return [Act("unstake", (int(held, 16),))]
    return [Act("unstake", (read_amount(amount),))]


@delegate_app.command("vote")
@_signing
def vote(
    account: Account,
    delegates: Annotated[
        list[str] | None, typer.Argument(help="Names or addresses; they share the stake.")
    ] = None,
    nobody: Annotated[bool, typer.Option("--nobody", help="Take all votes back.")] = False,
) -> list[Act]:
    """Vote for these delegates alone. A vote acts from the epoch after next, and lapses."""
    if bool(delegates) == nobody:
        raise Invalid("params", "name delegates, or give --nobody")
    return [Act("vote", ([find_delegate(account.client, one) for one in delegates or []],))]


@delegate_app.command("claim")
@_signing
def claim(account: Account) -> list[Act]:
    """Take what the account has earned, and what is past its release."""
    return [Act("claim")]


def find_delegate(client: Client, text: str) -> bytes:
    """The address of a delegate by its address or name."""
    if re.fullmatch(r"(0x)?[0-9a-fA-F]{40}", text):
        return read_address(text)
    named = [one["address"] for one in client.call("dpos_delegates") if one["name"] == text]
    if len(named) != 1:
        why = f"{', '.join(named)} are called so" if named else "nobody is called so"
        raise Invalid("params", f"{text[:60]!r}: {why}; see dipnet delegate list")
    return read_address(named[0])


# --- parameters


@delegate_app.command("propose")
@_signing
def propose(
    account: Account,
    name: Annotated[str, typer.Argument(help="As in genesis.json; see delegate parameters.")],
    value: Annotated[str, typer.Argument(help="A number; amounts as 2ether, 1gwei or wei.")],
) -> list[Act]:
    """Propose another value of a parameter, for the delegates of the set to approve."""
    if name not in AMENDABLE:
        raise Invalid("params", f"{name[:60]!r} is not up for votes: {', '.join(AMENDABLE)}")
    return [Act("proposeParameters", (name.encode().ljust(32, b"\0"), read_amount(value)))]


@delegate_app.command("approve")
@_signing
def approve(
    account: Account,
    number: Annotated[int, typer.Argument(min=1, help="Id of the proposal.")],
) -> list[Act]:
    """Vote for a proposal, as a delegate of the set."""
    return [Act("voteParameters", (number,))]
