"""``dipnet``, the client: its commands against a real node, and their messages when they fail."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from typer.testing import CliRunner, Result

from dipnet.cli.main import app
from dipnet.cli.wallet import read_address, read_amount
from dipnet.primitives.crypto import checksum
from dipnet.primitives.errors import Invalid
from dipnet.sdk import keys
from tests.fixtures.processes import dev_url, environment, running

RICH = checksum(keys.address_of(keys.DEV_SECRETS[4]))
PRIVATE = "0x" + keys.DEV_SECRETS[4].hex()


def run(*arguments: object, stdin: str = "") -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin, env={"DIPNET_URL": ""})


def told(*arguments: object, stdin: str = "") -> Any:
    """The JSON that a command prints."""
    result = run(*arguments, "--json", stdin=stdin)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(*arguments: object, stdin: str = "") -> str:
    """The line that a failing command prints on stderr."""
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == 2, (result.output, result.exception)
    assert not result.stdout
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture(scope="module", name="url")
def _url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("dev") / "log"
    with running(log, "dipnetd", "dev", "--rpc-port", "0", "--slot-ms", "200") as process:
        yield dev_url(process)


@pytest.fixture(name="password")
def _password(tmp_path: Path) -> Path:
    keys.write_private(tmp_path / "password", b"word\n")
    return tmp_path / "password"


# --- house


@pytest.mark.parametrize(
    ("program", "unwanted"),
    [("cli", ["libp2p", "uvicorn", "dipnet.node.node", "dipnet.dipnetd.main", "eth_account"]),
     ("dipnetd", ["dipnet.cli.main", "dipnet.cli.device", "eth_account", "eth_keyfile"])],
)  # fmt: skip
def test_a_program_loads_only_what_it_needs(program: str, unwanted: list[str]) -> None:
    code = f"import sys, dipnet.{program}.main; print([n for n in {unwanted} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_help_and_version() -> None:
    assert "device" in run("--help").output
    assert "Usage" in run("device", "replay", "--help").output
    assert told("version")["version"] in run("version").output
    assert run("nonsense").exit_code == 2


# --- keys


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys.add_keystore, "__defaults__", (keys.SCRYPT_N_TEST,))


def test_keys_are_made_listed_and_shown(tmp_path: Path, password: Path) -> None:
    store = ("--keystore", tmp_path / "ks")
    assert told("keys", "list", *store) == []
    made = told("keys", "new", *store, "--password-file", password)
    assert told("keys", "list", *store) == [made]
    assert made["address"] in run("keys", "list", *store).stdout
    assert told("keys", "show", made["address"], *store) == made
    shown = told("keys", "show", made["file"], *store, "--private", "--password-file", password)
    assert Account.from_key(shown["privateKey"]).address == made["address"]
    assert "has no key of 0xf39F" in refused(
        "keys", "show", checksum(keys.address_of(keys.DEV_SECRETS[0])), *store
    )


def test_a_password_is_asked_for_twice_and_never_shown(tmp_path: Path) -> None:
    store = ("--keystore", tmp_path / "ks")
    result = run("keys", "new", *store, stdin="one\ntwo\nsame\nsame\n")
    assert result.exit_code == 0
    assert "same" not in result.output
    (found,) = told("keys", "list", *store)
    assert "does not open" in run(
        "keys", "show", found["address"], "--private", *store, stdin="wrong\n"
    ).stderr.replace("\n", " ")
    assert "private key" not in run("keys", "show", found["address"], *store).output


def test_keys_are_imported(tmp_path: Path, password: Path) -> None:
    more = ("--keystore", tmp_path / "ks", "--password-file", password)
    keys.write_key(tmp_path / "plain", keys.DEV_SECRETS[4])
    made = told("keys", "import", tmp_path / "plain", *more)
    assert made["address"] == RICH
    assert "already" in refused("keys", "import", tmp_path / "plain", *more)
    copy = told(
        "keys", "import", made["file"], "--keystore", tmp_path / "two", "--password-file", password
    )
    assert copy["address"] == RICH
    keys.write_private(tmp_path / "words", keys.DEV_MNEMONIC.encode() + b"\n")
    third = told("keys", "import", tmp_path / "words", "--account", 3, *more)
    assert third["address"] == checksum(keys.address_of(keys.DEV_SECRETS[3]))
    (tmp_path / "plain").chmod(0o644)
    assert "chmod 600" in refused("keys", "import", tmp_path / "plain", *more)


# --- texts


@pytest.mark.parametrize(
    ("text", "wei"),
    [("1", 1), ("0", 0), ("1.5ether", 15 * 10**17), ("1 ether", 10**18), ("20gwei", 2 * 10**10),
     ("1.0", 1), ("0.000000000000000001ether", 1)],
)  # fmt: skip
def test_amounts(text: str, wei: int) -> None:
    assert read_amount(text) == wei


@pytest.mark.parametrize(
    "text", ["", "-1", "1.5", "1e18", "ether", "1 dip", "0.0000000001gwei", "9" * 100, "٣"]
)
def test_no_amounts(text: str) -> None:
    with pytest.raises(Invalid):
        read_amount(text)


def test_addresses() -> None:
    assert read_address(RICH) == read_address(RICH.lower()) == read_address(RICH[2:].upper())
    swapped = RICH[:2] + RICH[2:].swapcase()
    for text in ("", "0x12", swapped, RICH + "0", "0x" + "g" * 40):
        with pytest.raises(Invalid):
            read_address(text)


# --- with a node


def test_status(url: str) -> None:
    status = told("status", "--url", url)
    assert status["chainId"] == 2018
    text = run("status", "--url", url).stdout
    assert status["genesisHash"] in text
    assert "finalized" in text


def test_no_node_is_one_sentence() -> None:
    line = refused("status", "--url", "http://127.0.0.1:1")
    assert "no answer from the node: http://127.0.0.1:1" in line
    assert "--url" in line
    assert "invalid configuration" in refused("status", "--url", "nowhere")


def test_a_payment_and_its_receipt(url: str, tmp_path: Path, password: Path) -> None:
    to = "0x" + "ab" * 20
    receipt = told("send", "--dev", 4, "--to", to, "--value", "1.5ether", "--wait", "--url", url)
    assert (receipt["status"], receipt["to"]) == ("0x1", to)
    text = run("send", "--dev", 4, "--to", to, "--value", "3gwei", "--wait", "--url", url).stdout
    assert "success" in text
    assert "0.000000003 ether" in text
    sent = told("send", "--dev", 4, "--to", to, "--value", "1", "--url", url)
    assert len(sent["transactionHash"]) == 66

    store = ("--keystore", tmp_path / "ks", "--password-file", password)
    keys.write_key(tmp_path / "plain", keys.DEV_SECRETS[5])
    account = told("keys", "import", tmp_path / "plain", *store)["address"]
    receipt = told(
        "send", "--from", account, "--to", to, "--value", 7, "--wait", "--url", url, *store
    )
    assert receipt["from"] == account.lower()


def test_payments_that_cannot_be(url: str) -> None:
    to = ("--to", RICH, "--url", url)
    assert "insufficient funds" in refused("send", "--dev", 4, "--value", "99999ether", *to)
    assert "one of --from and --dev" in refused("send", "--value", 1, *to)
    assert "one of --from and --dev" in refused(
        "send", "--value", 1, "--dev", 1, "--from", RICH, *to
    )
    assert run("send", "--value", 1, "--dev", 10, *to).exit_code == 2
    assert "no receipt" in refused("send", "--value", 1, "--dev", 1, "--wait", "--timeout", 0, *to)


def test_simulated_devices_and_their_tail(url: str) -> None:
    done = told("device", "simulate", "--devices", 5, "--rate", 50, "--seconds", 1, "--url", url)
    assert (done["sent"], done["accepted"], done["errors"]) == (50, 50, {})
    result = run("dag", "tail", "-n", 20, "--no-follow", "--json", "--url", url)
    vertices = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(vertices) == 20
    vertex = vertices[-1]
    assert vertex["readings"][0]["unit"] == "Cel"
    mine = run(
        "dag", "tail", "-n", 3, "--no-follow", "--issuer", vertex["issuer"], "--url", url
    ).stdout
    assert len(mine.splitlines()) == 3
    assert all(vertex["issuer"] in line and " Cel" in line for line in mine.splitlines())
    topic = ("--topic", "simulated/temperature")
    assert run("dag", "tail", "-n", 2, "--no-follow", *topic, "--url", url).stdout.count("\n") == 2
    assert not run("dag", "tail", "-n", 2, "--no-follow", "--topic", "x", "--url", url).stdout


def test_the_tail_follows(url: str, tmp_path: Path) -> None:
    with running(tmp_path / "log", "cli", "dag", "tail", "-n", "0", "--url", url) as process:
        for _ in range(100):  # until the subscription stands
            told("device", "simulate", "--devices", 1, "--rate", 10, "--seconds", 0.1, "--url", url)
            if "device-0" in process.output():
                break
        assert "device-0" in process.says("Cel")


def test_simulations_that_cannot_be(url: str) -> None:
    for wrong in (("--devices", 0), ("--rate", 0), ("--seconds", "nan"), ("--seconds", -1)):
        assert "want 1 to" in refused("device", "simulate", *wrong, "--url", url)
    result = run(
        "device",
        "simulate",
        "--devices",
        1,
        "--rate",
        10,
        "--seconds",
        0.3,
        "--url",
        "http://127.0.0.1:1",
    )
    assert result.exit_code == 2
    assert "no answer from the node" in result.stderr


def test_replay_of_a_file(url: str, tmp_path: Path) -> None:
    path = tmp_path / "pump.csv"
    path.write_text("at;T\n" + "".join(f"{1_700_000_000 + n};{n}\n" for n in range(50)))
    command = (
        "device",
        "replay",
        path,
        "--time",
        "at",
        "--value",
        "T",
        "--unit",
        "Cel",
        "--url",
        url,
    )
    assert "try --delimiter ';'" in refused(*command)
    done = told(*command, "--delimiter", ";", "--batch", 20)
    assert (done["sent"], done["recorded"], done["skipped"]) == (50, 50, 0)
    again = run(*command, "--delimiter", ";")
    assert again.exit_code == 0
    assert "nothing to do: all 50 rows" in again.stderr
    vertices = run(
        "dag", "tail", "-n", 50, "--no-follow", "--issuer", done["issuer"], "--json", "--url", url
    )
    values = [json.loads(line)["readings"][0]["value"] for line in vertices.stdout.splitlines()]
    assert values == list(range(50))
    assert "did you mean 'at'?" in refused(
        "device", "replay", path, "--time", "att", "--value", "T", "--delimiter", ";", "--url", url
    )
    assert "there is no file" in refused(
        "device", "replay", tmp_path / "none", "--time", "at", "--value", "T", "--url", url
    )
    assert "one character" in refused(*command, "--delimiter", ";;")
