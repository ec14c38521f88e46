"""The ABI of a system contract: methods and events by their Solidity declarations.

Arguments have one canonical encoding, that of Solidity, and ``_decoded`` refuses all others: words
in their places, none to spare. A library that decodes any encoding and encodes it again to compare
takes thirty times as long, more than the price of a method covers (ADR 79). Addresses and bytes are
``bytes``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from eth_abi.abi import encode

from dipnet.ledger.parameters import VOTES_MAX
from dipnet.primitives.crypto import keccak256
from dipnet.primitives.errors import Invalid

SELECTOR_BYTES: Final = 4
WORD_BYTES: Final = 32
INPUT_BYTES_MAX: Final = SELECTOR_BYTES + WORD_BYTES * (2 + VOTES_MAX)
"""The size of the longest call, a vote for ``VOTES_MAX`` delegates. Longer input is not decoded."""


def _types(declared: str) -> tuple[str, ...]:
    """The types in ``"uint256 amount, address[] delegates"``."""
    return tuple(part.split()[0] for part in declared.split(",") if part.strip())


@dataclass(frozen=True, slots=True)
class Method:
    """A function of a contract: ``takes`` and ``gives`` as Solidity declares them.

    ``gas`` names the parameter (``Parameters``) that is charged before it runs; storage, transfers
    and events cost extra. ``run`` takes the frame of the call and the arguments, and returns the
    values as a tuple.
    """

    name: str
    takes: str
    gives: str
    gas: str
    run: Callable[..., tuple[Any, ...]]
    payable: bool = False
    view: bool = False
    inputs: tuple[str, ...] = field(init=False)
    outputs: tuple[str, ...] = field(init=False)
    selector: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", _types(self.takes))
        object.__setattr__(self, "outputs", _types(self.gives))
        text = f"{self.name}({','.join(self.inputs)})"
        object.__setattr__(self, "selector", keccak256(text.encode())[:SELECTOR_BYTES])

    def call_data(self, *arguments: Any) -> bytes:
        """The input of a call: selector and encoded arguments."""
        return self.selector + encode(self.inputs, arguments)

    def arguments(self, data: bytes) -> tuple[Any, ...]:
        """The arguments in call data without the selector; ``Invalid("dpos_call")``."""
        return _decoded(self.inputs, data)

    def returned(self, values: Sequence[Any]) -> bytes:
        """The output of a call."""
        return encode(self.outputs, values)

    def values(self, output: bytes) -> tuple[Any, ...]:
        """The values in an output; for clients."""
        return _decoded(self.outputs, output)


# --- the canonical encoding


def _need(holds: bool) -> None:
    if not holds:
        raise Invalid("dpos_call", "the arguments are not encoded as Solidity does")


def _integer(word: bytes) -> int:
    return int.from_bytes(word, "big")


_STATIC: Final[Mapping[str, tuple[int, Callable[[bytes], Any]]]] = {
    "uint8": (8, _integer),
    "uint16": (16, _integer),
    "uint64": (64, _integer),
    "uint256": (256, _integer),
    "address": (160, lambda word: word[-20:]),
    "bytes32": (256, bytes),
    "bool": (1, any),
}
"""The types of one word: the number of bits that may be set, and the decoder."""


def _word(kind: str, data: bytes, at: int) -> Any:
    bits, read = _STATIC[kind]
    word = data[at : at + WORD_BYTES]
    _need(_integer(word) >> bits == 0)
    return read(word)


def _decoded(types: Sequence[str], data: bytes) -> tuple[Any, ...]:
    """The values that encode to ``data``: a word for each, then the dynamic values in order."""
    end = WORD_BYTES * len(types)
    _need(end <= len(data) and len(data) % WORD_BYTES == 0)
    values = []
    for at, kind in zip(range(0, end, WORD_BYTES), types, strict=True):
        if kind in _STATIC:
            values.append(_word(kind, data, at))
        else:
            _need(_word("uint256", data, at) == end)
            value, end = _dynamic(kind, data, end)
            values.append(value)
    _need(end == len(data))
    return tuple(values)


def _dynamic(kind: str, data: bytes, at: int) -> tuple[Any, int]:
    """An array of words, bytes or text at ``at``, its length first; and where it ends."""
    count, begin = _word("uint256", data, at), at + WORD_BYTES
    item = kind.removesuffix("[]")
    words = count if item != kind else -(-count // WORD_BYTES)
    end = begin + WORD_BYTES * words
    _need(end <= len(data))  # before anything of that length is made
    if item != kind:
        return tuple(_word(item, data, place) for place in range(begin, end, WORD_BYTES)), end
    _need(not any(data[begin + count : end]))
    value = data[begin : begin + count]
    return (_text(value) if kind == "string" else value), end


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Invalid("dpos_call", "a text is not UTF-8") from None


@dataclass(frozen=True, slots=True)
class AbiEvent:
    """An event of a contract: its indexed arguments, which are words, and the rest."""

    name: str
    indexed: str
    rest: str
    topic: bytes = field(init=False)

    def __post_init__(self) -> None:
        text = f"{self.name}({','.join(_types(self.indexed) + _types(self.rest))})"
        object.__setattr__(self, "topic", keccak256(text.encode()))

    def topics(self, *values: bytes | int) -> tuple[bytes, ...]:
        """The topics of a log with these indexed arguments."""
        words = [
            value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0")
            for value in values
        ]
        return (self.topic, *words)

    def data(self, *values: Any) -> bytes:
        """Its data."""
        return encode(_types(self.rest), values)

    def values(self, topics: Sequence[bytes], data: bytes) -> dict[str, Any]:
        """The arguments of a log of it by their names; for clients. ``Invalid("dpos_call")``."""
        indexed = _decoded(_types(self.indexed), b"".join(topics[1:]))
        declared = f"{self.indexed},{self.rest}".split(",")
        names = [argument.split()[1] for argument in declared if argument.strip()]
        return dict(zip(names, (*indexed, *_decoded(_types(self.rest), data)), strict=True))
