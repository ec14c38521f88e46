"""Settings: their precedence, their sources, and every way to get a setting wrong."""

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipnet.host.config import (
    DEFAULT,
    FILE_BYTES_MAX,
    FILE_NAME,
    LISTS,
    OTHER_ENV,
    PATHS,
    Config,
    load,
    read_file,
    to_toml,
)
from dipnet.primitives.errors import Invalid
from tests import ROOT


def refusal(flags: dict[str, object], environ: dict[str, str], file: Path | None = None) -> str:
    with pytest.raises(Invalid) as refused:
        load(flags, environ, file)
    assert refused.value.code == "config"
    return str(refused.value)


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    file.write_text("rpc_port = 1\npeers_max = 1\nlog = 'debug'\n")
    loaded = load(
        {"rpc_port": 3, "bootstrap": None},
        {"DIPNET_RPC_PORT": "2", "DIPNET_PEERS_MAX": "2", "HOME": "/nowhere"},
        file,
    )
    assert (loaded.config.rpc_port, loaded.config.peers_max, loaded.config.log) == (3, 2, "debug")
    assert loaded.origins["rpc_port"] == "--rpc-port"
    assert loaded.origins["peers_max"] == "DIPNET_PEERS_MAX"
    assert loaded.origins["log"] == str(file)
    assert loaded.origins["rpc_host"] == DEFAULT
    assert list(loaded.origins) == list(Config.model_fields)


def test_the_file_of_the_data_directory_is_read_unless_another_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("rpc_port = 1\n")
    other = tmp_path / "other.toml"
    other.write_text("rpc_port = 2\n")
    assert load({"data": tmp_path}, {}).config.rpc_port == 1
    assert load({}, {"DIPNET_DATA": str(tmp_path)}).config.rpc_port == 1
    assert load({"data": tmp_path}, {}, other).config.rpc_port == 2
    assert load({"data": tmp_path / "empty"}, {}).config.rpc_port == 8545


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    file.write_text("data = '.'\ndelegate_keystore = 'k'\ndelegate_password = '/abs/p'\n")
    config = load({}, {}, file).config
    assert config.data == tmp_path
    assert config.delegate_keystore == tmp_path / "k"
    assert config.delegate_password == Path("/abs/p")
    assert config.genesis_path == tmp_path / "genesis.json"
    assert load({"data": Path("here")}, {}).config.data == Path("here")
    assert load({"data": Path("~/x")}, {}).config.data == Path.home() / "x"


