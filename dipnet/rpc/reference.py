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

`POST /` with `Content-Type: application/json`, or a WebSocket on the same port (8545 on loopback
unless configured). JSON-RPC 2.0: one request, or a batch of up to {jsonrpc.BATCH_ITEMS_MAX} which
is answered in order. Parameters go by position or by name. Numbers in Ethereum's fields are 0x
quantities, in our own plain JSON numbers; bytes are 0x hex; wei are quantities.

A request is at most {bounds.BODY_BYTES_MAX:,} bytes, {bounds.DEPTH_MAX} levels deep and \
{bounds.VALUES_MAX:,} values, without repeated
keys, NaN or numbers of more than {bounds.NUMBER_DIGITS_MAX} digits; an answer at most \
{jsonrpc.RESPONSE_BYTES_MAX:,} bytes. A request
without an id is a notification and gets no answer.

An error carries Ethereum's number and text, and `data` with `code` (a name from the table at the
end, for programs) and `remedy` (a sentence, for people).

Beside it: `GET /` says who answers, `/livez` that the node runs, `/readyz` whether every component
is fine (503 when not), `/metrics` is for Prometheus. The `Host` header must be a loopback name or
one of the configured hosts; a WebSocket's `Origin` the host itself or one of the configured
origins; there is no CORS unless origins are configured.
"""

ANYWHERE: Final = (
    "parse", "request", "method", "params", "limit", "internal", "host", "origin", "http",
)  # fmt: skip
"""Codes that belong to no method: form, transport, and our own bugs."""


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
    """The whole document."""
    lines = [INTRODUCTION, "## Kinds of parameters\n"]
    lines += [f"* **{kind.name}**: {kind.text}" for kind in _kinds()]
    lines.append("")
    for room, methods in groupby(METHODS.values(), lambda method: method.name.split("_")[0]):
        lines.append(f"## {room}\n")
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
