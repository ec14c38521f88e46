"""Transactions: every official vector, eth-account as oracle, and malformed bytes."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st

from dipnet.ledger.tx import (
    ACCESS_LIST,
    DYNAMIC_FEE,
    LEGACY,
    NONCE_MAX,
    TX_BYTES_MAX,
    AccessList,
    Tx,
    decode,
    decode_batch,
    sign_tx,
)
from dipnet.primitives.codec import BIG_MAX, UINT_MAX, rlp_decode, rlp_encode, to_hex
from dipnet.primitives.crypto import address, checksum, keccak256, public_key
from dipnet.primitives.errors import Invalid
from tests.fixtures.vectors import vectors

CHAIN_ID = 2018
SECRET = bytes(31) + b"\x07"
SENDER = address(public_key(SECRET))
TO = b"\x11" * 20
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def payment(**changed: Any) -> bytes:
    fields: dict[str, Any] = {
        "chain_id": CHAIN_ID, "nonce": 3, "gas": 21_000, "max_fee": 10**9, "to": TO, "value": 7,
    }  # fmt: skip
    return sign_tx(SECRET, **(fields | changed))


def refused(raw: bytes, chain_id: int | None = CHAIN_ID) -> Invalid:
    with pytest.raises(Invalid) as caught:
        decode(raw, chain_id)
    return caught.value


def encoded(tx: Tx) -> bytes:
    """``tx`` encoded again, from its fields alone."""
    price = [tx.max_priority_fee, tx.max_fee] if tx.type == DYNAMIC_FEE else [tx.max_fee]
    chain = [] if tx.type == LEGACY else [tx.chain_id or 0]
    listed = [] if tx.type == LEGACY else [tx.access_list]
    fields: Any = [
        *chain,
        tx.nonce,
        *price,
        tx.gas,
        tx.to,
        tx.value,
        tx.data,
        *listed,
        tx.v,
        tx.r,
        tx.s,
    ]
    return (bytes([tx.type]) if tx.type else b"") + rlp_encode(fields)


# --- official vectors

# What the official exceptions are here. An empty set: a fault of gas or of contract creation, that
# vm/transaction.py finds; the form is right and must decode.
CODES: dict[str, set[str]] = {
    "ADDRESS_TOO_LONG": {"tx_form"},
    "ADDRESS_TOO_SHORT": {"tx_form"},
    "EC_RECOVERY_FAIL": {"sender"},
    "GASLIMIT_OVERFLOW": {"tx_form"},
    "GASLIMIT_PRICE_PRODUCT_OVERFLOW": {"tx_form"},
    "INITCODE_SIZE_EXCEEDED": set(),
    "INTRINSIC_GAS_TOO_LOW": set(),
    "INVALID_CHAINID": {"chain_id", "sender"},
    "INVALID_SIGNATURE_VRS": {"sender", "tx_form"},
    "NONCE_OVERFLOW": {"tx_form"},
    "PRIORITY_GREATER_THAN_MAX_FEE_PER_GAS_2": {"tip_above_cap"},
    "PRIORITY_OVERFLOW": {"tx_form"},
    "RLP_ERROR_EOF": {"tx_type"},
    "RLP_ERROR_SIZE": {"rlp"},
    "RLP_INVALID_ACCESS_LIST_ADDRESS_TOO_LONG": {"tx_form"},
    "RLP_INVALID_ACCESS_LIST_STORAGE_TOO_LONG": {"tx_form"},
    "RLP_INVALID_ACCESS_LIST_STORAGE_TOO_SHORT": {"tx_form"},
    "RLP_INVALID_HEADER": {"tx_type"},
    "RLP_INVALID_SIGNATURE_S": {"rlp"},
    "RLP_INVALID_TO": {"rlp"},
    "RLP_LEADING_ZEROS_DATA_SIZE": {"rlp"},
    "RLP_LEADING_ZEROS_GASLIMIT": {"tx_form"},
    "RLP_LEADING_ZEROS_GASPRICE": {"tx_form"},
    "RLP_LEADING_ZEROS_NONCE": {"tx_form"},
    "RLP_LEADING_ZEROS_NONCE_SIZE": {"rlp"},
    "RLP_LEADING_ZEROS_R": {"tx_form"},
    "RLP_LEADING_ZEROS_S": {"tx_form"},
    "RLP_LEADING_ZEROS_V": {"tx_form"},
    "RLP_LEADING_ZEROS_VALUE": {"tx_form"},
    "RLP_TOO_FEW_ELEMENTS": {"tx_form"},
    "RLP_TOO_MANY_ELEMENTS": {"tx_form"},
    "TYPE_NOT_SUPPORTED": {"tx_type"},
    "VALUE_OVERFLOW": {"tx_form"},
}
# the newest fork of a test counts
FORKS = ["Osaka", "Prague", "Cancun", "Shanghai", "Paris", "London"]


def official() -> Iterator[tuple[str, bytes, dict[str, str]]]:
    for file in sorted(vectors("transactions").glob("*/*.json")):
        for name, case in json.loads(file.read_text()).items():
            fork = next(fork for fork in FORKS if fork in case["result"])
            raw = bytes.fromhex(case["txbytes"].removeprefix("0x"))
            yield f"{file.parent.name}/{name}", raw, case["result"][fork]


def decode_on_mainnet(raw: bytes) -> Tx:
    """Decodes on chain id 1, whose official vectors include transactions from before EIP-155."""
    tx = decode(raw, None)
    return tx if tx.chain_id is None else decode(raw, 1)


def test_official_transactions() -> None:
    valid, later, invalid = 0, 0, 0
    for name, raw, result in official():
        exception = result.get("exception", "").removeprefix("TransactionException.")
        codes = CODES[exception] if exception else set()
        if codes:
            with pytest.raises(Invalid) as caught:
                decode_on_mainnet(raw)
            assert caught.value.code in codes, name
            invalid += 1
            continue
        tx = decode_on_mainnet(raw)
        assert encoded(tx) == raw, name
        later += bool(exception)
        if not exception:
            assert tx.hash.hex() == result["hash"].removeprefix("0x"), name
            assert tx.sender.hex() == result["sender"].removeprefix("0x"), name
            valid += 1
    assert (valid, later, invalid) == (35, 5, 103)


# --- eth-account as oracle

addresses = st.binary(min_size=20, max_size=20)
access_lists = st.lists(
    st.tuples(addresses, st.lists(st.binary(min_size=32, max_size=32), max_size=2).map(tuple)),
    max_size=3,
).map(tuple)


@given(
    secret=st.integers(1, ORDER - 1).map(lambda n: n.to_bytes(32, "big")),
    kind=st.sampled_from([LEGACY, ACCESS_LIST, DYNAMIC_FEE]),
    chain_id=st.integers(1, 2**32 - 1),
    nonce=st.integers(0, NONCE_MAX - 1),
    gas=st.integers(0, UINT_MAX),
    fees=st.tuples(st.integers(0, 2**192 - 1), st.integers(0, 2**192 - 1)).map(sorted),
    to=st.just(b"") | addresses,
    value=st.integers(0, BIG_MAX),
    data=st.binary(max_size=80),
    access_list=access_lists,
)
def test_against_eth_account(
    secret: bytes, kind: int, chain_id: int, nonce: int, gas: int, fees: list[int], to: bytes,
    value: int, data: bytes, access_list: AccessList,
) -> None:  # fmt: skip
    tip, cap = fees
    theirs: dict[str, Any] = {
        "chainId": chain_id, "nonce": nonce, "gas": gas, "to": to, "value": value, "data": data,
    }  # fmt: skip
    if kind != LEGACY:
        theirs |= {"type": kind}
        theirs["accessList"] = [
            {"address": to_hex(a), "storageKeys": [to_hex(key) for key in keys]}
            for a, keys in access_list
        ]
    theirs |= (
        {"maxFeePerGas": cap, "maxPriorityFeePerGas": tip}
        if kind == DYNAMIC_FEE
        else {"gasPrice": cap}
    )
    signed = Account.sign_transaction(theirs, secret)
    raw = sign_tx(
        secret, type=kind, chain_id=chain_id, nonce=nonce, gas=gas, max_fee=cap,
        max_priority_fee=tip if kind == DYNAMIC_FEE else None, to=to, value=value, data=data,
        access_list=access_list,
    )  # fmt: skip
    assert raw == bytes(signed.raw_transaction)
    expected = Tx(
        raw, bytes(signed.hash), kind, chain_id, nonce, tip if kind == DYNAMIC_FEE else cap, cap,
        gas, to, value, data, () if kind == LEGACY else access_list, signed.v, signed.r, signed.s,
        address(public_key(secret)),
    )  # fmt: skip
    assert decode(raw, chain_id) == expected


def test_unprotected_legacy_only_where_no_chain_is_demanded() -> None:
    raw = payment(type=LEGACY, chain_id=None)
    tx = decode(raw, None)
    assert (tx.chain_id, tx.sender, encoded(tx)) == (None, SENDER, raw)
    assert Account.recover_transaction(raw) == checksum(SENDER)
    assert refused(raw).code == "unprotected"


# --- fees


@pytest.mark.parametrize(
    ("base_fee", "price", "tip"),
    [(0, 20, 20), (70, 90, 20), (95, 100, 5), (100, 100, 0), (130, 100, -30)],
)
def test_fees_of_type_2(base_fee: int, price: int, tip: int) -> None:
    tx = decode(payment(max_fee=100, max_priority_fee=20), CHAIN_ID)
    assert (tx.effective_price(base_fee), tx.effective_tip(base_fee)) == (price, tip)


@pytest.mark.parametrize("kind", [LEGACY, ACCESS_LIST])
def test_fees_of_one_price(kind: int) -> None:
    tx = decode(payment(type=kind, max_fee=100), CHAIN_ID)
    assert (tx.gas_price, tx.max_fee, tx.max_priority_fee) == (100, 100, 100)
    assert (tx.effective_price(30), tx.effective_tip(30)) == (100, 70)


# --- refusals


def swapped(raw: bytes, at: int, field: Any) -> bytes:
    """``raw`` with another field in place ``at``; the signature stays as it was."""
    payload_at = 0 if raw[0] >= 0xC0 else 1
    fields: Any = rlp_decode(raw[payload_at:])
    fields[at] = field
    return raw[:payload_at] + rlp_encode(fields)


@pytest.mark.parametrize(
    ("at", "field", "code", "detail"),
    [
        (0, b"\0", "tx_form", "chainId"),
        (0, b"\x01" * 9, "tx_form", "chainId"),
        (0, [], "tx_form", "chainId"),
        (0, 1, "chain_id", "have 1 want 2018"),
        (0, 0, "chain_id", "have 0 want 2018"),
        (1, b"\0\x01", "tx_form", "nonce"),
        (1, 2**64, "tx_form", "nonce"),
        (1, NONCE_MAX, "nonce_max", "EIP-2681"),
        (2, 2**256, "tx_form", "maxPriorityFeePerGas"),
        (2, 10**9 + 1, "tip_above_cap", "1000000001"),
        (3, b"\0", "tx_form", "maxFeePerGas"),
        (3, [b"\x01"], "tx_form", "maxFeePerGas"),
        (3, 2**256 - 1, "tx_form", "past 256 bits"),
        (4, 2**64, "tx_form", "gas"),
        (5, b"\0" * 19, "tx_form", "to"),
        (5, b"\0" * 21, "tx_form", "to"),
        (5, [], "tx_form", "to"),
        (6, 2**256, "tx_form", "value"),
        (7, [], "tx_form", "data"),
        (8, b"", "tx_form", "accessList: expected a list"),
        (8, [b""], "tx_form", "pairs"),
        (8, [[]], "tx_form", "pairs"),
        (8, [[TO]], "tx_form", "pairs"),
        (8, [[TO, [], []]], "tx_form", "pairs"),
        (8, [[TO[1:], []]], "tx_form", "20 bytes"),
        (8, [[[], []]], "tx_form", "20 bytes"),
        (8, [[TO, b""]], "tx_form", "list of storage keys"),
        (8, [[TO, [b"\0" * 31]]], "tx_form", "32 bytes"),
        (8, [[TO, [[]]]], "tx_form", "32 bytes"),
        (9, 2, "sender", "parity"),
        (9, 27, "sender", "parity"),
        (9, b"\0", "tx_form", "v:"),
        (10, 0, "sender", ""),
        (10, ORDER, "sender", ""),
        (10, 5, "sender", ""),  # no point has this x
        (10, 2**256, "tx_form", "r:"),
        (11, 0, "sender", ""),
        (11, ORDER // 2 + 1, "sender", ""),
        (11, ORDER, "sender", ""),
        (11, [], "tx_form", "s:"),
    ],
)
def test_one_wrong_field(at: int, field: Any, code: str, detail: str) -> None:
    error = refused(swapped(payment(type=DYNAMIC_FEE), at, field))
    assert error.code == code
    assert detail in str(error)


@pytest.mark.parametrize(
    ("v", "code"),
    [
        *[(v, "sender") for v in (0, 1, 26, 29, 34)],
        *[(v, "unprotected") for v in (27, 28)],
        *[(v, "chain_id") for v in (35, 36, 37, 38, 2 * CHAIN_ID + 37, 2**200)],
    ],
)
def test_v_of_legacy(v: int, code: str) -> None:
    assert refused(swapped(payment(type=LEGACY), 6, v)).code == code


def test_v_past_64_bits_names_no_chain() -> None:
    assert refused(swapped(payment(type=LEGACY), 6, 35 + 2**65), None).code == "chain_id"


@pytest.mark.parametrize("kind", [LEGACY, ACCESS_LIST, DYNAMIC_FEE])
def test_the_other_s_is_refused(kind: int) -> None:
    """EIP-2: the mirrored signature recovers the same key and would give the transaction a second
    hash."""
    raw = payment(type=kind)
    tx = decode(raw, CHAIN_ID)
    flipped = tx.v + 1 if (tx.v + (kind == LEGACY)) % 2 == 0 else tx.v - 1
    mirrored = encoded(replace(tx, s=ORDER - tx.s, v=flipped))
    assert refused(mirrored).code == "sender"


@pytest.mark.parametrize(
    ("raw", "code", "detail"),
    [
        (b"", "tx_form", "no bytes"),
        (b"\x03" + payment()[1:], "tx_type", "blob transactions are refused"),
        (b"\x03", "tx_type", "blob transactions are refused"),
        (b"\x04" + payment()[1:], "tx_type", "not supported yet"),
        (b"\x05" + payment()[1:], "tx_type", "0x05"),
        (b"\x00" + payment(type=LEGACY), "tx_type", "0x00"),
        (b"\x80", "tx_type", "0x80"),
        (b"\xb8" + payment(), "tx_type", "0xb8"),
        (b"\x01", "rlp", ""),
        (b"\x01\x80", "tx_form", "11 fields"),
        (b"\x02\xc0", "tx_form", "12 fields"),
        (b"\xc0", "tx_form", "9 fields"),
        (b"\x01" + payment()[1:], "tx_form", "11 fields"),
        (payment() + b"\0", "rlp", ""),
        (payment()[:-1], "rlp", ""),
        (b"\x02" + rlp_encode([b""] * 13), "tx_form", "12 fields"),
    ],
)
def test_wrong_envelopes(raw: bytes, code: str, detail: str) -> None:
    error = refused(raw)
    assert error.code == code
    assert detail in str(error)


def test_size_is_refused_before_the_form() -> None:
    overhead = len(payment(data=b"\x01" * 70_000)) - 70_000
    raw = payment(data=b"\x01" * (TX_BYTES_MAX - overhead))
    assert len(raw) == TX_BYTES_MAX
    assert decode(raw, CHAIN_ID).sender == SENDER
    assert refused(raw + b"\0").code == "oversized"
    assert refused(b"\xff" * (TX_BYTES_MAX + 1)).code == "oversized"


@pytest.mark.parametrize("kind", [3, 4, 5, 0xC0])
def test_only_three_types_can_be_signed(kind: int) -> None:
    with pytest.raises(ValueError, match="cannot be signed"):
        payment(type=kind)


# --- batches


def test_a_batch_keeps_its_order() -> None:
    good = [payment(nonce=n, type=n % 3) for n in range(7)]
    bad = [b"", b"\x03", payment(chain_id=1), swapped(payment(), 11, 0), b"\xc0"]
    raws = [good[0], bad[0], bad[1], good[1], bad[2], good[2], good[3], bad[3], *good[4:], bad[4]]
    results = decode_batch(raws, CHAIN_ID)
    assert [r.raw if isinstance(r, Tx) else None for r in results] == [
        raw if raw in good else None for raw in raws
    ]
    codes = [r.code for r in results if isinstance(r, Invalid)]
    assert codes == ["tx_form", "tx_type", "chain_id", "sender", "tx_form"]
    assert all(r.__traceback__ is None for r in results if isinstance(r, Invalid))
    assert {r.sender for r in results if isinstance(r, Tx)} == {SENDER}
    assert {keccak256(r.raw) == r.hash for r in results if isinstance(r, Tx)} == {True}


def test_empty_batch() -> None:
    assert decode_batch([], CHAIN_ID) == []


# --- any bytes


def assert_tx_or_invalid(raw: bytes) -> None:
    (result,) = decode_batch([raw], None)
    if isinstance(result, Tx):
        assert encoded(result) == raw
        assert len(result.sender) == 20


@given(st.sampled_from([b"", b"\x01", b"\x02", b"\x02\xf8"]), st.binary(max_size=150))
def test_fuzz_bytes(head: bytes, tail: bytes) -> None:
    assert_tx_or_invalid(head + tail)


items = st.recursive(
    st.binary(max_size=33), lambda inner: st.lists(inner, max_size=3), max_leaves=4
)


@given(st.sampled_from([b"", b"\x01", b"\x02"]), st.lists(items, min_size=8, max_size=13))
def test_fuzz_fields(head: bytes, fields: Any) -> None:
    assert_tx_or_invalid(head + rlp_encode(fields))


@settings(max_examples=300)
@given(
    st.sampled_from(
        [
            payment(type=kind, data=b"\x01\x02", access_list=((TO, (bytes(32),)),))
            for kind in range(3)
        ]
    ),
    st.integers(0, 260),
    st.binary(max_size=3),
    st.integers(0, 3),
)
def test_fuzz_mutated(raw: bytes, at: int, patch: bytes, cut: int) -> None:
    assert_tx_or_invalid(raw[:at] + patch + raw[at + cut :])
