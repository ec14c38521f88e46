"""Messages of valid form that peers send to a node: true, false, and beside the point."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from dipnet.dag.vertex import VertexDraft, sign_vertex
from dipnet.ledger.tx import sign_tx
from dipnet.p2p import messages as m
from dipnet.p2p.hello import CAPABILITIES
from dipnet.primitives import crypto
from tests.fixtures.chain_builder import CHAIN_ID, USERS, address_of, secret
from tests.fixtures.peer_ids import address
from tests.fuzz.node_delegates import Delegates
from tests.fuzz.node_world import U64, US, World

KEPT = 256


@dataclass
class Ask:
    """A request of the node that a peer may answer."""

    peer: str
    number: int
    kind: type


class Messages:
    """Random messages that a peer could send."""

    def __init__(self, world: World, delegates: Delegates) -> None:
        self.world = world
        self.rng = world.rng
        self.delegates = delegates
        self.asks: list[Ask] = []
        self.vertices: list[bytes] = []
        self.ids: list[bytes] = [bytes(32)]

    def asked(self, peer: str, message: m.Message) -> None:
        """Remembers the requests in a frame that the node sent to a peer."""
        match message:
            case m.GetBlocks() | m.LocateVertices() | m.GetVertices():
                self.asks = [*self.asks[-20:], Ask(peer, message.request, type(message))]
            case m.Announce() | m.Fetch() | m.Tips():
                self.ids = [*self.ids[-KEPT:], *message.ids[:8]]

    def any(self) -> m.Message:
        """A message of any kind."""
        makers: list[Callable[[], m.Message]] = [
            self.hello, self.status, self.status, self.ids_of, self.ids_of, self.absent,
            self.fetch, self.txs, self.txs, self.block_items, self.block_items, self.wires,
            self.wires, self.request, self.exchange, self.votes, self.votes, self.honest,
            self.honest, self.honest, self.certificates, self.certificates,
        ]  # fmt: skip
        return self.rng.choice(makers)()

    # --- where they stand

    def status(self) -> m.Status:
        """A status, true or false."""
        rng, number, chain = self.rng, self.world.number, self.world.node.chain
        good = m.Status(
            head_height=rng.choice((chain.head.height, chain.head.height + rng.randrange(3))),
            head_hash=rng.choice((chain.head.hash, self.id())),
            final_height=chain.final.height, final_hash=chain.final.hash,
            safe_epoch=chain.certificates.rank[0], safe_slot=chain.certificates.rank[1],
            dag_count=number(), dag_sum=number(), time_ms=self.world.now_ms,
        )  # fmt: skip
        if not self.world.bad(0.5):
            return good
        bad: list[dict[str, Any]] = [
            {"head_height": number()}, {"final_height": number()}, {"final_hash": self.id()},
            {"safe_epoch": number(), "safe_slot": number()}, {"time_ms": number()},
            {"final_height": 0, "final_hash": chain.genesis_hash},
        ]  # fmt: skip
        return replace(good, **rng.choice(bad))

    def hello(self) -> m.Hello:
        """A hello, true or false."""
        rng, node, stands = self.rng, self.world.node, self.status()
        good = m.Hello(
            "fuzz/1", CHAIN_ID, node.chain.genesis_hash, CAPABILITIES,
            (address(rng.randrange(9)), "x"), rng.randbytes(8),
            *(getattr(stands, name) for name in m.Status.__dataclass_fields__),
        )  # fmt: skip
        bad: list[dict[str, Any]] = [
            {"chain_id": 1}, {"genesis_hash": bytes(32)}, {"capabilities": ()},
        ]  # fmt: skip
        return replace(good, **rng.choice(bad)) if self.world.bad(0.1) else good

    # --- ids

    def id(self) -> bytes:
        """The id of a known object, or random bytes."""
        known = [block.hash for block in self.delegates.blocks[-8:]]
        return self.rng.choice((self.rng.choice(self.ids), self.rng.randbytes(32), *known))

    def many_ids(self) -> tuple[bytes, ...]:
        count = self.rng.choice((0, 1, 3, 40, 900))
        return tuple(self.id() if n < 40 else self.rng.randbytes(32) for n in range(count))

    def topic(self) -> m.Topic:
        return self.rng.choice(m.FETCHED)

    def ids_of(self) -> m.Tips | m.Announce:
        ids = self.many_ids()
        return m.Tips(ids) if self.rng.random() < 0.3 else m.Announce(self.topic(), ids)

    def fetch(self) -> m.Fetch:
        return m.Fetch(self.topic(), self.many_ids())

    def absent(self) -> m.Absent:
        return m.Absent(self.topic(), self.many_ids())

    # --- payments

    def txs(self) -> m.Items:
        raws = [self.tx() for _ in range(self.rng.randrange(6))]
        return m.Items(m.Topic.TX, tuple(raws))

    def tx(self) -> bytes:
        """A payment, good or of any fields."""
        rng = self.rng
        user = rng.choice((*USERS[:5], "poor"))
        nonce = self.world.node.chain.account(address_of(user)).nonce
        if not self.world.bad(0.5):
            raw = sign_tx(
                secret(user), type=2, chain_id=CHAIN_ID, nonce=nonce + rng.randrange(6),
                max_fee=10**9 * rng.choice((2, 2, 3, 5, 10)), gas=21_000, data=b"",
                max_priority_fee=rng.randrange(1, 10**9),
                to=address_of(rng.choice(USERS)), value=rng.choice((1, 10**18, 10**20)),
            )  # fmt: skip
        else:
            top = rng.choice((0, 1, 10**6, 10**9, 10**10, 2**255, 2**256 - 1))
            raw = sign_tx(
                secret(user), type=rng.choice((0, 1, 2)), max_fee=top,
                chain_id=rng.choice((CHAIN_ID,) * 9 + (7,)),
                nonce=rng.choice((nonce, nonce + rng.randrange(12), 2**64 - 2)),
                gas=rng.choice((21_000, 21_000, 53_000, 2**24, 0, 2**63)),
                max_priority_fee=rng.choice((0, top // 10, top, min(top * 2, 2**256 - 1))),
                to=rng.choice((b"", address_of(user), address_of(US), rng.randbytes(20))),
                value=rng.choice((0, 1, 10**18, 10**30, 2**256 - 1)),
                data=rng.randbytes(rng.choice((0, 0, 9, 900))),
            )  # fmt: skip
        self.ids.append(crypto.keccak256(raw))
        return raw

    # --- vertices

    def vertex(self) -> bytes:
        """One reading as it crosses the wire, good or spoilt."""
        rng, bad = self.rng, self.world.bad
        final, dag = self.world.node.chain.final, self.world.node.dag
        ahead = rng.random() < 0.3
        known = rng.sample(self.vertices, min(3, len(self.vertices))) if ahead else []
        parents = {crypto.sha256(envelope(wire)) for wire in known}
        parents |= {dag.id_at(rng.randrange(len(dag)))} if len(dag) and not ahead else set()
        parents |= {rng.randbytes(32)} if bad(0.1) else set()
        draft = VertexDraft(
            chain_id=1 if bad(0.05) else CHAIN_ID,
            ref_height=rng.choice((2**32 - 1, 0)) if bad(0.2) else final.height,
            ref_hash=final.hash[:8], seq=rng.choice((1, 2, rng.randrange(99), U64)),
            prev=self.id(), timestamp_ms=self.world.number(), topic=rng.randbytes(16),
            payload=rng.randbytes(rng.choice((0, 5, 200))), parents=tuple(sorted(parents)),
        )  # fmt: skip
        wire = bytearray(sign_vertex(secret(f"device {rng.randrange(5)}"), draft))
        spoilt = rng.random() if bad(0.3) else 1
        at = len(wire) - len(draft.payload) - 1
        if spoilt < 0.1:
            wire[at] ^= 1  # the recovery id, which is only a hint
        elif spoilt < 0.2:
            wire[at - rng.randrange(64)] ^= 1 << rng.randrange(8)
        elif spoilt < 0.3:
            wire[rng.randrange(len(wire))] ^= 1 << rng.randrange(8)
        raw = bytes(wire)
        if spoilt > 0.3 or spoilt < 0.1:
            self.vertices = [*self.vertices[-KEPT:], raw]
            self.ids.append(crypto.sha256(envelope(raw)))
        return raw

    def wires(self) -> m.Vertices:
        made = [self.vertex() for _ in range(self.rng.randrange(5))]
        made += self.rng.sample(self.vertices, min(2, len(self.vertices)))
        self.rng.shuffle(made)
        rest = self.rng.randbytes(3) * self.world.bad(0.05)
        return m.Vertices(b"".join(made) + rest)

    # --- blocks, votes, certificates

    def block_items(self) -> m.Items:
        known = self.delegates.blocks
        raws = [self.delegates.block() for _ in range(self.rng.randrange(3))]
        raws += [item.raw for item in self.rng.sample(known, min(len(known), 2))]
        return m.Items(m.Topic.BLOCK, tuple(raws))

    def honest(self) -> m.Votes:
        """The votes of the delegates that keep the rules."""
        return m.Votes(tuple(vote.raw for vote in self.delegates.honest()))

    def votes(self) -> m.Votes:
        raws = [self.delegates.vote() for _ in range(self.rng.randrange(5))]
        return m.Votes(tuple(raws))

    def certificates(self) -> m.Certificates:
        if not self.delegates.chain.head.height:
            return m.Certificates(())
        raws = [self.delegates.certificate() for _ in range(self.rng.randrange(1, 3))]
        return m.Certificates(tuple(raws))

    # --- questions and answers

    def answer(self) -> tuple[str, m.Message]:
        """An answer to a request of the node, and the peer that was asked."""
        rng, number = self.rng, self.world.number
        ask = rng.choice(self.asks) if self.asks else Ask("", 1, m.GetBlocks)
        request = number() if self.world.bad(0.1) else ask.number
        kind = ask.kind if not self.world.bad(0.1) else rng.choice((m.GetBlocks, m.GetVertices))
        made: m.Message
        if kind is m.GetBlocks:
            known = self.delegates.blocks[-rng.randrange(1, 20) :]
            raws = [item.raw for item in known] or [self.delegates.block()]
            made = m.Blocks(request, tuple(raws), rng.random() < 0.5)
        elif kind is m.LocateVertices:
            made = m.Located(request, number())
        else:
            made = m.VertexRange(request, number(), rng.random() < 0.5, self.wires().wire)
        return ask.peer, made

    def request(self) -> m.Message:
        ids, number = self.many_ids()[: m.LOCATOR_MAX], self.world.number
        return self.rng.choice((
            m.GetBlocks(number(), ids, number()),
            m.LocateVertices(number(), ids),
            m.GetVertices(number(), number(), number()),
        ))  # fmt: skip

    def exchange(self) -> m.Message:
        told = (address(self.rng.randrange(100)), "/ip4/1.2.3/tcp/1", "", "/dns4/a.b/tcp/1/p2p/x")
        return self.rng.choice((m.GetPeers(), m.PeerAddresses(told)))


def envelope(wire: bytes) -> bytes:
    """The bytes of a vertex whose hash is its id."""
    parents = wire[142]
    return wire[: 143 + 32 * parents]
