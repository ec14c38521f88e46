"""A libp2p peer that means no good: dipnet's own peer layer, without its manners."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from dipnet.consensus.chain.block import Block, decode_block, seal
from dipnet.consensus.finality.votes import Ballot, BallotKind, Vote
from dipnet.dag.vertex import VertexDraft, sign_vertex
from dipnet.ledger.genesis import Genesis
from dipnet.node.effects import PROTOCOLS, Connected, Disconnected, Received
from dipnet.p2p import messages as m
from dipnet.p2p.hello import CAPABILITIES
from dipnet.primitives import crypto
from dipnet.sdk.keys import DEV_SECRETS
from dipnet.transport.mailbox import Limits, TransportEvent
from dipnet.transport.net import Net
from tests.fixtures.chain_builder import Net as Chains
from tests.fixtures.chain_builder import add, with_fields

PATIENCE_S = 60
FRAME_BYTES_MAX = 64 << 20
LIMITS = Limits(
    frame_bytes_max=MappingProxyType(dict.fromkeys(PROTOCOLS, FRAME_BYTES_MAX)),
    outbox_bytes_max=2 * FRAME_BYTES_MAX,
    outbox_frames_max=1 << 20,
    write_s=PATIENCE_S,
)


class Hostile:
    """An identity and its connection to the node."""

    def __init__(self, network: "Network", limits: Limits = LIMITS) -> None:
        self.network = network
        self.events: list[TransportEvent] = []
        self.answer: Callable[[Any], m.Message | None] = lambda message: None
        self.net = Net(
            secret=secrets.token_bytes(32),
            listen="/ip4/127.0.0.1/tcp/0",
            on_event=self._on_event,
            on_failure=lambda reason: None,
            limits=limits,
        )
        self.id, _ = self.net.start()

    def _on_event(self, event: TransportEvent) -> None:
        self.events.append(event)
        if isinstance(event, Received):
            reply = self.answer(m.decode(event.protocol, event.data))
            if reply is not None:
                self.send(reply)

    async def until(self, true: Callable[[], object]) -> None:
        # Polled, because the peer thread changes the answer.
        async with asyncio.timeout(PATIENCE_S):
            while not true():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def connect(self) -> None:
        """Dials until the node lets it in; says nothing yet."""
        self.net.dial(self.network.address)
        await self.until(lambda: self.seen(Connected))

    async def greet(self, **changes: Any) -> None:
        """Until the node talks to us: frames of another protocol may overtake a hello."""
        await self.connect()
        self.send(replace(self.network.hello(), **changes))
        await self.until(lambda: self.gone or self.heard(m.GetPeers))

    def seen(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def heard(self, kind: type) -> list[Any]:
        decoded = (m.decode(event.protocol, event.data) for event in self.seen(Received))
        return [message for message in decoded if isinstance(message, kind)]

    def send(self, message: m.Message) -> bool:
        return self.raw(m.protocol_of(message), m.encode(message))

    def raw(self, protocol: str, data: bytes) -> bool:
        return self.net.send(self.network.peer, protocol, data)

    async def pour(self, frames: list[tuple[str, bytes]]) -> None:
        """All of them, as fast as they are read; or until it is thrown out."""
        for protocol, data in frames:
            while not self.raw(protocol, data):
                if self.gone:
                    return
                await asyncio.sleep(0.001)
        mailbox = self.net._mailboxes.get(self.network.peer)
        await self.until(lambda: self.gone or mailbox is None or not mailbox.unsent)

    @property
    def gone(self) -> bool:
        return bool(self.seen(Disconnected))

    async def thrown_out(self) -> None:
        await self.until(lambda: self.gone)


class Network:
    """The public facts of the node's network, and the delegate's key of a dev chain."""

    def __init__(self, genesis: Genesis, address: str) -> None:
        self.genesis = genesis
        self.address = address
        self.peer = address.rpartition("/")[2]
        delegate = DEV_SECRETS[0]
        self.chains = Chains(genesis, {crypto.address(crypto.public_key(delegate)): delegate})
        self.chain, self.disk = self.chains.chain()

    def hello(self) -> m.Hello:
        return m.Hello(
            version="hostile/1",
            chain_id=self.genesis.chain_id,
            genesis_hash=self.chain.genesis_hash,
            capabilities=CAPABILITIES,
            listen=(),
            nonce=secrets.token_bytes(8),
            head_height=0,
            head_hash=self.chain.genesis_hash,
            final_height=0,
            final_hash=self.chain.genesis_hash,
            safe_epoch=0,
            safe_slot=0,
            dag_count=0,
            dag_sum=0,
            time_ms=time.time_ns() // 1_000_000,
        )

    @asynccontextmanager
    async def hostile(self, limits: Limits = LIMITS) -> AsyncIterator[Hostile]:
        peer = Hostile(self, limits)
        try:
            yield peer
        finally:
            await asyncio.to_thread(peer.net.stop)

    def follow(self, raw: bytes) -> None:
        """Imports a block of the node."""
        add(self.chain, self.disk, decode_block(raw, self.genesis))

    def block(self, slot: int, key: bytes = DEV_SECRETS[0], **changes: Any) -> Block:
        """A block on our head with some fields changed, signed by ``key``, which may be any."""
        good = self.chains.child(self.chain, self.chain.head.hash, slot)
        header = with_fields(good.header, **changes)
        signature = crypto.sign(header.proposal_digest, key)
        return seal(header, (), signature, header.proposer, good.certificates)

    def vote(self, slot: int, key: bytes, epoch: int | None = None) -> Vote:
        """A prevote in the name of the delegate for no block at all; signed by ``key``."""
        epoch = self.chain.epoch.number if epoch is None else epoch
        ballot = Ballot(BallotKind.PREVOTE, epoch, slot, secrets.token_bytes(32), 0)
        return Vote(ballot, 0, crypto.sign(ballot.digest(self.genesis.chain_id), key))

    def vertex(self, key: bytes, seq: int, parents: tuple[bytes, ...] = (), size: int = 8) -> bytes:
        draft = VertexDraft(
            chain_id=self.genesis.chain_id, ref_height=0, ref_hash=self.chain.genesis_hash[:8],
            seq=seq, prev=bytes(32), timestamp_ms=0, topic=bytes(16), payload=bytes(size),
            parents=parents,
        )  # fmt: skip
        return sign_vertex(key, draft)
