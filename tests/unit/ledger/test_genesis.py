"""genesis.json: accepted files, the messages of refusals, and its single spelling."""

import json
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dipnet.ledger.genesis import GENESIS_BYTES_MAX, Delegate, Genesis
from dipnet.ledger.parameters import DELEGATES_MAX
from dipnet.primitives.crypto import address, checksum, public_key
from dipnet.primitives.errors import Invalid
from tests import ROOT

EXAMPLE = (ROOT / "genesis.json").read_bytes()
STAKE = 1_000 * 10**18
MNEMONIC = "test test test test test test test test test test test junk"


def key(number: int) -> bytes:
    return public_key(number.to_bytes(32, "big"))


def delegate(number: int, **changed: Any) -> dict[str, Any]:
    fields = {
        "name": f"d{number}",
        "address": checksum(address(key(number))),
        "public_key": "0x" + key(number).hex(),
        "stake": str(STAKE),
    }
    return fields | changed


def written(**changed: Any) -> bytes:
    return json.dumps(json.loads(EXAMPLE) | changed).encode()


def refusal(raw: bytes) -> str:
    with pytest.raises(Invalid) as caught:
        Genesis.decode(raw)
    assert caught.value.code == "genesis"
    assert len(str(caught.value)) < 1_000
    return str(caught.value)


# --- accepted


def test_the_example_is_the_dev_chain() -> None:
    genesis = Genesis.decode(EXAMPLE)
    Account.enable_unaudited_hdwallet_features()
    wallets = [
        Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}")
        for index in range(10)
    ]
    assert (genesis.chain_id, genesis.parameters.slot_ms, genesis.parameters.epoch_slots) == (
        2018,
        1000,
        30,
    )
    assert dict(genesis.balances) == {
        bytes.fromhex(wallet.address[2:]): 10_000 * 10**18 for wallet in wallets
    }
    (only,) = genesis.delegates
    assert only.public_key == public_key(bytes(wallets[0].key))
    assert checksum(only.address) == wallets[0].address
    assert genesis.supply() == 10 * 10_000 * 10**18 + STAKE
    assert genesis.encode() == EXAMPLE


def test_defaults_are_those_of_the_specification() -> None:
    genesis = Genesis.checked(
        {
            "chain_id": 1,
            "time_ms": 0,
            "delegates": [delegate(n) for n in range(1, 22)],
            "balances": {},
        }
    )
    assert Genesis.decode(genesis.encode()) == genesis
    shown = json.loads(genesis.encode())
    del shown["delegates"]
    assert shown == {
        "chain_id": 1, "time_ms": 0, "slot_ms": 1000, "epoch_slots": 3600, "delegates_active": 21,
        "delegates_standby": 5, "backoff_slots": 64, "gas_limit": 400_000_000, "elasticity": 2,
        "base_fee_initial": "1000000000", "base_fee_floor": "1000000",
        "base_fee_change_denominator": 8, "block_bytes_max": 8_388_608, "pool_txs_max": 50_000,
        "pool_account_txs_max": 16_384, "pool_replacement_percent": 10,
        "block_reward": "2000000000000000000",
        "delegate_stake_min": str(STAKE), "candidates_max": 500, "votes_per_account_max": 16,
        "vote_expiry_epochs": 2160, "unbonding_epochs": 336, "evidence_epochs": 336,
        "jail_epochs": 24, "slash_bps": 1000, "reporter_bps": 1000, "commission_bps_max": 5000,
        "seats_per_organisation_max": 6, "parameter_delay_epochs": 24, "rules": 2,
        "dpos_gas_call": 500, "dpos_gas_plain": 2_000, "dpos_gas_text": 5_000,
        "dpos_gas_array": 10_000, "dpos_gas_judge": 20_000,
        "dag_window_blocks": 86_400, "dag_anchor_vertices_max": 10_000,
        "dag_anchor_bytes_max": 8_388_608, "dag_frontier_max": 4096, "dag_max_age": 200,
        "dag_max_parent_age": 60, "dag_admission_age": 20, "registration": "open",
        "undo_blocks_max": 1024, "overlays_max": 128, "balances": {},
    }  # fmt: skip


