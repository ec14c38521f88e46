"""Running the transactions of a block over the state of its parent.

One class for own and foreign blocks: the producer adds what it picks and leaves out what is
refused, the validator adds what the block says and refuses the block.
"""

from dataclasses import dataclass
from typing import Any

from dipnet.codec import Puts, Reader
from dipnet.consensus.block import ordered_root
from dipnet.consensus.schedule import slot_start_ms
from dipnet.genesis import Genesis
from dipnet.state import Journal
from dipnet.tx import Tx
from dipnet.vm.receipt import Receipt, bloom
from dipnet.vm.transaction import Env, apply_tx


@dataclass(frozen=True, slots=True)
class Executed:
    """What a body does: the header's fields that commit to it, receipts' bytes, state records."""

    fields: dict[str, Any]
    receipts: list[bytes]
    puts: Puts


class Execution:
    """A body while it is being run."""

    def __init__(
        self,
        genesis: Genesis,
        state: Reader,
        state_root: bytes,
        height: int,
        slot: int,
        proposer: bytes,
        base_fee: int,
    ) -> None:
        """``state`` is the parent's and has ``state_root``, else ``finish`` raises ``Corrupt``."""
        self._journal = Journal(state, state_root)
        self._reward = genesis.block_reward
        self._env = Env(
            genesis.chain_id, height, slot_start_ms(genesis, slot) // 1000, proposer, base_fee,
            genesis.gas_limit, slot, proposer,
        )  # fmt: skip
        self._receipts: list[Receipt] = []
        self.gas_used = 0

    @property
    def gas_left(self) -> int:
        """Gas (units) that the block still has for transactions."""
        return self._env.gas_limit - self.gas_used

    def add(self, tx: Tx) -> None:
        """Run ``tx``. On ``Invalid`` the state is as if it had never been tried."""
        receipt = apply_tx(self._journal, self._env, tx, self.gas_used, {})
        self.gas_used = receipt.cumulative_gas
        self._receipts.append(receipt)

    def finish(self) -> Executed:
        """Mint the block reward for the proposer (DESIGN 5: fees and reward are his), and commit.

        The base fee was burned and the tips were paid by ``apply_tx``.
        """
        if self._reward:
            self._journal.add_balance(self._env.proposer, self._reward)
        state_root, puts = self._journal.commit()
        receipts = [receipt.encode() for receipt in self._receipts]
        logs = [log for receipt in self._receipts for log in receipt.logs]
        fields: dict[str, Any] = {
            "state_root": state_root,
            "receipt_root": ordered_root(receipts),
            "logs_bloom": bloom(logs),
            "gas_used": self.gas_used,
        }
        return Executed(fields, receipts, puts)