def test_lists(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    file.write_text("bootstrap = ['/a', '/b']\n")
    assert load({}, {}, file).config.bootstrap == ("/a", "/b")
    assert load({}, {"DIPNET_BOOTSTRAP": "/c,/d"}, file).config.bootstrap == ("/c", "/d")
    assert load({"bootstrap": ["/e"]}, {}, file).config.bootstrap == ("/e",)


@pytest.mark.parametrize("name", sorted(LISTS))
def test_every_list_is_set_by_flag_variable_and_file(name: str, tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    file.write_text(f"{name} = ['/a', '/b']\n")
    variable = f"DIPNET_{name.upper()}"
    environ = {variable: "/c,/d"}
    cases: tuple[tuple[dict[str, object], dict[str, str], tuple[str, str], str], ...] = (
        ({name: ["/e", "/f"]}, environ, ("/e", "/f"), "--" + name.replace("_", "-")),
        ({}, environ, ("/c", "/d"), variable),
        ({}, {}, ("/a", "/b"), str(file)),
    )
    for flags, variables, expected, origin in cases:
        loaded = load(flags, variables, file)
        assert (getattr(loaded.config, name), loaded.origins[name]) == (expected, origin)


def test_the_kinds_of_settings_are_those_of_the_model() -> None:
    assert {"advertise", "bootstrap", "rpc_hosts", "rpc_origins"} == LISTS
    assert {
        name for name, field in Config.model_fields.items() if "Path" in str(field.annotation)
    } == PATHS


def test_every_variable_of_the_client_is_known_to_the_node() -> None:
    """A user exports variables for both programs, and ``dipnetd`` refuses names that it does not
    know."""
    sources = "".join(path.read_text() for path in (ROOT / "dipnet").rglob("*.py"))
    found = set(re.findall(r'envvar="DIPNET_(\w+)"', sources))
    assert found <= {*OTHER_ENV, *(name.upper() for name in Config.model_fields)}
    assert len(found) > 5
    load({}, {f"DIPNET_{name}": "x" for name in found if name in OTHER_ENV})


def test_an_unknown_name_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    file.write_text("rpcport = 1\n")
    text = refusal({}, {}, file)
    assert str(file) in text
    assert "did you mean rpc_port?" in text
    assert "did you mean rpc_port?" in refusal({}, {"DIPNET_RPCPORT": "1"})
    assert "DIPNET_rpc_port" in refusal({}, {"DIPNET_rpc_port": "1"})
    assert "remove it" in refusal({}, {"DIPNET_ZZZZZZ": "1"})
    load({}, {"DIPNET_URL": "x", "DIPNET_CONFIG": "x", "DIPNET_VECTORS": "x"})


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"DIPNET_RPC_PORT": "70000"}, ["rpc_port", "70000", "DIPNET_RPC_PORT", "65535"]),
        ({"DIPNET_RPC_PORT": "many"}, ["rpc_port", "many", "integer"]),
        ({"DIPNET_LOG": "loud"}, ["log", "loud"]),
        ({"DIPNET_RPC_HOST": "0.0.0.0"}, ["rpc_host", "rpc_remote"]),
        ({"DIPNET_RPC_HOST": "example.org"}, ["rpc_host", "rpc_remote"]),
        ({"DIPNET_DELEGATE_KEYSTORE": "x"}, ["delegate_password"]),
    ],
)
def test_a_wrong_value_is_named_with_its_origin(environ: dict[str, str], words: list[str]) -> None:
    text = refusal({}, environ)
    assert all(word in text for word in words), text


def test_an_open_rpc_must_be_asked_for() -> None:
    given_flags: dict[str, object] = {"rpc_host": "0.0.0.0", "rpc_remote": True}
    assert load(given_flags, {}).config.rpc_host == "0.0.0.0"
    assert load({"rpc_host": "::1"}, {}).config.rpc_host == "::1"


@pytest.mark.parametrize(
    "raw",
    [b"\xff\xfe", b"= 1", b"a = [" + b"[" * 5000, b"x" * (FILE_BYTES_MAX + 1), b"[data]\nx = 1\n"],
    ids=["not text", "not toml", "deep", "long", "a table for a path"],
)
def test_garbage_in_a_file(raw: bytes, tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    file.write_bytes(raw)
    refusal({}, {}, file)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot read" in refusal({}, {}, tmp_path / "none.toml")
    assert "cannot read" in refusal({}, {}, tmp_path)


@given(st.binary(max_size=200))
def test_any_file_is_settings_or_refused(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_bytes(raw)
    try:
        load({}, {}, file)
    except Invalid as refused:
        assert refused.code == "config"  # noqa: PT017


@given(st.text(), st.integers(0, 65535), st.booleans(), st.lists(st.text(), max_size=3))
def test_written_settings_are_read_again(
    text: str, port: int, flag: bool, peers: list[str]
) -> None:
    settings: dict[str, str | int | bool | list[str]] = {
        "listen": text.encode("utf-8", "ignore").decode(),
        "rpc_port": port,
        "local": flag,
        "bootstrap": [peer.encode("utf-8", "ignore").decode() for peer in peers],
    }
    assert tomllib.loads(to_toml(settings)) == settings


def test_read_file_is_strict_about_names_only(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    file.write_text("rpc_port = 'later'\n")
    assert read_file(file) == {"rpc_port": "later"}
