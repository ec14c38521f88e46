"""Transactions: their gas, the checks before execution, and execution (rules of Osaka).

``ledger/tx.py`` has already checked form, chain id, sender, the last nonce (EIP-2681) and that the
tip is at most the cap (EIP-1559). Calls of system contracts run (``system.py``). There is no EVM
yet: any other call transfers value only, also where the address has code or is a precompile
(0x01..0x11, 0x0100). A creation is refused.

The checks have the order and texts of go-ethereum's transaction pool, which wallets know. Our pool
uses ``check`` as well.
"""

from dataclasses import dataclass
from typing import Final

from dipnet.ledger.state import EMPTY_CODE_HASH, Journal
from dipnet.ledger.tx import TX_GAS, Tx
from dipnet.primitives.errors import Invalid
from dipnet.vm.receipt import Log, Receipt
from dipnet.vm.system import Call, OutOfGas, Revert, System

CREATION_GAS: Final = 32_000  # EIP-2
TOKEN_GAS: Final = 4  # EIP-2028: a zero byte is one token of data, any other is four
TOKENS_PER_BYTE: Final = 4
FLOOR_TOKEN_GAS: Final = 10  # EIP-7623
ACCESS_ADDRESS_GAS: Final = 2_400  # EIP-2930
ACCESS_SLOT_GAS: Final = 1_900
INITCODE_WORD_GAS: Final = 2  # EIP-3860
INITCODE_BYTES_MAX: Final = 49_152
TX_GAS_MAX: Final = 2**24  # EIP-7825
DELEGATION: Final = b"\xef\x01\x00"  # EIP-7702: the account's code names another's
DELEGATION_BYTES: Final = 23


@dataclass(frozen=True, slots=True)
class Env:
    """The block around a transaction; fees in wei a unit of gas.

    ``proposer`` is the value of COINBASE, ``fees_to`` the account that gets the tips.
    """

    chain_id: int
    height: int
    timestamp_s: int
    proposer: bytes
    base_fee: int
    gas_limit: int
    slot: int
    fees_to: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a call: ``output`` is the returned data or, unless ``ok``, the reason."""

    ok: bool
    output: bytes
    gas_used: int
    logs: tuple[Log, ...]


def _tokens(tx: Tx) -> int:
    zeros = tx.data.count(0)
    return zeros + TOKENS_PER_BYTE * (len(tx.data) - zeros)


def intrinsic_gas(tx: Tx) -> int:
    """Gas that is charged before execution (yellow paper 6.2, EIP-2028, EIP-2930, EIP-3860)."""
    gas = TX_GAS + TOKEN_GAS * _tokens(tx)
    if not tx.to:
        gas += CREATION_GAS + INITCODE_WORD_GAS * ((len(tx.data) + 31) // 32)
    for _, slots in tx.access_list:
        gas += ACCESS_ADDRESS_GAS + ACCESS_SLOT_GAS * len(slots)
    return gas


def floor_gas(tx: Tx) -> int:
    """Gas that is charged at least. # EIP-7623"""
    return TX_GAS + FLOOR_TOKEN_GAS * _tokens(tx)


