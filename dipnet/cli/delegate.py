"""``dipnet delegate``: stakes, votes and proposals sent to IDpos.

Each command that signs is a plan: it makes the transactions to send from its arguments.
``cli/sending.py`` sends them and shows the receipts. ``cli/delegate_queries.py`` has the commands
that only read, and the commands for the node on this machine.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from dipnet.cli.sending import Act, SendingAccount, signing
from dipnet.cli.terminal import group, note
from dipnet.cli.wallet import KEYSTORE, find_keystore, read_address, read_amount, read_password
from dipnet.consensus.chain.schedule import commitment, seed_key, seed_secret
from dipnet.consensus.finality.votes import Ballot, BallotKind
from dipnet.consensus.staking.candidates import registration_digest
from dipnet.consensus.staking.evidence import record
from dipnet.ledger.parameters import AMENDABLE
from dipnet.ledger.rules import RULES_KNOWN
from dipnet.primitives.codec import from_hex, to_hex
from dipnet.primitives.crypto import checksum, public_key, sign
from dipnet.primitives.errors import Invalid
from dipnet.sdk import keys
from dipnet.sdk.client import Client

ORGANISATION_BYTES: Final = 32

delegate_app = group("Delegates: stakes, votes, elections, proposals.")


# --- being a delegate


def read_commission(text: str) -> int:
    """Basis points of a percentage such as 5 or 2.5%; ``Invalid("params")``."""
    match = re.fullmatch(r"([0-9]{1,3})(?:\.([0-9]{1,2}))? ?%?", text.strip(), re.ASCII)
    points = int(match[1]) * 100 + int((match[2] or "").ljust(2, "0")) if match else -1
    if not 0 <= points <= 10_000:
        raise Invalid("params", f"{text[:20]!r} is no percentage: write 5% or 2.5%")
    return points


def read_organisation(text: str) -> bytes:
    """The 32 bytes that name an organisation, ASCII padded with zeros; ``Invalid("params")``."""
    raw = text.encode()
    if len(raw) > ORGANISATION_BYTES or not text.isascii() or "\0" in text:
        raise Invalid("params", f"organisation: at most {ORGANISATION_BYTES} ASCII characters")
    return raw.ljust(ORGANISATION_BYTES, b"\0")


@delegate_app.command("register")
@signing
def register(
    account: SendingAccount,
    name: Annotated[str, typer.Option(help="Up to 32 letters, digits, . _ - and spaces.")],
    link: Annotated[str, typer.Option("--link", help="Where to read about the delegate.")] = "",
    commission: Annotated[str, typer.Option(help="Its share of the rewards: 5%.")] = "0%",
    organisation: Annotated[
        str, typer.Option(help="Its organisation; seats of an organisation are capped.")
    ] = "",
    key: Annotated[
        str | None, typer.Option(help="Keystore of the signing key; default: the account's key.")
    ] = None,
    key_password_file: Annotated[Path | None, typer.Option(help="Its password.")] = None,
    stake: Annotated[str | None, typer.Option(help="Stake this first: 1000ether.")] = None,
) -> list[Act]:
    """Become a candidate, or change a candidate's name, link and commission; the key stays.

    A candidate votes for itself as any account does: see dipnet delegate vote.
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
@signing
def resign(
    account: SendingAccount,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> list[Act]:
    """Leave the candidates, for good: the account and its signing key cannot come back."""
    if not yes:
        typer.confirm(f"resign {checksum(account.address)} for good?", abort=True, err=True)
    return [Act("resign")]


@delegate_app.command("ready")
@signing
def ready(
    account: SendingAccount,
    rules: Annotated[int, typer.Option(min=1, help="Newest version that your node has.")] = (
        RULES_KNOWN
    ),
) -> list[Act]:
    """Tell the others up to which version of the rules your node goes."""
    return [Act("signalReady", (rules,))]


@delegate_app.command("evidence")
@signing
def evidence(account: SendingAccount) -> list[Act]:
    """Report the offences that the node has proof of; the reporter is rewarded."""
    found = account.client.call("dpos_evidence")
    if not found:
        note("the node knows of no offence")
    records = [[_record(statement) for statement in each["statements"]] for each in found]
    return [Act("submitEvidence", (first, second)) for first, second in records]


def _record(statement: dict[str, Any]) -> bytes:
    ballot = Ballot(
        BallotKind[statement["kind"].upper()],
        statement["epoch"],
        statement["slot"],
        from_hex(statement["blockId"]),
        statement["justifySlot"],
    )
    return record(ballot, from_hex(statement["signature"]))


# --- stakes and votes


@delegate_app.command("stake")
@signing
def stake(
    account: SendingAccount, amount: Annotated[str, typer.Argument(help="100ether, or wei.")]
) -> list[Act]:
    """Add to the account's stake; its votes weigh so much more."""
    return [Act("stake", wei=read_amount(amount))]


@delegate_app.command("unstake")
@signing
def unstake(
    account: SendingAccount, amount: Annotated[str, typer.Argument(help="100ether, wei, or all.")]
) -> list[Act]:
    """Begin to release stake; claim it when it is free."""
    if amount == "all":
        held = account.client.call("dpos_account", to_hex(account.address))["stake"]
        return [Act("unstake", (int(held, 16),))]
    return [Act("unstake", (read_amount(amount),))]


@delegate_app.command("vote")
@signing
def vote(
    account: SendingAccount,
    delegates: Annotated[
        list[str] | None, typer.Argument(help="Names or addresses; they share the stake.")
    ] = None,
    nobody: Annotated[bool, typer.Option("--nobody", help="Take all votes back.")] = False,
) -> list[Act]:
    """Vote for these delegates alone. A vote acts from the epoch after next, and lapses."""
    if bool(delegates) == nobody:
        raise Invalid("params", "name delegates, or give --nobody")
    return [Act("vote", ([find_delegate(account.client, text) for text in delegates or []],))]


@delegate_app.command("claim")
@signing
def claim(account: SendingAccount) -> list[Act]:
    """Take the rewards of the account, and the stake whose release is due."""
    return [Act("claim")]


def find_delegate(client: Client, text: str) -> bytes:
    """The address of the delegate of an address or a name; ``Invalid("params")``."""
    if re.fullmatch(r"(0x)?[0-9a-fA-F]{40}", text):
        return read_address(text)
    named = [each["address"] for each in client.call("dpos_delegates") if each["name"] == text]
    if len(named) != 1:
        why = f"{', '.join(named)} are called so" if named else "nobody is called so"
        raise Invalid("params", f"{text[:60]!r}: {why}; see dipnet delegate list")
    return read_address(named[0])


# --- parameters


@delegate_app.command("propose")
@signing
def propose(
    account: SendingAccount,
    name: Annotated[str, typer.Argument(help="As in genesis.json; see delegate parameters.")],
    value: Annotated[str, typer.Argument(help="A number; amounts as 2ether, 1gwei or wei.")],
) -> list[Act]:
    """Propose another value of a parameter, for the delegates of the set to approve."""
    if name not in AMENDABLE:
        raise Invalid("params", f"{name[:60]!r} is not up for votes: {', '.join(AMENDABLE)}")
    return [Act("proposeParameters", (name.encode().ljust(32, b"\0"), read_amount(value)))]


@delegate_app.command("approve")
@signing
def approve(
    account: SendingAccount,
    number: Annotated[int, typer.Argument(min=1, help="Id of the proposal.")],
) -> list[Act]:
    """Vote for a proposal, as a delegate of the set."""
    return [Act("voteParameters", (number,))]
