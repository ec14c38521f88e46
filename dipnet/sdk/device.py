"""A device's side of the DAG: it takes readings and sends a hash chain of signed vertices.

    with Client() as client, Device(secret, client, Path("pump.outbox")) as device:
        device.reading("pump-7", 21.5, unit="Cel")
        device.flush()

Rules that bind this file (docs/spec/dag.md "Vertex"): ``seq`` and ``prev`` form one chain per
issuer. So an outbox belongs to one key, and both are compared with the node's view before anything
is signed. Bytes are signed once, kept, and sent unchanged until a node accepts them. A vertex has
the time of its signature; the time of the reading is in the SenML record.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from dipnet.dag import senml
from dipnet.dag.vertex import (
    PAYLOAD_RAW,
    PAYLOAD_SENML,
    SIGNATURE_BYTES,
    VertexDraft,
    sign_vertex,
    topic_of,
)
from dipnet.primitives.codec import to_hex
from dipnet.primitives.crypto import address, checksum, public_key, sha256
from dipnet.primitives.errors import Invalid
from dipnet.sdk.client import REQUEST_BYTES_MAX, Client, refusal
from dipnet.sdk.outbox import HEAD_NONE, IN_MEMORY, Head, Outbox, SignedVertex, Unsigned

PARENTS: Final = 4
RETRY_FIRST_S: Final = 0.5
RETRY_MAX_S: Final = 10.0
SEQ_MAX: Final = 2**63 - 1  # of an SQLite integer
BATCH: Final = 500
VERTEX_BYTES_SPARE: Final = 512  # of a vertex around its payload
BATCH_BYTES_MAX: Final = (REQUEST_BYTES_MAX - 1024) // 2 - BATCH * 4  # as hex, in JSON
PASSING: Final = frozenset(
    ("unreachable", "busy", "limit", "stopping", "syncing", "disk", "vertex_orphan")
)
"""Codes of refusals that pass: the same call succeeds later."""


@dataclass(frozen=True, slots=True)
class Template:
    """The answer to ``dag_template``: the fields of the next vertex that the network decides.

    ``ref_hash`` is the prefix of a block hash, ``parents`` and ``prev`` are vertex ids of 32 bytes.
    """

    chain_id: int
    ref_height: int
    ref_hash: bytes
    parents: tuple[bytes, ...]
    seq: int
    prev: bytes

    @classmethod
    def read(cls, answer: Any) -> "Template":
        """The template in a JSON answer; raises ``Invalid("remote")`` for another form."""
        try:
            template = cls(
                int(answer["chainId"]),
                int(answer["refHeight"]),
                bytes.fromhex(answer["refHash"][2:]),
                tuple(bytes.fromhex(parent[2:]) for parent in answer["parents"]),
                int(answer["seq"]),
                bytes.fromhex(answer["prev"][2:]),
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            raise Invalid("remote", "with a template of another form") from None
        if len(template.prev) != 32 or not 0 < template.seq <= SEQ_MAX:
            raise Invalid("remote", "with a template of impossible seq or prev")
        return template


def sign_chain(
    secret: bytes, template: Template, head: Head, readings: Sequence[Unsigned], now_ms: int
) -> tuple[list[SignedVertex], Head]:
    """Signs readings one after another behind ``head``; returns the vertices and the new head.

    ``secret``: 32 bytes. ``now_ms``: Unix time. The first vertex has the template's parents, among
    them the issuer's last vertex; each later vertex has the vertex before it as its parent. The
    reference block is never older than the reference of ``head``: a vertex whose reference is older
    than its parent's is refused (docs/spec/dag.md "Parents and ages"), and a template may be older
    when it comes from another node, which is behind.
    """
    ref_height, ref_hash = max(
        (template.ref_height, template.ref_hash), (head.ref_height, head.ref_hash)
    )
    parents = template.parents
    vertices = []
    for reading in readings:
        wire = sign_vertex(
            secret,
            VertexDraft(
                chain_id=template.chain_id,
                ref_height=ref_height,
                ref_hash=ref_hash,
                seq=head.seq + 1,
                prev=head.id,
                timestamp_ms=now_ms,
                topic=reading.topic,
                payload=reading.payload,
                payload_type=reading.payload_type,
                parents=parents,
            ),
        )
        envelope = wire[: len(wire) - SIGNATURE_BYTES - len(reading.payload)]
        head = Head(head.seq + 1, sha256(envelope), ref_height, ref_hash)
        parents = (head.id,)
        vertices.append(SignedVertex(reading.number, head.seq, wire))
    return vertices, head


def clock_ms() -> int:
    """Unix time of this machine in milliseconds."""
    return time.time_ns() // 1_000_000


class Device:
    """A key and its chain of vertices. Without a path the outbox is in memory."""

    def __init__(
        self,
        secret: bytes,
        client: Client,
        path: Path | None = None,
        now_ms: Callable[[], int] = clock_ms,
        batch: int = BATCH,
    ) -> None:
        self.issuer = address(public_key(secret))
        self.outbox = Outbox(path or IN_MEMORY, self.issuer)
        self._secret = secret
        self._client = client
        self._now_ms = now_ms
        self._batch = min(batch, BATCH)
        self._met = False

    def __repr__(self) -> str:
        return f"Device({checksum(self.issuer)})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Releases the outbox; readings that are not acknowledged stay in it."""
        self.outbox.close()

    # --- in

    def reading(
        self, name: str, value: senml.Value, *, unit: str = "", time_s: senml.Number | None = None
    ) -> None:
        """Keeps a measured value. ``time_s``: Unix seconds, by default now.

        ``name`` is its name in SenML and its topic. Raises ``Invalid("senml")`` for a reading that
        SenML cannot express.
        """
        at = self._now_ms() / 1000 if time_s is None else time_s
        payload = senml.encode([senml.Reading(name, at, value, unit)])
        self.put([Unsigned(topic_of(name), payload, PAYLOAD_SENML)])

    def payload(self, topic: str, payload: bytes, payload_type: int = PAYLOAD_RAW) -> None:
        """Keeps a payload of any type."""
        self.put([Unsigned(topic_of(topic), payload, payload_type)])

    def put(self, readings: Sequence[Unsigned]) -> None:
        """Keeps readings, durable on return."""
        self.outbox.put(readings)

    # --- out

    def flush(self, on_settled: Callable[[int], None] = lambda count: None) -> int:
        """Signs and sends until the node has acknowledged all readings; returns their number.

        Raises ``Invalid``. When its code is in ``PASSING``, a later call goes on and no reading is
        lost or doubled. ``on_settled`` gets the number of readings that an answer acknowledged.
        """
        total = 0
        while True:
            vertices = self.outbox.signed(self._batch, BATCH_BYTES_MAX)
            if not vertices and not self.outbox.waiting:
                return total
            try:
                if not self._met:
                    self._meet()
                count = self._send(vertices or self._sign())
            except Invalid:
                self._met = False
                raise
            total += count
            on_settled(count)

    def _meet(self) -> None:
        """Compares the outbox with the node's chain and with the node's view of this issuer."""
        genesis = _genesis_hash(self._client.call("dipnet_status"))
        bound = self.outbox.genesis
        if not bound:
            self.outbox.bind(genesis)
        elif bound != genesis:
            raise Invalid(
                "outbox",
                f"it is for the chain {to_hex(bound)[:18]}..., the node is on "
                f"{to_hex(genesis)[:18]}...",
            )
        template = self._template()
        head, known = self.outbox.head, template.seq - 1
        if head == HEAD_NONE and known > 0:
            self.outbox.adopt(Head(known, template.prev, 0, HEAD_NONE.ref_hash))
        elif known > head.seq:
            raise Invalid(
                "outbox",
                f"the node knows {known} vertices of {checksum(self.issuer)}, the outbox ends at "
                f"{head.seq}: another outbox signs with the same key",
            )
        elif known < self.outbox.settled_seq:
            raise Invalid(
                "syncing",
                f"it knows {known} vertices of {checksum(self.issuer)}, of which "
                f"{self.outbox.settled_seq} were acknowledged",
            )
        self._met = True

    def _template(self) -> Template:
        answer = self._client.call("dag_template", to_hex(self.issuer), PARENTS)
        return Template.read(answer)

    def _sign(self) -> list[SignedVertex]:
        """Signs the next batch; the vertices are in the outbox when they are returned."""
        head, template = self.outbox.head, self._template()
        if (template.seq, template.prev) != (head.seq + 1, head.id):
            raise Invalid("syncing", f"it does not show the vertex {head.seq} that it took")
        room = BATCH_BYTES_MAX - self._batch * VERTEX_BYTES_SPARE
        readings = self.outbox.unsigned(self._batch, room)
        vertices, head = sign_chain(self._secret, template, head, readings, self._now_ms())
        self.outbox.sign(vertices, head)
        return vertices

    def _send(self, vertices: Sequence[SignedVertex]) -> int:
        """Submits vertices and settles them up to the first refusal, which is raised."""
        results = submit(self._client, [vertex.wire for vertex in vertices])
        failure = next(((i, r) for i, r in enumerate(results) if r is not None), None)
        if failure is None:
            self.outbox.settle(vertices)
            return len(vertices)
        index, refused = failure
        self.outbox.settle(vertices[:index])
        # The place for expiry: with anchors, a vertex that is refused because its reference expired
        # by final height will be signed again here, together with all its successors.
        raise refused


