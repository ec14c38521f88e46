"""``dipnetd signer`` runs a key in a process of its own; ``dipnetd votes`` manages vote states.

Rule that binds this file: a vote state is written only after the operator was told the consequences
and has confirmed that nothing else signs with the key.
"""

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from dipnet.cli.terminal import Json, group, note, show_fields, show_json
from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.chain.schedule import slot_at
from dipnet.consensus.finality.votes import VoteState
from dipnet.daemon import networks
from dipnet.host.config import load
from dipnet.host.store import Store
from dipnet.host.unixsocket import PrivateListener
from dipnet.ledger.genesis import Genesis
from dipnet.primitives.crypto import checksum
from dipnet.primitives.errors import Invalid
from dipnet.sdk import keys
from dipnet.signing import votefile
from dipnet.signing.signer import LocalSigner
from dipnet.signing.signer_server import serve
from dipnet.signing.votefile import VoteFile

LOG_FORMAT: Final = "%(asctime)s %(levelname)-7s %(message)s"

app = typer.Typer()
votes_app = group("Vote states: what a delegate's key has signed.")
app.add_typer(votes_app, name="votes")

log = logging.getLogger("dipnet")


@app.command()
def signer(
    keystore: Annotated[Path, typer.Option(help="Keystore v3 of the delegate's key.")],
    password: Annotated[Path, typer.Option(help="File with that keystore's password.")],
    socket: Annotated[Path, typer.Option(help="Unix socket to answer on.")],
    genesis: Annotated[Path, typer.Option(help="The network's genesis.json.")],
    votes: Annotated[
        Path | None, typer.Option(help="The key's vote state; default: beside the keystore.")
    ] = None,
    log_level: Annotated[
        str, typer.Option("--log", help="debug, info, warning or error.")
    ] = "info",
) -> None:
    """Sign for nodes on this machine, which ask over a socket; the key stays in this process."""
    logging.basicConfig(level=logging.WARNING, format=LOG_FORMAT)
    log.setLevel(log_level.upper())
    chain_id = networks.read_genesis(genesis).chain_id
    secret = keys.read_keystore(keystore, keys.read_password(password))
    held = VoteFile(votes or votefile.path_beside(keystore), chain_id, keys.address_of(secret))
    try:
        listener = PrivateListener(socket)
    except Invalid:
        held.close()
        raise
    raise typer.Exit(serve(LocalSigner(secret, held, chain_id), chain_id, listener))


# --- vote states


@dataclass(frozen=True, slots=True)
class Subject:
    """A key on a chain: the path of its vote state, its address, and the records of its node."""

    path: Path
    account: bytes
    genesis: Genesis
    records: Path


