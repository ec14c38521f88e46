"""The ABI of a system contract: methods and events by their Solidity declarations.

Call data is canonical: what decodes is encoded again and compared, so that what a method takes does
not depend on how forgiving a decoder is. Bytes, addresses among them, are ``bytes``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError

from dipnet.crypto import keccak256
from dipnet.errors import Invalid

SELECTOR_BYTES: Final = 4
INPUT_BYTES_MAX: Final = 2_048  # the longest: 32 delegates, or a name, a URL, a key, a signature


def _types(declared: str) -> tuple[str, ...]:
    """The types in ``"uint256 amount, address[] delegates"``."""
    return tuple(part.split()[0] for part in declared.split(",") if part.strip())


def _plain(value: Any) -> Any:
    """What eth-abi decodes, with addresses as bytes and arrays as tuples."""
    if isinstance(value, tuple):
        return tuple(_address(one) for one in value)
    return value


def _address(text: str) -> bytes:
    return bytes.fromhex(text[2:])


@dataclass(frozen=True, slots=True)
class Method:
    """One function: ``takes`` and ``gives`` as Solidity declares them.

    ``gas`` names the parameter of genesis.json that is paid before it runs, for all but its
    storage, transfers and events. ``run`` gets the frame of the call and the arguments, and gives
    the returned values as a tuple.
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
        """What a transaction carries to call it."""
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


def _decoded(types: Sequence[str], data: bytes) -> tuple[Any, ...]:
    try:
        found = decode(types, data)
    except (DecodingError, ValueError, OverflowError):
        raise Invalid("dpos_call", "the arguments do not decode") from None
    if encode(types, found) != data:
        raise Invalid("dpos_call", "the arguments are not encoded as Solidity does")
    return tuple(
        _address(value) if kind == "address" else _plain(value) if kind == "address[]" else value
        for kind, value in zip(types, found, strict=True)
    )


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its indexed arguments, which are words, and the rest."""

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
            one.to_bytes(32, "big") if isinstance(one, int) else one.rjust(32, b"\0")
            for one in values
        ]
        return (self.topic, *words)

    def data(self, *values: Any) -> bytes:
        """Its data."""
        return encode(_types(self.rest), values)

    def values(self, topics: Sequence[bytes], data: bytes) -> dict[str, Any]:
        """The arguments of a log of it by their names; for clients. ``Invalid("dpos_call")``."""
        indexed = _decoded(_types(self.indexed), b"".join(topics[1:]))
        declared = f"{self.indexed},{self.rest}".split(",")
        names = [one.split()[1] for one in declared if one.strip()]
        return dict(zip(names, (*indexed, *_decoded(_types(self.rest), data)), strict=True))