def check(tx: Tx, env: Env, nonce: int, balance: int) -> None:
    """Raises the ``Invalid`` for which ``tx`` may not run in an empty block of ``env``.

    ``nonce`` and ``balance`` (wei) are the sender's. The pool, which lets nonces wait and knows no
    base fee, gives the transaction's own nonce where it is higher and a base fee of 0.
    """
    if not tx.to and len(tx.data) > INITCODE_BYTES_MAX:
        raise Invalid("initcode", f"code size {len(tx.data)}, limit {INITCODE_BYTES_MAX}")
    if tx.gas > TX_GAS_MAX:
        raise Invalid("gas_cap", f"cap {TX_GAS_MAX}, tx {tx.gas}")
    if tx.gas > env.gas_limit:
        raise Invalid("block_gas", f"tx gas {tx.gas}, block gas limit {env.gas_limit}")
    if tx.max_fee < env.base_fee:
        raise Invalid("fee_cap_low", f"maxFeePerGas {tx.max_fee}, baseFee {env.base_fee}")
    intrinsic, floor = intrinsic_gas(tx), floor_gas(tx)
    if tx.gas < intrinsic:
        raise Invalid("intrinsic_gas", f"gas {tx.gas}, minimum needed {intrinsic}")
    if tx.gas < floor:
        raise Invalid("floor_gas", f"gas {tx.gas}, minimum needed {floor}")
    if tx.nonce < nonce:
        raise Invalid("nonce_low", f"next nonce {nonce}, tx nonce {tx.nonce}")
    if tx.nonce > nonce:
        raise Invalid("nonce_high", f"tx nonce {tx.nonce}, gapped nonce {nonce}")
    cost = tx.gas * tx.max_fee + tx.value
    if balance < cost:
        raise Invalid("funds", f"balance {balance}, tx cost {cost}, overshot {cost - balance}")
    if not tx.to:
        raise Invalid("no_vm")


def apply_tx(journal: Journal, env: Env, tx: Tx, cumulative_gas: int, system: System) -> Receipt:
    """Runs ``tx`` as the next of a block in which ``cumulative_gas`` is used already.

    Raises ``Invalid`` and leaves the journal as it was where the transaction may not stand there.
    The base fee of the gas is burned, the tip goes to ``env.fees_to``. # EIP-1559
    """
    sender = journal.account(tx.sender)
    if sender.code_hash != EMPTY_CODE_HASH and not _is_delegation(journal.code(tx.sender)):
        raise Invalid("sender_code", f"address 0x{tx.sender.hex()}")  # EIP-3607
    check(tx, env, sender.nonce, sender.balance)
    if cumulative_gas + tx.gas > env.gas_limit:
        left = env.gas_limit - cumulative_gas
        raise Invalid("block_gas", f"tx gas {tx.gas}, {left} left in the block")
    price, intrinsic = tx.effective_price(env.base_fee), intrinsic_gas(tx)
    journal.set_nonce(tx.sender, tx.nonce + 1)
    journal.sub_balance(tx.sender, tx.gas * price)
    outcome = call(journal, env, tx.sender, tx.to, tx.value, tx.data, tx.gas - intrinsic, system)
    gas_used = max(intrinsic + outcome.gas_used, floor_gas(tx))
    journal.add_balance(tx.sender, (tx.gas - gas_used) * price)
    journal.add_balance(env.fees_to, gas_used * tx.effective_tip(env.base_fee))
    return Receipt(tx.type, int(outcome.ok), cumulative_gas + gas_used, gas_used, outcome.logs)


def call(
    journal: Journal,
    env: Env,
    caller: bytes,
    to: bytes,
    value: int,
    input: bytes,
    gas: int,
    system: System,
) -> Outcome:
    """Sends ``value`` wei and ``input`` to ``to`` with ``gas`` to run on, the intrinsic gas paid.

    A failure leaves the journal as it was. Raises ``Invalid("funds")`` where the caller lacks the
    value. ``eth_call`` and estimates pass a journal that is thrown away.
    """
    if journal.balance(caller) < value:
        raise Invalid("funds", f"balance {journal.balance(caller)}, value {value}")
    mark = journal.snapshot()
    journal.sub_balance(caller, value)
    journal.add_balance(to, value)
    contract = system.get(to)
    if contract is None:
        return Outcome(True, b"", 0, ())
    running = Call(journal, to, caller, value, input, gas)
    try:
        output = contract(running)
    except Revert as refused:
        journal.rollback(mark)
        return Outcome(False, refused.data, gas - running.gas, ())
    except OutOfGas:
        journal.rollback(mark)
        return Outcome(False, b"", gas, ())
    return Outcome(True, output, gas - running.gas, tuple(running.logs))


def _is_delegation(code: bytes) -> bool:
    return len(code) == DELEGATION_BYTES and code.startswith(DELEGATION)
