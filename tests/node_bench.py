"""One node on a desk: its events by hand, its effects to look at."""

from collections.abc import Iterator, Sequence

from dipnet import crypto
from dipnet.consensus import produce
from dipnet.consensus.schedule import seed_key, slot_start_ms
from dipnet.consensus.votes import Kind, Voter, VoteState
from dipnet.dag.vertex import Draft, sign_vertex, topic_of
from dipnet.effects import (
    Connected,
    Effect,
    Event,
    Received,
    Send,
    Sign,
    Signed,
    Verified,
    Verify,
    Woke,
    Write,
)
from dipnet.node import Node, first_puts
from dipnet.p2p import messages as m
from dipnet.p2p.hello import CAPABILITIES
from dipnet.tx import sign_tx
from tests.memory import Memory
from tests.sim import peer_id
from tests.sim_load import secret
from tests.sim_scenario import network

PEER = peer_id(crypto.public_key(secret("peer")))
ADDRESS = f"/ip4/127.0.0.1/tcp/30999/p2p/{PEER}"


class Bench:
    """One node whose effects a test looks at; writes go to its disk, checks and keys answer."""

    def __init__(
        self,
        delegates: int = 1,
        me: int = 0,
        disk: Memory | None = None,
        state: VoteState | None = None,
    ) -> None:
        self.genesis, keys, self.payers = network(delegates)
        self.secrets = {crypto.address(crypto.public_key(key)): key for key in keys}
        self.key = keys[me]
        self.disk = Memory() if disk is None else disk
        self.disk.apply(first_puts(self.genesis, self.disk))
        self.state = state or VoteState()
        self.proposer = crypto.address(crypto.public_key(self.key))
        voter = Voter(crypto.public_key(self.key), seed_key(self.key), self.state)
        self.node = Node(
            self.genesis,
            self.disk,
            peer_id=peer_id(crypto.public_key(self.key)),
            addresses=["/ip4/127.0.0.1/tcp/30000"],
            voter=voter,
            bootstrap=[],
            local=True,
            seed=7,
        )
        self.now_ms = self.genesis.time_ms

    def start(self) -> list[Effect]:
        return self._written(self.node.start(self.now_ms))

    def step(self, event: Event, now_ms: int | None = None) -> list[Effect]:
        self.now_ms = self.now_ms if now_ms is None else now_ms
        return self._written(self.node.step(self.now_ms, event))

    def _written(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            if isinstance(effect, Write):
                self.disk.apply(effect.puts)
        return effects

    def answered(self, effects: Sequence[Effect]) -> list[Effect]:
        """All that follows once every check and signature asked for has been given."""
        out: list[Effect] = []
        for effect in effects:
            out.append(effect)
            if isinstance(effect, Verify):
                result = self.node.check(effect.kind, effect.items)
                out += self.answered(self.step(Verified(effect.ticket, result)))
            elif isinstance(effect, Sign):
                out += self.answered(self.step(self.signed(effect)))
        return out

    def signed(self, effect: Sign) -> Signed:
        """What the signer answers: the rules, then the state is kept, then the signature."""
        if self.state.refuse(effect.ballot):
            return Signed(effect.ticket, b"", self.state)
        self.state = self.state.after(effect.ballot)
        digest = effect.ballot.digest(self.genesis.chain_id)
        return Signed(effect.ticket, crypto.sign(digest, self.key), self.state)

    def at_slot(self, slot: int, late_ms: int = 0, leap: bool = False) -> list[Effect]:
        """A wake-up then; in between nothing happens, unless the clock leaps."""
        out, at_ms = [], slot_start_ms(self.genesis, slot) + late_ms
        while not leap and self.now_ms + self.genesis.slot_ms < at_ms:
            nothing = Received("nobody", "hello", b"")
            out += self.step(nothing, self.now_ms + self.genesis.slot_ms)
        return out + self.step(Woke(), at_ms)

    def own_slots(self) -> Iterator[int]:
        """The slots after the head's that this node leads."""
        slot = self.node.chain.head.slot
        while True:
            slot += 1
            voter = self.node.voting.voter
            assert voter is not None
            if produce.proposer(self.node.chain, slot, voter) == self.proposer:
                yield slot

    def propose(self, slot: int) -> list[Effect]:
        return self.answered(self.at_slot(slot))

    def greet(self, head_height: int = 0, peer: str = PEER) -> list[Effect]:
        """A peer connects and says hello."""
        out = self.step(Connected(peer, ADDRESS.replace(PEER, peer), False))
        hello = m.Hello(
            "test", self.genesis.chain_id, self.node.chain.genesis_hash,
            CAPABILITIES, (), b"12345678", head_height, bytes(32), 0,
            self.node.chain.genesis_hash, 0, 0, 0, 0, self.now_ms,
        )  # fmt: skip
        return out + self.receive(hello, peer)

    def receive(self, message: m.Message, peer: str = PEER) -> list[Effect]:
        return self.step(Received(peer, m.protocol_of(message), m.encode(message)))

    def vertex(self, key: bytes, **fields: object) -> bytes:
        usual: dict[str, object] = {
            "chain_id": self.genesis.chain_id, "ref_height": 0, "ref_hash": bytes(8), "seq": 1,
            "prev": bytes(32), "timestamp_ms": self.now_ms, "topic": topic_of("t"),
            "payload": b"data",
        }  # fmt: skip
        return sign_vertex(key, Draft(**(usual | fields)))  # type: ignore[arg-type]

    def payment(self, **fields: object) -> bytes:
        usual: dict[str, object] = {
            "type": 2, "chain_id": self.genesis.chain_id, "nonce": 0, "max_priority_fee": 1,
            "max_fee": 10**11, "gas": 21_000, "to": b"\x01" * 20, "value": 1,
        }  # fmt: skip
        return sign_tx(self.payers[0], **(usual | fields))  # type: ignore[arg-type]


def kinds(effects: Sequence[Effect]) -> list[type]:
    return [type(effect) for effect in effects]


def of(effects: Sequence[Effect], kind: type) -> list[Effect]:
    return [effect for effect in effects if isinstance(effect, kind)]


def proposals(effects: Sequence[Effect]) -> list[Sign]:
    signs = [effect for effect in effects if isinstance(effect, Sign)]
    return [sign for sign in signs if sign.ballot.kind is Kind.PROPOSAL]


def block_requests(effects: Sequence[Effect]) -> list[m.GetBlocks]:
    sync = [e for e in effects if isinstance(e, Send) and e.protocol == "sync"]
    requests = [m.decode(e.protocol, e.data) for e in sync]
    return [request for request in requests if isinstance(request, m.GetBlocks)]
