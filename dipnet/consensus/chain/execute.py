"""Running the transactions of a block over the state of its parent.

One class for own and foreign blocks: the producer adds what it picks and leaves out what is
refused, the validator adds what the block says and refuses the block.
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
"""What the addresses of system contracts begin with."""


@dataclass(frozen=True, slots=True)
class Executed:
    """What a body does: the header's fields that commit to it, receipts' bytes, state records.

    ``elected`` is there when the block is a boundary.
    """

    fields: dict[str, Any]
    receipts: list[bytes]
    puts: Puts
    elected: Elected | None


class Execution:
    """A body while it is being run."""

    def __init__(
        self,
        context: BlockContext,
        state: Reader,
        state_root: bytes,
        base_fee: int,
        system_only: bool,
    ) -> None:
        """``state`` is the parent's and has ``state_root``, else ``finish`` raises ``Corrupt``."""
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
        """Run ``tx``. On ``Invalid`` the state is as if it had never been tried."""
        if self._system_only and not tx.to.startswith(SYSTEM_PREFIX):
            raise Invalid("unfinal")
        free = reports.is_free(tx)
        env = replace(self._env, base_fee=0) if free else self._env
        mark = self._journal.snapshot()
        receipt = apply_tx(self._journal, env, tx, self.gas_used, self._system)
        if free and not receipt.status:  # else it would be a way to fill blocks for nothing
            self._journal.rollback(mark)
            raise Invalid("report" if receipt.gas_used < tx.gas else "report_gas")
        self.gas_used = receipt.cumulative_gas
        self._tips += receipt.gas_used * tx.effective_tip(env.base_fee)
        self._receipts.append(receipt)

    def finish(self, missed: tuple[bytes, ...], commitment: bytes, boundary: bool) -> Executed:
        """End the block: the reward is minted, a boundary elects; then commit.

        ``missed`` are the leaders of the slots since the parent, ``commitment`` is the header's to
        the proposer's next secret. The base fee was burned and the tips were paid by ``apply_tx``.
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
