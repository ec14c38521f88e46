"""A client of a node's admin socket, which only the node's operator can reach.

Every failure is ``Invalid``: ``unreachable`` when no answer came, else the code of the node's
refusal.
"""

import json
from pathlib import Path
from typing import Any, Final

from dipnet.host.unixsocket import connect
from dipnet.primitives import jsontext
from dipnet.primitives.errors import Invalid
from dipnet.sdk.client import refusal

SOCKET_NAME: Final = "admin.sock"
"""In the node's data directory."""
LINE_BYTES_MAX: Final = 64 << 10
TIMEOUT_S: Final = 10.0
_LINE: Final = jsontext.JsonBounds(LINE_BYTES_MAX)


def admin_call(socket_path: Path, method: str, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """The result of a call of ``admin_pause``, ``admin_resume`` or ``admin_status``.

    Raises ``Invalid``: ``unreachable``, or the code of the node's refusal.
    """
    request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": []})
    try:
        with connect(socket_path, timeout_s) as connection:
            connection.sendall(request.encode() + b"\n")
            with connection.makefile("rb") as lines:
                raw = lines.readline(LINE_BYTES_MAX)
    except OSError as error:
        raise Invalid("unreachable", f"{socket_path}: {error.strerror or error}") from None
    try:
        answer = jsontext.load(raw, _LINE)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise Invalid("unreachable", f"{socket_path}: no whole answer")
    result = answer.get("result")
    if not isinstance(result, dict):
        raise refusal(answer.get("error"))
    return result
