"""The protocol between a node and its remote signer, and the node's end of it (ADR 81).

A frame is 4 bytes of length, big-endian, and a canonical record of at most ``FRAME_BYTES_MAX``
bytes (docs/spec/bytes.md "Records"). Each request has one answer:

    HELLO  [1, 0]                                                name your chain and keys
           [1, 0, chain_id, public_key 33, seed_key 32, STATE]
    SIGN   [1, 1, kind, epoch, slot, block_id 32, justify_slot]  sign this ballot
           [1, 1, signature 65 or empty, refusal, STATE]         STATE = [epoch, b, p, l]

The signer decides; any number of nodes may ask. A node that lost its signer signs nothing, tries
again with growing pauses, and does all else as before. A late answer is never taken for the answer
to the next request: after a timeout the connection is closed.
"""

import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dipnet.consensus.finality.votes import Ballot, BallotKind, VoteState
from dipnet.host.unixsocket import connect
from dipnet.primitives import crypto
from dipnet.primitives.codec import UINT, Bin, Record, Shape, Text, Uint, pack, unpack
from dipnet.primitives.errors import Invalid
from dipnet.signing.signer import Answer

SIGNER_VERSION: Final = 1
FRAME_BYTES_MAX: Final = 512
REFUSAL_BYTES_MAX: Final = 200
LENGTH: Final = struct.Struct(">I")

HELLO: Final = 0
SIGN: Final = 1

ANSWER_S: Final = 2.0
START_S: Final = 10.0  # for a signer that is started together with its nodes
PAUSE_S: Final = 0.05
PAUSE_S_MAX: Final = 2.0

_STATE: Final = (UINT, UINT, UINT, UINT)
_REQUESTS: Final[dict[int, tuple[Shape, ...]]] = {
    HELLO: (SIGNER_VERSION, HELLO),
    SIGN: (SIGNER_VERSION, SIGN, Uint(2), UINT, UINT, Bin(32), UINT),
}
_ANSWERS: Final[dict[int, tuple[Shape, ...]]] = {
    HELLO: (SIGNER_VERSION, HELLO, Uint(2**32 - 1), Bin(33), Bin(32), _STATE),
    SIGN: (SIGNER_VERSION, SIGN, Bin(0, 65), Text(REFUSAL_BYTES_MAX), _STATE),
}


# --- records


@dataclass(frozen=True, slots=True)
class SignerHello:
    """The chain, the keys and the vote state of a signer.

    ``public_key`` has 33 bytes, ``seed_key`` 32.
    """

    chain_id: int
    public_key: bytes
    seed_key: bytes
    state: VoteState


def _state(state: VoteState) -> list[Record]:
    return [state.epoch, state.proposed, state.prevoted, state.committed]


def _unpack(raw: bytes, shapes: dict[int, tuple[Shape, ...]]) -> list[Any]:
    """Fields of a record; the third byte of every record is the number of its operation."""
    shape = shapes.get(raw[2]) if len(raw) > 2 else None
    if shape is None:
        raise Invalid("record", "no such operation of the signer")
    return unpack(raw, shape, FRAME_BYTES_MAX)


def encode_request(ballot: Ballot | None) -> bytes:
    """The request ``SIGN`` for a ballot, ``HELLO`` for None."""
    if ballot is None:
        return pack([SIGNER_VERSION, HELLO])
    return pack(
        [SIGNER_VERSION, SIGN, int(ballot.kind), ballot.epoch, ballot.slot, ballot.block_id,
         ballot.justify_slot]
    )  # fmt: skip


def decode_request(raw: bytes) -> Ballot | None:
    """The ballot to sign, None for ``HELLO``; raises ``Invalid``: ``oversized``, ``record``."""
    _, operation, *fields = _unpack(raw, _REQUESTS)
    if operation == HELLO:
        return None
    kind, epoch, slot, block_id, justify_slot = fields
    if kind != BallotKind.PREVOTE and justify_slot:
        raise Invalid("record", "only a prevote has a justify_slot")
    return Ballot(BallotKind(kind), epoch, slot, block_id, justify_slot)


def encode_hello(hello: SignerHello) -> bytes:
    """The answer to ``HELLO``."""
    return pack(
        [SIGNER_VERSION, HELLO, hello.chain_id, hello.public_key, hello.seed_key,
         _state(hello.state)]
    )  # fmt: skip


def encode_answer(answer: Answer) -> bytes:
    """The answer to ``SIGN``."""
    refusal = answer.refusal.encode()[:REFUSAL_BYTES_MAX].decode(errors="ignore").encode()
    return pack([SIGNER_VERSION, SIGN, answer.signature, refusal, _state(answer.state)])


def decode_answer(raw: bytes) -> SignerHello | Answer:
    """The answer in a record of a signer; raises ``Invalid``: ``oversized``, ``record``."""
    _, operation, *fields = _unpack(raw, _ANSWERS)
    if operation == HELLO:
        chain_id, public_key, seed_key, state = fields
        return SignerHello(chain_id, public_key, seed_key, VoteState(*state))
    signature, refusal, state = fields
    if len(signature) not in (0, 65):
        raise Invalid("record", "half a signature")
    return Answer(signature, VoteState(*state), refusal.decode())


def frame(record: bytes) -> bytes:
    """The record with its length in front."""
    return LENGTH.pack(len(record)) + record


# --- the node's end


