"""``dipnet device simulate``: many devices at once, without files.

Keys are new and are not kept; the values are a random walk that a seed determines. A turn asks for
the templates of all due devices in a single batch, signs their readings and submits them.
"""

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from dipnet.dag import senml
from dipnet.dag.vertex import PAYLOAD_SENML, topic_of
from dipnet.primitives.codec import to_hex
from dipnet.primitives.errors import Invalid
from dipnet.sdk import keys
from dipnet.sdk.client import Client
from dipnet.sdk.device import BATCH, PARENTS, PASSING, Template, clock_ms, sign_chain, submit
from dipnet.sdk.outbox import HEAD_NONE, Head, Unsigned

DEVICES_MAX: Final = 10_000
RATE_MAX: Final = 1_000_000
TURN_S: Final = 0.1
TOPIC: Final = "simulated/temperature"
WALK_SD: Final = 0.05
SWING: Final = 2.0
SWING_S: Final = 60.0


@dataclass(slots=True)
class Simulated:
    """A device and the present value of its walk."""

    name: str
    secret: bytes
    value: float

    @property
    def issuer(self) -> str:
        return to_hex(keys.address_of(self.secret))


@dataclass(slots=True)
class Totals:
    """The result of a simulation: readings sent and accepted, seconds, errors."""

    sent: int = 0
    accepted: int = 0
    seconds: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)
    """Readings that were refused or not answered, by code."""

    @property
    def per_second(self) -> float:
        """Accepted readings a second."""
        return self.accepted / self.seconds if self.seconds else 0.0

    def count(self, results: list[Invalid | None]) -> None:
        self.sent += len(results)
        for result in results:
            if result is None:
                self.accepted += 1
            else:
                self.errors[result.code] = self.errors.get(result.code, 0) + 1


def simulate(
    client: Client,
    devices: int,
    rate: float,
    seconds: float,
    on_turn: Callable[[Totals], None],
    seed: int = 0,
) -> Totals:
    """Sends ``rate`` readings a second, of all devices together, for ``seconds``.

    Refusals of readings are counted. Raises ``Invalid``: ``config`` for wrong arguments, and the
    node's refusals that are not in ``PASSING``. A node that cannot keep up lowers the rate: a turn
    sends at most a single batch.
    """
    if not 1 <= devices <= DEVICES_MAX or not 0 < rate <= RATE_MAX or not 0 < seconds < math.inf:
        raise Invalid(
            "config", f"want 1 to {DEVICES_MAX} devices, a rate up to {RATE_MAX}, seconds above 0"
        )
    rng = random.Random(seed)
    fleet = [Simulated(f"device-{n}", keys.new_secret(), rng.gauss(20, 2)) for n in range(devices)]
    tally, turn = Totals(), 0
    due_total, started_s = round(rate * seconds), time.monotonic()
    while tally.sent < due_total:
        elapsed_s = time.monotonic() - started_s
        if elapsed_s >= seconds + TURN_S:
            break
        due = min(int(rate * (elapsed_s + TURN_S)), due_total) - tally.sent
        shares = _shares(min(due, BATCH), len(fleet), turn)
        turn += sum(shares.values())
        if shares:
            tally.count(_turn(client, fleet, shares, rng))
            tally.seconds = time.monotonic() - started_s
            on_turn(tally)
        left_s = TURN_S - (time.monotonic() - started_s - elapsed_s)
        if left_s > 0 and due <= BATCH:  # when behind, go on at once
            time.sleep(left_s)
    tally.seconds = time.monotonic() - started_s
    return tally


def _shares(count: int, devices: int, turn: int) -> dict[int, int]:
    """The number of readings of each device, by index, so that all devices take turns."""
    shares: dict[int, int] = {}
    for n in range(turn, turn + count):
        shares[n % devices] = shares.get(n % devices, 0) + 1
    return shares


def _turn(
    client: Client, fleet: list[Simulated], shares: dict[int, int], rng: random.Random
) -> list[Invalid | None]:
    """Sends a batch; the result of each reading: None when accepted, else the refusal."""
    due = [(fleet[n], count) for n, count in shares.items()]
    wires: list[bytes] = []
    try:
        answers = client.batch([("dag_template", (device.issuer, PARENTS)) for device, _ in due])
        for (device, count), answer in zip(due, answers, strict=True):
            if isinstance(answer, Invalid):
                raise answer
            template = Template.read(answer)
            head = Head(template.seq - 1, template.prev, 0, HEAD_NONE.ref_hash)
            readings = [_measure(device, rng) for _ in range(count)]
            signed, _ = sign_chain(device.secret, template, head, readings, clock_ms())
            wires += [vertex.wire for vertex in signed]
        return submit(client, wires)
    except Invalid as error:
        if error.code not in PASSING:
            raise
        return [error] * sum(shares.values())


def _measure(device: Simulated, rng: random.Random) -> Unsigned:
    """The device's next value: a walk on a slow swing."""
    now_s = clock_ms() / 1000
    device.value += rng.gauss(0, WALK_SD)
    value = round(device.value + SWING * math.sin(2 * math.pi * now_s / SWING_S), 3)
    payload = senml.encode([senml.Reading(device.name, now_s, value, "Cel")])
    return Unsigned(topic_of(TOPIC), payload, PAYLOAD_SENML)
