"""``dipnetd signer`` and ``votes`` as operators meet them; a node without its vote state."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dipnet.consensus.finality.votes import Ballot, BallotKind, VoteState
from dipnet.daemon import networks
from dipnet.dipnetd.main import app
from dipnet.host.config import FILE_NAME
from dipnet.host.store import Store
from dipnet.ledger.genesis import Genesis
from dipnet.node.node import first_puts
from dipnet.sdk import keys
from dipnet.sdk.admin_client import SOCKET_NAME, admin_call
from dipnet.signing import votefile
from dipnet.signing.signer_socket import RemoteSigner
from tests.fixtures.processes import Process, ask, running, until
from tests.processes.failover_run import fail_over, slot_now

SECRET = keys.DEV_SECRETS[3]
ACCOUNT = keys.address_of(SECRET)
SLOT_MS = 300
AHEAD_MS = 4_102_444_800_000
"""The year 2100: a chain that begins then is in slot 0 whenever the test runs."""


def made(directory: Path, time_ms: int) -> Path:
    """The directory of a delegate's node on a chain of its own that began at ``time_ms``."""
    genesis = networks.dev_genesis([networks.delegate("lone", SECRET)], time_ms)
    networks.write_node(directory, genesis, keys.new_secret(), SECRET, {}, keys.SCRYPT_N_TEST)
    return directory


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return made(tmp_path / "home", 1_700_000_000_000)


def write_records(home: Path) -> None:
    """As the node does at its first start."""
    store = Store(home / networks.RECORDS)
    store.stage(first_puts(networks.read_genesis(home / networks.GENESIS_NAME), store))
    store.commit()
    store.close()


def run(*arguments: object, say: str = "") -> Any:
    """The JSON that a command prints."""
    words = [*map(str, arguments), "--json"]
    result = CliRunner().invoke(app, words, input=say)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])  # after the echo of the input


def refused(*arguments: object, say: str = "") -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)], input=say)
    assert result.exit_code == 2, (result.output, result.exception)
    return result.stderr.splitlines()[-1]


# --- votes


def test_a_vote_state_is_made_with_the_key_and_shown(home: Path) -> None:
    shown = run("votes", "show", "--config", home / FILE_NAME)
    assert shown["file"] == str(home / networks.DELEGATE_VOTES)
    assert (shown["epoch"], shown["proposed"], shown["prevoted"], shown["committed"]) == (0,) * 4
    keystore = home / networks.DELEGATE_KEYSTORE
    genesis = home / networks.GENESIS_NAME
    assert shown == run("votes", "show", "--keystore", keystore, "--genesis", genesis)
    assert "whose?" in refused("votes", "show", "--genesis", genesis, "--data", home / "none")


def test_recover_asks_and_says_what_follows(home: Path) -> None:
    config = ("--config", home / FILE_NAME)
    (home / networks.DELEGATE_VOTES).unlink()
    assert "votes recover" in refused("votes", "show", *config)
    fixed = ("--epoch", 7, "--slot", 210)
    assert "nothing was written" in refused("votes", "recover", *config, *fixed, say="n\n")
    assert not (home / networks.DELEGATE_VOTES).exists()
    told = run("votes", "recover", *config, *fixed, say="y\n")
    assert (told["epoch"], told["proposed"], told["committed"]) == (7, 211, 211)
    told = run(
        "votes", "recover", *config, "--epoch", 7, "--slot", 220, "--yes", "--certified", 215
    )
    assert (told["epoch"], told["proposed"], told["committed"]) == (7, 221, 215)


def test_recover_does_not_guess_an_epoch(home: Path) -> None:
    config = ("--config", home / FILE_NAME, "--yes")
    assert "no records" in refused("votes", "recover", *config)
    assert "no records" in refused("votes", "recover", *config, "--slot", 5)
    write_records(home)
    assert "let the node catch up without the key" in refused("votes", "recover", *config)


def test_recover_takes_epoch_and_slot_from_records_of_the_epoch_that_runs(tmp_path: Path) -> None:
    home = made(tmp_path / "home", AHEAD_MS)
    write_records(home)
    told = run("votes", "recover", "--config", home / FILE_NAME, "--yes")
    assert (told["epoch"], told["proposed"], told["prevoted"], told["committed"]) == (0, 1, 1, 1)


def test_a_vote_state_for_a_key_from_elsewhere(home: Path) -> None:
    keystore = home / "other.json"
    keys.write_private(keystore, keys.encrypt(keys.DEV_SECRETS[4], b"x", keys.SCRYPT_N_TEST))
    where = ("--keystore", keystore, "--genesis", home / networks.GENESIS_NAME)
    assert "nothing was written" in refused("votes", "create", *where, say="n\n")
    made = run("votes", "create", *where, say="y\n")
    assert made["file"] == str(home / "other.votes")
    assert "not written over" in refused("votes", "create", *where, "--yes")


