"""``eth_call`` and ``eth_estimateGas``: a call run on a state that is then thrown away.

A call runs as it would in the child of the named block, in the slot after it (ADR 91). System
contracts answer; any other address returns nothing, because there is no EVM yet.
"""

from dataclasses import dataclass
from typing import Final

from dipnet.consensus.chain.schedule import slot_start_ms
from dipnet.consensus.finality.header import Header
from dipnet.consensus.staking import idpos
from dipnet.consensus.staking.idpos import BlockContext
from dipnet.ledger.state import Journal
from dipnet.ledger.tx import DYNAMIC_FEE, Tx
from dipnet.primitives.codec import to_hex
from dipnet.primitives.errors import Invalid
from dipnet.rpc import lookup
from dipnet.rpc.backend import Backend
from dipnet.rpc.block_json import quantity
from dipnet.rpc.callparams import CALL, CallRequest
from dipnet.rpc.gas import base_fee_after
from dipnet.rpc.method import Param, Reverted, RpcMethod
from dipnet.rpc.params import BLOCK, BlockRef
from dipnet.vm.system import ERROR_SELECTOR, System
from dipnet.vm.transaction import TX_GAS_MAX, Env, Outcome, call, floor_gas, intrinsic_gas

REASON_BYTES_MAX: Final = 256
NOBODY: Final = bytes(20)
SPARE_SHARE: Final = 8  # an estimate adds 1/SPARE_SHARE: the state changes until the block


@dataclass(frozen=True, slots=True)
class Trial:
    """A call and the state, environment and contracts that it runs on; ``header`` is its parent."""

    header: Header
    journal: Journal
    env: Env
    system: System
    tx: Tx

    def run(self, gas: int) -> Outcome:
        """Run the call with ``gas`` after intrinsic gas, and roll the state back."""
        mark, tx = self.journal.snapshot(), self.tx
        outcome = call(
            self.journal, self.env, tx.sender, tx.to, tx.value, tx.data, gas, self.system
        )
        self.journal.rollback(mark)
        return outcome


def context(backend: Backend, header: Header) -> BlockContext:
    """The context of a child of ``header`` in the next slot, with the zero address as proposer."""
    epoch = backend.chain.epoch_at(header)
    return BlockContext(
        epoch.parameters, epoch.number, header.slot + 1, header.height + 1, NOBODY, epoch.members
    )


def _trial(backend: Backend, request: CallRequest, ref: BlockRef) -> Trial:
    if not request.to:
        raise Invalid("no_vm")
    header, state = lookup.state(backend, ref)
    place = context(backend, header)
    parameters = place.parameters
    env = Env(
        parameters.chain_id, place.height, slot_start_ms(parameters, place.slot) // 1000, NOBODY,
        base_fee_after(backend, header), parameters.gas_limit, place.slot, idpos.DPOS_ADDRESS,
    )  # fmt: skip
    return Trial(header, Journal(state), env, idpos.system(place), _as_tx(request))


def _as_tx(request: CallRequest) -> Tx:
    """The request as a transaction, with every field that its gas depends on."""
    return Tx(
        raw=b"", hash=b"", type=DYNAMIC_FEE, chain_id=None, nonce=request.nonce or 0,
        max_priority_fee=request.max_priority_fee or 0, max_fee=request.max_fee or 0, gas=0,
        to=request.to, value=request.value, data=request.data, access_list=request.access_list,
        v=0, r=0, s=0, sender=request.sender,
    )  # fmt: skip


def reason_of(output: bytes) -> str:
    """The text of ``Error(string)``, cut to ``REASON_BYTES_MAX``; empty for other outputs."""
    if not output.startswith(ERROR_SELECTOR) or len(output) < 4 + 64:
        return ""
    size = min(int.from_bytes(output[36:68], "big"), REASON_BYTES_MAX)
    text = output[68 : 68 + size].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _check_price(trial: Trial) -> None:
    """Refuse a given price that does not fit, with go-ethereum's errors."""
    tx, base_fee = trial.tx, trial.header.base_fee
    if tx.max_fee and tx.max_priority_fee > tx.max_fee:
        raise Invalid("tip_above_cap", f"tip {tx.max_priority_fee}, cap {tx.max_fee}")
    if tx.max_fee and tx.max_fee < base_fee:
        raise Invalid("fee_cap_low", f"maxFeePerGas {tx.max_fee}, baseFee {base_fee}")


def _done(outcome: Outcome, gas: int) -> Outcome:
    """The outcome if it succeeded; raises ``Invalid("out_of_gas")`` or ``Reverted``."""
    if outcome.ok:
        return outcome
    if outcome.gas_used == gas and not outcome.output:
        raise Invalid("out_of_gas", f"{gas} to run on")
    raise Reverted(outcome.output, reason_of(outcome.output))


def eth_call(backend: Backend, request: CallRequest, ref: BlockRef) -> str:
    trial = _trial(backend, request, ref)
    _check_price(trial)
    intrinsic = intrinsic_gas(trial.tx)
    gas = min(request.gas or TX_GAS_MAX, TX_GAS_MAX) - intrinsic
    if gas < 0:
        raise Invalid("intrinsic_gas", f"gas {gas + intrinsic}, minimum needed {intrinsic}")
    return to_hex(_done(trial.run(gas), gas).output)


def estimate_gas(backend: Backend, request: CallRequest, ref: BlockRef) -> str:
    """Gas that the transaction needs, a quantity; raises go-ethereum's errors if it cannot run."""
    trial = _trial(backend, request, ref)
    _check_price(trial)
    tx = trial.tx
    allowance = min(trial.header.gas_limit, TX_GAS_MAX, request.gas or TX_GAS_MAX)
    balance = trial.journal.balance(tx.sender)
    if balance < tx.value:
        raise Invalid("funds", f"balance {balance}, tx cost {tx.value}")
    if tx.max_fee:
        allowance = min(allowance, (balance - tx.value) // tx.max_fee)
    intrinsic, floor = intrinsic_gas(tx), floor_gas(tx)
    least = max(intrinsic, floor)
    if least > allowance:
        raise Invalid("allowance", f"{allowance}, of {least} needed")
    outcome = trial.run(allowance - intrinsic)
    if not outcome.ok and not outcome.output and outcome.gas_used == allowance - intrinsic:
        raise Invalid("allowance", f"{allowance} is used up")
    # Gas is charged before the work and never refunded, so the gas used is the gas needed.
    used = _done(outcome, allowance - intrinsic).gas_used
    return quantity(min(allowance, max(intrinsic + used + used // SPARE_SHARE, floor)))


_AT: Final = Param("block", BLOCK, "latest")

METHODS: Final = (
    RpcMethod(
        "eth_call",
        (Param("call", CALL), _AT),
        eth_call,
        "bytes",
        "The output of a call in the child of the block. System contracts (`0x...0d02`, see "
        "docs/staking.md) answer; any other address returns nothing. If the contract reverts, the "
        "error has the number 3, its text has the reason, and its `data` is the contract's "
        "output.",
        ("reverted", "out_of_gas", "intrinsic_gas", "funds", "fee_cap_low", "tip_above_cap",
         "no_vm", "not_found", "not_canonical", "no_state"),
    ),
    RpcMethod(
        "eth_estimateGas",
        (Param("transaction", CALL), _AT),
        estimate_gas,
        "quantity",
        "Gas that a transaction needs. Gas used in a system contract gets an eighth added, "
        "because the state changes before the transaction is in a block.",
        ("reverted", "no_vm", "funds", "fee_cap_low", "tip_above_cap", "allowance", "not_found",
         "not_canonical", "no_state"),
    ),
)  # fmt: skip
