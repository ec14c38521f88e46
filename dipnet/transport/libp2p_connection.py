"""A libp2p connection with a bound on everything that a stranger makes it read.

py-libp2p provides multistream-select, Noise, Yamux and identities. It is used below its ``Swarm``
and ``Host``, which keep state of a connection after its end (ADR 20). Rules that bind this file
(docs/design.md "Peers"):
* No length that the peer chose is read without a limit of ours.
* The memory of a connection is bounded: read-ahead, Yamux buffers and streams.
* Nothing here depends on dipnet's messages, on threads or on asyncio.
"""

import ipaddress
import logging
from collections.abc import Sequence
from typing import Final, cast

import trio
from libp2p.abc import ISecureConn
from libp2p.crypto import serialization
from libp2p.crypto.keys import KeyPair, KeyType
from libp2p.crypto.secp256k1 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import MessageTooLarge
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_ID
from libp2p.security.noise.transport import Transport as Noise
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux.yamux import DEFAULT_WINDOW_SIZE, Yamux, YamuxStream
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_ID

from dipnet.primitives.errors import Invalid

log = logging.getLogger("dipnet.net")

READ_BYTES: Final = 256 << 10  # of a read from the kernel
NEGOTIATION_BYTES_MAX: Final = 1024  # of a multistream-select message
WINDOW_BYTES: Final = 1 << 20  # Yamux credit of a stream that carries frames
MUX_BYTES_MAX: Final = 5 << 20  # unread in all streams of a connection; honest peers: 5 windows
CREDIT_PAUSE_S: Final = 0.0005
CREDIT_PAUSE_S_MAX: Final = 0.01  # the pause of Yamux itself
# A Yamux frame of 65,507 bytes fills a Noise message of 65,519; a longer frame takes two messages.
PIECE_BYTES_MAX: Final = 65_507

# An RSA key whose length and exponent a stranger chose costs minutes of Python in the handshake.
serialization.key_type_to_public_key_deserializer.pop(KeyType.RSA.value, None)


class _ToDebug(logging.Handler):
    """Passes py-libp2p's warnings on at debug level: it warns of every stranger that hangs up."""

    def emit(self, record: logging.LogRecord) -> None:
        log.debug("%s: %s", record.name, record.getMessage())


_theirs = logging.getLogger("libp2p")
_theirs.handlers[:] = [_ToDebug()]
_theirs.propagate = False


def key_pair(secret: bytes) -> KeyPair:
    """The secp256k1 identity of a node key.

    Raises:
        Invalid: ``config`` when ``secret`` is not 32 bytes of a key in range.
    """
    try:
        if len(secret) != 32:
            raise ValueError(f"{len(secret)} bytes")
        return create_new_key_pair(secret)
    except ValueError as error:
        raise Invalid("config", f"the node key is no secp256k1 key: {error}") from error


