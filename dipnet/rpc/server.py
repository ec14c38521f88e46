"""The ASGI application: JSON-RPC by POST / and WebSocket /, /livez, /readyz, /metrics.

Refuses by default (docs/design.md "Interfaces"). The Host must be on the list (against DNS
rebinding); the Origin of a WebSocket must be the host itself or on the list; CORS is off unless
configured. A body must be declared as JSON, stay below its limit while it is read, and arrive in
time.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from dipnet.host.metrics import CONTENT_TYPE, Sample, render
from dipnet.primitives.errors import Invalid
from dipnet.rpc import (
    blocks,
    calls,
    dag,
    delegates,
    dpos,
    eth,
    light,
    logs,
    proof,
    readings,
    status,
    subscriptions,
)  # fmt: skip
from dipnet.rpc.backend import Backend
from dipnet.rpc.bounds import BODY_BYTES_MAX
from dipnet.rpc.jsonrpc import Rpc, error_body
from dipnet.rpc.method import RpcMethod, table
from dipnet.rpc.websocket import WebSocketSession

BODY_S: Final = 30
LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
ANY: Final = "*"
JSON: Final = "application/json"
METHODS: Final[dict[str, RpcMethod]] = table(
    eth.METHODS, blocks.METHODS, calls.METHODS, logs.METHODS, proof.METHODS, subscriptions.METHODS,
    dag.METHODS, dpos.METHODS, delegates.METHODS, light.METHODS, status.METHODS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Access:
    """Allowed ``hosts`` beside loopback names, and ``origins`` of web pages; "*" allows any."""

    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()


def _refusal(status_code: int, error: Invalid) -> Response:
    return Response(error_body(error), status_code, media_type=JSON)


def _host_name(host: str) -> str:
    """The name in a Host header without port and brackets, lower case; "" if it is malformed."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


class Gate:
    """ASGI middleware: refuses other Hosts, and on a WebSocket other Origins, before routing."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access
        self._hosts = {*LOCAL_HOSTS, *(host.lower() for host in access.hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            host = headers.get("host", "")
            if ANY not in self._hosts and _host_name(host) not in self._hosts:
                return await _deny(scope, receive, send, Invalid("host", host[:64]))
            origin = headers.get("origin")
            if scope["type"] == "websocket" and origin is not None and not self._own(origin, host):
                return await _deny(scope, receive, send, Invalid("origin", origin[:64]))
        await self._app(scope, receive, send)

    def _own(self, origin: str, host: str) -> bool:
        listed = self._access.origins
        if ANY in listed or origin in listed:
            return True
        return origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


async def _deny(scope: Scope, receive: Receive, send: Send, error: Invalid) -> None:
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(_refusal(403, error))
    else:
        await _refusal(403, error)(scope, receive, send)


async def _body(request: Request) -> bytes:
    """The whole body; raises ``Invalid("limit")`` once it is too long or too slow."""
    declared = request.headers.get("content-length", "")
    # More digits than any real length are not converted: int() of a hostile header could be slow.
    if declared.isdecimal() and (len(declared) > 15 or int(declared) > BODY_BYTES_MAX):
        raise Invalid("limit", f"request of more than {BODY_BYTES_MAX} bytes")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                size += len(part)
                if size > BODY_BYTES_MAX:
                    raise Invalid("limit", f"request of more than {BODY_BYTES_MAX} bytes")
                parts.append(part)
    except TimeoutError:
        raise Invalid("limit", f"body not complete after {BODY_S} s") from None
    return b"".join(parts)


class HttpEndpoints:
    """The HTTP and WebSocket endpoints of one node."""

    def __init__(self, backend: Backend) -> None:
        self.rpc = Rpc(backend, METHODS)

    async def call(self, request: Request) -> Response:
        """POST /"""
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media != JSON:
            return _refusal(415, Invalid("http", f"content type must be {JSON}"))
        try:
            raw = await _body(request)
        except Invalid as error:
            refusal = _refusal(413, error)
            refusal.headers["connection"] = "close"  # the rest of the body is not read
            return refusal
        except ClientDisconnect:
            return Response(status_code=400)
        answer = await self.rpc.answer(raw)
        return Response(answer, 200 if answer else 204, media_type=JSON)

    async def about(self, request: Request) -> Response:
        """GET /: name and version of the node, its chain id, and the other paths."""
        return JSONResponse(
            {
                "client": status.client_version(),
                "chainId": self.rpc.backend.genesis.chain_id,
                "rpc": "POST JSON-RPC 2.0 here, or open a WebSocket; methods: docs/rpc.md",
                "also": ["/livez", "/readyz", "/metrics"],
            }
        )

    async def live(self, socket: WebSocket) -> None:
        """WebSocket /"""
        await WebSocketSession(self.rpc, socket).run()

    async def livez(self, request: Request) -> Response:
        """GET /livez: answers while the event loop runs."""
        return JSONResponse({"live": True})

    async def readyz(self, request: Request) -> Response:
        """GET /readyz: 200 if every component is fine, else 503; both with the complaints."""
        health = self.rpc.backend.health()
        ready = not any(health.values())
        return JSONResponse({"ready": ready, "components": health}, 200 if ready else 503)

    async def scrape(self, request: Request) -> Response:
        """GET /metrics: the readings in Prometheus' text format."""
        body = render(lambda: readings.all_of(self.rpc.backend), self._requests)
        return Response(body, media_type=CONTENT_TYPE)

    async def bug(self, request: Request, error: Exception) -> Response:
        """Answer 500 for an exception of ours and report it to the daemon."""
        self.rpc.backend.failed(error)
        return _refusal(500, Invalid("internal"))

    def _requests(self) -> Iterator[Sample]:
        text = "JSON-RPC requests by method and error code, empty when answered"
        for (method, code), count in self.rpc.requests.items():
            labels = (("method", method), ("error", code))
            yield Sample("rpc_requests", text, count, labels, "counter")


async def _no_such_endpoint(request: Request, error: Exception) -> Response:
    """404 and 405 with the JSON body of every other refusal."""
    assert isinstance(error, HTTPException)
    detail = f"{request.method} {request.scope['path'][:64]}"
    return _refusal(error.status_code, Invalid("http", detail))


def application(backend: Backend, access: Access) -> Starlette:
    """The ASGI application of one node."""
    endpoints = HttpEndpoints(backend)
    middleware = [Middleware(Gate, access=access)]
    if access.origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=list(access.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["content-type"],
        )
        middleware.append(cors)
    app = Starlette(
        routes=[
            Route("/", endpoints.call, methods=["POST"]),
            Route("/", endpoints.about, methods=["GET"]),
            Route("/livez", endpoints.livez),
            Route("/readyz", endpoints.readyz),
            Route("/metrics", endpoints.scrape),
            WebSocketRoute("/", endpoints.live),
        ],
        middleware=middleware,
        exception_handlers={
            404: _no_such_endpoint,
            405: _no_such_endpoint,
            Exception: endpoints.bug,
        },
    )
    app.router.redirect_slashes = False  # a redirect would echo the Host header
    return app
