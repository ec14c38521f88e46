"""Receipts and logs as Ethereum writes them, with their bloom filters (Yellow Paper 4.4.1, 4.4.3).

A receipt's bytes hold the cumulative gas, not the gas of its transaction: ``Receipt.decode`` takes
the sum before it as an argument.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dipnet.primitives.codec import Rlp, RlpInput, rlp_decode, rlp_encode
from dipnet.primitives.crypto import keccak256
from dipnet.primitives.errors import Invalid

BLOOM_BYTES: Final = 256
_BLOOM_BITS: Final = 8 * BLOOM_BYTES - 1


@dataclass(frozen=True, slots=True)
class Log:
    """An event: address 20 bytes, up to four topics of 32 bytes, data."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """The outcome of a transaction. ``status`` 1: done, 0: failed and paid for. # EIP-658"""

    type: int
    status: int
    cumulative_gas: int
    gas_used: int
    logs: tuple[Log, ...]

    def encode(self) -> bytes:
        """The typed envelope that is in the receipt trie. # EIP-2718"""
        logs: RlpInput = [[log.address, log.topics, log.data] for log in self.logs]
        body = rlp_encode([self.status, self.cumulative_gas, bloom(self.logs), logs])
        return bytes((self.type,)) + body if self.type else body

    @staticmethod
    def decode(raw: bytes, gas_before: int) -> "Receipt":
        """The receipt in ``raw`` of the transaction before which ``gas_before`` was used.

        Raises ``Invalid`` unless ``raw`` is what ``encode`` gives. The caller bounds ``len(raw)``.
        """
        kind = raw[0] if raw[:1] < b"\x80" and raw else 0
        fields = rlp_decode(raw[1:] if kind else raw)
        if not isinstance(fields, list) or len(fields) != 4:
            raise Invalid("rlp", "a receipt is a list of four")
        status, gas, _, logs = fields
        if not isinstance(logs, list):
            raise Invalid("rlp", "receipt: expected a list of logs")
        total = _uint(gas)
        receipt = Receipt(
            kind, _uint(status), total, total - gas_before, tuple([_log(log) for log in logs])
        )
        if receipt.gas_used < 0 or receipt.status > 1 or receipt.encode() != raw:
            raise Invalid("rlp", "not the encoding of a receipt")
        return receipt


def _uint(field: Rlp) -> int:
    if not isinstance(field, bytes) or len(field) > 8:
        raise Invalid("rlp", "receipt: expected an integer of 64 bits")
    return int.from_bytes(field, "big")


def _log(field: Rlp) -> Log:
    if not isinstance(field, list) or len(field) != 3:
        raise Invalid("rlp", "a log is a list of three")
    address, topics, data = field
    if not isinstance(address, bytes) or len(address) != 20 or not isinstance(data, bytes):
        raise Invalid("rlp", "log: expected an address of 20 bytes and data")
    if not isinstance(topics, list) or len(topics) > 4:
        raise Invalid("rlp", "log: expected up to four topics")
    words = tuple([topic for topic in topics if isinstance(topic, bytes) and len(topic) == 32])
    if len(words) != len(topics):
        raise Invalid("rlp", "log: expected topics of 32 bytes")
    return Log(address, words, data)


def bloom(logs: Iterable[Log]) -> bytes:
    """The 2048-bit filter of the addresses and topics of ``logs``, 256 bytes."""
    bits = 0
    for log in logs:
        for entry in (log.address, *log.topics):
            digest = keccak256(entry)
            for at in (0, 2, 4):  # three times the low 11 bits of two bytes
                bits |= 1 << (int.from_bytes(digest[at : at + 2], "big") & _BLOOM_BITS)
    return bits.to_bytes(BLOOM_BYTES, "big")
