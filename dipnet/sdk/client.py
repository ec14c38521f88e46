"""A small JSON-RPC client over HTTP, for programs and devices: blocking, with one connection.

Rules that bind this file: every failure is ``Invalid`` with a code. ``unreachable`` means that no
answer came; the node may have executed the request all the same, so repeat only a request that may
be executed twice. A refusal of the node is raised under the node's own code.
"""

import http.client
import json
from collections.abc import Sequence
from typing import Any, Final, Self
from urllib.parse import urlsplit

from dipnet.primitives import jsontext
from dipnet.primitives.errors import REFUSALS, Invalid

URL_DEFAULT: Final = "http://127.0.0.1:8545"
TIMEOUT_S: Final = 30.0
ANSWER_BYTES_MAX: Final = 32 << 20
REQUEST_BYTES_MAX: Final = 1 << 20
"""A node refuses longer requests."""
QUOTE_MAX: Final = 200

_ANSWER: Final = jsontext.JsonBounds(ANSWER_BYTES_MAX)

BatchCall = tuple[str, Sequence[object]]
"""A method and its parameters."""


class Client:
    """A connection to a node, for one thread at a time. ``Invalid("config")`` for a wrong url."""

    def __init__(self, url: str = URL_DEFAULT, timeout_s: float = TIMEOUT_S) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if host is None or parts.scheme not in ("http", "https") or parts.username is not None:
            raise Invalid("config", f"url {url[:QUOTE_MAX]!r}: write it as {URL_DEFAULT}")
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self.url = url
        self._path = parts.path or "/"
        self._connection = kind(host, port, timeout=timeout_s)
        self._fresh = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; the next call opens it again."""
        self._connection.close()
        self._fresh = True

    def call(self, method: str, *params: object) -> Any:
        """The result of a call, as JSON.

        Raises ``Invalid``: ``unreachable``, ``remote`` (the answer is no JSON-RPC), or the code of
        the node's refusal.
        """
        answer = self._post(_request(0, method, params))
        if not isinstance(answer, dict):
            raise Invalid("remote", "with something that is not JSON-RPC")
        result = _result(answer)
        if isinstance(result, Invalid):
            raise result
        return result

    def batch(self, calls: Sequence[BatchCall]) -> list[Any]:
        """The results of many calls in order; for a call that was refused the ``Invalid``.

        Raises ``Invalid`` as ``call`` does when the whole batch failed.
        """
        if not calls:
            return []
        answers = self._post([_request(i, *call) for i, call in enumerate(calls)])
        if isinstance(answers, dict):
            failure = _result(answers)
            raise failure if isinstance(failure, Invalid) else Invalid("remote", "with no batch")
        by_id = {
            answer["id"]: answer
            for answer in answers
            if isinstance(answer, dict) and type(answer.get("id")) is int
        }
        missing = Invalid("remote", "with a batch that lacks answers")
        return [_result(by_id[i]) if i in by_id else missing for i in range(len(calls))]

    def _post(self, request: object) -> Any:
        body = json.dumps(request, separators=(",", ":")).encode()
        try:
            raw = self._exchange(body)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Invalid("unreachable", f"{self.url}: {reason}") from None
        try:
            answer = jsontext.load(raw, _ANSWER)
        except ValueError:
            answer = None
        if not isinstance(answer, dict | list):
            shown = raw[:QUOTE_MAX].decode("ascii", "replace")
            raise Invalid("remote", f"{self.url} speaks no JSON-RPC: {shown!r}")
        return answer

    def _exchange(self, body: bytes) -> bytes:
        """The body that answers a POST; an idle connection that the node closed is opened again."""
        headers = {"Content-Type": "application/json"}
        while True:
            reused, self._fresh = not self._fresh, False
            try:
                self._connection.request("POST", self._path, body, headers)
                response = self._connection.getresponse()
                break
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self.close()
                if not reused:
                    raise
        raw = response.read(ANSWER_BYTES_MAX + 1)
        if response.length and len(raw) <= ANSWER_BYTES_MAX:  # the node died while it answered
            raise http.client.IncompleteRead(raw, response.length)
        if len(raw) > ANSWER_BYTES_MAX:
            self.close()
            raise Invalid("remote", f"with more than {ANSWER_BYTES_MAX} bytes")
        return raw


def refusal(error: object) -> Invalid:
    """The ``Invalid`` for the error object of a node's answer."""
    fields: dict[str, Any] = error if isinstance(error, dict) else {}
    message = str(fields.get("message", error))[:QUOTE_MAX]
    data = fields.get("data")
    if fields.get("code") == REFUSALS["reverted"].rpc:  # its data is the contract's
        return Invalid("reverted", message.removeprefix(REFUSALS["reverted"].text).lstrip(": "))
    code = data.get("code") if isinstance(data, dict) else None
    if isinstance(code, str) and code in REFUSALS:
        return Invalid(code, message.removeprefix(REFUSALS[code].text).removeprefix(": "))
    return Invalid("remote", message)


def _request(number: int, method: str, params: Sequence[object]) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}


def _result(answer: dict[str, Any]) -> Any:
    if "result" in answer:
        return answer["result"]
    return refusal(answer.get("error"))
