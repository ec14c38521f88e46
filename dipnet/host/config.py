"""The settings of a node. The values that a network must agree on are in genesis.json, not here.

A value comes from the first of these sources that has it: the flag ``--name``, the environment
variable ``DIPNET_NAME``, ``dipnet.toml``, the default. ``load`` tells for each setting which source
that was. An unknown name is an error in every source: a setting that is silently ignored is noticed
when it is needed. A path in a file is relative to the file, so that a node's directory can be
moved; a path in a flag or a variable is relative to the working directory. ADR 101 says why the
sources are not those of pydantic-settings.
"""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dipnet.primitives.errors import Invalid

RPC_PORT: Final = 8545
P2P_PORT: Final = 30303
FILE_NAME: Final = "dipnet.toml"
FILE_BYTES_MAX: Final = 64 << 10
ENV_PREFIX: Final = "DIPNET_"
OTHER_ENV: Final = ("CONFIG", "KEYSTORE", "LIGHT", "PASSWORD_FILE", "URL", "VECTORS")
"""Names behind ``DIPNET_`` that are no settings: they are read by the client and by the tests."""
QUOTE_MAX: Final = 60
DEFAULT: Final = "default"


class Config(BaseModel):
    """The settings of a node; ``dipnetd config show --origin`` shows where each came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path = Field(Path("~/.dipnet"), description="directory of the node's records and keys")
    genesis: Path | None = Field(None, description="path of genesis.json; default: in data")
    listen: str = Field(f"/ip4/0.0.0.0/tcp/{P2P_PORT}", description="multiaddr to listen on")
    advertise: tuple[str, ...] = Field(
        (), description="multiaddrs without peer id that peers are told; default: where it listens"
    )
    bootstrap: tuple[str, ...] = Field((), description="multiaddrs of peers to dial first")
    peers_max: int = Field(50, ge=0, le=1000, description="connected peers at most")
    local: bool = Field(False, description="test network: loopback peers without limits by address")
    rpc_host: str = Field("127.0.0.1", description="address that JSON-RPC binds")
    rpc_port: int = Field(
        RPC_PORT, ge=0, le=65535, description="port of JSON-RPC; 0: any free port"
    )
    rpc_hosts: tuple[str, ...] = Field((), description="further Host names that JSON-RPC accepts")
    rpc_remote: bool = Field(False, description="allow an rpc_host that other machines reach")
    rpc_origins: tuple[str, ...] = Field((), description="web origins that may call JSON-RPC")
    delegate_keystore: Path | None = Field(None, description="keystore v3 of the delegate's key")
    delegate_password: Path | None = Field(None, description="file with that keystore's password")
    delegate_votes: Path | None = Field(
        None, description="vote state of that key; default: beside the keystore, .votes"
    )
    signer: Path | None = Field(
        None, description="Unix socket of a dipnetd signer, which has the delegate's key"
    )
    paused: bool = Field(False, description="start without signing: dipnet delegate resume")
    disk_refuse_bytes: int = Field(
        1 << 30, ge=0, description="accept nothing below this free space"
    )
    disk_stop_bytes: int = Field(256 << 20, ge=0, description="stop below this free space")
    log: str = Field("info", pattern="^(debug|info|warning|error)$", description="log level")

    @property
    def genesis_path(self) -> Path:
        """The path of this node's genesis.json."""
        return self.genesis or self.data / "genesis.json"


def _settings_of(*types: object) -> frozenset[str]:
    fields = Config.model_fields.items()
    return frozenset(name for name, field in fields if field.annotation in types)


PATHS: Final = _settings_of(Path, Path | None)
"""Settings that are a path."""
LISTS: Final = _settings_of(tuple[str, ...])
"""Settings that are a list: a flag is repeated, a variable has commas, a file has an array."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, and for each the source of its value: a flag, a variable, a file, a default."""

    config: Config
    origins: dict[str, str]


