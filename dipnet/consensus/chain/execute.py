"""The execution of a block's transactions on the state of its parent.

Producer and judges of a block use the same class. Where a transaction is refused, the producer
leaves it out, a judge refuses the block.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

from dipnet.consensus.chain import reports
from dipnet.consensus.chain.block import ordered_root
from dipnet.consensus.chain.schedule import slot_start_ms
from dipnet.consensus.staking import idpos
from dipnet.consensus.staking.idpos import BlockContext, Elected
from dipnet.ledger.state import Journal
from dipnet.ledger.tx import Tx
from dipnet.primitives.codec import Puts, Reader
from dipnet.primitives.errors import Invalid
from dipnet.vm.receipt import Receipt, bloom
from dipnet.vm.transaction import Env, apply_tx

SYSTEM_PREFIX: Final = bytes(18) + b"\x0d"
"""The first 19 bytes of the addresses of system contracts."""


@dataclass(frozen=True, slots=True)
class Executed:
    """The results of a body: ``fields`` of the header by name, encoded receipts, state records.

    ``elected`` is None unless the block is a boundary.
    """

    fields: dict[str, Any]
    receipts: list[bytes]
    puts: Puts
    elected: Elected | None


class Execution:
    """The execution of one body, transaction by transaction."""

    def __init__(
        self,
        context: BlockContext,
        state: Reader,
        state_root: bytes,
        base_fee: int,
        system_only: bool,
    ) -> None:
        """``state`` is that of the parent; ``finish`` raises ``Corrupt`` unless it has
        ``state_root``. ``base_fee`` is wei for a unit of gas."""
        self._journal = Journal(state, state_root)
        self._context = context
        self._system_only = system_only
        in_force = context.parameters
        self._env = Env(
            in_force.chain_id, context.height, slot_start_ms(in_force, context.slot) // 1000,
            context.proposer, base_fee, in_force.gas_limit, context.slot, idpos.DPOS_ADDRESS,
        )  # fmt: skip
        self._system = idpos.system(context)
        self._receipts: list[Receipt] = []
        self._tips = 0
        self.gas_used = 0

    @property
    def gas_left(self) -> int:
        """Gas (units) that the block still has for transactions."""
        return self._env.gas_limit - self.gas_used

    def add(self, tx: Tx) -> None:
        """Run ``tx``. Where it raises ``Invalid``, the state is as before."""
        if self._system_only and not tx.to.startswith(SYSTEM_PREFIX):
            raise Invalid("unfinal")
        free = reports.is_free(tx)
        env = replace(self._env, base_fee=0) if free else self._env
        mark = self._journal.snapshot()
        receipt = apply_tx(self._journal, env, tx, self.gas_used, self._system)
        if free and not receipt.status:  # else blocks could be filled for no fee
            self._journal.rollback(mark)
            raise Invalid("report" if receipt.gas_used < tx.gas else "report_gas")
        self.gas_used = receipt.cumulative_gas
        self._tips += receipt.gas_used * tx.effective_tip(env.base_fee)
        self._receipts.append(receipt)

    def finish(self, missed: tuple[bytes, ...], commitment: bytes, boundary: bool) -> Executed:
        """End the block: mint the reward, elect where it is a boundary, commit the state.

        ``missed`` are the leaders (addresses) of the empty slots since the parent, ``commitment``
        (32 bytes) is that of the header to the proposer's next secret. ``apply_tx`` has burned the
        base fee and paid the tips.
        """
        idpos.end_block(self._journal, self._context, self._tips, missed, commitment)
        elected = idpos.at_boundary(self._journal, self._context) if boundary else None
        state_root, puts = self._journal.commit()
        receipts = [receipt.encode() for receipt in self._receipts]
        logs = [log for receipt in self._receipts for log in receipt.logs]
        fields: dict[str, Any] = {
            "state_root": state_root,
            "receipt_root": ordered_root(receipts),
            "logs_bloom": bloom(logs),
            "gas_used": self.gas_used,
        }
        return Executed(fields, receipts, puts, elected)
