"""``dipnet device`` and ``dipnet dag``: commands that send readings and that show readings."""

import json
from pathlib import Path
from typing import Annotated, Final

import typer

from dipnet.cli import replay, simulate, tail
from dipnet.cli.terminal import (
    URL,
    Json,
    Meter,
    Url,
    group,
    note,
    printable,
    show_fields,
    show_json,
)
from dipnet.dag.vertex import topic_of
from dipnet.primitives.codec import to_hex
from dipnet.primitives.crypto import checksum
from dipnet.primitives.errors import Invalid
from dipnet.sdk import keys, series
from dipnet.sdk.client import Client
from dipnet.sdk.device import BATCH, Device

STATE_SUFFIX: Final = ".outbox"
KEY_SUFFIX: Final = ".key"
DELIMITERS: Final = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "space": " "}

device_app = group("Devices: signed readings into the DAG.")
dag_app = group("The DAG: readings as they arrive.")


@device_app.command("simulate")
def simulate_devices(
    devices: Annotated[int, typer.Option(help="Number of devices.")] = 20,
    rate: Annotated[
        float, typer.Option(help="Readings a second, of all devices together.")
    ] = 200.0,
    seconds: Annotated[float, typer.Option(help="Duration.")] = 10.0,
    seed: Annotated[int, typer.Option(help="Seed of the values.")] = 0,
    url: Url = URL,
    as_json: Json = False,
) -> None:
    """Send readings of many devices with new keys."""
    total = round(rate * seconds) if 0 < rate * seconds < 1e15 else 0
    with Client(url) as client, Meter("simulate", total, "readings", quiet=as_json) as meter:
        tally = simulate.simulate(
            client, devices, rate, seconds, lambda tally: meter.to(tally.accepted), seed
        )
    told: dict[str, object] = {
        "devices": devices,
        "sent": tally.sent,
        "accepted": tally.accepted,
        "errors": tally.errors,
        "seconds": round(tally.seconds, 3),
        "perSecond": round(tally.per_second, 1),
    }
    if as_json:
        show_json(told)
    else:
        errors = ", ".join(f"{count} {code}" for code, count in tally.errors.items())
        show_fields(told | {"errors": errors or "none"})
    if tally.sent and not tally.accepted:
        raise Invalid(next(iter(tally.errors)), "no reading was accepted")


@device_app.command("replay")
def replay_file(
    file: Annotated[Path, typer.Argument(help="CSV file whose first line names the columns.")],
    time: Annotated[str, typer.Option(help="Column: ISO 8601, epoch seconds or milliseconds.")],
    value: Annotated[str, typer.Option(help="Column with numbers.")],
    unit: Annotated[str, typer.Option(help="SenML unit, such as Cel or %RH.")] = "",
    name: Annotated[str | None, typer.Option(help="SenML name; default: the value column.")] = None,
    topic: Annotated[str | None, typer.Option(help="Topic; default: the name.")] = None,
    delimiter: Annotated[str, typer.Option(help="One character, or tab.")] = ",",
    key: Annotated[
        Path | None, typer.Option(help="Key file of the device; default: made beside the state.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="Outbox; default: FILE.outbox. One for each key.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=BATCH, help="Rows in one request.")] = BATCH,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out rows with faults.")
    ] = False,
    url: Url = URL,
    as_json: Json = False,
) -> None:
    """Sign a recorded series row by row and send it.

    Whatever stops it, the same command goes on: no row is lost or doubled.
    """
    delimiter = DELIMITERS.get(delimiter, delimiter)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise Invalid("series", f"--delimiter {delimiter[:20]!r}: give one character, or tab")
    if not file.is_file():
        raise Invalid("series", f"there is no file {file}")
    columns = series.Columns(time, value, name or series.name_of(value), unit, delimiter)
    state = state or file.with_name(file.name + STATE_SUFFIX)
    secret = keys.load_or_make_key(key or state.with_name(state.name + KEY_SUFFIX))
    total = replay.count_rows(file)
    with (
        Client(url) as client,
        Device(secret, client, state, batch=batch) as device,
        Meter("replay", total, "rows", quiet=as_json) as meter,
    ):
        done = replay.replay(
            device,
            file,
            columns,
            topic or columns.name,
            replay.Watcher(meter.to, meter.say),
            skip_bad=skip_bad,
            batch=batch,
        )
        issuer = checksum(device.issuer)
    told: dict[str, object] = {
        "issuer": issuer,
        "sent": done.sent,
        "skipped": done.skipped,
        "recorded": done.recorded,
        "seconds": round(done.seconds, 3),
        "perSecond": round(done.per_second, 1),
    }
    if as_json:
        show_json(told)
    elif done.sent == 0:
        note(f"nothing to do: all {done.recorded} rows of {file} are recorded by {issuer}")
    else:
        show_fields(told)


@dag_app.command("tail")
def tail_dag(
    issuer: Annotated[str | None, typer.Option(help="Only of this device.")] = None,
    topic: Annotated[str | None, typer.Option(help="Only on this topic.")] = None,
    follow: Annotated[bool, typer.Option(help="Go on with readings that arrive.")] = True,
    count: Annotated[int, typer.Option("-n", help="Earlier readings to begin with.")] = 10,
    url: Url = URL,
    as_json: Json = False,
) -> None:
    """Show signed readings as they arrive."""
    topic_id = None if topic is None else to_hex(topic_of(topic))

    def show(vertex: tail.VertexJson) -> None:
        if as_json:
            typer.echo(json.dumps(vertex))
        else:
            for line in tail.lines(vertex):
                typer.echo(printable(line))

    with Client(url) as client:
        for vertex in tail.earlier(client, count, issuer, topic_id):
            show(vertex)
    if follow:
        for vertex in tail.follow(url, issuer, topic_id, note):
            show(vertex)