@pytest.mark.parametrize("amount", [1000, "1000", "0x3e8", "0x0003E8"])
def test_amounts_and_addresses_have_one_spelling(amount: Any) -> None:
    account = "0xF39FD6E51AAD88F6F4CE6AB8827279CFFFB92266"
    spellings = ["0x" + account[2:], account.lower(), checksum(bytes.fromhex(account[2:]))]
    files = [
        Genesis.decode(written(balances={text: amount}, block_reward=amount)).encode()
        for text in spellings
    ]
    assert files == [written_canonical(spellings[2])] * 3


def written_canonical(account: str) -> bytes:
    fields = json.loads(EXAMPLE) | {"balances": {account: "1000"}, "block_reward": "1000"}
    return json.dumps(fields, indent=2).encode() + b"\n"


def test_balances_are_in_the_order_of_addresses_and_cannot_be_changed() -> None:
    accounts = {"0x" + f"{number:02x}" * 20: number for number in (9, 1, 5)}
    genesis = Genesis.decode(written(balances=accounts))
    assert list(genesis.balances.items()) == [(bytes([n]) * 20, n) for n in (1, 5, 9)]
    with pytest.raises(TypeError):
        genesis.balances[bytes(20)] = 1  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        genesis.parameters.slot_ms = 5  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        genesis.delegates = ()


def test_bytes_are_as_good_as_text_in_python() -> None:
    made = Delegate(name="d1", address=address(key(1)), public_key=key(1), stake=STAKE)
    assert made == Delegate.model_validate(delegate(1))


