"""``dipnet delegate list | status | parameters | pause | resume``: commands that do not sign."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from dipnet.cli.delegate import delegate_app, find_delegate
from dipnet.cli.terminal import URL, Json, Url, show_fields, show_json, show_rows
from dipnet.cli.wallet import ether
from dipnet.consensus.staking.actions import EVENTS
from dipnet.consensus.staking.idpos import METHODS
from dipnet.primitives.codec import to_hex
from dipnet.primitives.errors import Invalid
from dipnet.sdk.admin_client import SOCKET_NAME, admin_call
from dipnet.sdk.client import Client

__all__ = ["delegate_app"]  # complete when this file has added its commands

DATA: Final = Path("~/.dipnet")

Data = Annotated[
    Path, typer.Option("--data", envvar="DIPNET_DATA", help="Data directory of the node.")
]
SocketFile = Annotated[
    Path | None, typer.Option(help=f"Its admin socket; default: {SOCKET_NAME} in data.")
]


def _wei(text: str) -> str:
    return ether(int(text, 16))


def standing(candidate: dict[str, Any]) -> str:
    """The standing of a candidate of ``dpos_delegates``, in a few words."""
    if candidate["status"] != "registered":
        return str(candidate["status"])
    if candidate["jailed"]:
        return f"jailed to epoch {candidate['jailedUntil']}"
    if candidate["active"]:
        return "active" if candidate["next"] else "active, leaving"
    if candidate["next"]:
        return "next epoch"
    rank = candidate.get("standby")
    return f"standby {rank}" if rank else "candidate"


@delegate_app.command("list")
def show_list(url: Url = URL, as_json: Json = False) -> None:
    """Show all candidates, most votes first."""
    with Client(url) as client:
        found = client.call("dpos_delegates")
    if as_json:
        show_json(found)
        return
    show_rows(
        ["name", "address", "votes", "share", "commission", "produced", "missed", "standing"],
        [
            [each["name"], each["address"], _wei(each["votes"]), f"{100 * each['share']:.2f}%",
             f"{each['commissionBps'] / 100:g}%", each["produced"], each["missed"], standing(each)]
            for each in found
        ],
    )  # fmt: skip


@delegate_app.command("status")
def show_status(
    delegate: Annotated[
        str | None, typer.Argument(help="Name or address; default: the node's own delegate.")
    ] = None,
    url: Url = URL,
    as_json: Json = False,
) -> None:
    """Show how finality keeps up, and the standing of a delegate or an account."""
    with Client(url) as client:
        status = client.call("dpos_status")
        own = status["delegate"]
        address = (
            own and own["address"] if delegate is None else to_hex(find_delegate(client, delegate))
        )
        candidate, account = _standing_of(client, address) if address else (None, None)
    if as_json:
        show_json({"status": status, "candidate": candidate, "account": account})
        return
    show_fields(
        _finality_fields(status)
        | (_own_fields(own) if delegate is None and own else {})
        | (_candidate_fields(candidate) if candidate else {})
        | (_account_fields(account) if account else {})
    )


def _standing_of(client: Client, address: str) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    candidate, account = client.batch([("dpos_delegate", (address,)), ("dpos_account", (address,))])
    if isinstance(account, Invalid):
        raise account
    return None if isinstance(candidate, Invalid) else candidate, account


def _finality_fields(status: dict[str, Any]) -> dict[str, object]:
    head, final, latency = status["head"], status["finalized"], status["certificateLatencyMs"]
    known = latency["p50"] is not None
    return {
        "epoch": f"{status['epoch']}, to slot {status['endSlot']}; now {status['slot']}",
        "head": f"{head['height']} slot {head['slot']}",
        "finalized": f"{final['height']} slot {final['slot']}, "
        f"{status['finalityLagSlots']} slots ago",
        "latency": f"p50 {latency['p50']} ms, p99 {latency['p99']} ms of {latency['blocks']} blocks"
        if known
        else "not known yet",
        "finality": status["complaint"] or "keeps up",
    }


def _own_fields(own: dict[str, Any]) -> dict[str, object]:
    state = own["voteState"]
    return {
        "signed": f"epoch {state['epoch']}, proposal {state['proposed']}, "
        f"prevote {state['prevoted']}, commit {state['committed']}",
        "takes part": "yes" if own["silent"] is None else f"no: {own['silent']}",
    }


def _commission(candidate: dict[str, Any]) -> str:
    raised = candidate["commissionNext"]
    later = f", {raised['bps'] / 100:g}% from epoch {raised['epoch']}" if raised else ""
    return f"{candidate['commissionBps'] / 100:g}%{later}"


def _candidate_fields(candidate: dict[str, Any]) -> dict[str, object]:
    fields: dict[str, object] = {
        "delegate": f"{candidate['name']} {candidate['address']}",
        "standing": standing(candidate),
        "votes": f"{_wei(candidate['votes'])}, commission {_commission(candidate)}",
        "slots": f"{candidate['produced']} produced, {candidate['missed']} missed",
    }
    taken = candidate["participation"]
    if taken:
        seen = f"{taken['prevotes']} prevotes, {taken['commits']} commits"
        fields["votes seen"] = f"{seen} in {taken['slots']} slots"
    return fields


def _account_fields(account: dict[str, Any]) -> dict[str, object]:
    votes = ", ".join(account["votes"])
    leaving = f"; {_wei(account['unbonding'])} free from epoch {account['release']}" * bool(
        account["release"]
    )
    return {
        "stake": _wei(account["stake"]) + leaving,
        "votes for": f"{votes}, to epoch {account['expires']}" if votes else "nobody",
        "to claim": _wei(account["claimable"]),
    }


@delegate_app.command("parameters")
def show_parameters(url: Url = URL, as_json: Json = False) -> None:
    """Show the parameters that delegates may change by vote, and the proposals."""
    with Client(url) as client:
        found = client.call("dpos_parameters")
    if as_json:
        show_json(found)
        return
    show_rows(["parameter", "in force"], [[n, _value(v)] for n, v in found["inForce"].items()])
    if found["proposals"]:
        show_rows(
            ["id", "parameter", "value", "state", "votes", "starts", "expires"],
            [
                [each["id"], each["name"], _value(each["value"]), each["state"],
                 f"{each['votes']} of {each['quorum']}", each["starts"] or "-", each["expires"]]
                for each in found["proposals"]
            ],
        )  # fmt: skip


def _value(value: object) -> str:
    return f"{int(value, 16)} wei" if isinstance(value, str) else str(value)


def interface() -> list[dict[str, Any]]:
    """The JSON ABI of IDpos for web3.py, ethers and viem."""

    def named(declared: str, **more: bool) -> list[dict[str, Any]]:
        pairs = [part.split() for part in declared.split(",") if part.strip()]
        return [{"type": kind, "name": name} | more for kind, name in pairs]

    functions: list[dict[str, Any]] = [
        {
            "type": "function",
            "name": method.name,
            "inputs": named(method.takes),
            "outputs": named(method.gives),
            "stateMutability": "view"
            if method.view
            else "payable"
            if method.payable
            else "nonpayable",
        }
        for method in METHODS.values()
    ]
    return functions + [
        {
            "type": "event",
            "name": event.name,
            "inputs": named(event.indexed, indexed=True) + named(event.rest, indexed=False),
            "anonymous": False,
        }
        for event in EVENTS
    ]


@delegate_app.command("abi")
def show_abi() -> None:
    """Print the JSON ABI of IDpos at 0x...0d02, for web3.py, ethers and viem."""
    show_json(interface())


# --- the node on this machine


def _admin(method: str, data: Path, socket: Path | None, as_json: bool) -> None:
    path = (socket or data / SOCKET_NAME).expanduser()
    try:
        told = admin_call(path, method)
    except Invalid as error:
        if error.code != "unreachable":
            raise
        raise Invalid(
            "config",
            f"{error.detail}; name the data directory of a running node with --data, or its "
            "socket with --socket",
        ) from None
    show_json(told) if as_json else show_fields(_admin_fields(told))


def _admin_fields(told: dict[str, Any]) -> dict[str, object]:
    votes = told["votes"]
    signed = votes and ", ".join(f"{name} {value}" for name, value in votes.items())
    return {
        "paused": "yes" if told["paused"] else "no",
        "key": told["delegate"] or "none: this node only follows the chain",
        "signed": signed or "nothing",
        "signer": told["signer"] or "answers",
    }


@delegate_app.command("pause")
def pause(data: Data = DATA, socket: SocketFile = None, as_json: Json = False) -> None:
    """Stop the node on this machine from signing; it goes on following the chain."""
    _admin("admin_pause", data, socket, as_json)


@delegate_app.command("resume")
def resume(data: Data = DATA, socket: SocketFile = None, as_json: Json = False) -> None:
    """Let the node on this machine sign again."""
    _admin("admin_resume", data, socket, as_json)
