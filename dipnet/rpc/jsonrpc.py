"""JSON-RPC 2.0: from the bytes of a request to the bytes of an answer, over any transport.

A batch is answered in order. Adjacent submissions of one kind in a batch become one
``Backend.submit``, which makes a thousand payments a second cheap. Every request ends in a result
or in an error of the table in ``dipnet.primitives.errors``. Any other exception is a bug: it goes
to ``Backend.failed``, and the answer is -32603.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Protocol

import msgspec

from dipnet.node.effects import StreamName
from dipnet.node.work import ClientTxs, ClientVertices
from dipnet.primitives.codec import to_hex
from dipnet.primitives.errors import Invalid
from dipnet.rpc import bounds
from dipnet.rpc.backend import Backend
from dipnet.rpc.method import Reverted, RpcMethod, Steps, Way

BATCH_ITEMS_MAX: Final = 1000
RESPONSE_BYTES_MAX: Final = 10 << 20
METHOD_CHARS_MAX: Final = 64
ID_CHARS_MAX: Final = 256
TURN_MS: Final = 10  # a batch yields to the event loop after this time
STEPS_TURN_MS: Final = 2  # a read in steps yields after this time
STEPS_MS_MAX: Final = 3_000  # a read in steps is refused after so much work of its own
STEPS_RUNNING_MAX: Final = 2  # reads in steps that run at a time; others wait
STEPS_WAITING_MAX: Final = 64

_encode: Final = msgspec.json.Encoder().encode
_OPEN: Final = b'{"jsonrpc":"2.0","id":'
_NO_ID: Final = b"null"
OTHER: Final = "other"


Show = Callable[[object], Iterable[object]]
"""Turns a published item into the notifications for one subscriber: none, one or more."""


class Session(Protocol):
    """The WebSocket of the caller, as far as methods may use it."""

    @property
    def backend(self) -> Backend: ...

    def open(self, stream: StreamName, show: Show) -> str:
        """Subscribe to ``stream``; returns the id of the subscription."""

    def close(self, subscription: str) -> bool:
        """Unsubscribe. Raises ``Invalid("not_found")`` for an id that is not subscribed."""


@dataclass(frozen=True, slots=True)
class RpcCall:
    """A request with a valid form. ``id`` is JSON bytes, empty for a notification."""

    id: bytes
    method: RpcMethod
    args: list[object]


@dataclass(frozen=True, slots=True)
class Refused:
    """A request with a wrong form: its finished answer, empty for a notification."""

    answer: bytes


def error_body(error: Invalid, id_json: bytes = _NO_ID) -> bytes:
    """The bytes of an error response: Ethereum's number and text, code and remedy in ``data``."""
    row = error.refusal
    message = str(error)
    if error.code == "method":  # go-ethereum's text has the method's name in the middle
        message = f"the method {error.detail} does not exist/is not available"
    data: object = {"code": error.code, "remedy": row.remedy}
    if isinstance(error, Reverted):  # clients decode the output of the contract
        data = to_hex(error.output)
    body = _encode({"code": row.rpc, "message": message, "data": data})
    return b'%b%b,"error":%b}' % (_OPEN, id_json, body)


def result_body(result: object, id_json: bytes) -> bytes:
    """The bytes of a result response."""
    return b'%b%b,"result":%b}' % (_OPEN, id_json, _encode(result))


