"""docs/rpc.md, written from the method table: ``python -m dipnet.rpc.reference > docs/rpc.md``."""

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from dipnet.primitives.errors import REFUSALS
from dipnet.rpc import bounds, jsonrpc
from dipnet.rpc.method import REQUIRED, ParameterKind, RpcMethod
from dipnet.rpc.server import METHODS

INTRODUCTION: Final = f"""\
# JSON-RPC

Written by `python -m dipnet.rpc.reference` from the table of methods; a test compares the two.

Send JSON-RPC 2.0 by `POST /` with `Content-Type: application/json`, or over a WebSocket on the
same port (8545 on loopback unless configured). A batch has at most {jsonrpc.BATCH_ITEMS_MAX:,}
requests and is answered in order. Parameters go by position or by name. Numbers are 0x quantities
in Ethereum's fields and plain JSON numbers in our own; bytes are 0x hex; amounts are wei, as
quantities.

A request has at most {bounds.BODY_BYTES_MAX:,} bytes, {bounds.DEPTH_MAX} levels and \
{bounds.VALUES_MAX:,} values; repeated keys, NaN and
numbers of more than {bounds.NUMBER_DIGITS_MAX} digits are refused. An answer has at most \
{jsonrpc.RESPONSE_BYTES_MAX:,} bytes. A request
without an id is a notification and gets no answer.

An error has Ethereum's number and text. Its `data` has `code` (a name from the table at the end,
for programs) and `remedy` (a sentence, for people).

The same port serves `GET /` (name, version and chain id of the node), `/livez` (200 while the
process works), `/readyz` (200 when every component is fine, else 503) and `/metrics` (Prometheus).
The `Host` header must be a loopback name or a host of the setting `rpc_hosts`. The `Origin` of a
WebSocket must be the host itself or an origin of the setting `rpc_origins`. CORS is off unless
`rpc_origins` is set.
"""

ANYWHERE: Final = (
    "parse", "request", "method", "params", "limit", "internal", "host", "origin", "http",
)  # fmt: skip
"""Codes that any request may get: form, transport, and bugs of the node."""


def _kinds() -> list[ParameterKind]:
    used = {param.kind.name: param.kind for method in METHODS.values() for param in method.params}
    return [used[name] for name in sorted(used) if name != "COUNT"]


def _method(method: RpcMethod) -> Iterator[str]:
    named = [
        param.name if param.default is REQUIRED else f"[{param.name}]" for param in method.params
    ]
    yield f"### {method.name}({', '.join(named)})\n"
    yield f"{method.text}\n"
    for param in method.params:
        kind = param.kind.text if param.kind.name == "COUNT" else param.kind.name
        default = param.default
        shown = f", default `{default}`" if isinstance(default, str | int) and default != -1 else ""
        optional = "" if default is REQUIRED else f" (optional{shown})"
        yield f"* `{param.name}`: {kind}{optional}"
    yield f"* answers: {method.result}"
    if method.errors:
        yield f"* errors: {', '.join(f'`{code}`' for code in method.errors)}"
    yield ""


def render() -> str:
    """docs/rpc.md as text."""
    lines = [INTRODUCTION, "## Kinds of parameters\n"]
    lines += [f"* **{kind.name}**: {kind.text}" for kind in _kinds()]
    lines.append("")
    for prefix, methods in groupby(METHODS.values(), lambda method: method.name.split("_")[0]):
        lines.append(f"## {prefix}\n")
        for method in methods:
            lines += _method(method)
    lines += ["## Errors\n", "| code | number | text | remedy |", "|---|---|---|---|"]
    named = {code for method in METHODS.values() for code in method.errors} | set(ANYWHERE)
    lines += [
        f"| `{code}` | {row.rpc} | {row.text} | {row.remedy} |"
        for code, row in REFUSALS.items()
        if code in named
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(render(), end="")