# --- refused values


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"chain_id": 0}, "chain_id: should be greater than or equal to 1"),
        ({"chain_id": 2**32}, "chain_id: should be less than"),
        ({"chain_id": "2018"}, "chain_id: should be a valid integer"),
        ({"chain_id": True}, "chain_id: should be a valid integer"),
        ({"chain_id": None}, "chain_id: should be a valid integer"),
        ({"time_ms": -1}, "time_ms: should be greater"),
        ({"slot_ms": 99}, "slot_ms: should be greater than or equal to 100"),
        ({"slot_ms": 60_001}, "slot_ms: should be less than or equal to 60000"),
        ({"epoch_slots": 0}, "epoch_slots"),
        ({"gas_limit": 20_999}, "gas_limit"),
        ({"block_bytes_max": (8 << 20) + 1}, "block_bytes_max"),  # a frame holds no larger block
        ({"gas_limit": 21_000}, "elasticity: gas_limit / elasticity does not hold one payment"),
        ({"registration": "ajar"}, "registration: should be 'open' or 'closed'"),
        ({"base_fee_initial": 1}, "base_fee_initial: below base_fee_floor; raise it"),
        ({"base_fee_floor": "1e9"}, "base_fee_floor: write an amount of wei"),
        ({"base_fee_floor": "-1"}, "base_fee_floor: write an amount of wei"),
        ({"base_fee_floor": ""}, "base_fee_floor: write an amount of wei"),
        ({"base_fee_floor": "0x"}, "base_fee_floor: write an amount of wei"),
        ({"base_fee_floor": "007"}, "base_fee_floor: write an amount of wei"),
        ({"base_fee_floor": "\u0661"}, "base_fee_floor: write an amount of wei"),
        ({"base_fee_floor": "1\n"}, "base_fee_floor: write an amount of wei"),
        ({"base_fee_floor": "9" * 79}, "base_fee_floor: write an amount of wei"),
        ({"base_fee_floor": [1]}, "base_fee_floor: should be a valid integer"),
        ({"block_reward": "0x" + "f" * 64}, "block_reward: should be less than"),
        ({"dag_max_parent_age": 201}, "dag_max_parent_age: above dag_max_age; lower it"),
        ({"dag_admission_age": 201}, "dag_admission_age: above dag_max_age; lower it"),
        ({"balances": []}, "balances: write an object"),
        ({"balances": {"0x12": 1}}, "balances: 0x12: write an address"),
        ({"balances": {"11" * 21: 1}}, "write an address"),
        ({"balances": {"0x" + "11" * 20: -1}}, "0 to 2^256 - 1"),
        ({"balances": {"0x" + "11" * 20: True}}, "0 to 2^256 - 1"),
        ({"balances": {"0x" + "11" * 20: None}}, "0 to 2^256 - 1"),
        ({"balances": {"0x" + "11" * 20: "0x" + "f" * 65}}, "write an amount of wei"),
        ({"balances": {"0x" + "11" * 20: str(2**128)}}, "balances: their sum with the stakes"),
        ({"balances": {"0x" + "aB" * 20: 1, "0x" + "cc" * 20: 1}}, "typing error"),
        ({"balances": {"0x" + "ab" * 20: 1, "0x" + "AB" * 20: 1}}, "there twice; keep one"),
        ({"delegates": []}, "delegates"),
        ({"delegates": {}}, "delegates"),
        ({"delegates": [1]}, "delegates.0"),
        ({"delegates": [{"name": "a"}]}, "delegates.0.address: missing; add it"),
        ({"delegates": [delegate(1, adress="x")]}, "adress: no such field; did you mean address?"),
        ({"delegates": [delegate(1, name="")]}, "delegates.0.name: write 1 to 32 letters"),
        ({"delegates": [delegate(1, name="a\nb")]}, "delegates.0.name: write 1 to 32 letters"),
        ({"delegates": [delegate(1, name="a" * 33)]}, "delegates.0.name: write 1 to 32 letters"),
        ({"delegates": [delegate(1, name=1)]}, "delegates.0.name"),
        ({"delegates": [delegate(1, address="0x" + "0" * 40)]}, "that of public_key: 0x7E5F"),
        ({"delegates": [delegate(1, public_key="0x" + "00" * 33)]}, "not a point of secp256k1"),
        ({"delegates": [delegate(1, public_key="0x02")]}, "66 hex digits"),
        ({"delegates": [delegate(1), delegate(2, name="d1")]}, "same name; change one"),
        ({"delegates": [delegate(1), delegate(1, name="d2")]}, "same address; change one"),
        ({"delegates": [delegate(1, stake="0")]}, "delegates.0.stake: should be greater"),
        ({"delegates": [delegate(1, stake=str(2**128))]}, "delegates.0.stake: should be less"),
        ({"delegates": [delegate(1, stake=str(STAKE - 1))]}, "below delegate_stake_min; raise it"),
        ({"delegates": [delegate(1), delegate(2)], "candidates_max": 1}, "candidates_max: fewer"),
        ({"evidence_epochs": 337}, "unbonding_epochs: below evidence_epochs"),
        ({"vote_expiry_epochs": 1}, "vote_expiry_epochs: should be greater than or equal to 2"),
        ({"slash_bps": 10_001}, "slash_bps: should be less than or equal to 10000"),
        ({"reporter_bps": 5_001}, "reporter_bps: should be less than or equal to 5000"),
        ({"rules": 0}, "rules: should be greater"),
        ({"delegates_standby": 101}, "delegates_standby: with delegates_active more than 101"),
    ],
)  # fmt: skip
def test_one_wrong_field(changed: dict[str, Any], words: str) -> None:
    assert words in refusal(written(**changed))


def test_too_many_delegates() -> None:
    many = [delegate(n) for n in range(1, DELEGATES_MAX + 2)]
    assert "delegates" in refusal(written(delegates=many))
    assert len(Genesis.decode(written(delegates=many[:-1])).delegates) == DELEGATES_MAX


def test_several_faults_are_told_at_once_but_not_all() -> None:
    text = refusal(written(**dict.fromkeys(list(json.loads(EXAMPLE))[7:], 0)))
    assert text.count(";") >= 5
    assert len(text) < 1_000


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("slot_mss", "slot_mss: no such field; did you mean slot_ms?"),
        ("chainId", "did you mean chain_id?"),
        ("zzz", "zzz: no such field; remove it"),
        ("\ud800", "\\ud800: no such field; remove it"),
        ("a\nb", "a?b: no such field"),
        ("slot_ms" + "x" * 100_000, "no such field"),
    ],
)
def test_unknown_fields(name: str, words: str) -> None:
    text = refusal(written(**{name: 1}))
    assert words in text
    assert text.isprintable()