def binary_address(host: str, port: int) -> bytes:
    """The binary multiaddr of a TCP endpoint; empty for a host name."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return b""
    code = {4: b"\x04", 6: b"\x29"}[ip.version]  # multiaddr's table of protocols
    return code + ip.packed + b"\x06" + port.to_bytes(2, "big")


def peer_id(secret: bytes) -> str:
    """The libp2p peer id, base58 text, of a 32-byte secp256k1 node key.

    Raises:
        Invalid: ``config`` when it is no such key.
    """
    return ID.from_pubkey(key_pair(secret).public_key).to_base58()


def noise(identity: KeyPair) -> Noise:
    """Noise XX with a fresh static key, signed by ``identity`` (libp2p noise spec)."""
    return Noise(identity, noise_privkey=create_noise_key_pair().private_key)


class Socket(RawConnection):
    """A TCP connection for Noise: a read of the kernel serves many small reads of Noise.

    Callers ask for at most a Noise message, whose length has two bytes, or a ``_Negotiation``. A
    read is short only at the end of the connection; py-libp2p's own reader gives up a message that
    arrives in more than 100 pieces.
    """

    def __init__(self, stream: trio.SocketStream, initiator: bool) -> None:
        super().__init__(TrioTCPStream(stream), initiator)
        self._ahead = bytearray()

    async def read(self, n: int | None = None) -> bytes:
        wanted = 1 if n is None else n
        while len(self._ahead) < wanted:
            more = await super().read(READ_BYTES)
            if not more:
                break
            self._ahead += more
        data = bytes(self._ahead[:n])
        del self._ahead[:n]
        return data


class Mux(Yamux):
    """Yamux that ends the connection of a peer that writes more than its credit.

    py-libp2p 0.8.1 only warns, so that a stranger could fill the memory while nothing is read.
    """

    violation = ""

    async def _read_data_body(self, length: int) -> bytes:
        unread = sum(len(buffer) for buffer in self.stream_buffers.values())
        if unread + length > MUX_BYTES_MAX:
            self.violation = f"{unread + length} bytes unread: wrote past its window"
            raise trio.TooSlowError(self.violation)  # on this error handle_incoming closes
        return await super()._read_data_body(length)


class Stream(ReadWriteCloser):
    """A Yamux stream with exact reads; it returns credit in few large steps.

    Yamux's own read sends a window update after each read and polls for credit every 10 ms.
    """

    def __init__(self, stream: YamuxStream) -> None:
        self._stream = stream
        self._ahead = bytearray()
        self._window = DEFAULT_WINDOW_SIZE
        self._owed = 0

    @property
    def unread(self) -> int:
        """Bytes that were received and not yet read."""
        return len(self._ahead)

    @property
    def connection_lost(self) -> bool:
        return self._stream.conn.event_shutting_down.is_set()

    async def widen(self) -> None:
        """Raises the peer's credit to ``WINDOW_BYTES`` in total."""
        await self._grant(WINDOW_BYTES - self._window)
        self._window = WINDOW_BYTES

    async def read(self, n: int | None = None) -> bytes:
        """Exactly ``n`` bytes; raises ``MuxedStreamError`` when the stream ends earlier."""
        size = 1 if n is None else n
        while len(self._ahead) < size:
            data = await self._stream.conn.read_stream(self._stream.stream_id)
            self._ahead += data
            self._owed += len(data)
            if self._owed * 2 >= self._window:
                owed, self._owed = self._owed, 0
                await self._grant(owed)
        data = bytes(self._ahead[:size])
        del self._ahead[:size]
        return data

    async def _grant(self, size: int) -> None:
        self._stream.recv_window += size
        await self._stream.send_window_update(size)

    async def credit(self, size: int) -> None:
        """Waits for credit of the peer for ``size`` bytes, at most ``PIECE_BYTES_MAX``."""
        pause_s = CREDIT_PAUSE_S
        while self._stream.send_window < size and not self._stream.send_closed:
            await trio.sleep(pause_s)  # Yamux does not signal new credit
            pause_s = min(2 * pause_s, CREDIT_PAUSE_S_MAX)

    async def write(self, data: bytes) -> None:
        """Sends at most ``PIECE_BYTES_MAX`` bytes; waits for the peer's credit."""
        await self.credit(len(data))
        await self._stream.write(data)

    async def close(self) -> None:
        """Ends our direction; the peer's direction stays open."""
        await self._stream.close()

    async def reset(self) -> None:
        """Ends both directions at once and drops received bytes that were not read."""
        buffer = self._stream.conn.stream_buffers.get(self._stream.stream_id)
        if buffer is not None:
            buffer.clear()  # or Yamux keeps the stream for a minute
        await self._stream.reset()

    async def finish(self, seconds: float) -> None:
        """Closes our direction, waits ``seconds`` for the peer to close its own, then resets."""
        await self.close()
        with trio.move_on_after(seconds):
            try:
                while True:
                    await self.read(1)
            except MuxedStreamError:
                pass
        await self.reset()

    def get_remote_address(self) -> tuple[str, int] | None:
        return self._stream.get_remote_address()


class _Negotiation(ReadWriteCloser):
    """A connection or stream for multistream-select, which may read short messages only."""

    def __init__(self, inner: "Socket | ISecureConn | Stream") -> None:
        self._inner = inner

    async def read(self, n: int | None = None) -> bytes:
        if n is None or n > NEGOTIATION_BYTES_MAX:
            raise MessageTooLarge(f"{n} bytes of a negotiation")
        return await self._inner.read(n)

    async def write(self, data: bytes) -> None:
        await self._inner.write(data)

    async def close(self) -> None:
        await self._inner.close()

    def get_remote_address(self) -> tuple[str, int] | None:
        return self._inner.get_remote_address()


async def negotiate(
    inner: "Socket | ISecureConn | Stream", protocols: Sequence[str], ask: bool
) -> str:
    """Agrees on one of ``protocols`` by multistream-select; with ``ask`` we propose, else the peer.

    It has no deadline of its own. Raises the errors of py-libp2p.
    """
    communicator = MultiselectCommunicator(_Negotiation(inner))
    names = [TProtocol(name) for name in protocols]
    if ask:
        return await MultiselectClient().select_one_of(names, communicator)
    chosen, _ = await Multiselect(dict.fromkeys(names)).negotiate(communicator)
    return str(chosen)


async def upgrade(socket: Socket, security: Noise, expected: ID | None) -> Mux:
    """Secures and multiplexes a new connection; ``expected`` is the dialled peer, None if inbound.

    It has no deadline of its own. Raises the errors of py-libp2p, among them
    ``PeerIDMismatchesPubkey`` when another peer than ``expected`` answers. The ``Mux`` is not
    started.
    """
    await negotiate(socket, [NOISE_ID], ask=socket.is_initiator)
    if expected is not None:
        session = await security.secure_outbound(socket, expected)
    else:
        session = await security.secure_inbound(socket)
    await negotiate(session, [YAMUX_ID], ask=socket.is_initiator)
    return Mux(session, session.get_remote_peer(), is_initiator=socket.is_initiator)


async def open_stream(mux: Mux, protocol: str) -> Stream:
    """Opens a stream and agrees on ``protocol``. It has no deadline of its own."""
    stream = Stream(await mux.open_stream())
    await negotiate(stream, [protocol], ask=True)
    return stream


async def accept_stream(mux: Mux) -> Stream:
    """The next stream that the peer opens; raises ``MuxedConnUnavailable`` at the end."""
    return Stream(cast(YamuxStream, await mux.accept_stream()))
