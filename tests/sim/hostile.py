"""A hostile peer: an honest node whose frames are rewritten on their way out.

It lies about its head, sends garbage, mutates, replays and forges. Its frames may get it banned;
the chain and the DAG of the other nodes must not change.
"""

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from dipnet.consensus.chain.block import Block, decode_block, seal
from dipnet.dag.vertex import VertexDraft, sign_vertex, topic_of
from dipnet.ledger.genesis import Genesis
from dipnet.node.effects import PROTOCOLS
from dipnet.p2p import messages as m
from dipnet.p2p.messages import Topic
from dipnet.primitives.errors import Invalid
from tests.sim.signer import Reckless
from tests.sim.wires import End
from tests.sim.world import Host

REPLAYED = 64
FAR = 1 << 40


class Hostile:
    """``mischief``: chance in percent that a frame is rewritten."""

    def __init__(
        self, genesis: Genesis, host: Host, seed: int, mischief: int, lies_only: bool
    ) -> None:
        self._genesis = genesis
        self._host = host
        self._rng = random.Random(seed)
        self._mischief = mischief
        self._lies_only = lies_only
        self._sent: list[tuple[str, bytes]] = []

    def frames(self, _to: End, protocol: str, data: bytes) -> Iterator[tuple[str, bytes]]:
        """The frames that are sent instead of a frame of the node."""
        rng = self._rng
        self._sent = [*self._sent[-REPLAYED:], (protocol, data)]
        if rng.randrange(100) >= self._mischief:
            yield protocol, data
            return
        try:
            message = m.decode(protocol, data)
        except Invalid as refused:
            raise AssertionError("a node sent what it would refuse") from refused
        if self._lies_only:
            yield protocol, m.encode(self._lie(message))
            return
        match rng.randrange(7):
            case 0:
                yield protocol, m.encode(self._lie(message))
            case 1:
                yield protocol, rng.randbytes(rng.randrange(400))
            case 2:
                yield protocol, self._mutated(data)
            case 3:
                yield protocol, data[: rng.randrange(len(data) + 1)]
            case 4:
                yield rng.choice(self._sent)
                yield protocol, data
            case 5:
                yield rng.choice(PROTOCOLS), data
            case _:
                yield from ((protocol, data) for _ in range(3))

    def _mutated(self, data: bytes) -> bytes:
        spoiled = bytearray(data)
        for _ in range(self._rng.randrange(1, 4)):
            spoiled[self._rng.randrange(len(spoiled))] = self._rng.randrange(256)
        return bytes(spoiled)

    def _lie(self, message: m.Message) -> m.Message:
        """A well-formed message that is not true."""
        rng = self._rng
        ids = tuple(rng.randbytes(32) for _ in range(rng.randrange(1, 20)))
        match message:
            case m.Hello() | m.Status():
                return replace(
                    message,
                    head_height=rng.choice((0, message.head_height + 5, FAR)),
                    head_hash=rng.choice((message.head_hash, rng.randbytes(32))),
                    dag_count=rng.choice((0, message.dag_count + 2000, FAR)),
                )
            case m.Votes() | m.Certificates():
                return replace(message, raws=tuple(map(self._mutated, message.raws)))
            case m.Announce() | m.Fetch() | m.Tips():
                return replace(message, ids=ids)
            case m.Items(topic=Topic.BLOCK):
                return replace(message, raws=tuple(self._forged(raw) for raw in message.raws))
            case m.Vertices():
                wire = sign_vertex(rng.randbytes(32), self._orphan(rng.choice(((), ids[:1]))))
                return m.Vertices(message.wire + wire)
            case m.Blocks():
                raws = [self._forged(raw) for raw in message.raws]
                return replace(message, raws=tuple(raws[::-1]), more=True)
            case m.GetBlocks():
                return replace(message, locator=ids)
            case m.Located():
                return replace(message, ordinal=rng.choice((0, FAR)))
            case m.VertexRange():
                return replace(message, next=message.next + rng.randrange(3), end=False)
            case m.PeerAddresses():
                return m.PeerAddresses(
                    ("/ip4/127.0.0.1/tcp/1/p2p/" + self._host.name, "/dns4/x/tcp/1", "")
                )
            case _:
                return message

    def _forged(self, raw: bytes) -> bytes:
        """Our own block with a wrong root, signed; any other block with some bytes changed."""
        try:
            block: Block = decode_block(raw, self._genesis)
        except Invalid:  # another vice has spoilt it
            return self._mutated(raw)
        key = self._host.signer
        if not isinstance(key, Reckless) or block.signer != key.address:
            return self._mutated(raw)
        field = self._rng.choice(("state_root", "receipt_root", "gas_used", "base_fee", "parent"))
        old = getattr(block.header, field)
        new = self._rng.randbytes(32) if isinstance(old, bytes) else old + 1
        changed: dict[str, Any] = {field: new}
        header = replace(block.header, **changed)
        signature = key.sign(header.proposal)
        return seal(header, block.txs, signature, key.address, block.certificates).raw

    def _orphan(self, parents: tuple[bytes, ...]) -> VertexDraft:
        return VertexDraft(
            chain_id=self._genesis.chain_id,
            ref_height=self._rng.randrange(100),
            ref_hash=self._rng.randbytes(8),
            seq=1,
            prev=bytes(32),
            timestamp_ms=0,
            topic=topic_of("hostile"),
            payload=b"x",
            parents=parents,
        )