class Rpc:
    """Answers requests by a table of methods. ``requests`` counts (method, error code or "")."""

    def __init__(self, backend: Backend, methods: dict[str, RpcMethod]) -> None:
        self.backend = backend
        self.methods = methods
        self.requests: Counter[tuple[str, str]] = Counter()
        self._in_steps = asyncio.Semaphore(STEPS_RUNNING_MAX)
        self._waiting = 0

    async def answer(self, raw: bytes, session: Session | None = None) -> bytes:
        """The answer to one request or batch; empty if it held notifications only."""
        try:
            request = bounds.load(raw)
        except Invalid as error:
            return self._refuse(error)
        if not isinstance(request, list):
            return await self._settled(b"".join(await self._run([request], session)))
        if not request:
            return self._refuse(Invalid("request", "empty batch"))
        if len(request) > BATCH_ITEMS_MAX:
            return self._refuse(Invalid("limit", f"batch of more than {BATCH_ITEMS_MAX} requests"))
        answers = [body for body in await self._run(request, session) if body]
        return await self._settled(b"[%b]" % b",".join(answers)) if answers else b""

    async def _settled(self, answer: bytes) -> bytes:
        """``answer``, once the records behind it are durable (docs/design.md "Rules", rule 3)."""
        try:
            await self.backend.settled()
        except Invalid as error:
            return self._refuse(error)
        return answer

    def _refuse(self, error: Invalid, method: str = OTHER, id_json: bytes = _NO_ID) -> bytes:
        self.requests[method, error.code] += 1
        return error_body(error, id_json)

    def _check(self, request: object) -> RpcCall | Refused:
        """Check the form of one request; find its method and read its arguments."""
        id_json, method = _NO_ID, OTHER
        try:
            if not isinstance(request, dict):
                raise Invalid("request", "not an object")
            id_json = _id(request)
            name = request.get("method")
            if request.get("jsonrpc") != "2.0" or not isinstance(name, str):
                raise Invalid("request", 'want "jsonrpc": "2.0" and a method')
            found = self.methods.get(name)
            if found is None:
                raise Invalid("method", name[:METHOD_CHARS_MAX])
            method = found.name
            return RpcCall(id_json, found, found.arguments(request.get("params")))
        except Invalid as error:
            if error.code == "request" and not id_json:
                id_json = _NO_ID  # a malformed request is not a notification
            body = self._refuse(error, method, id_json)
            return Refused(body if id_json else b"")

    async def _run(self, requests: Sequence[object], session: Session | None) -> list[bytes]:
        """The answers in order; adjacent submissions are submitted together."""
        answers: list[bytes] = []
        room = RESPONSE_BYTES_MAX
        turn_ends = asyncio.get_running_loop().time() + TURN_MS / 1000
        for way, group in groupby(map(self._check, requests), _way):
            for item in await self._submit(way, list(group)) if way else group:
                answer = item if isinstance(item, bytes) else await self._read(item, session, room)
                answers.append(answer)
                room -= len(answer)
                if asyncio.get_running_loop().time() > turn_ends:
                    await asyncio.sleep(0)
                    turn_ends = asyncio.get_running_loop().time() + TURN_MS / 1000
        return answers

    async def _read(self, call: RpcCall | Refused, session: Session | None, room: int) -> bytes:
        """The answer to a call that submits nothing, at most ``room`` bytes."""
        if isinstance(call, Refused):
            return call.answer
        method = call.method
        try:
            if room <= 0:
                raise Invalid("limit", f"response too large (over {RESPONSE_BYTES_MAX} bytes)")
            if method.way == "session" and session is None:
                raise Invalid("subscription")
            result = method.answer(session if method.way == "session" else self.backend, *call.args)
            if method.way == "steps":
                assert isinstance(result, Generator)
                result = await self._through(result)
            body = result_body(result, call.id)
            if len(body) > room:
                raise Invalid("limit", f"response too large (over {RESPONSE_BYTES_MAX} bytes)")
            self.requests[method.name, ""] += 1
        except Invalid as error:
            body = self._refuse(error, method.name, call.id)
        except Exception as error:
            self.backend.failed(error)
            body = self._refuse(Invalid("internal"), method.name, call.id)
        return body if call.id else b""

    async def _through(self, steps: Steps[object]) -> object:
        """The result of a read in steps; few run at a time, and none for long (ADR 90)."""
        if self._waiting >= STEPS_WAITING_MAX:
            raise Invalid("busy", f"{self._waiting} long reads are waiting")
        self._waiting += 1
        try:
            async with self._in_steps:
                return await self._stepped(steps)
        finally:
            self._waiting -= 1

    async def _stepped(self, steps: Steps[object]) -> object:
        time = asyncio.get_running_loop().time
        worked, since = 0.0, time()
        while True:
            try:
                next(steps)
            except StopIteration as done:
                return done.value
            spent = time() - since
            if spent > STEPS_TURN_MS / 1000:
                worked += spent
                if worked > STEPS_MS_MAX / 1000:
                    raise Invalid("limit", f"more than {STEPS_MS_MAX} ms of work; ask for less")
                await asyncio.sleep(0)
                since = time()

    async def _submit(self, way: Way, calls: Sequence[RpcCall | Refused]) -> list[bytes]:
        """The answers to adjacent submissions of one kind, by one ``Backend.submit``."""
        made = [call for call in calls if isinstance(call, RpcCall)]
        items = tuple(item for call in made for item in _items(call))
        try:
            work = ClientTxs(items) if way == "txs" else ClientVertices(items)
            results = await self.backend.submit(work)
        except Invalid as error:
            results = [error] * len(items)
        except Exception as error:
            self.backend.failed(error)
            results = [Invalid("internal")] * len(items)
        answers, start = [], 0
        for call in made:
            end = start + len(_items(call))
            try:
                body = result_body(call.method.answer(results[start:end]), call.id)
                self.requests[call.method.name, ""] += 1
            except Invalid as error:
                body = self._refuse(error, call.method.name, call.id)
            answers.append(body if call.id else b"")
            start = end
        return answers


def _id(request: dict[str, object]) -> bytes:
    """The request's id as JSON bytes, empty for a notification; else ``Invalid("request")``."""
    if "id" not in request:
        return b""
    value = request["id"]
    if value is None:
        return _NO_ID
    if type(value) is int and -(1 << 63) <= value < 1 << 63:
        return b"%d" % value
    if isinstance(value, str) and len(value) <= ID_CHARS_MAX:
        return _encode(value)
    raise Invalid("request", "want an id that is a string, an integer of 64 bits or null")


def _way(call: RpcCall | Refused) -> Way | None:
    """ "txs" or "vertices" for a submission, else None."""
    way = call.method.way if isinstance(call, RpcCall) else "read"
    return way if way in ("txs", "vertices") else None


def _items(call: RpcCall) -> tuple[bytes, ...]:
    items = call.args[0]
    assert isinstance(items, tuple)
    return items
