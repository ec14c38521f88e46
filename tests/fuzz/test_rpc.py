"""Any parameters, any batch, any bytes: a result or a coded error, and never a bug of ours."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dipnet.primitives.codec import to_hex
from dipnet.primitives.errors import REFUSALS
from dipnet.rpc.bounds import VALUES_MAX
from dipnet.rpc.jsonrpc import Rpc
from dipnet.rpc.method import RpcMethod
from dipnet.rpc.params import TAGS
from dipnet.rpc.server import METHODS
from tests.fixtures.chain_builder import USERS, address_of, transfer
from tests.fixtures.rpc_node import Node

NODE = Node()
NODE.produce()
RUNNER = asyncio.Runner()


@pytest.fixture(autouse=True, scope="module")
def _loop() -> Iterator[None]:
    with RUNNER:  # one loop for thousands of calls
        yield


TX = transfer(USERS[0], 0)
ADDRESSES = st.sampled_from([to_hex(address_of(USERS[0])), "0x" + "00" * 20, "0x" + "ff" * 20])
HASHES = st.sampled_from([to_hex(NODE.chain.head.hash), to_hex(TX.hash), "0x" + "00" * 32])
QUANTITIES = st.integers(0, 2**256).map(hex) | st.integers(0, 3).map(hex)
NUMBERS = st.integers(-1, 300) | st.integers(0, 2**64)
DATA = st.binary(max_size=300).map(to_hex)
CALLS = st.fixed_dictionaries(
    {},
    optional={
        "from": ADDRESSES, "to": ADDRESSES, "value": QUANTITIES, "gas": QUANTITIES,
        "gasPrice": QUANTITIES, "maxFeePerGas": QUANTITIES, "input": DATA, "nonce": QUANTITIES,
    },
)  # fmt: skip
BLOCKS = (
    st.sampled_from(TAGS)
    | QUANTITIES
    | st.fixed_dictionaries({"blockHash": HASHES}, optional={"requireCanonical": st.booleans()})
)
FITTING = {
    "ADDRESS": ADDRESSES,
    "HASH": HASHES,
    "BLOCK": BLOCKS,
    "NUMBER": st.sampled_from(TAGS) | QUANTITIES,
    "BOOL": st.booleans(),
    "CALL": CALLS,
    "COUNT": NUMBERS | QUANTITIES,
    "SEQ": NUMBERS,
    "RAW": DATA | st.just(to_hex(TX.raw)),
    "RAW[]": st.lists(DATA, min_size=1, max_size=3),
    "TOPIC": st.binary(min_size=16, max_size=16).map(to_hex),
    "PERCENTILES": st.lists(st.integers(0, 100), max_size=5).map(sorted),
}
ANY = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False) | st.text(max_size=20) | DATA,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


def answer(raw: bytes) -> Any:
    """The node's answer; fails if the call met a bug."""
    found = RUNNER.run(Rpc(NODE, METHODS).answer(raw))
    assert not NODE.bugs, NODE.bugs
    return json.loads(found) if found else None


def is_well_formed(reply: Any) -> None:
    assert reply["jsonrpc"] == "2.0"
    assert ("result" in reply) != ("error" in reply)
    if "error" in reply:
        error = reply["error"]
        row = REFUSALS[error["data"]["code"]]
        assert (error["code"], error["data"]["remedy"]) == (row.rpc, row.remedy)
        assert error["code"] != -32603
        assert len(error["message"]) < 400


def arguments(method: RpcMethod) -> st.SearchStrategy[list[Any]]:
    fitting = [FITTING.get(param.kind.name, ANY) for param in method.params]
    return st.one_of(st.tuples(*fitting).map(list), st.lists(ANY, max_size=4))


@pytest.mark.parametrize("name", METHODS)
def test_any_parameters(name: str) -> None:
    @settings(max_examples=15)
    @given(arguments(METHODS[name]) | st.dictionaries(st.text(max_size=9), ANY, max_size=3))
    def check(params: Any) -> None:
        call = {"jsonrpc": "2.0", "id": 1, "method": name, "params": params}
        is_well_formed(answer(json.dumps(call).encode()))

    check()


REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.sampled_from(["2.0", "1.0", 2]),
        "id": ANY,
        "method": st.sampled_from([*METHODS, "eth_foo"]) | ANY,
        "params": ANY,
        "extra": ANY,
    },
)


@settings(max_examples=100)
@given(st.lists(REQUESTS | ANY, max_size=5) | REQUESTS | ANY)
def test_any_request(request: Any) -> None:
    answers = answer(json.dumps(request).encode())
    for reply in answers if isinstance(answers, list) else [answers]:
        if reply is not None:
            is_well_formed(reply)


@settings(max_examples=50)
@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    reply = answer(raw)
    if reply is not None:
        is_well_formed(reply)


def test_a_call_of_many_values_is_bounded() -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "dag_submit", "params": [["0x"] * VALUES_MAX]}
    assert answer(json.dumps(call).encode())["error"]["data"]["code"] == "limit"
    call["params"] = [["0x00"] * 5000]
    results = answer(json.dumps(call).encode())["result"]
    assert {result["error"]["data"]["code"] for result in results} == {"vertex_form"}
