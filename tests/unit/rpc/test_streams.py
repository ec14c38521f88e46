"""Streams over a WebSocket that follow finality and events."""

import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from dipnet.node.work import ClientTxs
from dipnet.primitives.codec import to_hex
from dipnet.rpc.listen import Listener
from tests.fixtures import fake_contract
from tests.fixtures.chain_builder import USERS
from tests.fixtures.fake_contract import DPOS, sent
from tests.fixtures.rpc_node import Node
from tests.unit.rpc.test_listen import call, url, with_node


async def noted(client: ClientConnection) -> Any:
    return json.loads(await client.recv())["params"]


def test_final_heads_come_when_they_are_final() -> None:
    async def run(node: Node, listener: Listener) -> None:
        async with connect(url(listener)) as client:
            finals = (await call(client, "eth_subscribe", "finalizedHeads"))["result"]
            heads = (await call(client, "eth_subscribe", "newHeads"))["result"]
            block = node.produce(certified=False)
            assert (await noted(client))["subscription"] == heads
            node.certify(block)
            told = await noted(client)
            assert (told["subscription"], told["result"]["hash"]) == (finals, to_hex(block.hash))

    with_node(run)


def test_logs_arrive_by_their_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_contract.install(monkeypatch)

    async def run(node: Node, listener: Listener) -> None:
        async with connect(url(listener)) as client:
            elsewhere = {"address": "0x" + "11" * 20}
            assert (await call(client, "eth_subscribe", "logs", elsewhere))["result"]
            ours = (await call(client, "eth_subscribe", "logs", {"address": DPOS}))["result"]
            await node.submit(ClientTxs(tuple(sent(USERS[0], n, b"Ltext").raw for n in range(2))))
            node.produce()
            for index in ("0x0", "0x1"):
                told = await noted(client)
                assert told["subscription"] == ours
                assert (told["result"]["data"], told["result"]["logIndex"]) == (
                    to_hex(b"text"), index,
                )  # fmt: skip

    with_node(run)


@pytest.mark.parametrize(
    ("stream", "wanted"),
    [("logs", {"issuer": "0x" + "11" * 20}), ("dagVertices", {"address": DPOS}),
     ("finalizedHeads", {"address": DPOS})],
)  # fmt: skip
def test_a_stream_takes_its_own_filter_only(stream: str, wanted: dict[str, str]) -> None:
    async def run(node: Node, listener: Listener) -> None:
        async with connect(url(listener)) as client:
            refused = (await call(client, "eth_subscribe", stream, wanted))["error"]
            assert refused["data"]["code"] == "params"

    with_node(run)