def submit(client: Client, wires: Sequence[bytes]) -> list[Invalid | None]:
    """Submits encoded vertices; for each the result: None when accepted, else the refusal.

    Raises ``Invalid`` as ``Client.call`` does.
    """
    answers = client.call("dag_submit", [to_hex(wire) for wire in wires])
    if not isinstance(answers, list) or len(answers) != len(wires):
        raise Invalid("remote", "with another number of results than vertices")
    return [_verdict(answer) for answer in answers]


def patiently(
    work: Callable[[], object], say: Callable[[str], None], sleep: Callable[[float], None]
) -> None:
    """Calls ``work`` until it succeeds, waiting longer after each failure of ``PASSING``.

    Other failures are raised. ``say`` gets a line for each new failure and for the end of it.
    """
    delay_s, told = RETRY_FIRST_S, ""
    while True:
        try:
            work()
        except Invalid as error:
            if error.code not in PASSING:
                raise
            if str(error) != told:
                told = str(error)
                say(f"waiting: {told}; trying again, nothing is lost")
            sleep(delay_s)
            delay_s = min(2 * delay_s, RETRY_MAX_S)
        else:
            if told:
                say("the node answers again")
            return


def _verdict(answer: Any) -> Invalid | None:
    if not isinstance(answer, dict):
        return Invalid("remote", "with a result of another form")
    if "error" in answer:
        return refusal(answer["error"])
    if answer.get("status") in ("accepted", "known"):
        return None
    return Invalid("vertex_orphan", "it waits for vertices that the node does not have yet")


def _genesis_hash(status: Any) -> bytes:
    try:
        return bytes.fromhex(status["genesisHash"][2:])
    except (KeyError, TypeError, ValueError):
        raise Invalid("remote", "with a status of another form") from None