def load(
    flags: Mapping[str, object], environ: Mapping[str, str], file: Path | None = None
) -> Loaded:
    """The settings in force and their origins.

    ``flags``: the values of the command line by setting, None for a flag that was not given.
    ``environ``: the environment variables. ``file``: the file that the command line named; without
    it the ``dipnet.toml`` of the data directory is read if it exists.

    Raises ``Invalid("config")`` with the name, the value and the origin of a wrong setting.
    """
    values: dict[str, object] = {}
    origins: dict[str, str] = {}

    def take(name: str, value: object, origin: str) -> None:
        if name not in values:
            values[name], origins[name] = value, origin

    for name, value in flags.items():
        if value not in (None, [], ()):
            take(name, value, "--" + name.replace("_", "-"))
    for name, text in _from_environ(environ).items():
        take(name, text, ENV_PREFIX + name.upper())
    for name in PATHS:
        if name in values:
            values[name] = Path(str(values[name])).expanduser()
    path = _file_to_read(values, file)
    if path is not None:
        for name, value in read_file(path).items():
            take(name, value, str(path))
    config = _checked(values, origins)
    return Loaded(
        config.model_copy(update={"data": config.data.expanduser()}),
        {name: origins.get(name, DEFAULT) for name in Config.model_fields},
    )


def read_file(path: Path) -> dict[str, object]:
    """The settings in a TOML file, not yet validated; paths are absolute or relative to its folder.

    Raises ``Invalid("config")`` for a file that cannot be read, is longer than ``FILE_BYTES_MAX``,
    is not TOML, or has a name that is no setting.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
        if len(raw) > FILE_BYTES_MAX:
            raise Invalid("config", f"{path} has more than {FILE_BYTES_MAX} bytes")
        found = tomllib.loads(raw.decode())
    except OSError as error:
        raise Invalid("config", f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError
        raise Invalid("config", f"{path} is not TOML: {str(error)[:200]}") from None
    for name in found:
        if name not in Config.model_fields:
            raise Invalid("config", f"{path}: {unknown(name)}")
    for name in PATHS:
        if isinstance(text := found.get(name), str):
            found[name] = path.parent / Path(text).expanduser()
    return found


def unknown(name: str) -> str:
    """The text that refuses a name that is no setting, with the setting that was probably meant."""
    near = difflib.get_close_matches(name[:QUOTE_MAX], Config.model_fields, 1)
    hint = f"did you mean {near[0]}?" if near else "remove it"
    return f"no setting {name[:QUOTE_MAX]!r}; {hint}"


def to_toml(settings: Mapping[str, str | int | bool | list[str]]) -> str:
    """The text of a ``dipnet.toml`` with these settings, each below a comment that describes it."""
    return "\n".join(
        f"# {Config.model_fields[name].description}\n{tomli_w.dumps({name: value})}"
        for name, value in settings.items()
    )


def _from_environ(environ: Mapping[str, str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for variable, text in environ.items():
        if not variable.startswith(ENV_PREFIX):
            continue
        name = variable.removeprefix(ENV_PREFIX)
        if name in OTHER_ENV:
            continue
        if name != name.upper() or name.lower() not in Config.model_fields:
            raise Invalid(
                "config",
                f"{variable[:QUOTE_MAX]} in the environment: {unknown(name.lower())} (write names "
                f"in capitals behind {ENV_PREFIX})",
            )
        name = name.lower()
        found[name] = [part for part in text.split(",") if part] if name in LISTS else text
    return found


def _file_to_read(values: Mapping[str, object], file: Path | None) -> Path | None:
    if file is not None:
        return file.expanduser()
    data = Path(str(values.get("data", Config.model_fields["data"].default))).expanduser()
    path = data / FILE_NAME
    return path if path.is_file() else None


def _checked(values: Mapping[str, Any], origins: Mapping[str, str]) -> Config:
    try:
        config = Config.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        shown = str(first["input"])[:QUOTE_MAX]
        raise Invalid(
            "config", f"{name} = {shown!r} (from {origins[name]}): {first['msg'].lower()}"
        ) from None
    if not config.rpc_remote and not _is_loopback(config.rpc_host):
        raise Invalid(
            "config",
            f"rpc_host {config.rpc_host} lets other machines call this node; "
            "put a proxy in front and set rpc_remote, or use 127.0.0.1",
        )
    if (config.delegate_keystore is None) != (config.delegate_password is None):
        raise Invalid("config", "set both delegate_keystore and delegate_password, or neither")
    if config.signer is not None and config.delegate_keystore is not None:
        raise Invalid(
            "config",
            f"signer and delegate_keystore (from {origins['delegate_keystore']}): one key has one "
            "vote state, so give its keystore to the signer only",
        )
    if config.delegate_votes is not None and config.delegate_keystore is None:
        raise Invalid("config", "delegate_votes is for a delegate_keystore")
    return config


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
