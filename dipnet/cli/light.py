"""``dipnet verify-header``: checks by signatures, without trust in a node, that a header is final.

The command begins with a trusted header (``sdk/trust.py``, or the hash of a boundary), follows the
epoch boundaries that a node shows, checks each with ``dipnet.sdk.light``, and keeps the last state,
from which the next run goes on. A node can withhold new headers; it cannot make a header look final
that is not (docs/light.md).
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from dipnet.cli.terminal import URL, Json, Url, note, show_fields, show_json
from dipnet.primitives.codec import from_hex, to_hex
from dipnet.primitives.errors import Invalid
from dipnet.sdk import light
from dipnet.sdk.client import Client
from dipnet.sdk.light import BoundaryProof, FinalProof, LightState
from dipnet.sdk.trust import Known, load, load_trusted, save

STATE: Final = Path("~/.dipnet/light.json")
BOUNDARIES_MAX: Final = 64
"""Boundaries in an answer; a node gives no more (docs/rpc.md)."""
DAY_MS: Final = 86_400_000
PERIOD_DAYS: Final = 7
"""Half the unbonding time of a network with the default parameters of genesis.json."""
HASH_HEX: Final = r"0x[0-9a-fA-F]{64}"

_CHECKPOINT: Final = re.compile(rf"([0-9]{{1,15}}):({HASH_HEX})", re.ASCII)


@dataclass(slots=True)
class Followed:
    """The number of boundaries, signatures and bytes that a run verified."""

    boundaries: int = 0
    signatures: int = 0
    bytes: int = 0


# --- following a node


def _raw(answer: object) -> bytes:
    if not isinstance(answer, str):
        raise Invalid("remote", "with something that is no record")
    return from_hex(answer, "remote")


def _boundaries(
    client: Client, first: int, last: int, done: Followed, *, every: bool
) -> list[BoundaryProof]:
    """The boundaries that a node shows for epochs ``first`` to ``last``, not yet verified."""
    count = min(last - first + 1, BOUNDARIES_MAX)
    answer = client.call("dpos_borders", first, count, every)
    if not isinstance(answer, list) or len(answer) > count:
        raise Invalid("remote", "with something that are no boundaries")
    raws = [_raw(record) for record in answer]
    done.bytes += sum(map(len, raws))
    return [proof for raw in raws if (proof := light.decode_boundary(raw)).opens <= last]


def follow(
    client: Client, state: LightState, epoch: int, done: Followed, *, every: bool = False
) -> Iterator[LightState]:
    """Advances over boundaries to the set of ``epoch``; yields the state after each answer.

    With ``every`` no boundary is skipped, so that no set is trusted beyond its epoch. Raises
    ``Invalid`` as ``light.advance`` does, and ``light_epoch`` when the node does not show the
    boundaries.
    """
    while state.epoch < epoch:
        boundaries = _boundaries(client, state.epoch + 1, epoch, done, every=every)
        if not boundaries:  # the set did not change: ask for the boundary of the epoch itself
            boundaries = _boundaries(client, epoch, epoch, done, every=True)
        if not boundaries:
            raise Invalid("light_epoch", f"no way is shown from epoch {state.epoch} to {epoch}")
        for boundary in boundaries:
            if every and boundary.header.epoch != state.epoch:
                raise Invalid("light_epoch", f"the boundary of epoch {state.epoch} is left out")
            state = light.advance(state, boundary)
            done.boundaries += 1
            done.signatures += len(boundary.certificate.indices())
        yield state


def _final(client: Client, done: Followed, *block_hash: str) -> FinalProof | None:
    answer = client.call("dpos_finalHeader", *block_hash)
    if answer is None:
        return None
    raw = _raw(answer)
    done.bytes += len(raw)
    return light.decode_final(raw)


def _verify(state: LightState, proof: FinalProof, done: Followed) -> None:
    light.verify_final(state, proof.header, proof.path, proof.certificate)
    done.signatures += len(proof.certificate.indices())


def newest(
    client: Client, known: Known, path: Path, done: Followed, *, every: bool
) -> tuple[Known, FinalProof | None]:
    """The newest final header of the node, verified, and the state that was kept meanwhile.

    The state is never beyond the epoch of the header's certificate, so that the next run can verify
    the same header again.
    """
    proof = _final(client, done)
    if proof is None:
        return known, None
    header, before, epoch = proof.header, known.final, proof.certificate.ballot.epoch
    if epoch < known.state.epoch or (before is not None and header.height < before.height):
        behind = f"it shows {header.height} of epoch {header.epoch}; more was verified before"
        raise Invalid("syncing", behind)
    for state in follow(client, known.state, epoch, done, every=every):
        known = replace(known, state=state)
        save(path, known)
    _verify(known.state, proof, done)
    if before is not None and header.height == before.height and header.hash != before.hash:
        both = f"{to_hex(before.hash)} and {to_hex(header.hash)} at height {header.height}"
        raise Invalid("light_conflict", both)
    known = replace(known, final=header)
    save(path, known)
    return known, proof


def of_hash(
    client: Client, state: LightState, block_hash: bytes, done: Followed, *, every: bool
) -> FinalProof:
    """The header of a hash, verified by the set of the epoch that made it final."""
    proof = _final(client, done, to_hex(block_hash))
    if proof is None or proof.header.hash != block_hash:
        raise Invalid("remote", "with another header than was asked for")
    epoch = proof.certificate.ballot.epoch
    if epoch < state.epoch:
        below = f"it became final in epoch {epoch}, known is {state.epoch}: begin lower with "
        raise Invalid("light_epoch", below + "--trusted and another --state")
    for reached in follow(client, state, epoch, done, every=every):
        state = reached
    _verify(state, proof, done)
    return proof


# --- the command


def from_checkpoint(client: Client, epoch: int, block_hash: bytes, period_ms: int) -> Known:
    """The state of a client that trusts the hash of the boundary that opens ``epoch``."""
    for boundary in _boundaries(client, epoch, epoch, Followed(), every=True):
        if boundary.header.hash == block_hash:
            chain_id = boundary.header.chain_id
            state = light.trusted_state(chain_id, epoch, boundary.header, boundary.members)
            return Known(block_hash, period_ms, state, None)
    raise Invalid("not_found", f"the node knows no boundary {to_hex(block_hash)} of epoch {epoch}")


def begin(client: Client, trusted: str | None, path: Path, period_days: int) -> Known:
    """The state to begin with: that of the file if it began with ``trusted``, else ``trusted``."""
    kept = load(path)
    if trusted is None:
        if kept is None:
            why = (
                f"there is no {path} yet: give --trusted genesis.json of the network, a file of "
                "another run, or EPOCH:HASH of a boundary, from a source that you trust"
            )
            raise Invalid("config", why)
        return kept
    checkpoint = _CHECKPOINT.fullmatch(trusted)
    if checkpoint is None:
        given = load_trusted(Path(trusted).expanduser())
    elif kept is not None and kept.trusted == from_hex(checkpoint[2]):
        return kept
    else:
        block_hash, period_ms = from_hex(checkpoint[2]), period_days * DAY_MS
        given = from_checkpoint(client, int(checkpoint[1]), block_hash, period_ms)
    if kept is not None and kept.trusted != given.trusted:
        why = f"{path} began with another trusted header; give another --state, or move it away"
        raise Invalid("config", why)
    return given if kept is None else kept


def now_ms() -> int:
    """Unix time in milliseconds."""
    return int(time.time() * 1000)


def verify_header(
    header: Annotated[
        str | None, typer.Option("--header", help="Hash of a header to verify as well.")
    ] = None,
    trusted: Annotated[
        str | None,
        typer.Option(help="genesis.json, a file of another run, or EPOCH:HASH of a boundary."),
    ] = None,
    state: Annotated[
        Path, typer.Option(envvar="DIPNET_LIGHT", help="File that keeps the verified state.")
    ] = STATE,
    every: Annotated[bool, typer.Option("--every", help="Leave out no boundary.")] = False,
    period_days: Annotated[
        int, typer.Option(min=1, help="Maximum age of a boundary given as EPOCH:HASH.")
    ] = PERIOD_DAYS,
    force: Annotated[
        bool, typer.Option("--force", help="Begin with a trusted header of any age.")
    ] = False,
    url: Url = URL,
    as_json: Json = False,
) -> None:
    """Verify the newest final header by signatures, from a trusted header on."""
    if header is not None and not re.fullmatch(HASH_HEX, header):
        raise Invalid("params", "--header: write a block's hash as 0x and 64 hex digits")
    path, done, wanted = state.expanduser(), Followed(), None
    with Client(url) as client:
        known = begin(client, trusted, path, period_days)
        started = known.state
        if force:
            note("the age of the trusted header was not looked at")
        else:
            light.check_age(started, now_ms(), known.period_ms)
        if header is not None:
            wanted = of_hash(client, started, from_hex(header), done, every=every)
        known, newest_final = newest(client, known, path, done, every=every)
    told: dict[str, object] = {
        "chainId": known.state.chain_id,
        "trusted": to_hex(known.trusted),
        "fromEpoch": started.epoch,
        "epoch": known.state.epoch,
        "checkpoint": f"{known.state.epoch}:{to_hex(known.state.boundary.hash)}",
        "borders": done.boundaries,
        "signatures": done.signatures,
        "bytes": done.bytes,
        "final": None if newest_final is None else _told(newest_final),
        "header": None if wanted is None else _told(wanted),
        "members": len(known.state.members),
        "ageMs": None if newest_final is None else now_ms() - newest_final.header.timestamp_ms,
        "state": str(path),
    }
    if as_json:
        show_json(told)
    else:
        show_fields(_shown(told))


def _told(proof: FinalProof) -> dict[str, object]:
    header = proof.header
    return {
        "height": header.height,
        "hash": to_hex(header.hash),
        "slot": header.slot,
        "epoch": header.epoch,
        "timestampMs": header.timestamp_ms,
        "stateRoot": to_hex(header.state_root),
        "signatures": len(proof.certificate.indices()),
    }


def _shown(told: dict[str, object]) -> dict[str, object]:
    """The result as text for people."""
    shown = {
        "chain": f"{told['chainId']}, trusted from {told['trusted']}",
        "epochs": f"{told['fromEpoch']} to {told['epoch']}, over {told['borders']} boundaries",
        "verified": f"{told['signatures']} signatures in {told['bytes']} bytes",
        "known": f"{told['checkpoint']}, the set of {told['members']} delegates",
        "final": _line(told["final"]) or "nothing above what is trusted",
    }
    if told["header"] is not None:
        shown["header"] = _line(told["header"])
    return shown | {"kept in": told["state"]}


def _line(final: object) -> str:
    if not isinstance(final, dict):
        return ""
    at = datetime.fromtimestamp(final["timestampMs"] / 1000, UTC).isoformat(timespec="seconds")
    place = f"slot {final['slot']}, epoch {final['epoch']}, {at}"
    return f"{final['height']} {final['hash']}, {place}, {final['signatures']} signatures"
