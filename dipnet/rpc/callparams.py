"""The call object of ``eth_call`` and ``eth_estimateGas``, read from JSON as go-ethereum does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dipnet.primitives.errors import Invalid
from dipnet.rpc.method import ParameterKind
from dipnet.rpc.params import members_of, read_data, read_quantity, sized

ACCESS_LIST_ITEMS_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A call to run: addresses of 20 bytes, wei, gas.

    Prices, gas and nonce are None if the caller left them out; ``to`` is empty for a creation.
    """

    sender: bytes
    to: bytes
    gas: int | None
    max_fee: int | None
    max_priority_fee: int | None
    value: int
    data: bytes
    nonce: int | None
    access_list: tuple[tuple[bytes, tuple[bytes, ...]], ...]


def _access_list(value: object) -> tuple[tuple[bytes, tuple[bytes, ...]], ...]:
    if not isinstance(value, list) or len(value) > ACCESS_LIST_ITEMS_MAX:
        raise Invalid("params", f"want an array of at most {ACCESS_LIST_ITEMS_MAX} entries")
    entries = []
    for item in value:
        members = members_of(item, ("address", "storageKeys"))
        keys = members.get("storageKeys")
        if not isinstance(keys, list):
            raise Invalid("params", "want storageKeys in every entry")
        entry = (read_data(members.get("address"), 20), tuple(read_data(key, 32) for key in keys))
        entries.append(entry)
    return tuple(entries)


def _wei(value: object) -> int:
    return read_quantity(value, 256)


_CALL_MEMBERS: Final[dict[str, Callable[[object], object]]] = {
    "from": sized(20),
    "to": sized(20),
    "gas": read_quantity,
    "gasPrice": _wei,
    "maxFeePerGas": _wei,
    "maxPriorityFeePerGas": _wei,
    "value": _wei,
    "data": read_data,
    "input": read_data,
    "nonce": read_quantity,
    "accessList": _access_list,
    "chainId": _wei,
    "type": read_quantity,
}


def _call(value: object) -> CallRequest:
    got: dict[str, object] = {}
    for name, member in members_of(value, _CALL_MEMBERS).items():
        if member is None:
            continue
        try:
            got[name] = _CALL_MEMBERS[name](member)
        except Invalid as error:
            raise Invalid("params", f"{name}: {error.detail}") from None
    if got.get("data", got.get("input")) != got.get("input", got.get("data")):
        raise Invalid("params", 'both "data" and "input" are set and not equal; use "input"')
    if "gasPrice" in got and ("maxFeePerGas" in got or "maxPriorityFeePerGas" in got):
        raise Invalid("params", "both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) given")

    def integer(name: str) -> int | None:
        number = got.get(name)
        return number if isinstance(number, int) else None

    def octets(*names: str) -> bytes:
        return next((v for n in names if isinstance(v := got.get(n), bytes)), b"")

    listed = got.get("accessList")
    return CallRequest(
        sender=octets("from") or bytes(20),  # as go-ethereum: the zero address by default
        to=octets("to"),
        gas=integer("gas"),
        max_fee=integer("gasPrice" if "gasPrice" in got else "maxFeePerGas"),
        max_priority_fee=integer("gasPrice" if "gasPrice" in got else "maxPriorityFeePerGas"),
        value=integer("value") or 0,
        data=octets("input", "data"),
        nonce=integer("nonce"),
        access_list=listed if isinstance(listed, tuple) else (),
    )


CALL: Final = ParameterKind(
    "CALL",
    "object of from, to, gas, gasPrice or maxFeePerGas and maxPriorityFeePerGas, value, input "
    "(or data), nonce, accessList, all optional",
    _call,
)
