"""A node for the tests of the RPC: a real chain, pool and DAG in memory, without peers or a loop.

What is submitted is taken in at once; ``produce`` makes the next block of what waits.
"""

from collections.abc import Sequence
from typing import Any, Literal

from dipnet.consensus.block import Block
from dipnet.consensus.fees import next_base_fee
from dipnet.consensus.pool import Pool
from dipnet.consensus.produce import build
from dipnet.consensus.schedule import slot_start_ms
from dipnet.crypto import sign
from dipnet.dag.graph import Dag
from dipnet.dag.vertex import check_each, decode, issuer_keys
from dipnet.errors import Invalid
from dipnet.rpc.feed import Feed, Feeds, Topic
from dipnet.state import Journal
from dipnet.tx import decode_batch
from tests.chain_builder import Net, add

STATUSES = ("accepted", "known", "pending")


class Node:
    """Implements ``dipnet.rpc.backend.Backend``. ``bugs`` collects what ``failed`` is told."""

    def __init__(self, **parameters: Any) -> None:
        self.net = Net.of(**parameters)
        self.genesis = self.net.genesis
        self.chain, self.disk = self.net.chain()
        self.pool = Pool(self.genesis)
        self.dag = Dag.load(self.disk, self.genesis, 1)
        self.keys = issuer_keys(1)
        self.feeds = Feeds()
        self.peer_id = "16Uiu2HAmTestTestTestTestTestTestTestTestTestTestTest"
        self.complaints: dict[str, str | None] = {"store": None, "peers": None}
        self.progress: tuple[int, int] | None = None
        self.refuses: Invalid | None = None
        self.bugs: list[Exception] = []
        self.submitted: list[tuple[str, int]] = []

    def now_ms(self) -> int:
        return self.chain.head.timestamp_ms + 100

    def started_ms(self) -> int:
        return self.genesis.time_ms

    def peers(self) -> Sequence[dict[str, object]]:
        return [{"peer": "16Uiu2Other", "address": "/ip4/127.0.0.1/tcp/1", "outbound": True}]

    def listen_addresses(self) -> Sequence[str]:
        return [f"/ip4/127.0.0.1/tcp/30301/p2p/{self.peer_id}"]

    def syncing(self) -> tuple[int, int] | None:
        return self.progress

    def health(self) -> dict[str, str | None]:
        return self.complaints

    def failed(self, error: Exception) -> None:
        self.bugs.append(error)

    async def settled(self) -> None:
        """Everything is, at once."""

    def subscribe(self, topic: Topic) -> Feed:
        return self.feeds.subscribe(topic)

    async def submit(
        self, kind: Literal["txs", "vertices"], items: Sequence[bytes]
    ) -> Sequence[tuple[bytes, str] | Invalid]:
        self.submitted.append((kind, len(items)))
        if self.refuses is not None:
            raise self.refuses
        return self._txs(items) if kind == "txs" else self._vertices(items)

    def _txs(self, items: Sequence[bytes]) -> list[tuple[bytes, str] | Invalid]:
        head = self.chain.head
        base_fee = next_base_fee(self.genesis, head.base_fee, head.gas_used)
        results: list[tuple[bytes, str] | Invalid] = []
        for tx in decode_batch(items, self.genesis.chain_id):
            if isinstance(tx, Invalid):
                results.append(tx)
                continue
            account = self._journal().account(tx.sender)
            try:
                self.pool.add(tx, account.nonce, account.balance, base_fee)
            except Invalid as refused:
                results.append(refused)
            else:
                results.append((tx.hash, "accepted"))
                self.feeds.publish("newPendingTransactions", tx)
        return results

    def _vertices(self, items: Sequence[bytes]) -> list[tuple[bytes, str] | Invalid]:
        batch = check_each(items, self.genesis.chain_id, self.keys)
        inserted = self.dag.insert(batch)
        self.disk.apply(inserted.puts)
        refused = dict(inserted.refused)
        for wire in inserted.wires():
            self.feeds.publish("dagVertices", decode(wire))
        return [
            refused[index] if index in refused else (batch.id(index), STATUSES[status])
            for index, status in enumerate(inserted.statuses)
        ]

    def _journal(self) -> Journal:
        state = self.chain.state(self.chain.head.hash)
        assert state is not None
        return Journal(state)

    def produce(self, slots: int = 1) -> Block:
        """The block of the slot ``slots`` after the head's, on the chain."""
        slot = self.chain.head.slot + slots
        proposer = self.chain.schedule.leader(slot)
        draft = build(self.chain, self.pool, slot, proposer)
        block = draft.sealed(sign(draft.digest, self.net.secrets[proposer]))
        add(self.chain, self.disk, block, now_ms=slot_start_ms(self.genesis, slot))
        journal, head = self._journal(), self.chain.head
        base_fee = next_base_fee(self.genesis, head.base_fee, head.gas_used)
        self.pool.on_head(journal.nonce, journal.balance, base_fee, block.txs)
        self.feeds.publish("newHeads", block)
        return block
