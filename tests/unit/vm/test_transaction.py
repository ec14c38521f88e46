"""Costs, checks and transfers against official vectors, and the sum of all balances."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipnet.ledger.state import Journal, Layer, supply
from dipnet.ledger.tx import NONCE_MAX, Tx, decode, sign_tx
from dipnet.primitives.crypto import address, public_key
from dipnet.primitives.errors import Invalid
from dipnet.vm.receipt import Receipt
from dipnet.vm.transaction import Env, apply_tx, check, floor_gas, intrinsic_gas
from tests.fixtures.memory import Memory
from tests.fixtures.prestate import load
from tests.fixtures.vectors import vectors

SECRET = b"\x01" * 32
SENDER = address(public_key(SECRET))
TO, PROPOSER = b"\x22" * 20, b"\x33" * 20
ETHER = 10**18
ENV = Env(
    chain_id=2018, height=1, timestamp_s=1, proposer=PROPOSER, base_fee=7, gas_limit=10**8, slot=1,
    fees_to=PROPOSER,
)  # fmt: skip
SIGNED = decode(
    sign_tx(SECRET, chain_id=2018, nonce=0, gas=21_000, max_fee=10, max_priority_fee=2, to=TO),
    2018,
)


def make(**fields: Any) -> Tx:
    """A transaction of ``SENDER``, whose ``raw`` and signature do not match its fields."""
    return replace(SIGNED, **fields)


def funded(balance: int = ETHER) -> Journal:
    journal = Journal(Memory())
    journal.add_balance(SENDER, balance)
    return journal


# --- official vectors


def test_intrinsic_gas_of_official_vectors() -> None:
    count = 0
    for path in sorted(vectors("transactions").glob("*/*.json")):
        for case in json.loads(path.read_text()).values():
            # The intrinsic gas did not change between Shanghai and Osaka.
            result = case["result"].get("Cancun") or case["result"].get("Shanghai", {})
            if "hash" in result:
                tx = decode(bytes.fromhex(case["txbytes"][2:]), None)
                assert intrinsic_gas(tx) == int(result["intrinsicGas"], 16), path.name
                count += 1
    assert count >= 35


CODES = {
    "GAS_ALLOWANCE_EXCEEDED": {"block_gas"},
    "GAS_LIMIT_EXCEEDS_MAXIMUM": {"gas_cap"},
    "GASLIMIT_PRICE_PRODUCT_OVERFLOW": {"tx_form"},
    "INITCODE_SIZE_EXCEEDED": {"initcode"},
    "INSUFFICIENT_ACCOUNT_FUNDS": {"funds"},
    "INSUFFICIENT_MAX_FEE_PER_GAS": {"fee_cap_low"},
    "INTRINSIC_GAS_TOO_LOW": {"intrinsic_gas", "floor_gas"},
    "NONCE_IS_MAX": {"nonce_max"},
    "SENDER_NOT_EOA": {"sender_code"},
}
TYPES = (b"\x01", b"\x02")


def fixtures(fork: str) -> Iterator[tuple[dict[str, Any], dict[str, Any], bytes]]:
    """(case, post, transaction) of the official state tests of known transaction types."""
    with gzip.open(vectors("evm") / f"dev_{fork}.jsonl.gz", "rt") as lines:
        for line in lines:
            case = json.loads(line)
            for posts in case["post"].values():
                for post in posts:
                    raw = bytes.fromhex(post["txbytes"][2:])
                    if raw[:1] in TYPES or raw[:1] >= b"\xc0":
                        yield case, post, raw


def is_transfer(case: dict[str, Any]) -> bool:
    """Whether a transaction goes to an address without code, which is no precompile, from a sender
    without delegation."""
    to = case["transaction"].get("to")
    return bool(
        to
        and int(to, 16) > 0x11
        and int(to, 16) != 0x100
        and case["pre"].get(to, {}).get("code", "0x") in ("0x", "")
    )


def environment(env: dict[str, Any]) -> Env:
    return Env(
        chain_id=1,
        height=int(env["currentNumber"], 16),
        timestamp_s=int(env["currentTimestamp"], 16),
        proposer=bytes.fromhex(env["currentCoinbase"][2:]),
        base_fee=int(env["currentBaseFee"], 16),
        gas_limit=int(env["currentGasLimit"], 16),
        slot=0,
        fees_to=bytes.fromhex(env["currentCoinbase"][2:]),
    )


def outcome(journal: Journal, env: Env, raw: bytes) -> str:
    """The code of the refusal, "" where the transaction ran."""
    try:
        apply_tx(journal, env, decode(raw, None), 0, {})
    except Invalid as refused:
        return refused.code
    return ""


@pytest.mark.parametrize("fork", ["osaka", "prague"])
def test_official_transfers_and_refusals(fork: str) -> None:
    done, refused = 0, 0
    for case, post, raw in fixtures(fork):
        names = post.get("expectException", "").replace("TransactionException.", "")
        if not names and not is_transfer(case):
            continue
        journal = load(case["pre"])
        mark = journal.snapshot()
        code = outcome(journal, environment(case["env"]), raw)
        if names:
            assert code in set().union(*(CODES[name] for name in names.split("|"))), case["name"]
            assert journal.snapshot() == mark
            refused += 1
        else:
            assert code == "", case["name"]
            done += 1
        assert journal.commit()[0] == bytes.fromhex(post["hash"][2:]), case["name"]
    assert done >= 20
    assert refused >= 70


# --- texts and order of the checks


@pytest.mark.parametrize(
    ("fields", "nonce", "code", "text"),
    [
        ({}, 5, "nonce_low", "nonce too low: next nonce 5, tx nonce 0"),
        ({"nonce": 7}, 5, "nonce_high", "nonce too high: tx nonce 7, gapped nonce 5"),
        (
            {"value": ETHER},
            0,
            "funds",
            f"insufficient funds for gas * price + value: balance {ETHER}, "
            f"tx cost {ETHER + 210_000}, overshot 210000",
        ),
        (
            {"max_fee": 6},
            0,
            "fee_cap_low",
            "max fee per gas less than block base fee: maxFeePerGas 6, baseFee 7",
        ),
        (
            {"gas": 20_999},
            0,
            "intrinsic_gas",
            "intrinsic gas too low: gas 20999, minimum needed 21000",
        ),
        (
            {"data": b"\1" * 100, "gas": 24_999},
            0,
            "floor_gas",
            "insufficient gas for floor data gas cost: gas 24999, minimum needed 25000",
        ),
        (
            {"gas": 2**24 + 1},
            0,
            "gas_cap",
            "transaction gas limit too high: cap 16777216, tx 16777217",
        ),
        (
            {"to": b"", "data": bytes(49_153)},
            0,
            "initcode",
            "max initcode size exceeded: code size 49153, limit 49152",
        ),
        ({"to": b"", "gas": 60_000}, 0, "no_vm", "contract creation is not supported yet"),
    ],
)
def test_refusals_speak_as_ethereum_does(
    fields: dict[str, Any], nonce: int, code: str, text: str
) -> None:
    journal = funded()
    journal.set_nonce(SENDER, nonce)
    mark = journal.snapshot()
    with pytest.raises(Invalid) as caught:
        apply_tx(journal, ENV, make(**fields), 0, {})
    assert (caught.value.code, str(caught.value)) == (code, text)
    assert journal.snapshot() == mark


def test_exact_funds_and_gas_suffice() -> None:
    check(make(), ENV, 0, 210_000)
    with pytest.raises(Invalid, match="balance 209999"):
        check(make(), ENV, 0, 209_999)
    check(make(gas=2**24), ENV, 0, ETHER)
    check(make(data=b"\1" * 100, gas=25_000), ENV, 0, ETHER)
    check(make(nonce=NONCE_MAX - 1), ENV, NONCE_MAX - 1, ETHER)  # EIP-2681


def test_block_gas() -> None:
    env = replace(ENV, gas_limit=50_000)
    with pytest.raises(Invalid, match="exceeds block gas limit: tx gas 50001"):
        check(make(gas=50_001), env, 0, ETHER)
    with pytest.raises(Invalid, match="tx gas 21000, 20999 left in the block"):
        apply_tx(funded(), env, make(), 29_001, {})
    assert apply_tx(funded(), env, make(), 29_000, {}).cumulative_gas == 50_000


def test_sender_with_code_is_refused_unless_delegated() -> None:  # EIP-3607, EIP-7702
    for code, allowed in (
        (b"\x00", False),
        (b"\xef\x01\x00" + bytes(20), True),
        (b"\xef\x01\x00" + bytes(19), False),
        (b"\xef\x01\x01" + bytes(20), False),
    ):
        journal = funded()
        journal.set_code(SENDER, code)
        if allowed:
            apply_tx(journal, ENV, make(), 0, {})
        else:
            with pytest.raises(Invalid, match="sender not an eoa"):
                apply_tx(journal, ENV, make(), 0, {})


# --- costs and execution


def test_costs() -> None:
    data = b"\0\1\0\1\1"  # 2 zeros and 3 others: 14 tokens
    access = ((TO, (bytes(32), b"\1" * 32)), (PROPOSER, ()))
    assert intrinsic_gas(make(data=data)) == 21_000 + 2 * 4 + 3 * 16
    assert floor_gas(make(data=data)) == 21_000 + 140
    assert intrinsic_gas(make(access_list=access)) == 21_000 + 2 * 2_400 + 2 * 1_900
    assert intrinsic_gas(make(to=b"", data=bytes(33))) == 53_000 + 33 * 4 + 2 * 2
    assert floor_gas(make(access_list=access)) == 21_000


def test_transfer_pays_tip_and_burns_base_fee() -> None:
    journal = funded()
    receipt = apply_tx(journal, ENV, make(value=5, gas=30_000), 1_000, {})
    assert receipt == Receipt(type=2, status=1, cumulative_gas=22_000, gas_used=21_000, logs=())
    assert journal.balance(TO) == 5
    assert journal.balance(PROPOSER) == 21_000 * 2
    assert journal.balance(SENDER) == ETHER - 5 - 21_000 * 9
    assert journal.nonce(SENDER) == 1


def test_calldata_pays_the_floor() -> None:
    receipt = apply_tx(funded(), ENV, make(data=b"\1" * 100, gas=50_000), 0, {})
    assert receipt.gas_used == 25_000


def test_tip_is_bounded_by_the_cap() -> None:
    journal = funded()
    apply_tx(journal, ENV, make(max_fee=8, max_priority_fee=8), 0, {})
    assert journal.balance(PROPOSER) == 21_000


def test_no_account_appears_from_nothing() -> None:  # EIP-161
    journal = funded()
    apply_tx(journal, ENV, make(max_fee=7, max_priority_fee=0), 0, {})
    layer = Layer(Memory(), journal.commit()[1])
    assert [key[1:] for key, _ in layer.scan(b"A")] == [SENDER]


AMOUNTS = st.sampled_from([0, 1, 10**9, ETHER // 2, 2 * ETHER])


@given(
    base_fee=st.integers(0, 30),
    txs=st.lists(
        st.fixed_dictionaries(
            {
                "to": st.sampled_from([TO, PROPOSER, SENDER, b""]),
                "value": AMOUNTS,
                "max_fee": st.integers(0, 40),
                "gas": st.sampled_from([20_000, 21_000, 30_000, 60_000]),
                "data": st.sampled_from([b"", bytes(100), b"\1" * 400]),
                "nonce": st.sampled_from([0, 1, 2, None]),
            }
        ),
        max_size=8,
    ),
)
def test_no_money_appears_or_is_lost(base_fee: int, txs: list[dict[str, Any]]) -> None:
    env = replace(ENV, base_fee=base_fee)
    before = Memory()
    before.apply(funded().commit()[1])
    journal, cumulative = Journal(before), 0
    for fields in txs:
        nonce = journal.nonce(SENDER) if fields["nonce"] is None else fields["nonce"]
        tip = min(fields["max_fee"], 3)
        tx = make(**fields | {"nonce": nonce, "max_priority_fee": tip})
        mark = journal.snapshot()
        try:
            receipt = apply_tx(journal, env, tx, cumulative, {})
        except Invalid:
            assert journal.snapshot() == mark
            continue
        cumulative += receipt.gas_used
        assert receipt.cumulative_gas == cumulative
    after = Layer(before, journal.commit()[1])
    assert supply(before) == supply(after) + cumulative * base_fee
