"""A node's links without the node: a view that says what a test wants, and judges real votes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from dipnet.consensus import tally
from dipnet.consensus.members import Members
from dipnet.consensus.votes import (
    SIGNATURE_BYTES,
    Ballot,
    Certificate,
    Kind,
    Vote,
    certificate_of,
    check_certificate,
    decode_certificate,
)
from dipnet.crypto import keccak256, public_key, sign
from dipnet.effects import Drop, Effect, Send
from dipnet.errors import Invalid
from dipnet.links import Links
from dipnet.p2p import messages as m
from dipnet.p2p.hello import CAPABILITIES
from dipnet.peering import Incoming
from tests.chain_builder import CHAIN_ID, Net, address_of, secret
from tests.memory import Memory
from tests.peer_ids import address, peer_id

GENESIS = b"g" * 32
NOW = 1_700_000_000_000
NAMES = tuple(f"delegate {index}" for index in range(4))
MEMBERS = Members.of((address_of(name), public_key(secret(name))) for name in NAMES)
SECRETS = {address_of(name): secret(name) for name in NAMES}
EPOCH = 0


def vote(slot: int, index: int = 0, kind: Kind = Kind.PREVOTE, epoch: int = EPOCH) -> Vote:
    """A true vote of a member for the block of a slot."""
    ballot = Ballot(kind, epoch, slot, keccak256(slot.to_bytes(8, "big")), 0)
    key = SECRETS[MEMBERS.addresses[index]]
    return Vote(ballot, index, sign(ballot.digest(CHAIN_ID), key))


def certificate(slot: int, kind: Kind = Kind.PREVOTE) -> Certificate:
    """A true certificate for the block of a slot."""
    return certificate_of([vote(slot, index, kind) for index in range(MEMBERS.quorum)], MEMBERS)


def forged(one: Vote) -> Vote:
    """The same vote, signed by somebody else."""
    return replace(one, signature=sign(one.ballot.digest(CHAIN_ID), secret("stranger")))


class View:
    """What the links read: a chain of block hashes, a head and a clock."""

    def __init__(self) -> None:
        self.standing = m.Status(0, GENESIS, 0, GENESIS, 0, 0, 0, 0, NOW)
        self.chain = [GENESIS]
        self.blocks: dict[bytes, bytes] = {}

    def status(self) -> m.Status:
        return self.standing

    def name(self, lane: m.Lane, raw: bytes) -> bytes:
        if lane is m.Lane.VOTE:
            return keccak256(raw[:-SIGNATURE_BYTES])
        try:
            return decode_certificate(raw).id
        except Invalid:
            return keccak256(raw)

    def has(self, lane: m.Lane, id_: bytes) -> bool:
        assert lane not in m.PUSHED
        return id_ in self.blocks or id_ in self.chain

    def raw(self, lane: m.Lane, id_: bytes) -> bytes | None:
        assert lane not in m.PUSHED
        return self.blocks.get(id_)

    def block_hash_at(self, height: int) -> bytes:
        return self.chain[height]

    def blocks_after(self, locator: Iterable[bytes]) -> Sequence[bytes]:
        next((mark for mark in locator if mark in self.chain), None)
        return ()

    def vertex_ordinal(self, id_: bytes) -> int | None:
        return None

    def vertices_from(self, start: int) -> Iterator[tuple[int, bytes]]:
        return iter(())

    def vertex_sample(self) -> Sequence[bytes]:
        return ()


class Bench:
    """Links, a clock for deadlines, and what the node would do with votes."""

    def __init__(self, **options: Any) -> None:
        self.view = View()
        chosen: dict[str, Any] = {
            "reader": Memory(), "peer_id": peer_id(999), "addresses": (), "bootstrap": (),
            "local": False, "seed": 7,
        }  # fmt: skip
        genesis = Net.of(4).genesis
        self.links = Links(genesis, GENESIS, self.view, **chosen | options)
        self.now_ms = NOW
        self.out: list[Effect] = []
        self.judged = 0

    def up(self, number: int, host: str = "", outbound: bool = False, **changes: Any) -> str:
        """A peer that is connected and has said hello."""
        peer, where = peer_id(number), address(number, host or f"20.{number >> 8}.{number & 255}.1")
        self.links.on_connected(self.now_ms, peer, where, outbound)
        hello = m.Hello(
            version="test/1", chain_id=CHAIN_ID, genesis_hash=GENESIS, capabilities=CAPABILITIES,
            listen=(), nonce=bytes(8), head_height=0, head_hash=GENESIS, final_height=0,
            final_hash=GENESIS, safe_epoch=0, safe_slot=0, dag_count=0, dag_sum=0,
            time_ms=self.view.standing.time_ms,
        )  # fmt: skip
        self.hear(peer, replace(hello, **changes))
        return peer

    def hear(self, peer: str, message: m.Message) -> Incoming | None:
        protocol, data = m.protocol_of(message), m.encode(message)
        return self.links.on_received(self.now_ms, peer, protocol, data)

    def drain(self) -> list[Effect]:
        out = self.links.drain(self.now_ms)
        self.out += out
        return out

    def pass_ms(self, ms: int) -> None:
        self.now_ms += ms
        self.links.on_tick(self.now_ms)

    def judge(self, incoming: Incoming) -> list[Vote | Certificate]:
        """What ``Node`` does: verify, tell the links, relay what is good; the good ones."""
        self.judged += len(incoming.items)
        if incoming.kind == "votes":
            results: list[Any] = list(tally.check(incoming.items, self._members, CHAIN_ID, 0))
        else:
            results = [self._certificate(raw) for raw in incoming.items]
        lane = m.Lane.VOTE if incoming.kind == "votes" else m.Lane.CERTIFICATE
        good = [one for one in results if not isinstance(one, Invalid)]
        for one in good:
            self.links.push(lane, one.id, one.raw, except_peer=incoming.peer)
        refused = [one for one in results if isinstance(one, Invalid)]
        self.links.on_judged(self.now_ms, incoming, refused)
        return good

    def tell(self, peer: str, message: m.Message) -> list[Vote | Certificate]:
        """``hear`` and ``judge``."""
        incoming = self.hear(peer, message)
        return self.judge(incoming) if incoming is not None else []

    def _members(self, epoch: int) -> Members | None:
        return MEMBERS if epoch == EPOCH else None

    def _certificate(self, raw: bytes) -> Certificate | Invalid:
        try:
            one = decode_certificate(raw)
            if one.ballot.epoch != EPOCH:
                raise Invalid("vote_epoch")
            check_certificate(one, MEMBERS, CHAIN_ID)
        except Invalid as refused:
            return refused
        return one

    def score(self, peer: str) -> int:
        return self.links.scores.score(self.now_ms, peer)

    def dropped(self, peer: str) -> bool:
        self.drain()
        return any(isinstance(effect, Drop) and effect.peer == peer for effect in self.out)


def sent(effects: Sequence[Effect]) -> list[tuple[str, Any]]:
    """Who was sent what, in order."""
    sends = [effect for effect in effects if isinstance(effect, Send)]
    return [(one.peer, m.decode(one.protocol, one.data)) for one in sends]