@pytest.mark.parametrize("name", Genesis.names())
def test_every_field_must_be_there(name: str) -> None:
    fields = json.loads(EXAMPLE)
    del fields[name]
    assert f"{name}: missing; add it" in refusal(json.dumps(fields).encode())


# --- refused text


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{} {}", "not JSON"),
        (b"\xff{}", "not JSON"),
        (b"\xef\xbb\xbf" + EXAMPLE, "not JSON"),
        (b"[]", "write one JSON object"),
        (b"1", "write one JSON object"),
        (b'{"a": NaN}', "NaN: write an integer"),
        (b'{"a": Infinity}', "Infinity: write an integer"),
        (b'{"a": -Infinity}', "-Infinity: write an integer"),
        (b'{"a": 1.0}', "1.0: write an integer"),
        (b'{"a": 1e999}', "1e999: write an integer"),
        (b'{"a": ' + b"1" * 10**6 + b"}", "a number of more than 78 digits"),
        (b'{"a": -' + b"1" * 10**6 + b"}", "a number of more than 78 digits"),
        (b'{"a": 1' + b"0" * 10**6 + b".5}", "write an integer"),
        (b'{"slot_ms": 1000, "slot_ms": 1000}', "slot_ms: there twice; keep one"),
        (b'{"balances": {"a": 1, "a": 1}}', "a: there twice; keep one"),
        (b'{"slot_ms": 1, "slot\\u005fms": 1}', "slot_ms: there twice; keep one"),
        (b"[" * 9, "nested deeper than 8"),
        (b'{"a":' * 800_000, "nested deeper than 8"),
        (b'["[[[[[[[[[[", ' + b"[" * 7 + b"]" * 8, "write one JSON object"),
        (b'"' + b'\\"' * 2_000_000, "not JSON"),
        (b'"' * 4_000_000, "not JSON"),
        (b" " * (GENESIS_BYTES_MAX + 1), "4194305 bytes where 4194304 are allowed"),
    ],
    ids=range(24),
)
def test_wrong_text(raw: bytes, words: str) -> None:
    assert words in refusal(raw)


# --- any bytes


def assert_genesis_or_invalid(raw: bytes) -> None:
    try:
        genesis = Genesis.decode(raw)
    except Invalid as error:
        assert error.code == "genesis"  # noqa: PT017 (an oracle of two outcomes)
        return
    assert Genesis.decode(genesis.encode()) == genesis


@given(st.binary(max_size=60))
def test_fuzz_bytes(raw: bytes) -> None:
    assert_genesis_or_invalid(raw)


@given(st.integers(0, len(EXAMPLE)), st.binary(max_size=3), st.integers(0, 3))
def test_fuzz_mutated(at: int, patch: bytes, cut: int) -> None:
    assert_genesis_or_invalid(EXAMPLE[:at] + patch + EXAMPLE[at + cut :])


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**260) | st.text(max_size=45),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=45), inner),
    max_leaves=5,
)


@given(st.sampled_from(Genesis.names()), values)
def test_fuzz_values(name: str, value: Any) -> None:
    assert_genesis_or_invalid(written(**{name: value}))


@given(
    st.dictionaries(st.binary(min_size=20, max_size=20), st.integers(0, 2**125), max_size=5),
    st.integers(0, 2**53 - 1),
    st.lists(st.integers(1, 2**200), min_size=1, max_size=3, unique=True),
)
def test_any_network_comes_back(
    balances: dict[bytes, int], time_ms: int, secrets: list[int]
) -> None:
    genesis = Genesis.checked(
        {
            "chain_id": 7,
            "time_ms": time_ms,
            "delegates": [delegate(number, name=f"n{i}") for i, number in enumerate(secrets)],
            "delegates_active": len(secrets),
            "balances": balances,
        }
    )
    again = Genesis.decode(genesis.encode())
    assert again == genesis
    assert again.encode() == genesis.encode()
    assert again.supply() == sum(balances.values()) + STAKE * len(secrets)