NodeConfigFile = Annotated[
    Path | None,
    typer.Option("--config", envvar="DIPNET_CONFIG", help="dipnet.toml of the delegate's node."),
]
NodeData = Annotated[Path | None, typer.Option(help="Directory of the delegate's node.")]
KeystoreFile = Annotated[Path | None, typer.Option(help="Keystore of a key without a node.")]
VotesFile = Annotated[Path | None, typer.Option(help="Vote state; default: beside the keystore.")]
GenesisFile = Annotated[Path | None, typer.Option(help="genesis.json of a key without a node.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@votes_app.command("show")
def show_votes(
    config: NodeConfigFile = None,
    data: NodeData = None,
    keystore: KeystoreFile = None,
    votes: VotesFile = None,
    genesis: GenesisFile = None,
    as_json: Json = False,
) -> None:
    """Print a key's vote state; it may be in use meanwhile."""
    subject = _subject(config, data, keystore, votes, genesis)
    state = votefile.read(subject.path, subject.genesis.chain_id, subject.account)
    _show(subject, state, as_json)


@votes_app.command("create")
def create_votes(
    config: NodeConfigFile = None,
    data: NodeData = None,
    keystore: KeystoreFile = None,
    votes: VotesFile = None,
    genesis: GenesisFile = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Make the vote state of a new key, which has signed nothing as a delegate yet."""
    subject = _subject(config, data, keystore, votes, genesis)
    _confirm(f"Has {checksum(subject.account)} never been a delegate's key here?", yes)
    votefile.create(subject.path, subject.genesis.chain_id, subject.account)
    _show(subject, VoteState(), as_json)


@votes_app.command("recover")
def recover_votes(
    config: NodeConfigFile = None,
    data: NodeData = None,
    keystore: KeystoreFile = None,
    votes: VotesFile = None,
    genesis: GenesisFile = None,
    slot: Annotated[
        int | None,
        typer.Option(min=0, help="The key signed nothing after this slot; default: now."),
    ] = None,
    epoch: Annotated[
        int | None, typer.Option(min=0, help="The present epoch; default: by the records.")
    ] = None,
    certified: Annotated[
        int | None,
        typer.Option(min=0, help="No node has a certificate of a later slot; default: unknown."),
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Write the vote state of a key that has lost it, so that it may sign later slots again."""
    subject = _subject(config, data, keystore, votes, genesis)
    state = _silenced(subject, slot, epoch, certified)
    note(
        f"{checksum(subject.account)}: a vote state will say that all slots to {state.proposed} "
        "are used up.\n"
        "This is safe only if no other node or signer uses this key, now or since that slot.\n"
        "The delegate proposes and votes no earlier, and it prevotes again when the others have "
        f"certified a block of slot {state.committed} or later, or in the next epoch."
    )
    _confirm("Is every other user of this key stopped?", yes)
    made = votefile.recover(subject.path, subject.genesis.chain_id, subject.account, state)
    _show(subject, made, as_json)


def _confirm(question: str, yes: bool) -> None:
    if not yes and not typer.confirm(question, err=True):
        raise Invalid("config", "nothing was written")


def _silenced(
    subject: Subject, slot: int | None, epoch: int | None, certified: int | None
) -> VoteState:
    if slot is None or epoch is None:
        epoch_now, slot_now = _now(subject)
        slot = slot_now if slot is None else slot
        epoch = epoch_now if epoch is None else epoch
    return votefile.silenced(epoch, slot, certified)


def _now(subject: Subject) -> tuple[int, int]:
    """The present epoch and slot by the node's records.

    Raises ``Invalid("config")`` when the records end before the present epoch: a state for an
    earlier epoch would allow the key to sign twice in the present epoch.
    """
    ask = "say --epoch and --slot as another node knows them"
    if not subject.records.is_dir():
        raise Invalid("config", f"there are no records in {subject.records}; {ask}")
    store = Store(subject.records)
    try:
        epoch = Chain(subject.genesis, store).epoch
    finally:
        store.close()
    slot = slot_at(epoch.parameters, time.time_ns() // 1_000_000)
    if slot >= epoch.end_slot:
        raise Invalid(
            "config",
            f"the records know epoch {epoch.number} to slot {epoch.end_slot - 1}, it is slot "
            f"{slot}; let the node catch up without the key, or {ask}",
        )
    return epoch.number, slot


def _subject(
    config: Path | None,
    data: Path | None,
    keystore: Path | None,
    votes: Path | None,
    genesis: Path | None,
) -> Subject:
    """The key that the options name, or the settings of the delegate's node."""
    settings = load({"data": data, "genesis": genesis}, os.environ, config).config
    keystore = keystore or settings.delegate_keystore
    if keystore is None:
        raise Invalid("config", "whose? name a --config with a delegate_keystore, or a --keystore")
    account = keys.keystore_address(keys.read_private(keystore, keys.KEYSTORE_BYTES_MAX))
    if account is None:
        raise Invalid("key", f"{keystore} does not say its address")
    path = votes or settings.delegate_votes or votefile.path_beside(keystore)
    genesis_read = networks.read_genesis(settings.genesis_path)
    return Subject(path, account, genesis_read, settings.data / networks.RECORDS)


def _show(subject: Subject, state: VoteState, as_json: bool) -> None:
    shown: dict[str, object] = {
        "file": str(subject.path),
        "delegate": checksum(subject.account),
        "chainId": subject.genesis.chain_id,
        "epoch": state.epoch,
        "proposed": state.proposed,
        "prevoted": state.prevoted,
        "committed": state.committed,
    }
    show_json(shown) if as_json else show_fields(shown)
