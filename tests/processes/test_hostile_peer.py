"""A real daemon among peers that mean no good: it goes on producing, answers clients, stays small,
and throws out every peer that breaks a rule."""

import asyncio
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dipnet.consensus.finality.votes import Certificate
from dipnet.ledger.genesis import Genesis
from dipnet.ledger.tx import sign_tx
from dipnet.node.effects import PROTOCOLS, Connected, Disconnected, Received
from dipnet.p2p import messages as m
from dipnet.p2p.address import parse
from dipnet.primitives import crypto
from dipnet.sdk.admin_client import SOCKET_NAME, admin_call
from dipnet.sdk.keys import DEV_SECRETS
from dipnet.transport.mailbox import Limits
from tests.processes.daemon_process import Client, Program, pay
from tests.processes.hostile import Hostile, Network

RSS_GROWTH_MAX = 192 << 20
"""The attacks of this file may add so much to the node's memory: items that wait for judgement
(128 MiB), events that wait (32 MiB), orphans (16 MiB), frames being sent; 75 MiB were seen."""
BLOCKS = 3
Attack = Callable[[Network], Awaitable[None]]


class Besieged:
    """The node, the public facts of its network, and a client that pays meanwhile."""

    def __init__(self, program: Program, genesis: Genesis) -> None:
        self.program = program
        self.network = Network(genesis, program.address)
        self.ask: Client = program.client()
        self.rss_bytes = program.rss_bytes()
        self.nonce = 0

    def withstands(self, attack: Attack) -> None:
        """During and after ``attack`` the node makes blocks and takes payments."""

        async def both() -> None:
            before = self.height()
            await attack(self.network)
            await asyncio.to_thread(self.goes_on, before)

        asyncio.run(both())
        assert self.program.process.poll() is None, self.program.said
        assert self.program.rss_bytes() < self.rss_bytes + RSS_GROWTH_MAX

    def goes_on(self, before: int) -> None:
        tx_hash = pay(self.ask, 0, self.nonce)
        self.nonce += 1
        self.ask.until(lambda ask: ask("eth_getTransactionReceipt", tx_hash))
        self.ask.until(lambda ask: ask.height() >= before + BLOCKS)

    def height(self) -> int:
        return self.ask.height()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Besieged]:
    data = tmp_path_factory.mktemp("besieged") / "data"
    with Program(data) as program:
        program.ready()
        besieged = Besieged(program, Genesis.decode((data / "genesis.json").read_bytes()))
        besieged.goes_on(0)
        yield besieged
        assert "Traceback" not in program.said
        assert program.kill(15) == 0


def attack(script: Callable[[Network], Awaitable[None]]) -> Callable[[Besieged], None]:
    def test(node: Besieged) -> None:
        node.withstands(script)

    test.__name__, test.__doc__ = script.__name__, script.__doc__
    return test


def each_alone(frames: list[tuple[str, bytes]], greeted: bool = True) -> Attack:
    """Each frame by an identity of its own; each is thrown out for it."""

    async def one(network: Network, protocol: str, data: bytes) -> None:
        async with network.hostile() as peer:
            await (peer.greet() if greeted else peer.connect())
            peer.raw(protocol, data)
            await peer.thrown_out()

    async def all_of_them(network: Network) -> None:
        await asyncio.gather(*(one(network, *frame) for frame in frames))

    return all_of_them


# --- bytes that no message has


def test_garbage_on_every_protocol(node: Besieged) -> None:
    frames = [(protocol, secrets.token_bytes(40)) for protocol in PROTOCOLS]
    frames += [(protocol, b"\xff" * 5) for protocol in PROTOCOLS]
    node.withstands(each_alone(frames))


def test_oversized_frames(node: Besieged) -> None:
    node.withstands(
        each_alone([(name, bytes(most + 1)) for name, most in m.FRAME_BYTES_MAX.items()])
    )


def test_long_counts_and_lengths_in_short_frames(node: Besieged) -> None:
    """msgpack that announces 2^32 - 1 items or bytes and ends."""
    heads = (b"\x93\x01\x00\xdd\xff\xff\xff\xff", b"\x94\x01\x02\x02\xdd\xff\xff\xff\xff")
    frames = [("gossip", head) for head in heads] + [
        ("sync", b"\x95\x01\x01\x01\xdd" + b"\xff" * 4)
    ]
    node.withstands(each_alone([*frames, ("gossip", b"\x94\x01\x03\x01\xc6\xff\xff\xff\xff")]))


@attack
async def test_bytes_before_any_handshake(network: Network) -> None:
    there = parse(network.address)
    open_ones = [socket.create_connection((there.host, there.port)) for _ in range(80)]
    for number, one in enumerate(open_ones):
        one.sendall(
            (b"GET / HTTP/1.1\r\n\r\n", b"\x13/multistream/1.0.0\n", b"\0" * 99)[number % 3]
        )
    async with network.hostile() as peer:
        await peer.greet()
        await peer.until(lambda: peer.heard(m.Hello))
    for one in open_ones:
        one.close()


