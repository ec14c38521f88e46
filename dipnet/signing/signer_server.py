"""The remote signer's process: one key, one vote state, any number of nodes that ask (ADR 81).

Rules that bind this file: the vote state is here, so V1 and V2 are decided here, whatever the nodes
believe. Requests are answered one after another in a single thread. A malformed request closes its
connection; a state that cannot be kept ends the process.
"""

import asyncio
import logging
import signal
from typing import Final

from dipnet.host.unixserver import PrivateServer
from dipnet.host.unixsocket import PrivateListener
from dipnet.primitives.crypto import address, checksum
from dipnet.primitives.errors import Corrupt, Invalid
from dipnet.signing.signer import LocalSigner
from dipnet.signing.signer_socket import (
    FRAME_BYTES_MAX,
    LENGTH,
    SignerHello,
    decode_request,
    encode_answer,
    encode_hello,
    frame,
)
from dipnet.signing.votefile import describe

log = logging.getLogger("dipnet")

CLIENTS_MAX: Final = 16
FRAME_S: Final = 5.0  # from a request's first byte to its last, and for a client to take an answer
EXIT_OK: Final = 0
EXIT_STORAGE: Final = 70


def answer_to(raw: bytes, signer: LocalSigner, chain_id: int) -> bytes:
    """The record that answers the request in ``raw``.

    Raises ``Invalid`` for a malformed request, ``Corrupt`` when the state could not be kept.
    """
    ballot = decode_request(raw)
    if ballot is None:
        return encode_hello(SignerHello(chain_id, signer.public_key, signer.seed_key, signer.state))
    answer = signer.sign(ballot)
    log.debug(
        "%s epoch %d slot %d justify %d block %s: %s",
        ballot.kind.name.lower(),
        ballot.epoch,
        ballot.slot,
        ballot.justify_slot,
        ballot.block_id.hex(),
        answer.refusal or "signed",
    )
    return encode_answer(answer)


class SignerServer:
    """Answers on a listening socket until SIGTERM or SIGINT."""

    def __init__(self, signer: LocalSigner, chain_id: int, listener: PrivateListener) -> None:
        self._signer = signer
        self._chain_id = chain_id
        self._path = listener.path
        self._server = PrivateServer(listener, "signer", self._answer_all, CLIENTS_MAX)

    async def run(self) -> int:
        """Serves until a signal or a failure of the disk; returns the process's exit code."""
        loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[int] = loop.create_future()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._end, EXIT_OK)
        await self._server.start(FRAME_BYTES_MAX)
        log.info(
            "signs for %s on chain %d at %s; %s",
            checksum(address(self._signer.public_key)),
            self._chain_id,
            self._path,
            describe(self._signer.state),
        )
        try:
            return await self._exit
        finally:
            await self._server.stop()
            self._signer.close()

    def _end(self, code: int) -> None:
        if not self._exit.done():
            self._exit.set_result(code)

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            first = await reader.readexactly(1)  # a node may be silent for as long as it likes
            async with asyncio.timeout(FRAME_S):
                head = first + await reader.readexactly(LENGTH.size - 1)
                (size,) = LENGTH.unpack(head)
                if size > FRAME_BYTES_MAX:
                    raise Invalid("oversized", f"a request of {size} bytes")
                request = await reader.readexactly(size)
            try:
                answer = answer_to(request, self._signer, self._chain_id)
            except Corrupt as failure:
                log.critical("stopping: %s", failure)
                return self._end(EXIT_STORAGE)
            writer.write(frame(answer))
            async with asyncio.timeout(FRAME_S):
                await writer.drain()


def serve(signer: LocalSigner, chain_id: int, listener: PrivateListener) -> int:
    """Runs a signer to its end; returns the process's exit code."""
    return asyncio.run(SignerServer(signer, chain_id, listener).run())
