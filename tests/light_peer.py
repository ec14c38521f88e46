"""What a light client's programs talk to, without sockets: a real node, or a generated chain.

Both speak as ``dipnet.client.Client`` does. A ``Liar`` stands between and changes answers.
"""

import json
from collections.abc import Callable
from typing import Any, Self

from dipnet.client import refusal
from dipnet.codec import to_hex
from dipnet.consensus import borders
from dipnet.consensus.borders import FinalProof
from dipnet.rpc.light import BORDERS_MAX
from tests.light_chain import LightChain
from tests.memory import Memory
from tests.rpc_node import Node, raw_answer


class Peer:
    """A node of the tests of the RPC."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.asked: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def call(self, method: str, *params: object) -> Any:
        self.asked.append(method)
        answer = raw_answer(self.node, method, list(params))
        if "error" in answer:
            raise refusal(answer["error"])
        return answer["result"]


class Shown:
    """A generated chain. ``bytes`` are those of all answers as JSON."""

    def __init__(self, chain: LightChain, final: FinalProof | None) -> None:
        self.final = final
        self.disk = Memory()
        self.disk.apply(chain.disk)
        self.bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def call(self, method: str, *params: Any) -> Any:
        text = json.dumps({"jsonrpc": "2.0", "id": 0, "result": self.answer(method, *params)})
        self.bytes += len(text)
        return json.loads(text)["result"]

    def answer(self, method: str, *params: Any) -> Any:
        if method == "dpos_finalHeader":
            return None if self.final is None else to_hex(self.final.raw)
        first, count, every = params
        choose = borders.every_border if every else borders.hop_borders
        assert count <= BORDERS_MAX
        found = choose(self.disk, first)
        return [to_hex(raw) for _, (_, raw) in zip(range(count), found, strict=False)]


class Liar:
    """Answers as ``honest`` does, after ``lie(method, params, answer)``."""

    def __init__(self, honest: Any, lie: Callable[[str, tuple[Any, ...], Any], Any]) -> None:
        self.honest, self.lie = honest, lie

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def call(self, method: str, *params: Any) -> Any:
        return self.lie(method, params, self.honest.call(method, *params))
