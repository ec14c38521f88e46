"""What a JSON-RPC method is: a row of a table that dispatch, documentation and tests all read."""

import difflib
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, TypeVar

from dipnet.primitives.errors import Invalid


class NoDefault(Enum):
    """The default of a parameter that must be given."""

    REQUIRED = 0


REQUIRED: Final = NoDefault.REQUIRED


@dataclass(frozen=True, slots=True)
class ParameterKind:
    """A sort of parameter: its name in the documentation, what it accepts, and its reader.

    ``read`` turns a JSON value into ours or raises ``Invalid("params", why)``.
    """

    name: str
    text: str
    read: Callable[[object], object]


@dataclass(frozen=True, slots=True)
class Param:
    """One positional parameter. ``default`` is our value (not JSON) when it is left out."""

    name: str
    kind: ParameterKind
    default: object = REQUIRED


# read: answer(backend, *args). steps: the same as a generator (``Steps``). txs, vertices: the first
# argument is a sequence of bytes to submit, answer(results). session: answer(session, *args), over
# a WebSocket only.
Way = Literal["read", "steps", "txs", "vertices", "session"]

_Result = TypeVar("_Result")
Steps = Generator[None, None, _Result]
"""A read that takes long: the node works where it yields, its return value is the answer."""


class Reverted(Invalid):
    """A contract refused; ``output`` is what it returned, ``reason`` what that says, if anything.

    The answer carries ``output`` as ``data``, which web3.py, ethers and viem decode.
    """

    def __init__(self, output: bytes, reason: str) -> None:
        super().__init__("reverted", reason)
        self.output = output


@dataclass(frozen=True, slots=True)
class RpcMethod:
    """One method; ``errors`` are codes of ``REFUSALS`` beyond "params", which each may give."""

    name: str
    params: tuple[Param, ...]
    answer: Callable[..., object]
    result: str
    text: str
    errors: tuple[str, ...] = ()
    way: Way = "read"

    def arguments(self, params: object) -> list[object]:
        """Read JSON ``params`` (an array, or an object by name) into the values for ``answer``."""
        given = self._in_order(params)
        values: list[object] = []
        for index, param in enumerate(self.params):
            value = given[index] if index < len(given) else REQUIRED
            if value is REQUIRED or (value is None and param.default is not REQUIRED):
                if param.default is REQUIRED:
                    raise Invalid("params", f"missing value for argument {index} ({param.name})")
                values.append(param.default)
                continue
            try:
                values.append(param.kind.read(value))
            except Invalid as error:
                where = f"argument {index} ({param.name}): {error.detail}"
                raise Invalid("params", where) from None
        return values

    def _in_order(self, params: object) -> list[object]:
        if params is None:
            return []
        if isinstance(params, list):
            if len(params) > len(self.params):
                raise Invalid("params", f"too many arguments, want at most {len(self.params)}")
            return params
        if not isinstance(params, dict):
            raise Invalid("params", "want an array, or an object by name")
        names = [param.name for param in self.params]
        for name in params:
            if name not in names:
                near = difflib.get_close_matches(name[:64], names, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise Invalid("params", f"unknown argument {name[:64]!r}{hint}")
        return [params.get(name, REQUIRED) for name in names]


def table(*rooms: Iterable[RpcMethod]) -> dict[str, RpcMethod]:
    """All methods by name; a name given twice is our mistake."""
    methods: dict[str, RpcMethod] = {}
    for room in rooms:
        for method in room:
            assert method.name not in methods, method.name
            methods[method.name] = method
    return methods
