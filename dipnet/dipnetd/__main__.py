"""The entry point of ``dipnetd``: runs the program, or says how to install what it needs.

``pip install dipnet`` installs what the client and its libraries import. The node imports more: the
packages of the extra ``node``. So this file imports the node in a ``try``, and where one of these
packages is missing it prints one line and exits with code 2.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn

from dipnet.cli.terminal import EXIT_USAGE, say_error

NODE_MODULES: Final = (
    "httptools", "libp2p", "msgspec", "plyvel", "prometheus_client", "starlette", "tomli_w",
    "trio", "uvicorn", "uvloop",
)  # fmt: skip
"""The modules of the packages that the extra ``node`` of pyproject.toml names."""


def refuse(module: str) -> NoReturn:
    """Says that ``module`` is not installed; exits with code 2."""
    say_error(
        f"dipnetd needs the node's packages ({module} is missing): pip install 'dipnet[node]'"
    )
    raise SystemExit(EXIT_USAGE)


program: Callable[[], object]
try:
    from dipnet.dipnetd.main import app
except ModuleNotFoundError as error:
    if error.name not in NODE_MODULES:
        raise
    program = partial(refuse, error.name)
else:
    program = app


def main() -> None:
    """Runs ``dipnetd``; leaves with its exit code."""
    program()


if __name__ == "__main__":
    main()
