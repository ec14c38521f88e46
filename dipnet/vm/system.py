"""System contracts: an address, a function, and the call through which it sees the chain.

docs/spec/bytes.md "System contracts". A contract is a function from ``Call`` to the bytes that it
returns; it fails with ``Revert`` or ``OutOfGas`` alone. The epoch and the parameters
are bound to it when the table of contracts is made. Through the call it reads and writes its own
storage and balance. Each access is charged before it happens, so that gas bounds the time. A call
that fails changes nothing: ``transaction.call`` rolls the journal back.

The prices are those of the EVM (EIP-2929, EIP-2200) without refunds: a word that was looked at in
this call is warm.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from dipnet.ledger.state import Journal
from dipnet.vm.receipt import Log

WARM_GAS: Final = 100
COLD_GAS: Final = 2_100
SET_GAS: Final = 20_000  # zero becomes something
RESET_GAS: Final = 2_900
TRANSFER_GAS: Final = 9_000
LOG_GAS: Final = 375
LOG_TOPIC_GAS: Final = 375
LOG_BYTE_GAS: Final = 8
ERROR_SELECTOR: Final = bytes.fromhex("08c379a0")  # Error(string)
_WORD: Final = 32


class Revert(Exception):
    """The contract refuses; ``data`` is for the caller, nothing else has happened."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data.hex())
        self.data = data


class OutOfGas(Exception):
    """The next step costs more gas than is left."""


class Call:
    """A call of the contract at ``address`` by ``caller`` with ``value`` wei and ``input``.

    The value is on the contract's balance already. ``gas`` is the gas that is left.
    """

    __slots__ = ("_journal", "_warm", "address", "caller", "gas", "input", "logs", "value")

    def __init__(
        self, journal: Journal, address: bytes, caller: bytes, value: int, input: bytes, gas: int
    ) -> None:
        self._journal = journal
        self._warm: set[bytes] = set()
        self.address = address
        self.caller = caller
        self.value = value
        self.input = input
        self.gas = gas
        self.logs: list[Log] = []

    def charge(self, gas: int) -> None:
        """Charges gas for the next step; ``OutOfGas``."""
        if gas > self.gas:
            raise OutOfGas
        self.gas -= gas

    def sload(self, slot: bytes) -> int:
        """The word in a slot (32 bytes) of the contract's storage."""
        self._touch(slot, WARM_GAS)
        return self._journal.slot(self.address, slot)

    def sstore(self, slot: bytes, value: int) -> None:
        """Replaces the word, 0 to 2^256 - 1."""
        self._touch(slot, 0)
        before = self._journal.slot(self.address, slot)
        if before == value:
            self.charge(WARM_GAS)
            return
        self.charge(RESET_GAS if before else SET_GAS)
        self._journal.set_slot(self.address, slot, value)

    def transfer(self, to: bytes, amount: int) -> None:
        """Pays wei of the contract's balance, which holds them, to an account."""
        self.charge(TRANSFER_GAS)
        self._journal.sub_balance(self.address, amount)
        self._journal.add_balance(to, amount)

    def burn(self, amount: int) -> None:
        """Takes wei of the contract's balance, which holds them, out of the world."""
        self.charge(TRANSFER_GAS)
        self._journal.sub_balance(self.address, amount)

    def log(self, topics: tuple[bytes, ...], data: bytes) -> None:
        """Leaves an event in the receipt: up to four topics of 32 bytes."""
        self.charge(LOG_GAS + LOG_TOPIC_GAS * len(topics) + LOG_BYTE_GAS * len(data))
        self.logs.append(Log(self.address, topics, data))

    def _touch(self, slot: bytes, warm_gas: int) -> None:
        if slot in self._warm:
            self.charge(warm_gas)
        else:
            self.charge(COLD_GAS)
            self._warm.add(slot)


System: TypeAlias = Mapping[bytes, Callable[[Call], bytes]]
"""The system contracts of a block by address (20 bytes)."""


def error_data(reason: str) -> bytes:
    """The output of Solidity's ``revert(reason)``: ``Error(string)``."""
    text = reason.encode()
    padded = text + bytes(-len(text) % _WORD)
    words = (_WORD, len(text))
    return ERROR_SELECTOR + b"".join(word.to_bytes(_WORD, "big") for word in words) + padded
