"""``dipnet dag tail``: signed readings as they arrive.

Earlier vertices are found without an index: those of an issuer by sequence numbers, those of all
issuers by a walk from the tips back through parents. New vertices come from the subscription
``dagVertices`` of a WebSocket, which is opened again after a loss of the connection.
"""

import heapq
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from dipnet.primitives import jsontext
from dipnet.primitives.errors import Invalid
from dipnet.sdk.client import Client
from dipnet.sdk.device import RETRY_FIRST_S, RETRY_MAX_S

TIPS: Final = 8
EARLIER_MAX: Final = 10_000
RANGE_MAX: Final = 256
MESSAGE_BYTES_MAX: Final = 1 << 20
_MESSAGE: Final = jsontext.JsonBounds(MESSAGE_BYTES_MAX)
NOBODY: Final = "0x" + "00" * 20
PAYLOAD_SHOWN: Final = 34

VertexJson = dict[str, Any]
"""A vertex as JSON, the answer to ``dag_get``."""


def earlier(client: Client, count: int, issuer: str | None, topic: str | None) -> list[VertexJson]:
    """The last ``count`` vertices of the node, or of an issuer, oldest first.

    Of these only those of ``topic`` (hex of its hash) are returned when it is given.
    """
    if not 0 <= count <= EARLIER_MAX:
        raise Invalid("config", f"-n {count}: 0 to {EARLIER_MAX}")
    if count == 0:
        return []
    found = _of_issuer(client, count, issuer) if issuer else _of_all(client, count)
    shown = [vertex for vertex in found if topic in (None, vertex["topic"])]
    return shown[-count:]


def _of_issuer(client: Client, count: int, issuer: str) -> list[VertexJson]:
    last = client.call("dag_latest", issuer)
    if last is None:
        return []
    found: list[VertexJson] = []
    at = max(last["seq"] - count + 1, 0)
    while part := client.call("dag_range", issuer, at, RANGE_MAX):
        found += part
        at = part[-1]["seq"] + 1
    return found


def _of_all(client: Client, count: int) -> list[VertexJson]:
    """At most ``count`` vertices from the tips backwards by timestamp, oldest first."""
    tips = client.call("dag_template", NOBODY, TIPS)["parents"]
    seen = dict.fromkeys(tips)
    front = [(-v["timestampMs"], v["id"], v) for v in _get(client, tips)]
    heapq.heapify(front)
    found: list[VertexJson] = []
    while front and len(found) < count:
        vertex = heapq.heappop(front)[2]
        found.append(vertex)
        parents = [parent for parent in vertex["parents"] if parent not in seen]
        seen.update(dict.fromkeys(parents))
        for parent in _get(client, parents):
            heapq.heappush(front, (-parent["timestampMs"], parent["id"], parent))
    return found[::-1]


def _get(client: Client, ids: list[str]) -> list[VertexJson]:
    answers = client.batch([("dag_get", (id,)) for id in ids])
    return [answer for answer in answers if isinstance(answer, dict)]


def follow(
    url: str, issuer: str | None, topic: str | None, say: Callable[[str], None]
) -> Iterator[VertexJson]:
    """Vertices as the node accepts them, without end; ``say`` gets a line for each lost connection.

    Raises ``Invalid("remote")`` when the node refuses the subscription.
    """
    wanted = {k: v for k, v in (("issuer", issuer), ("topic", topic)) if v is not None}
    delay_s = RETRY_FIRST_S
    while True:
        try:
            with connect(
                _websocket(url), max_size=MESSAGE_BYTES_MAX, compression=None, proxy=None
            ) as socket:
                socket.send(
                    json.dumps(
                        {
                            "jsonrpc": "2.0",
                            "id": 1,
                            "method": "eth_subscribe",
                            "params": ["dagVertices", wanted],
                        }
                    )
                )
                delay_s = RETRY_FIRST_S
                while message := socket.recv(decode=False):
                    yield from _notified(jsontext.load(message, _MESSAGE))
            reason = "the node closed the connection"
        except (OSError, WebSocketException) as error:
            reason = str(error) or type(error).__name__
        except (ValueError, TypeError, AttributeError, KeyError):
            raise Invalid("remote", "with something that is no subscription") from None
        say(f"waiting: {reason}; what comes meanwhile is not shown")
        time.sleep(delay_s)
        delay_s = min(2 * delay_s, RETRY_MAX_S)


def _notified(message: Any) -> Iterator[VertexJson]:
    if "error" in message:
        raise Invalid("remote", str(message["error"].get("message"))[:200])
    if message.get("method") == "eth_subscription":
        yield message["params"]["result"]


def _websocket(url: str) -> str:
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    return urlunsplit((scheme, parts.netloc, parts.path, "", ""))


def lines(vertex: VertexJson) -> Iterator[str]:
    """A vertex as text: a line for each reading, a single line for a payload without readings."""
    name = f"{vertex['issuer']} #{vertex['seq']}"
    readings = vertex.get("readings")
    if not readings:
        stamp = _moment(vertex["timestampMs"] / 1000)
        payload = vertex["payload"]
        shown = payload if len(payload) <= PAYLOAD_SHOWN else payload[: PAYLOAD_SHOWN - 1] + "…"
        yield f"{stamp}  {name}  {shown}"
    for reading in readings or ():
        unit = f" {reading['unit']}" if reading.get("unit") else ""
        yield f"{_moment(reading['time'])}  {name}  {reading['name']}  {reading.get('value')}{unit}"


def _moment(unix_s: float) -> str:
    try:
        moment = datetime.fromtimestamp(unix_s, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{unix_s} s"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
