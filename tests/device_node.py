"""A node as a device sees it, in this process: the shipping DAG behind the client's interface.

``faults`` says what happens to the next submissions, first to last; when it is empty all goes well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dipnet.client import Call, Client
from dipnet.codec import to_hex
from dipnet.crypto import sha256
from dipnet.dag.graph import ACCEPTED, KNOWN, PENDING, Dag
from dipnet.dag.orphans import Orphans
from dipnet.dag.vertex import Vertex, check_each, decode, issuer_keys
from dipnet.errors import Invalid
from tests.memory import Memory

CHAIN_ID = 2018
NAMES = {ACCEPTED: "accepted", KNOWN: "known", PENDING: "pending"}


@dataclass
class Rules:
    chain_id: int = CHAIN_ID
    dag_max_parent_age: int = 60


@dataclass
class DagNode(Client):
    """``lost``: the request never arrives; ``unanswered``: it does, its answer gets lost;
    ``busy``: refused as a whole; ``cut``: only the first half is taken, the rest is refused."""

    genesis: bytes = sha256(b"a chain")
    height: int = 0
    faults: list[str] = field(default_factory=list)
    submissions: list[list[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.records = Memory()
        self.dag = Dag(self.records, Rules(), 1, Orphans())
        self.url = "in this process"

    def close(self) -> None:
        pass

    def call(self, method: str, *params: object) -> Any:
        match method, params:
            case "dipnet_status", ():
                return {"genesisHash": to_hex(self.genesis)}
            case "dag_template", (str(issuer), int(k)):
                return self._template(bytes.fromhex(issuer[2:]), k)
            case "dag_submit", (list(items),):
                return self._submit([bytes.fromhex(item[2:]) for item in items])
        raise AssertionError(method)

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        return [self.call(method, *params) for method, params in calls]

    def _template(self, issuer: bytes, k: int) -> dict[str, Any]:
        self.height += 1
        made = self.dag.template(issuer, k, self.height, self.height)
        return {
            "chainId": CHAIN_ID,
            "refHeight": self.height,
            "refHash": to_hex(self.height.to_bytes(8, "big")),
            "parents": [to_hex(parent) for parent in made.parents],
            "seq": made.seq,
            "prev": to_hex(made.prev),
            "timestampMs": 0,
        }

    def _submit(self, wires: list[bytes]) -> list[Any]:
        fault = self.faults.pop(0) if self.faults else ""
        self.submissions.append(wires)
        if fault == "lost":
            raise Invalid("unreachable", "lost")
        if fault == "busy":
            raise Invalid("busy")
        taken = wires[: len(wires) // 2] if fault == "cut" else wires
        inserted = self.dag.insert(check_each(taken, CHAIN_ID, issuer_keys(1), 1))
        self.records.apply(inserted.puts)
        refused = dict(inserted.refused)
        if fault == "unanswered":
            raise Invalid("unreachable", "no answer")
        answers: list[Any] = [
            {"error": {"code": -1, "message": str(refused[i]), "data": {"code": refused[i].code}}}
            if i in refused
            else {"id": to_hex(b""), "status": NAMES[status]}
            for i, status in enumerate(inserted.statuses)
        ]
        error = {
            "error": {"code": -32005, "message": "disk is nearly full", "data": {"code": "disk"}}
        }
        return answers + [error] * (len(wires) - len(taken))

    def chain(self, issuer: bytes) -> list[Vertex]:
        """All that the DAG has of an issuer, by seq."""
        wires = [self.dag.wire(n) for n in range(len(self.dag))]
        mine = [v for v in map(decode, wires) if v.issuer == issuer]
        return sorted(mine, key=lambda vertex: vertex.seq)