# --- hellos


@attack
async def test_a_hello_of_another_network(network: Network) -> None:
    wrong: list[dict[str, Any]] = [
        {"chain_id": 1}, {"genesis_hash": bytes(32)}, {"capabilities": ("gossip/1",)},
    ]  # fmt: skip
    for change in wrong:
        async with network.hostile() as peer:
            await peer.greet(**change)
            await peer.thrown_out()


@attack
async def test_no_hello_is_waited_for_in_vain_and_nothing_else_is_heard(network: Network) -> None:
    async with network.hostile() as peer:
        await peer.connect()
        peer.send(m.GetPeers())
        peer.send(m.GetBlocks(1, (network.chain.genesis_hash,), 10))
        await peer.thrown_out()
        assert peer.heard(m.Hello)
        assert not peer.heard(m.PeerAddresses)
        assert not peer.heard(m.Blocks)


@attack
async def test_who_was_thrown_out_stays_out(network: Network) -> None:
    async with network.hostile() as peer:
        await peer.greet()
        peer.raw("gossip", b"\xff")
        await peer.thrown_out()
        peer.events.clear()
        peer.net.dial(network.address)
        await peer.until(
            lambda: peer.seen(Disconnected) or (not peer.seen(Connected) and peer.events)
        )
        assert not peer.heard(m.Hello)


@attack
async def test_identities_by_the_dozen(network: Network) -> None:
    async def visit() -> None:
        async with network.hostile() as peer:
            await peer.greet(head_height=2**60, dag_count=2**60)

    for _ in range(5):
        await asyncio.gather(*(visit() for _ in range(8)))


# --- floods of well-formed messages


@attack
async def test_announcements_that_are_never_delivered(network: Network) -> None:
    async with network.hostile() as peer, network.hostile() as other:
        for one in (peer, other):
            await one.greet()
        for topic in (m.Topic.TX, m.Topic.VERTEX):
            frames = []
            for _ in range(100):
                raw = secrets.token_bytes(32 * m.IDS_MAX)
                ids = tuple(raw[at : at + 32] for at in range(0, len(raw), 32))
                frames.append(("gossip", m.encode(m.Announce(topic, ids))))
            await asyncio.gather(peer.pour(frames), other.pour(frames))
        await peer.until(lambda: peer.heard(m.Fetch))


@attack
async def test_orphans(network: Network) -> None:
    key = secrets.token_bytes(32)
    wires = []
    for seq in range(1, 9_001):
        parents = tuple(sorted(secrets.token_bytes(32) for _ in range(8)))
        wires.append(network.vertex(key, seq, parents))
    async with network.hostile() as peer:
        await peer.greet()
        step = 500
        frames = [
            ("gossip", m.encode(m.Vertices(b"".join(wires[at : at + step]))))
            for at in range(0, len(wires), step)
        ]
        await peer.pour(frames)
        await peer.until(lambda: peer.heard(m.Fetch))
        assert not peer.gone


@attack
async def test_requests_by_the_thousand(network: Network) -> None:
    genesis = network.chain.genesis_hash
    unknown = tuple(secrets.token_bytes(32) for _ in range(m.LOCATOR_MAX))
    asks: list[m.Message] = [
        m.GetBlocks(1, (genesis,), 2**63), m.GetBlocks(1, unknown, 128), m.GetBlocks(1, (), 0),
        m.GetVertices(1, 0, 2**64 - 1), m.GetVertices(1, 2**64 - 1, 2**64 - 1),
        m.LocateVertices(1, unknown), m.GetPeers(),
        m.Fetch(m.Topic.TX, unknown * 60), m.Fetch(m.Topic.VERTEX, unknown * 60),
        m.Fetch(m.Topic.BLOCK, (genesis,) * 16), m.Announce(m.Topic.BLOCK, (genesis,) * 16),
    ]  # fmt: skip
    frames = [(m.protocol_of(ask), m.encode(ask)) for ask in asks] * 400
    async with network.hostile() as peer:
        await peer.greet()
        await peer.pour(frames)
        await peer.until(lambda: peer.heard(m.Blocks) or peer.gone)


@attack
async def test_who_asks_and_does_not_read(network: Network) -> None:
    deaf = Limits(inbox_bytes_max=1, inbox_peer_bytes_max=1, write_s=30)
    async with network.hostile(deaf) as peer, network.hostile() as writer:
        await writer.greet()
        key = secrets.token_bytes(32)
        big = [network.vertex(key, seq, size=30_000) for seq in range(1, 201)]
        for at in range(0, len(big), 20):
            writer.send(m.Vertices(b"".join(big[at : at + 20])))
        await peer.greet()
        peer.net.pause()
        ask = m.encode(m.GetVertices(1, 0, 2048))
        await peer.pour([("sync", ask)] * 200)
        await asyncio.sleep(0.1)
        peer.net.resume()
        await peer.until(lambda: peer.gone or len(peer.heard(m.VertexRange)) > 1)


