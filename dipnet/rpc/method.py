"""``RpcMethod``: one row of the table that dispatch, docs/rpc.md and the tests all read."""

import difflib
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, TypeVar

from dipnet.primitives.errors import Invalid


class NoDefault(Enum):
    """Marks a parameter that has no default: the caller must give it."""

    REQUIRED = 0


REQUIRED: Final = NoDefault.REQUIRED


@dataclass(frozen=True, slots=True)
class ParameterKind:
    """A kind of parameter: its name and text in docs/rpc.md, and its reader.

    ``read`` turns a JSON value into the Python value that ``answer`` takes, or raises
    ``Invalid("params", why)``.
    """

    name: str
    text: str
    read: Callable[[object], object]


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of a method, by position or by name.

    ``default`` is the Python value (not JSON) that ``answer`` gets when the caller leaves it out.
    """

    name: str
    kind: ParameterKind
    default: object = REQUIRED


Way = Literal["read", "steps", "txs", "vertices", "session"]
"""How a method is run.

* ``read``: ``answer(backend, *args)`` returns the result;
* ``steps``: the same, as a generator (``Steps``);
* ``txs``, ``vertices``: the first argument is a sequence of bytes to submit; ``answer(results)``
  makes the result from the results of the submission;
* ``session``: ``answer(session, *args)``, over a WebSocket only.
"""

_Result = TypeVar("_Result")
Steps = Generator[None, None, _Result]
"""A long read: the node does other work at each yield; the return value is the result."""


class Reverted(Invalid):
    """A contract reverted: ``output`` is the bytes it returned, ``reason`` their text, or empty.

    The error object carries ``output`` as ``data``, which web3.py, ethers and viem decode.
    """

    def __init__(self, output: bytes, reason: str) -> None:
        super().__init__("reverted", reason)
        self.output = output


@dataclass(frozen=True, slots=True)
class RpcMethod:
    """One method of the table.

    ``answer`` is called as ``way`` says; ``result`` and ``text`` go to docs/rpc.md. ``errors`` are
    the codes of ``REFUSALS`` that it raises; every method may also raise "params".
    """

    name: str
    params: tuple[Param, ...]
    answer: Callable[..., object]
    result: str
    text: str
    errors: tuple[str, ...] = ()
    way: Way = "read"

    def arguments(self, params: object) -> list[object]:
        """The arguments of ``answer``, read from JSON ``params`` (an array, or an object by name).

        Raises ``Invalid("params")``, with the argument and what is wrong with it.
        """
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


def table(*groups: Iterable[RpcMethod]) -> dict[str, RpcMethod]:
    """All methods of the groups by name. Asserts that no name occurs twice."""
    methods: dict[str, RpcMethod] = {}
    for group in groups:
        for method in group:
            assert method.name not in methods, method.name
            methods[method.name] = method
    return methods
