"""A modest load on a network whose nodes come and go: payments, and vertices of devices.

Each source has a node of its own and rests while that is down. What a node has acknowledged is
remembered, and must be on every node in the end.
"""

import threading
import time
from random import Random

from dipnet.dag.vertex import VertexDraft, sign_vertex
from dipnet.ledger.genesis import Genesis
from dipnet.ledger.tx import sign_tx
from dipnet.primitives.codec import from_hex, to_hex
from dipnet.primitives.crypto import address, keccak256, public_key
from dipnet.primitives.errors import Invalid
from dipnet.sdk.client import Client
from tests.processes.drill_net import Node

PATIENCE_S = 20.0
AGAIN_S = 10.0
KNOWN = ("known", "nonce_low")
"""Refusals that a payment may get when it is sent again."""


class Source(threading.Thread):
    """Sends ``rate`` items a second to a node, and notes those that the node has taken."""

    def __init__(self, node: Node, genesis: Genesis, rate: float) -> None:
        super().__init__(daemon=True)
        self.taken: list[str] = []
        self.refused: list[str] = []
        self._node = node
        self._genesis = genesis
        self._pause_s = 1 / rate
        self._done = threading.Event()

    def run(self) -> None:
        with Client(self._node.url, PATIENCE_S) as client:
            while not self._done.wait(self._pause_s):
                try:
                    self.send(client)
                except Invalid as error:
                    if error.code != "unreachable":
                        self.refused.append(f"{self._node.name}: {error.code}: {error}")
                    time.sleep(1)

    def finish(self) -> None:
        self._done.set()
        self.join(2 * PATIENCE_S)

    def send(self, client: Client) -> None:
        raise NotImplementedError


class Payer(Source):
    """An account that pays a wei at a time: the next when the last is in a block.

    A node that dies may lose a payment that no other node knows; then it is sent again.
    """

    def __init__(self, node: Node, genesis: Genesis, rate: float, secret: bytes) -> None:
        super().__init__(node, genesis, rate)
        self._secret = secret
        self._account = to_hex(address(public_key(secret)))
        self._last = -1
        self._again_s = 0.0

    def send(self, client: Client) -> None:
        nonce = int(client.call("eth_getTransactionCount", self._account, "latest"), 16)
        if nonce <= self._last and time.monotonic() < self._again_s:
            return
        raw = sign_tx(
            self._secret, type=2, chain_id=self._genesis.chain_id, nonce=nonce,
            max_priority_fee=10**9, max_fee=10**11, gas=21_000, to=bytes(20), value=1,
        )  # fmt: skip
        self._again_s = time.monotonic() + AGAIN_S
        try:
            sent = client.call("eth_sendRawTransaction", to_hex(raw))
        except Invalid as refused:
            if nonce > self._last or refused.code not in KNOWN:
                raise
            return
        if nonce > self._last:
            self.taken.append(sent)
        self._last = max(nonce, self._last)


class Device(Source):
    """A device that sends a reading at a time."""

    def __init__(self, node: Node, genesis: Genesis, rate: float, random: Random) -> None:
        super().__init__(node, genesis, rate)
        self._key = keccak256(random.randbytes(32))
        self._issuer = to_hex(address(public_key(self._key)))
        self._random = random

    def send(self, client: Client) -> None:
        template = client.call("dag_template", self._issuer, 4)
        draft = VertexDraft(
            chain_id=template["chainId"],
            ref_height=template["refHeight"],
            ref_hash=from_hex(template["refHash"]),
            seq=template["seq"],
            prev=from_hex(template["prev"]),
            timestamp_ms=template["timestampMs"],
            topic=bytes(16),
            payload=self._random.randbytes(24),
            parents=tuple(map(from_hex, template["parents"])),
        )
        (result,) = client.call("dag_submit", [to_hex(sign_vertex(self._key, draft))])
        if result.get("status") == "accepted":
            self.taken.append(result["id"])
        else:
            self.refused.append(f"{self._node.name}: {result}")