@attack
async def test_payments_that_nobody_can_pay(network: Network) -> None:
    key = secrets.token_bytes(32)
    raws = tuple(
        sign_tx(key, type=2, chain_id=2018, nonce=n, max_priority_fee=1, max_fee=10**10,
                gas=21_000, to=bytes(20), value=1)
        for n in range(500)
    )  # fmt: skip
    frame = m.encode(m.Items(m.Topic.TX, raws))
    async with network.hostile() as peer:
        await peer.greet()
        await peer.pour([("gossip", frame)] * 40)


# --- items that break a rule


def test_vertices_with_bad_signatures_or_payloads(node: Besieged) -> None:
    key = secrets.token_bytes(32)
    spoilt = []
    for at in (-20, -9 - 30, -9 - 64, -1):
        wire = bytearray(node.network.vertex(key, 1) * 12)
        size = len(wire) // 12
        for n in range(12):
            wire[n * size + size + at] ^= 1
        spoilt.append(("gossip", m.encode(m.Vertices(bytes(wire)))))
    cut = node.network.vertex(key, 1)[:-3]
    node.withstands(each_alone([*spoilt, ("gossip", m.encode(m.Vertices(cut)))] * 2))


@attack
async def test_a_wrong_hint_is_corrected(network: Network) -> None:
    key = secrets.token_bytes(32)
    right = network.vertex(key, 1)
    wrong = bytearray(right)
    wrong[-9] ^= 1
    id_ = crypto.sha256(right[: -65 - 8])
    async with network.hostile() as peer, network.hostile() as other:
        for one in (peer, other):
            await one.greet()
        peer.send(m.Vertices(bytes(wrong)))
        await other.until(lambda: any(id_ in told.ids for told in other.heard(m.Announce)))
        other.send(m.Fetch(m.Topic.VERTEX, (id_,)))
        await other.until(lambda: other.heard(m.Vertices))
        assert right in other.heard(m.Vertices)[-1].wire


def test_blocks_of_the_delegate_that_break_a_rule(tmp_path: Path) -> None:
    """Told to a node whose own delegate pauses: else each would be below its final block."""
    data = tmp_path / "data"
    with Program(data) as program:
        program.ready()
        admin_call(data / SOCKET_NAME, "admin_pause")
        genesis = Genesis.decode((data / "genesis.json").read_bytes())
        asyncio.run(bad_blocks(Network(genesis, program.address)))
        assert "Traceback" not in program.said


async def followed(peer: Hostile, network: Network) -> None:
    """Takes the node's chain over."""
    more = True
    while more:
        answers = len(peer.heard(m.Blocks))
        peer.send(m.GetBlocks(1, (network.chain.head.hash,), 128))
        await peer.until(lambda answers=answers: len(peer.heard(m.Blocks)) > answers)  # type: ignore[misc]
        *_, answer = peer.heard(m.Blocks)
        for raw in answer.raws:
            network.follow(raw)
        more = answer.more


