"""The peer layer over real sockets against misbehaving strangers."""

import asyncio
import secrets
import signal
import socket
import subprocess
import sys
from functools import partial

import pytest
import trio
from libp2p.crypto.rsa import create_new_key_pair as create_rsa_key_pair
from libp2p.exceptions import BaseLibp2pError
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.peer.id import ID
from libp2p.protocol_muxer.exceptions import MultiselectClientError
from libp2p.stream_muxer.exceptions import MuxedStreamError

from dipnet.node.effects import PROTOCOLS, Connected, Disconnected, Received
from dipnet.p2p.address import parse
from dipnet.transport.libp2p_connection import (
    MUX_BYTES_MAX,
    Mux,
    Socket,
    Stream,
    key_pair,
    noise,
    open_stream,
    upgrade,
)
from dipnet.transport.net import Limits
from tests.fixtures.net_nodes import (
    KEYS,
    PATIENCE_S,
    Node,
    closed,
    connect,
    nodes,
    rude,
    run,
    stranger,
)


@run
async def test_garbage_and_silence_keep_no_peer_out() -> None:
    limits = Limits(strangers_max=4, handshake_s=5)
    async with nodes(2, limits=limits) as (a, b):
        port = parse(a.address).port
        open_sockets = []
        for n in range(100):
            stream = socket.create_connection(("127.0.0.1", port))
            if n % 2:
                stream.sendall(secrets.token_bytes(1 + n * 7))
            else:
                stream.sendall(b"\x13/multistream/1.0.0\n"[: n % 21])
            open_sockets.append(stream)
        await connect(b, a)
        assert await a.in_trio(lambda: len(a.net._host._strangers)) <= 4
        for stream in open_sockets:
            stream.close()
        assert a.net.send(b.id, "hello", b"served")
        await b.until(Received)


@run
async def test_a_silent_connection_is_closed() -> None:
    async with nodes(1, limits=Limits(handshake_s=0.3)) as (a,):
        port = parse(a.address).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b"\x13/multistream/1.0.0\n"
        writer.close()
    # Now strangers with an identity that open no stream, which they would have to open.
    node = Node(KEYS[7], limits=Limits(handshake_s=0.3))
    await rude(node, closed, KEYS[0])
    assert node.events == []
    await asyncio.to_thread(node.net.stop)
    node = Node(KEYS[7], limits=Limits(handshake_s=10 * PATIENCE_S, strangers_max=2))
    dalliers = [asyncio.create_task(stranger(node, closed, KEYS[n])) for n in range(3)]
    done, _ = await asyncio.wait(
        dalliers, timeout=PATIENCE_S / 2, return_when=asyncio.FIRST_COMPLETED
    )
    assert done
    assert node.events == []
    await asyncio.to_thread(node.net.stop)
    await asyncio.gather(*dalliers, return_exceptions=True)


@run
async def test_lengths_without_end_are_refused_before_they_are_read() -> None:
    async with nodes(1, limits=Limits(handshake_s=10 * PATIENCE_S)) as (a,):
        port = parse(a.address).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\xff" * 9 + b"\x01")  # 2^64 - 1 bytes of multistream-select follow
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b"\x13/multistream/1.0.0\n"
        writer.close()

        async def endless_name(mux: Mux) -> None:
            stream = Stream(await mux.open_stream())
            await stream.write(b"\x80\x80\x80\x01")
            with trio.fail_after(PATIENCE_S), pytest.raises(MuxedStreamError):
                await stream.read(1000)

        await stranger(a, endless_name)


def frame_cases() -> list[tuple[bytes, str]]:
    above = Limits().frame_bytes_max["hello"] + 1
    return [
        (b"\xff\xff\xff\xff", "malformed peer message: a hello frame of 4294967295 bytes"),
        (above.to_bytes(4, "big"), f"malformed peer message: a hello frame of {above} bytes"),
        (b"\x00\x00\x00\x00", "malformed peer message: a hello frame of 0 bytes"),
        (b"\x00\x00\x00\x05half", "malformed peer message: half a hello frame"),
        (b"\x00\x00", "malformed peer message: half a hello frame"),
    ]


