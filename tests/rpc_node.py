"""A node for the tests of the RPC: a real chain, pool and DAG in memory, without peers or a loop.

What is submitted is taken in at once; ``produce`` makes the next block of what waits.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Literal

from dipnet.consensus.block import Block
from dipnet.consensus.pool import Pool
from dipnet.consensus.produce import build
from dipnet.consensus.rules import leader
from dipnet.consensus.schedule import seed_key, slot_start_ms
from dipnet.consensus.votes import Voter, VoteState
from dipnet.crypto import public_key, sign
from dipnet.dag.graph import Dag
from dipnet.dag.vertex import check_each, decode, issuer_keys
from dipnet.errors import Invalid
from dipnet.rpc.feed import Feed, Feeds, Topic
from dipnet.rpc.jsonrpc import Rpc
from dipnet.rpc.server import METHODS
from dipnet.state import Journal
from dipnet.tx import decode_batch
from dipnet.voting import Voting
from dipnet.watch import FinalityWatch
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
        secret = next(iter(self.net.secrets.values()))
        voter = Voter(public_key(secret), seed_key(secret), VoteState())
        self.voting = Voting(self.chain, self.pool, self.disk, voter, paused=False)
        self.finality = FinalityWatch()
        self.clock_offset: int | None = None
        self.peer_id = "16Uiu2HAmTestTestTestTestTestTestTestTestTestTestTest"
        self.complaints: dict[str, str | None] = {"store": None, "peers": None}
        self.progress: tuple[int, int] | None = None
        self.refuses: Invalid | None = None
        self.bugs: list[Exception] = []
        self.submitted: list[tuple[str, int]] = []

    def now_ms(self) -> int:
        return self.chain.head.timestamp_ms + 100

    def clock_offset_ms(self) -> int | None:
        return self.clock_offset

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
        results: list[tuple[bytes, str] | Invalid] = []
        for tx in decode_batch(items, self.genesis.chain_id):
            if isinstance(tx, Invalid):
                results.append(tx)
                continue
            account = self._journal().account(tx.sender)
            try:
                self.pool.add(tx, account.nonce, account.balance, self.chain.next_base_fee)
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

    def produce(self, slots: int = 1, *, certified: bool = True) -> Block:
        """The block of the slot ``slots`` after the head's, on the chain, and final."""
        chain, head = self.chain, self.chain.head
        slot = head.slot + slots
        place = chain.place(head, slot, chain.section(head))
        proposer = leader(place.epoch, slot, place.links.final[1])
        assert proposer is not None
        secret = self.net.secrets[proposer]
        draft = build(chain, self.pool, slot, proposer, seed_key(secret))
        signature = sign(draft.header.proposal_digest, secret)
        block = draft.sealed(signature, public_key(secret))
        add(chain, self.disk, block, now_ms=slot_start_ms(chain.parameters, slot))
        journal = self._journal()
        self.pool.on_head(journal.nonce, journal.balance, chain.next_base_fee, block.txs)
        self.feeds.publish("newHeads", block)
        if certified:
            self.certify(block)
        return block

    def certify(self, block: Block) -> None:
        """Votes of everybody: the block is final, and so is all below it."""
        self.net.certify(self.chain, self.disk, block.header)
        self.feeds.publish("finalizedHeads", block.header)
        self.finality.on_final(self.now_ms(), [block.header])


def raw_answer(node: Node, method: str, params: object) -> dict[str, Any]:
    rpc = Rpc(node, METHODS)
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer: dict[str, Any] = json.loads(asyncio.run(rpc.answer(json.dumps(request).encode())))
    assert not node.bugs
    return answer


def ask(node: Node, method: str, *params: object) -> Any:
    answer = raw_answer(node, method, params)
    assert "result" in answer, answer
    return answer["result"]


def error(node: Node, method: str, *params: object) -> tuple[str, str]:
    """Our code and the text."""
    refused = raw_answer(node, method, params)["error"]
    return refused["data"]["code"], refused["message"]
