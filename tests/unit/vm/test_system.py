"""Calls of system contracts: their view, their gas, and that a failure leaves no trace."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import decode as abi_decode

from dipnet.ledger.state import Journal
from dipnet.ledger.tx import Tx, decode, sign_tx
from dipnet.primitives.crypto import address, public_key
from dipnet.primitives.errors import Invalid
from dipnet.vm import system
from dipnet.vm.receipt import Log, Receipt
from dipnet.vm.system import Call, OutOfGas, Revert, System, error_data
from dipnet.vm.transaction import Env, apply_tx, call
from tests.fixtures.memory import Memory

SECRET = b"\x01" * 32
SENDER = address(public_key(SECRET))
CONTRACT, POT, PROPOSER = b"\x0d" * 20, b"\x44" * 20, b"\x33" * 20
SLOT = bytes(32)
ETHER = 10**18
BASE_FEE, TIP = 7, 2
ENV = Env(2018, 1, 1, PROPOSER, BASE_FEE, 10**8, 1, POT)
SIGNED = decode(
    sign_tx(SECRET, chain_id=2018, nonce=0, gas=100_000, max_fee=10, max_priority_fee=TIP,
            to=CONTRACT),
    2018,
)  # fmt: skip


def journal() -> Journal:
    made = Journal(Memory())
    made.add_balance(SENDER, ETHER)
    made.set_code(CONTRACT, b"\xfe")
    return made


def table(run: Callable[[Call], bytes]) -> System:
    return {CONTRACT: run}


def make(**fields: Any) -> Tx:
    return replace(SIGNED, **fields)


def spend(gas: int) -> Callable[[Call], bytes]:
    def run(call: Call) -> bytes:
        call.sstore(SLOT, 5)
        call.transfer(POT, call.value)
        call.log((SLOT,), b"x")
        call.charge(gas)
        return b"done"

    return run


BUSY_GAS = (
    system.COLD_GAS + system.SET_GAS + system.TRANSFER_GAS + system.LOG_GAS
    + system.LOG_TOPIC_GAS + system.LOG_BYTE_GAS
)  # fmt: skip


def test_a_call_pays_and_leaves_its_logs() -> None:
    state = journal()
    receipt = apply_tx(state, ENV, make(value=9), 1_000, table(spend(100)))
    gas = 21_000 + BUSY_GAS + 100
    assert receipt == Receipt(2, 1, 1_000 + gas, gas, (Log(CONTRACT, (SLOT,), b"x"),))
    assert state.slot(CONTRACT, SLOT) == 5
    assert state.balance(POT) == 9 + gas * TIP
    assert state.balance(PROPOSER) == 0
    assert state.balance(SENDER) == ETHER - 9 - gas * (BASE_FEE + TIP)


@pytest.mark.parametrize(
    ("failure", "gas_used"),
    [(Revert(b"no"), 21_000 + BUSY_GAS), (OutOfGas(), 100_000)],
    ids=["revert", "out of gas"],
)
def test_a_failure_costs_gas_and_nothing_else(failure: Exception, gas_used: int) -> None:
    def run(call: Call) -> bytes:
        spend(0)(call)
        raise failure

    state = journal()
    receipt = apply_tx(state, ENV, make(value=9), 0, table(run))
    assert receipt == Receipt(2, 0, gas_used, gas_used, ())
    assert state.slot(CONTRACT, SLOT) == 0
    assert state.nonce(SENDER) == 1
    assert state.balance(CONTRACT) == 0
    assert state.balance(SENDER) == ETHER - gas_used * (BASE_FEE + TIP)


def test_gas_is_charged_before_the_work() -> None:
    seen: list[int] = []

    def run(call: Call) -> bytes:
        call.charge(call.gas - system.COLD_GAS)
        call.sload(SLOT)
        seen.append(call.gas)
        call.sload(SLOT)  # warm, but no gas is left
        seen.append(-1)
        return b""

    assert apply_tx(journal(), ENV, make(), 0, table(run)).gas_used == 100_000
    assert seen == [0]


@pytest.mark.parametrize(
    ("before", "after", "gas"),
    [
        (0, 1, system.COLD_GAS + system.SET_GAS),
        (1, 2, system.COLD_GAS + system.RESET_GAS),
        (1, 0, system.COLD_GAS + system.RESET_GAS),
        (3, 3, system.COLD_GAS + system.WARM_GAS),
    ],
)
def test_the_price_of_a_word(before: int, after: int, gas: int) -> None:
    state = journal()
    state.set_slot(CONTRACT, SLOT, before)
    call = Call(state, CONTRACT, SENDER, 0, b"", 30_000)
    call.sstore(SLOT, after)
    assert (call.gas, call.sload(SLOT)) == (30_000 - gas, after)
    assert call.gas == 30_000 - gas - system.WARM_GAS


def test_a_call_for_its_answer_alone() -> None:
    state = journal()
    outcome = call(state, ENV, SENDER, CONTRACT, 4, b"in", 50_000, table(spend(1)))
    assert (outcome.ok, outcome.output, outcome.gas_used) == (True, b"done", BUSY_GAS + 1)
    plain = call(state, ENV, SENDER, POT, 4, b"in", 50_000, table(spend(1)))
    assert (plain.ok, plain.output, plain.gas_used, plain.logs) == (True, b"", 0, ())
    with pytest.raises(Invalid, match="insufficient funds"):
        call(state, ENV, SENDER, CONTRACT, 2 * ETHER, b"", 0, {})


def test_burning_takes_wei_out_of_the_world() -> None:
    def run(call: Call) -> bytes:
        call.burn(call.value)
        return b""

    state = journal()
    assert call(state, ENV, SENDER, CONTRACT, 5, b"", 10**5, table(run)).ok
    assert state.balance(CONTRACT) == 0
    assert state.balance(SENDER) == ETHER - 5


def test_what_a_contract_is_told() -> None:
    seen: list[tuple[Any, ...]] = []

    def run(call: Call) -> bytes:
        seen.append((call.address, call.caller, call.value, call.input, call.gas))
        return b""

    apply_tx(journal(), ENV, make(value=3, data=b"\1\2"), 0, table(run))
    assert seen == [(CONTRACT, SENDER, 3, b"\1\2", 100_000 - 21_000 - 32)]


def test_bytes_of_calls_pay_the_floor() -> None:  # EIP-7623
    receipt = apply_tx(journal(), ENV, make(data=b"\1" * 1_000), 0, table(lambda call: b""))
    assert receipt.gas_used == 21_000 + 40 * 1_000


@pytest.mark.parametrize("text", ["", "dpos_stake: no", "x" * 32, "é" * 40])
def test_reasons_are_those_of_solidity(text: str) -> None:
    data = error_data(text)
    assert data[:4].hex() == "08c379a0"
    assert abi_decode(["string"], data[4:]) == (text,)