# --- the signer


def test_the_signer_is_a_program(home: Path, tmp_path: Path) -> None:
    flags = [
        f"--keystore={home / networks.DELEGATE_KEYSTORE}",
        f"--password={home / networks.DELEGATE_PASSWORD}",
        f"--genesis={home / networks.GENESIS_NAME}",
        f"--socket={home / 'signer.sock'}",
    ]
    with running(tmp_path / "log", "dipnetd", "signer", *flags) as process:
        process.says("signs for")
        node = RemoteSigner(home / "signer.sock", networks.DEV_CHAIN_ID)
        assert node.sign(Ballot(BallotKind.COMMIT, 1, 31, b"B" * 32, 0)).state == VoteState(
            1, 0, 0, 31
        )
        node.close()
        assert "in use" in refused("signer", *flags)
        assert process.stop() == 0
    assert run("votes", "show", "--config", home / FILE_NAME)["committed"] == 31
    (home / networks.DELEGATE_VOTES).unlink()
    assert "no vote state for this key" in refused("signer", *flags)
    genesis = Genesis.decode((home / networks.GENESIS_NAME).read_bytes())
    assert votefile.silenced(1, 31) == votefile.recover(
        home / networks.DELEGATE_VOTES, genesis.chain_id, ACCOUNT, votefile.silenced(1, 31)
    )


def test_signer_and_keystore_exclude_each_other(home: Path) -> None:
    line = refused("run", "--config", home / FILE_NAME, "--signer", home / "signer.sock")
    assert "give its keystore to the signer only" in line
    bare = (
        "run",
        "--data",
        home,
        "--genesis",
        home / networks.GENESIS_NAME,
        "--config",
        home / "x",
    )
    (home / "x").write_text("")
    assert "delegate_votes is for" in refused(*bare, "--delegate-votes", home / "y")


# --- a node


def final_slot(url: str) -> int:
    status = ask(url, "dpos_status")
    return int(status["finalized"]["slot"]) if status else 0


def grows(process: Process, url: str, after: int) -> int:
    """The slot of a final block later than ``after``."""

    def final() -> int:
        slot = final_slot(url)
        return slot if slot > after else 0

    return int(until(final, "final block", process))


def test_a_node_does_not_sign_without_its_memory(tmp_path: Path) -> None:
    """Missing, older, recovered: and paused from the start, then resumed."""
    assert CliRunner().invoke(
        app, ["testnet", "--out", str(tmp_path / "net"), "--delegates=1", f"--slot-ms={SLOT_MS}"]
    ).exit_code == 0  # fmt: skip
    home = tmp_path / "net" / "node1"
    url = json.loads((tmp_path / "net" / "net.json").read_text())["nodes"][0]["rpc"]
    votes = home / networks.DELEGATE_VOTES
    started = ("dipnetd", "run", "--config", str(home / FILE_NAME))
    shutil.copy(votes, tmp_path / "backup")
    with running(tmp_path / "log1", *started, "--paused") as process:
        socket = home / SOCKET_NAME
        until(lambda: ask(url, "dpos_status"), "answer", process)
        assert admin_call(socket, "admin_status")["paused"]
        assert final_slot(url) == 0
        assert not admin_call(socket, "admin_resume")["paused"]
        slot = grows(process, url, grows(process, url, 0))
        status = ask(url, "dpos_status")
        process.kill()
    votes.rename(tmp_path / "newest")
    with running(tmp_path / "log2", *started) as process:
        assert process.end() == 2
        assert "no vote state for this key" in process.output()
        assert "votes recover" in process.output()
    shutil.copy(tmp_path / "backup", votes)
    with running(tmp_path / "log3", *started) as process:
        assert process.end() == 2
        assert "vote state older than what was signed" in process.output()
    config = ("--config", home / FILE_NAME, "--yes")
    now = slot_now(networks.read_genesis(home / networks.GENESIS_NAME))
    stated = ("--epoch", status["votingEpoch"], "--slot", now, "--certified", slot)
    told = run("votes", "recover", *config, *stated)
    assert told["proposed"] == now + 1 > slot == told["committed"]
    with running(tmp_path / "log4", *started) as process:
        grows(process, url, told["proposed"])
        assert process.stop() == 0


def test_a_fail_over(tmp_path: Path) -> None:
    told = fail_over(tmp_path, others=0, kills=1, slot_ms=500, seed=3)
    assert told.offences == ()
    assert len(told.takeovers) == 1
    assert told.final_height > 1
