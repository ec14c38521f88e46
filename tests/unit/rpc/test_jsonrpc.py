"""JSON-RPC 2.0: forms, batches, notifications, submissions that are made together, our own bugs."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, cast

import pytest

from dipnet.node.work import ClientTxs, ClientVertices, ClientWork
from dipnet.primitives.errors import Invalid
from dipnet.rpc import jsonrpc
from dipnet.rpc.backend import Backend
from dipnet.rpc.jsonrpc import BATCH_ITEMS_MAX, RESPONSE_BYTES_MAX, Rpc
from dipnet.rpc.method import Param, RpcMethod, table
from dipnet.rpc.params import RAW_ITEM, RAW_ITEMS, between


class Fake:
    """A backend that records submissions and refuses the items that are all zeros."""

    def __init__(self) -> None:
        self.submits: list[ClientWork] = []
        self.bugs: list[Exception] = []
        self.refusal: Exception | None = None
        self.settlings: list[int] = []
        self.unsettled: Invalid | None = None

    async def submit(self, work: ClientWork) -> list[Any]:
        self.submits.append(work)
        if self.refusal is not None:
            raise self.refusal
        return [(raw, "accepted") if any(raw) else Invalid("known") for raw in work.raws]

    def failed(self, error: Exception) -> None:
        self.bugs.append(error)

    async def settled(self) -> None:
        self.settlings.append(len(self.submits))
        if self.unsettled is not None:
            raise self.unsettled


def first(results: Sequence[Any]) -> str:
    if isinstance(results[0], Invalid):
        raise results[0]
    return str(results[0][0].hex())


def each(results: Sequence[Any]) -> list[Any]:
    return [str(item) if isinstance(item, Invalid) else item[0].hex() for item in results]


def bug(backend: object) -> object:
    raise KeyError("a bug")


METHODS = table(
    [
        RpcMethod("add", (Param("a", between(0, 99)), Param("b", between(0, 99), 1)),
               lambda backend, a, b: a + b, "", ""),
        RpcMethod("big", (), lambda backend: "x" * (RESPONSE_BYTES_MAX // 3), "", ""),
        RpcMethod("bug", (), bug, "", ""),
        RpcMethod("unspeakable", (), lambda backend: object(), "", ""),
        RpcMethod("send", (Param("tx", RAW_ITEM),), first, "", "", way="txs"),
        RpcMethod("offer", (Param("vertices", RAW_ITEMS),), each, "", "", way="vertices"),
        RpcMethod("listen", (), lambda session: session.open("t", None), "", "", way="session"),
    ]
)  # fmt: skip


def ask(request: object, fake: Fake | None = None) -> Any:
    raw = request if isinstance(request, bytes) else json.dumps(request).encode()
    rpc = Rpc(cast(Backend, fake or Fake()), METHODS)
    answer = asyncio.run(rpc.answer(raw))
    return json.loads(answer) if answer else None


def call(method: str, params: object = (), **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params} | more


def test_result() -> None:
    assert ask(call("add", [2, 3])) == {"jsonrpc": "2.0", "id": 1, "result": 5}
    assert ask(call("add", {"b": "0x2", "a": 1}))["result"] == 3
    assert ask({"jsonrpc": "2.0", "id": "x\u00e9", "method": "add", "params": [2]}) == {
        "jsonrpc": "2.0", "id": "x\u00e9", "result": 3,
    }  # fmt: skip


def test_no_answer_leaves_before_what_it_shows_is_durable() -> None:
    for request in (call("add", [1]), [call("send", ["0x01"]), call("add", [2])]):
        fake = Fake()
        ask(request, fake)
        assert fake.settlings == [len(fake.submits)]  # once, after the whole batch was read
    fake = Fake()
    fake.unsettled = Invalid("stopping")
    answer = ask(call("add", [1]), fake)
    assert "result" not in answer
    assert answer["error"]["data"]["code"] == "stopping"


def test_a_default_stands_for_null_and_for_a_missing_parameter() -> None:
    assert ask(call("add", [2, None]))["result"] == 3
    assert ask(call("add", {"a": 2}))["result"] == 3
    assert ask(call("add", [None]))["error"]["data"]["code"] == "params"


@pytest.mark.parametrize("given", [0, -1, 2**63 - 1, -(2**63), "", "x" * 256, None])
def test_the_id_comes_back(given: object) -> None:
    assert ask(call("add", [1], id=given))["id"] == given


@pytest.mark.parametrize(
    ("request_", "code", "number"),
    [
        (1, "request", -32600),
        ("add", "request", -32600),
        (None, "request", -32600),
        ({}, "request", -32600),
        ({"jsonrpc": "2.0", "id": 1}, "request", -32600),
        ({"id": 1, "method": "add"}, "request", -32600),
        (call("add", jsonrpc="1.0"), "request", -32600),
        (call("add", jsonrpc=2.0), "request", -32600),
        (call(cast(str, 7)), "request", -32600),
        (call("add", [1], id=2**63), "request", -32600),
        (call("add", [1], id=1.5), "request", -32600),
        (call("add", [1], id=True), "request", -32600),
        (call("add", [1], id=[1]), "request", -32600),
        (call("add", [1], id="x" * 257), "request", -32600),
        (call("eth_foo"), "method", -32601),
        (call("add", "1"), "params", -32602),
        (call("add", None), "params", -32602),
        (call("add", []), "params", -32602),
        (call("add", [1, 2, 3]), "params", -32602),
        (call("add", {"a": 1, "c": 2}), "params", -32602),
        (call("add", [True]), "params", -32602),
        (call("add", [100]), "params", -32602),
        (call("send", [[]]), "params", -32602),
        (call("listen"), "subscription", -32001),
        (b"{", "parse", -32700),
        (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"add","params":[1]}', "parse", -32700),
        ([], "request", -32600),
        ([call("add", [1])] * (BATCH_ITEMS_MAX + 1), "limit", -32005),
    ],
)  # fmt: skip
def test_refused(request_: object, code: str, number: int) -> None:
    error = ask(request_)["error"]
    assert (error["data"]["code"], error["code"]) == (code, number)
    assert error["data"]["remedy"]
    assert error["message"]


def test_the_unknown_method_is_named_as_in_go_ethereum() -> None:
    error = ask(call("eth_foo"))["error"]
    assert error["message"] == "the method eth_foo does not exist/is not available"
    assert len(ask(call("x" * 10_000))["error"]["message"]) < 200


def test_batch_keeps_its_order_and_drops_notifications() -> None:
    quiet = {"jsonrpc": "2.0", "method": "add", "params": [1]}
    batch = [call("add", [1], id=5), quiet, 7, call("nope", id="a"), call("add", [3], id=4)]
    answers = ask(batch)
    assert [answer["id"] for answer in answers] == [5, None, "a", 4]
    assert [answer.get("result") for answer in answers] == [2, None, None, 4]


def test_notifications_alone_get_no_answer() -> None:
    fake = Fake()
    send = {"jsonrpc": "2.0", "method": "send", "params": ["0x01"]}
    assert ask(send, fake) is None
    assert ask([send, {"jsonrpc": "2.0", "method": "nope"}, send], fake) is None
    assert [work.raws for work in fake.submits] == [(b"\1",), (b"\1",), (b"\1",)]


def test_neighbouring_submissions_are_made_together() -> None:
    fake = Fake()
    batch = [
        call("send", ["0x01"], id=0),
        call("send", ["0x00"], id=1),
        call("send", ["0x02"], id=2),
        call("offer", [["0x03", "0x00"]], id=3),
        call("offer", [["0x04"]], id=4),
        call("add", [1], id=5),
        call("send", ["0x05"], id=6),
    ]
    answers = ask(batch, fake)
    assert fake.submits == [
        ClientTxs((b"\1", b"\0", b"\2")), ClientVertices((b"\3", b"\0", b"\4")),
        ClientTxs((b"\5",)),
    ]  # fmt: skip
    assert [answer["id"] for answer in answers] == list(range(7))
    assert answers[1]["error"]["message"] == "already known"
    results = [answer.get("result") for answer in answers]
    assert results == ["01", None, "02", ["03", "already known"], ["04"], 2, "05"]


def test_a_bad_request_between_submissions_spoils_only_itself() -> None:
    fake = Fake()
    answers = ask([call("send", ["0x01"]), call("send", ["zz"]), call("send", ["0x02"])], fake)
    assert [("error" in answer) for answer in answers] == [False, True, False]
    assert [work.raws for work in fake.submits] == [(b"\1",), (b"\2",)]


def test_a_node_that_takes_nothing_says_so_to_each() -> None:
    fake = Fake()
    fake.refusal = Invalid("syncing")
    answers = ask([call("send", ["0x01"]), call("send", ["0x02"])], fake)
    assert {answer["error"]["data"]["code"] for answer in answers} == {"syncing"}
    assert not fake.bugs


def test_our_bugs_are_reported_and_told_apart() -> None:
    fake = Fake()
    assert ask(call("bug"), fake)["error"]["code"] == -32603
    assert ask(call("unspeakable"), fake)["error"]["code"] == -32603
    fake.refusal = OSError("disk")
    answers = ask([call("send", ["0x01"]), call("add", [1])], fake)
    assert [answer.get("error", {}).get("code") for answer in answers] == [-32603, None]
    assert [type(error) for error in fake.bugs] == [KeyError, TypeError, OSError]


def test_the_answer_is_bounded() -> None:
    answers = ask([call("big", id=number) for number in range(6)])
    sizes = [len(answer.get("result", "")) for answer in answers]
    assert [size > 0 for size in sizes] == [True, True, False, False, False, False]
    assert answers[2]["error"]["code"] == -32005
    assert sum(sizes) <= RESPONSE_BYTES_MAX


def test_requests_are_counted_under_a_bounded_set_of_names() -> None:
    rpc = Rpc(cast(Backend, Fake()), METHODS)
    for method in ("add", "nope", "nope2", "send"):
        asyncio.run(rpc.answer(json.dumps(call(method, ["0x1"])).encode()))
    asyncio.run(rpc.answer(b"["))
    assert rpc.requests == {
        ("add", ""): 1, (jsonrpc.OTHER, "method"): 2, ("send", "params"): 1,
        (jsonrpc.OTHER, "parse"): 1,
    }  # fmt: skip


def test_a_long_batch_lets_others_have_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonrpc, "TURN_MS", 0)
    turns: list[int] = []

    async def run() -> None:
        async def other() -> None:
            while True:
                turns.append(1)
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        rpc = Rpc(cast(Backend, Fake()), METHODS)
        await rpc.answer(json.dumps([call("add", [1])] * 50).encode())
        task.cancel()

    asyncio.run(run())
    assert len(turns) > 25
