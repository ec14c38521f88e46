"""The kinds of parameters: the values that each reads, and its refusals of other values."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dipnet.primitives.errors import Invalid
from dipnet.rpc import callparams, filters, params
from dipnet.rpc.callparams import CallRequest
from dipnet.rpc.filters import ANY_STREAM, LogFilter, LogQuery, StreamFilter
from dipnet.rpc.method import ParameterKind
from dipnet.rpc.params import ByHash

ADDRESS = "0x" + "aB" * 20
HASH = "0x" + "11" * 32
KINDS = {
    name: kind
    for room in (params, callparams, filters)
    for name, kind in vars(room).items()
    if isinstance(kind, ParameterKind)
}
KINDS["COUNT"] = params.between(1, 256)

GOOD: list[tuple[str, object, object]] = [
    ("ADDRESS", ADDRESS, b"\xab" * 20),
    ("ADDRESS", ADDRESS.upper().replace("0X", "0x"), b"\xab" * 20),
    ("HASH", HASH, b"\x11" * 32),
    ("RAW_ITEM", "0x", (b"",)),
    ("RAW_ITEMS", ["0x01", "0x0203"], (b"\1", b"\2\3")),
    ("BLOCK", "latest", "latest"),
    ("BLOCK", "0x0", 0),
    ("BLOCK", "0x1f", 31),
    ("BLOCK", {"blockNumber": "0x2"}, 2),
    ("BLOCK", {"blockNumber": "finalized"}, "finalized"),
    ("BLOCK", {"blockHash": HASH}, ByHash(b"\x11" * 32, False)),
    ("BLOCK", {"blockHash": HASH, "requireCanonical": True}, ByHash(b"\x11" * 32, True)),
    ("BLOCK_NUMBER", "pending", "pending"),
    ("FLAG", False, False),
    ("PERCENTILES", [0, 12.5, 12.5, 100], (0, 12.5, 12.5, 100)),
    ("TOPIC", "0x" + "22" * 16, b"\x22" * 16),
    ("SEQ", 2**64 - 1, 2**64 - 1),
    ("SEQ", "0xff", 255),
    ("COUNT", 256, 256),
    ("STREAM_FILTER", {}, ANY_STREAM),
    ("STREAM_FILTER", {"issuer": ADDRESS, "topic": None},
     StreamFilter(b"\xab" * 20, b"", LogFilter())),
    ("STREAM_FILTER", {"address": [ADDRESS], "fromBlock": "latest"},
     StreamFilter(b"", b"", LogFilter((b"\xab" * 20,)))),
    ("LOGS", {}, LogQuery(LogFilter(), b"", "latest", "latest")),
    ("LOGS", {"blockHash": HASH, "fromBlock": None}, LogQuery(LogFilter(), b"\x11" * 32, "", "")),
    ("LOGS", {"fromBlock": "0x1", "toBlock": "safe", "address": ADDRESS,
              "topics": [None, HASH, [HASH, HASH], []]},
     LogQuery(LogFilter((b"\xab" * 20,), ((), (b"\x11" * 32,), (b"\x11" * 32,) * 2, ())),
              b"", 1, "safe")),
    ("WORD", "0x0", bytes(32)),
    ("WORD", "0x0102", bytes(30) + b"\1\2"),
    ("WORD", HASH, b"\x11" * 32),
    ("WORDS", ["0x1", HASH], (bytes(31) + b"\1", b"\x11" * 32)),
    ("CALL", {}, CallRequest(bytes(20), b"", None, None, None, 0, b"", None, ())),
    (
        "CALL",
        {"from": ADDRESS, "to": ADDRESS, "gasPrice": "0x5", "value": "0x7", "data": "0x01",
         "input": "0x01", "nonce": "0x0", "gas": "0x5208", "type": "0x1", "chainId": None,
         "accessList": [{"address": ADDRESS, "storageKeys": [HASH]}]},
        CallRequest(b"\xab" * 20, b"\xab" * 20, 21000, 5, 5, 7, b"\1", 0,
                    ((b"\xab" * 20, (b"\x11" * 32,)),)),
    ),
]  # fmt: skip

BAD: list[tuple[str, object, str]] = [
    ("ADDRESS", "ab" * 20, "without 0x"),
    ("ADDRESS", "0x" + "ab" * 19, "want 20 bytes, got 19"),
    ("ADDRESS", "0x" + "a" * 39, "odd length"),
    ("ADDRESS", "0x" + "zz" * 20, "other characters"),
    ("ADDRESS", "0x" + "a " * 20, "other characters"),
    ("ADDRESS", "0x" + "\u0661\u0661" * 20, "other characters"),
    ("ADDRESS", 5, "want a hex string, got int"),
    ("ADDRESS", None, "want a hex string"),
    ("ADDRESS", ["x" * 1000], "want a hex string"),
    ("HASH", ADDRESS, "want 32 bytes, got 20"),
    ("RAW_ITEMS", [], "one or more"),
    ("RAW_ITEMS", "0x01", "one or more"),
    ("RAW_ITEMS", [1], "want a hex string"),
    ("BLOCK", "lastest", "did you mean latest?"),
    ("BLOCK", "0x", '"0x"'),
    ("BLOCK", "0x00", "leading zero"),
    ("BLOCK", "0xg", "other characters"),
    ("BLOCK", "0x1_0", "other characters"),
    ("BLOCK", "0x" + "f" * 17, "> 63 bits"),
    ("BLOCK", "0x" + "f" * 10_000, "> 63 bits"),
    ("BLOCK", 5, "want a hex quantity"),
    ("BLOCK", -1, "want a hex quantity"),
    ("BLOCK", {}, "one of blockHash and blockNumber"),
    ("BLOCK", {"blockHash": HASH, "blockNumber": "0x1"}, "one of blockHash and blockNumber"),
    ("BLOCK", {"blockhash": HASH}, "did you mean blockHash?"),
    ("BLOCK", {"blockHash": HASH, "requireCanonical": 1}, "true or false"),
    ("BLOCK_NUMBER", {"blockNumber": "0x1"}, "want a hex quantity"),
    ("FLAG", "true", "true or false"),
    ("PERCENTILES", [50, 40], "ascending"),
    ("PERCENTILES", [101], "ascending"),
    ("PERCENTILES", [True], "ascending"),
    ("PERCENTILES", [1] * 101, "at most 100"),
    ("TOPIC", HASH, "want 16 bytes"),
    ("SEQ", 2**64, "want a number from 0"),
    ("SEQ", -1, "want a number from 0"),
    ("SEQ", 1.0, "want a hex quantity"),
    ("COUNT", 0, "from 1 to 256"),
    ("COUNT", True, "want a hex quantity"),
    ("STREAM_FILTER", {"issuers": ADDRESS}, "did you mean issuer?"),
    ("STREAM_FILTER", [], "want an object"),
    ("LOGS", {"blockHash": HASH, "fromBlock": "0x0"}, "cannot specify both"),
    ("LOGS", {"topics": [None] * 5}, "at most 4"),
    ("LOGS", {"topics": "0x"}, "at most 4"),
    ("LOGS", {"topics": [ADDRESS]}, "want 32 bytes"),
    ("LOGS", {"address": [ADDRESS] * 257}, "more than 256"),
    ("LOGS", {"address": HASH}, "want 20 bytes"),
    ("LOGS", {"fromBlock": "last"}, "did you mean latest?"),
    ("WORD", "0x", "1 to 32 bytes"),
    ("WORD", HASH + "0", "1 to 32 bytes"),
    ("WORD", "0xg", "as hex"),
    ("WORD", 1, "as hex"),
    ("WORDS", [HASH] * 257, "at most 256"),
    ("SUBSCRIPTION", 1, "id of a subscription"),
    ("STREAM", "", "name of a subscription"),
    ("CALL", {"gasprice": "0x1"}, "did you mean gasPrice?"),
    ("CALL", {"gas": 21000}, "gas: want a hex quantity"),
    ("CALL", {"value": "0x" + "f" * 65}, "value: hex number > 256 bits"),
    ("CALL", {"data": "0x01", "input": "0x02"}, "not equal"),
    ("CALL", {"gasPrice": "0x1", "maxFeePerGas": "0x1"}, "both gasPrice and"),
    ("CALL", {"accessList": [{"address": ADDRESS}]}, "storageKeys"),
    ("CALL", {"accessList": [{"address": ADDRESS, "storageKeys": ["0x1"]}]}, "odd length"),
    ("CALL", {"accessList": [[]] * 1025}, "at most 1024"),
    ("CALL", "0x", "want an object"),
]


@pytest.mark.parametrize(("kind", "given", "expected"), GOOD)
def test_read(kind: str, given: object, expected: object) -> None:
    assert KINDS[kind].read(given) == expected


@pytest.mark.parametrize(("kind", "given", "reason"), BAD)
def test_refused(kind: str, given: object, reason: str) -> None:
    with pytest.raises(Invalid) as refused:
        KINDS[kind].read(given)
    assert refused.value.code == "params"
    assert reason in str(refused.value)
    assert len(str(refused.value)) < 200


HEXISH = st.text("0123456789abcdefABCDEFgx \u0661", max_size=70).map("0x".__add__)
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | HEXISH
    | st.sampled_from([*params.TAGS, ADDRESS, HASH])
)  # fmt: skip
NAMES = st.sampled_from(
    ["from", "to", "gas", "value", "data", "input", "accessList", "address", "storageKeys",
     "blockHash", "blockNumber", "requireCanonical", "issuer", "topic", "topics",
     "fromBlock", "toBlock", "type"]
)  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(NAMES | st.text(), inner), max_leaves=8
)


@pytest.mark.parametrize("kind", KINDS)
def test_any_value_is_read_or_refused(kind: str) -> None:
    @settings(max_examples=30)
    @given(VALUES)
    def check(value: object) -> None:
        with contextlib.suppress(Invalid):
            KINDS[kind].read(value)

    check()