async def bad_blocks(network: Network) -> None:
    async with network.hostile() as peer:
        await peer.greet()
        await followed(peer, network)
    changes: list[dict[str, Any]] = [
        {"state_root": bytes(32)}, {"gas_used": 1}, {"logs_bloom": b"\1" * 256}, {"base_fee": 1},
        {"height": 2**63}, {"chain_id": 1}, {"tx_root": bytes(32)}, {"cert_root": bytes(32)},
        {"final": (bytes(32), 1)}, {"seed_reveal": bytes([1]) * 32},
        {"key": DEV_SECRETS[1]}, {"key": secrets.token_bytes(32)},
    ]  # fmt: skip
    # A slot each: two blocks of one slot would be an offence of the delegate.
    first = network.chain.head.slot + 1
    bad = [network.block(slot, **change) for slot, change in enumerate(changes, first)]
    for block in bad:
        async with network.hostile() as peer:
            await peer.greet()
            for _ in range(12):
                peer.send(m.Items(m.Topic.BLOCK, (block.raw,)))
            await peer.thrown_out()
    async with network.hostile() as peer:
        await peer.greet()
        slot = first + len(bad)
        lost = network.block(slot, parent=secrets.token_bytes(32), height=slot + 9)
        # At the longest back-off every 64th slot has a leader.
        future = network.block((slot // 64 + 300) * 64)
        good = network.block(slot + 1)
        for block in (future, lost, good):
            peer.send(m.Items(m.Topic.BLOCK, (block.raw,)))
        await peer.until(lambda: peer.heard(m.GetBlocks))  # for the ancestors, which do not come
        await peer.until(lambda: any(s.head_hash == good.hash for s in peer.heard(m.Status)))
        assert not peer.gone


# --- votes


@attack
async def test_votes_with_bad_signatures(network: Network) -> None:
    """Four are forgiven, the fifth is not; a certificate costs more."""
    async with network.hostile() as peer, network.hostile() as other:
        await peer.greet()
        await other.greet()
        await followed(other, network)
        slot = network.chain.head.slot
        for n in range(5):
            assert not peer.gone
            peer.send(m.Votes((network.vote(slot + n, secrets.token_bytes(32)).raw,)))
        vote = network.vote(
            slot + 9, secrets.token_bytes(32)
        )  # votes of settled slots are not judged
        forged = Certificate(vote.ballot, b"\1", vote.signature[:64])
        for copy in (b"\1", b"\2"):
            other.send(m.Certificates((replace(forged, bitmap=copy).raw,)))
        await peer.thrown_out()
        await other.thrown_out()


def test_bytes_that_are_no_votes(node: Besieged) -> None:
    good = node.network.vote(1, DEV_SECRETS[0]).raw
    raws = [good[:-1], good + b"1", b"\x98" * 9, secrets.token_bytes(100), good[:5] + good[6:]]
    messages = [m.Votes((raw,)) for raw in raws] + [m.Certificates((raw,)) for raw in raws]
    node.withstands(each_alone([("votes", m.encode(message)) for message in messages]))


@attack
async def test_votes_of_the_delegate_for_any_block_and_slot(network: Network) -> None:
    """Of past and future slots, of epochs to come, for blocks that no node has: no charge."""
    key = DEV_SECRETS[0]
    votes = [
        network.vote(slot, key, epoch) for slot in (1, 2**40, 2**63) for epoch in (0, 9, 2**60)
    ]
    async with network.hostile() as peer:
        await peer.greet()
        for vote in votes:
            peer.send(m.Votes((vote.raw,)))
        await peer.until(lambda: peer.heard(m.Status))
        assert not peer.gone


@attack
async def test_votes_by_the_hundred_thousand(network: Network) -> None:
    key = secrets.token_bytes(32)
    one = network.vote(1, key, epoch=2**40)
    sizes = range(0, 100_000, m.VOTES_MAX)
    async with network.hostile() as peer:
        await peer.greet()
        await peer.pour([
            ("votes", m.encode(m.Votes(tuple(
                replace(one, ballot=replace(one.ballot, slot=start + n)).raw
                for n in range(m.VOTES_MAX)
            ))))
            for start in sizes
        ])  # fmt: skip
        await peer.thrown_out()  # none of them is its fault, but their number is


@attack
async def test_clocks_and_certificates_that_nobody_has(network: Network) -> None:
    """A liar among peers moves no median; the blocks that it claims are asked for, a few times."""
    async with network.hostile() as peer, network.hostile() as honest, network.hostile() as third:
        await honest.greet()
        await third.greet()
        await peer.greet(
            time_ms=2**64 - 1, safe_epoch=2**64 - 1, safe_slot=2**64 - 1, head_hash=bytes(32)
        )
        peer.answer = lambda one: (
            m.Blocks(one.request, (), False) if isinstance(one, m.GetBlocks) else None
        )
        await peer.until(lambda: peer.gone or len(peer.heard(m.GetBlocks)) > 2)


@attack
async def test_another_final_block(network: Network) -> None:
    async with network.hostile() as peer:
        await peer.connect()
        peer.send(replace(network.hello(), final_hash=bytes(32)))
        await peer.thrown_out()


@attack
async def test_answers_that_lead_nowhere(network: Network) -> None:
    async with network.hostile() as peer:

        def lie(message: Any) -> m.Message | None:
            match message:
                case m.GetBlocks():
                    return m.Blocks(message.request, (network.block(1).raw,) * 128, True)
                case m.LocateVertices():
                    return m.Located(message.request, 2**64 - 1)
                case m.GetVertices():
                    return m.VertexRange(message.request, message.start, False, b"")
            return None

        peer.answer = lie
        await peer.greet(head_height=2**60, dag_count=2**60)
        await peer.until(lambda: peer.gone or len(peer.heard(m.GetBlocks)) > 2)


@attack
async def test_answers_that_nobody_asked_for(network: Network) -> None:
    async with network.hostile() as peer:
        await peer.greet()
        for _ in range(30):
            peer.send(m.PeerAddresses(("/ip4/127.0.0.1/tcp/1/p2p/" + peer.id,)))
            peer.send(m.Blocks(2**63, (), False))
        await peer.thrown_out()
        assert peer.seen(Received)
