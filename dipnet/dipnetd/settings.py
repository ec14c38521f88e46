"""A flag for every setting of a node, and ``dipnetd config show``.

Rule that binds this file: flags and their help are made from ``Config``, so that every setting has
a flag and no setting is described twice.
"""

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from dipnet.cli.terminal import Json, group, show_fields, show_json, show_rows
from dipnet.host.config import LISTS, Config, Loaded, load

config_app = group("The settings of a node.")


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """A command with a flag for every setting; it gets their values as ``flags``, by setting."""
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "flags"]
    made = []
    for name, field in Config.model_fields.items():
        kind = _flag_type(name, field.annotation)
        option = typer.Option(help=field.description, show_default=False)
        made.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[kind, option],
            )
        )

    def wrapped(**given: Any) -> None:
        rest = {p.name: given.pop(p.name) for p in own}
        command(flags=given, **rest)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + made
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    return wrapped


def _flag_type(name: str, annotation: Any) -> Any:
    """The type of a setting's flag as typer understands it; None stands for a flag not given."""
    return list[str] | None if name in LISTS else annotation | None


def load_settings(flags: dict[str, object], file: Path | None) -> Loaded:
    """The settings and their origins; ``Invalid("config")`` names what to mend."""
    return load(flags, os.environ, file)


ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", envvar="DIPNET_CONFIG", help="dipnet.toml; default: in data."),
]


@config_app.command("show")
@with_settings
def show_config(
    flags: dict[str, object],
    config: ConfigFile = None,
    origin: Annotated[
        bool, typer.Option("--origin", help="Show where each value comes from.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the settings that a node would run with."""
    loaded = load_settings(flags, config)
    values = loaded.config.model_dump(mode="json")
    if as_json:
        show_json(
            {
                name: {"value": value, "origin": loaded.origins[name]}
                for name, value in values.items()
            }
            if origin
            else values
        )
    elif origin:
        show_rows(
            ["setting", "value", "from"],
            [[name, _shown(value), loaded.origins[name]] for name, value in values.items()],
        )
    else:
        show_fields({name: _shown(value) for name, value in values.items()})


def _shown(value: object) -> str:
    """A setting as text: a list as words, None as nothing."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else str(value)