@run
async def test_bad_frames_end_the_connection_with_a_reason() -> None:
    async with nodes(1) as (a,):

        async def script(mux: Mux, data: bytes) -> None:
            stream = await open_stream(mux, "/dipnet/hello/1")
            await stream.write(b"\x00\x00\x00\x02ok" + data)
            await stream.close()
            await closed(mux)

        for n, (data, reason) in enumerate(frame_cases(), 1):
            await rude(a, partial(script, data=data))
            assert (await a.until(Disconnected, n)).reason == reason
            assert len(a.seen(Received, data=b"ok")) == n


@run
async def test_a_large_frame_that_dribbles_in_is_given_up() -> None:
    async with nodes(1, limits=Limits(frame_s=0.3, large_frames_max=1)) as (a,):

        async def script(mux: Mux) -> None:
            stream = await open_stream(mux, "/dipnet/sync/1")
            await stream.write((1 << 20).to_bytes(4, "big") + bytes(1000))
            await closed(mux)

        await rude(a, script)
        assert "took longer than 0.3 s" in (await a.until(Disconnected)).reason


@run
async def test_writing_past_the_window_ends_the_connection() -> None:
    async with nodes(1, limits=Limits(inbox_peer_bytes_max=1)) as (a,):

        async def script(mux: Mux) -> None:
            stream = await open_stream(mux, "/dipnet/gossip/1")
            stream._stream.send_window = 1 << 30  # the window that the rogue grants itself
            data = (1000).to_bytes(4, "big") + bytes(1000)
            for _ in range(MUX_BYTES_MAX // 60_000 * 3):
                await stream.write(data * 60)
            await closed(mux)

        a.net.pause()
        attack = asyncio.create_task(rude(a, script))

        async def ended() -> bool:
            waiting = [
                event for queue in list(a.net._inbox._plain.values()) for event, _, _ in list(queue)
            ]
            return any(isinstance(event, Disconnected) for event in waiting)

        await a.poll(ended)
        a.net.resume()
        assert "past its window" in (await a.until(Disconnected)).reason
        await attack


@run
async def test_streams_of_other_protocols_are_declined_and_bounded() -> None:
    async with nodes(1) as (a,):

        async def declined(mux: Mux) -> None:
            await open_stream(mux, "/dipnet/hello/1")
            for name in ("/dipnet/hello/2", "/meshsub/1.1.0", "/x" * 100):
                with pytest.raises(MultiselectClientError):
                    await open_stream(mux, name)
            for _ in range(100):  # closed streams do not count
                stream = await open_stream(mux, "/ipfs/ping/1.0.0")
                await stream.reset()
            question = secrets.token_bytes(32)
            stream = await open_stream(mux, "/ipfs/ping/1.0.0")
            await stream.write(question)
            assert await stream.read(32) == question

        async def hoard(mux: Mux) -> None:
            async with trio.open_nursery() as nursery:
                for _ in range(64):
                    nursery.start_soon(mux.open_stream)
            await closed(mux)

        await stranger(a, declined)
        assert (await a.until(Disconnected)).reason == "connection closed"
        await rude(a, hoard)


@run
async def test_a_second_stream_of_a_protocol_ends_the_connection() -> None:
    """Otherwise a peer could take all of the buffers for large frames."""
    async with nodes(1) as (a,):

        async def script(mux: Mux) -> None:
            for _ in range(2):
                await open_stream(mux, "/dipnet/sync/1")
            await closed(mux)

        await rude(a, script)
        assert "two streams of sync" in (await a.until(Disconnected)).reason


@run
async def test_identify_tells_who_we_are() -> None:
    async with nodes(1) as (a,):

        async def script(mux: Mux) -> Identify:
            stream = await open_stream(mux, "/ipfs/id/1.0.0")
            size = await stream.read(2)
            length = (size[0] & 127) | size[1] << 7
            return Identify.FromString(await stream.read(length))

        told = await stranger(a, script)
        assert ID.from_pubkey(key_pair(KEYS[0]).public_key).to_base58() == a.id
        assert told.public_key == key_pair(KEYS[0]).public_key.serialize()
        assert "/dipnet/gossip/1" in told.protocols
        assert told.agent_version.startswith("dipnet/")
        (listen,) = told.listen_addrs
        port = parse(a.address).port
        assert listen == b"\x04\x7f\x00\x00\x01\x06" + port.to_bytes(2, "big")


@run
async def test_an_rsa_identity_is_refused() -> None:
    async with nodes(1) as (a,):
        there = parse(a.address)

        async def main() -> None:
            tcp = await trio.open_tcp_stream(there.host, there.port)
            security = noise(create_rsa_key_pair(2048))
            async with tcp:
                with pytest.raises(BaseLibp2pError):
                    await upgrade(Socket(tcp, True), security, ID.from_base58(there.peer))

        await asyncio.to_thread(trio.run, main)
        assert a.events == []


@run
async def test_a_second_connection_of_a_peer_replaces_the_first() -> None:
    """A peer that dials again has lost its connection, even where the node has not noticed."""

    async def quiet(mux: Mux) -> None:
        await open_stream(mux, "/dipnet/hello/1")
        await closed(mux)

    for node_key, peer_key in ((KEYS[0], KEYS[7]), (KEYS[7], KEYS[0])):
        node = Node(node_key)
        first = asyncio.create_task(rude(node, quiet, peer_key))
        await node.until(Connected)
        second = asyncio.create_task(rude(node, quiet, peer_key))
        await node.until(Connected, 2)
        assert [type(e) for e in node.events] == [Connected, Disconnected, Connected]
        assert node.seen(Disconnected)[0].reason == "replaced by a newer connection"
        await first
        await asyncio.to_thread(node.net.stop)
        await second


def child(key_byte: int, mode: str = "") -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.fixtures.net_pair", str(key_byte), mode]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@run
async def test_killed_and_frozen_processes_are_noticed() -> None:
    async with nodes(1, limits=Limits(ping_s=0.5)) as (a,):
        with child(20) as killed, child(21) as frozen:
            try:
                for process in (killed, frozen):
                    assert process.stdout is not None
                    a.net.dial(process.stdout.readline().strip())
                await a.until(Connected, 2)
                for e in a.seen(Connected):
                    assert a.net.send(e.peer, "gossip", b"echo")
                await a.until(Received, 2)
                killed.kill()
                frozen.send_signal(signal.SIGSTOP)
                reasons = {
                    (await a.until(Disconnected, peer=e.peer)).reason for e in a.seen(Connected)
                }
                assert "no answer to a ping in 0.5 s" in reasons
                assert len(reasons) == 2
            finally:
                killed.kill()
                frozen.kill()


@run
async def test_random_bytes_at_every_layer_end_in_a_disconnection() -> None:
    """Random bytes after TCP, after Noise, on a stream: the node serves the next stranger."""
    async with nodes(1, limits=Limits(handshake_s=2)) as (a,):

        async def on_stream(mux: Mux, data: bytes, name: str) -> None:
            stream = await open_stream(mux, f"/dipnet/{name}/1")
            await stream.write(data)
            await stream.close()

        async def on_noise(mux: Mux, data: bytes) -> None:
            await mux.secured_conn.write(data)
            with trio.move_on_after(0.2):
                await closed(mux)

        for n in range(12):
            data = secrets.token_bytes(1 + 37 * n)
            name = PROTOCOLS[n % 4]
            await rude(a, partial(on_stream, data=data, name=name))
            header = bytes([0, n % 5, 0, 1 << n % 4]) + n.to_bytes(4, "big") + b"\x00\x00\x00\x40"
            await rude(a, partial(on_noise, data=header + data))
        ups, downs = len(a.seen(Connected)), len(a.seen(Disconnected))
        assert ups >= 12
        await a.until(Disconnected, ups)
        assert downs <= ups