class RemoteSigner:
    """A ``Signer`` that asks the process at ``path``; safe to call from several threads.

    ``sign`` takes at most ``answer_s`` and never raises: without a signer it refuses, and
    ``complaint`` says why.
    """

    def __init__(
        self,
        path: Path,
        chain_id: int,
        *,
        answer_s: float = ANSWER_S,
        start_s: float = START_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connects and waits up to ``start_s`` seconds for the first answer.

        Raises ``Invalid``: ``signer`` (no answer), ``votes_foreign`` (it signs for another chain).
        """
        self._path = path
        self._chain_id = chain_id
        self._answer_s = answer_s
        self._clock = clock
        self._connection: socket.socket | None = None
        self._one_at_a_time = threading.Lock()
        self._pause_s = PAUSE_S
        self._not_before = 0.0
        self._complaint: str | None = None
        self._hello: SignerHello | None = None
        self._closed = False
        hello = self._first_hello(clock() + start_s)
        self.public_key = hello.public_key
        self.seed_key = hello.seed_key
        self._account = crypto.address(hello.public_key)
        self._state = hello.state

    def _first_hello(self, until: float) -> SignerHello:
        while True:
            try:
                self._connect(self._clock() + self._answer_s)
            except (OSError, _Nonsense) as error:
                if self._clock() >= until:
                    raise Invalid("signer", f"{self._path}: {_reason(error)}") from None
                time.sleep(PAUSE_S)
            else:
                assert self._hello is not None
                return self._hello

    @property
    def state(self) -> VoteState:
        """The key's vote state in the signer's last answer."""
        return self._state

    @property
    def complaint(self) -> str | None:
        """Why the last request got no answer; None when it was answered."""
        return self._complaint

    def sign(self, ballot: Ballot) -> Answer:
        """The signer's answer, or a refusal when no answer came."""
        with self._one_at_a_time:
            if self._closed or self._clock() < self._not_before:
                return self._refused(self._complaint or "the signer is closed")
            until = self._clock() + self._answer_s
            fresh = self._connection is None
            try:
                answer = self._sign_once(ballot, until)
            except (OSError, _Nonsense) as error:
                if fresh:
                    return self._lost(error)
                try:  # the signer may have been restarted: it refuses a slot that it has signed
                    answer = self._sign_once(ballot, until)
                except (OSError, _Nonsense) as again:
                    return self._lost(again)
            self._state, self._complaint = answer.state, None
            self._pause_s = PAUSE_S
            return answer

    def close(self) -> None:
        """Nothing is signed afterwards."""
        with self._one_at_a_time:
            self._closed = True
            self._disconnect()

    def _sign_once(self, ballot: Ballot, until: float) -> Answer:
        try:
            if self._connection is None:
                self._connect(until)
            answer = self._ask(encode_request(ballot), until)
            if not isinstance(answer, Answer):
                raise _Nonsense("it answered another question")
            if answer.signature:
                self._check(ballot, answer)
            return answer
        except (OSError, _Nonsense):
            self._disconnect()
            raise

    def _check(self, ballot: Ballot, answer: Answer) -> None:
        try:
            signer = crypto.recover(ballot.digest(self._chain_id), answer.signature)
        except Invalid:
            signer = b""
        if signer != self._account:
            raise _Nonsense("its signature is not by its key")

    def _connect(self, until: float) -> None:
        self._connection = connect(self._path, self._left(until))
        try:
            hello = self._ask(encode_request(None), until)
        except (OSError, _Nonsense):
            self._disconnect()
            raise
        if not isinstance(hello, SignerHello):
            self._disconnect()
            raise _Nonsense("it answered another question")
        if hello.chain_id != self._chain_id:
            self._disconnect()
            if self._hello is None:
                raise Invalid(
                    "votes_foreign",
                    f"the signer at {self._path} signs for chain {hello.chain_id}, "
                    f"not {self._chain_id}",
                )
            raise _Nonsense(f"it signs for chain {hello.chain_id} now")
        if self._hello is not None and hello.public_key != self._hello.public_key:
            self._disconnect()
            raise _Nonsense("it signs with another key now")
        if self._hello is not None and hello.state.joined(self._state) != hello.state:
            self._disconnect()
            raise _Nonsense("it has forgotten what it signed: stop it, dipnetd votes recover")
        self._hello = hello

    def _ask(self, request: bytes, until: float) -> SignerHello | Answer:
        assert self._connection is not None
        self._connection.settimeout(self._left(until))
        self._connection.sendall(frame(request))
        (size,) = LENGTH.unpack(self._receive(LENGTH.size, until))
        if size > FRAME_BYTES_MAX:
            raise _Nonsense(f"it announced {size} bytes")
        try:
            return decode_answer(self._receive(size, until))
        except Invalid as error:
            raise _Nonsense(str(error)) from None

    def _receive(self, size: int, until: float) -> bytes:
        assert self._connection is not None
        received = b""
        while len(received) < size:
            self._connection.settimeout(self._left(until))
            part = self._connection.recv(size - len(received))
            if not part:
                raise ConnectionResetError("it ended")
            received += part
        return received

    def _left(self, until: float) -> float:
        left = until - self._clock()
        if left <= 0:
            raise TimeoutError("it did not answer in time")
        return left

    def _lost(self, error: Exception) -> Answer:
        self._complaint = f"no signer at {self._path}: {_reason(error)}"
        self._not_before = self._clock() + self._pause_s
        self._pause_s = min(2 * self._pause_s, PAUSE_S_MAX)
        return self._refused(self._complaint)

    def _refused(self, why: str) -> Answer:
        return Answer(b"", self._state, why)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Nonsense(Exception):
    """The other end does not speak as a signer."""


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
