"""``dipnet delegate`` against a node that listens: its transactions, output and refusals."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dipnet.cli import delegate_views as cli_delegate_views
from dipnet.cli.delegate import read_commission, read_organisation
from dipnet.cli.main import app
from dipnet.cli.sending import explained
from dipnet.consensus.chain.schedule import commitment, seed_key, seed_secret
from dipnet.consensus.finality.tally import Statement
from dipnet.consensus.finality.votes import Ballot, BallotKind
from dipnet.ledger.parameters import AMENDABLE
from dipnet.ledger.rules import RULES_KNOWN
from dipnet.primitives.crypto import checksum, sign
from dipnet.primitives.errors import Invalid
from dipnet.sdk import keys
from tests.fixtures.chain_builder import ETHER, USERS, address_of, secret
from tests.fixtures.rpc_running import Running

ALICE = checksum(address_of(USERS[0]))
DELEGATE = "delegate 0"


@pytest.fixture(name="running", scope="module")
def _running() -> Iterator[Running]:
    found = Running(mining=True, delegates=4, delegate_stake_min=100 * ETHER)
    yield found
    found.stop()


@pytest.fixture(name="wallet", scope="module")
def _wallet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of keystores with one password."""
    directory = tmp_path_factory.mktemp("wallet")
    keys.write_private(directory / "password", b"word\n")
    for name in (*USERS[:4], DELEGATE, "delegate 1"):
        keystore = keys.encrypt(secret(name), b"word", keys.SCRYPT_N_TEST)
        keys.write_private(directory / name, keystore)
    return directory


class Shell:
    """Runs commands as a user of the wallet."""

    def __init__(self, url: str, wallet: Path) -> None:
        self.url, self.wallet = url, wallet

    def run(self, *arguments: object, stdin: str = "") -> Result:
        environment = {"DIPNET_URL": self.url, "DIPNET_KEYSTORE": str(self.wallet)}
        words = ["delegate", *map(str, arguments)]
        return CliRunner().invoke(app, words, input=stdin, env=environment)

    def signed(self, name: str) -> tuple[object, ...]:
        """The options of commands that sign."""
        return "--from", self.wallet / name, "--password-file", self.wallet / "password"

    def told(self, *arguments: object) -> Any:
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def sent(self, name: str, *arguments: object) -> list[dict[str, Any]]:
        """The events of a command that signs."""
        told = self.told(*arguments, *self.signed(name))
        receipts = told if isinstance(told, list) else [told]
        return [event for receipt in receipts for event in receipt["events"]]

    def refused(self, *arguments: object) -> str:
        result = self.run(*arguments)
        assert result.exit_code == 2, (result.output, result.exception)
        assert not result.stdout
        (line,) = result.stderr.splitlines()
        return str(line)


@pytest.fixture(name="shell")
def _shell(running: Running, wallet: Path) -> Shell:
    return Shell(running.url, wallet)


def test_a_delegate_s_life(shell: Shell, running: Running) -> None:
    staked, registered = shell.sent(
        USERS[0], "register", "--name", "works", "--link", "https://w.example", "--commission",
        "2.5%", "--organisation", "Works Ltd", "--stake", "200ether", "--key",
        shell.wallet / USERS[3], "--key-password-file", shell.wallet / "password",
    )  # fmt: skip
    assert staked == {"event": "Staked", "account": ALICE, "amount": 200 * ETHER}
    assert (registered["event"], registered["name"]) == ("Registered", "works")
    (works,) = [candidate for candidate in shell.told("list") if candidate["name"] == "works"]
    assert works["publicKey"] == registered["publicKey"]
    assert (works["commissionBps"], works["organisation"]) == (250, "Works Ltd")
    promised = commitment(seed_secret(seed_key(secret(USERS[3])), 0))
    chain = running.node.chain
    assert chain.committed(chain.head, address_of(USERS[0]))[0] == promised

    (voted,) = shell.sent(USERS[0], "vote", "works", DELEGATE)
    assert voted["delegates"] == [ALICE, checksum(address_of(DELEGATE))]
    status = shell.told("status", "works")
    assert status["candidate"]["votes"] == hex(100 * ETHER)
    assert status["account"]["votes"] == voted["delegates"]
    assert "Works" not in shell.run("list").stdout
    assert "works" in shell.run("list").stdout
    text = shell.run("status", "works").stdout
    assert "100 ether" in text
    assert "candidate" in text

    (voted,) = shell.sent(USERS[0], "vote", "--nobody")
    assert voted["delegates"] == []
    (ready,) = shell.sent(USERS[0], "ready")
    assert ready == {"event": "ReadySignalled", "delegate": ALICE, "rules": RULES_KNOWN}
    line = shell.refused("unstake", "150ether", *shell.signed(USERS[0]))
    assert "resign first" in line
    assert shell.run("resign", *shell.signed(USERS[0]), stdin="n\n").exit_code == 1
    (resigned,) = shell.sent(USERS[0], "resign", "--yes")
    assert resigned == {"event": "Resigned", "delegate": ALICE}
    (unstaked,) = shell.sent(USERS[0], "unstake", "all")
    assert unstaked["amount"] == 200 * ETHER


def test_events_are_told_to_people(shell: Shell) -> None:
    result = shell.run("stake", "7.5ether", *shell.signed(USERS[2]))
    assert result.exit_code == 0
    bob = checksum(address_of(USERS[2]))
    told = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    assert ["Staked", f"account {bob}, amount 7.5 ether"] in told


def test_what_is_done_before_a_refusal_is_told(shell: Shell) -> None:
    result = shell.run("register", "--name", "half", "--stake", "5ether", *shell.signed(USERS[2]))
    assert result.exit_code == 2
    done, refused = result.stderr.splitlines()
    assert done.startswith("done already: stake, transaction 0x")
    assert "not enough stake" in refused


def test_the_key_of_the_account_signs_unless_another_is_named(shell: Shell) -> None:
    shell.sent(USERS[1], "stake", "100ether")
    (event,) = shell.sent(USERS[1], "register", "--name", "alone")
    assert event["delegate"] == checksum(keys.address_of(secret(USERS[1])))
    (event,) = shell.sent(USERS[1], "register", "--name", "renamed", "--commission", "3")
    assert event["name"] == "renamed"
    told = shell.run("status", "renamed").stdout
    assert re.search(r"votes +0 ether, commission 0%, 3% from epoch 2$", told, re.MULTILINE)


def test_parameters_are_proposed_and_approved(shell: Shell) -> None:
    for name in (DELEGATE, "delegate 1"):
        pay(shell, address_of(name))
    (proposed,) = shell.sent(DELEGATE, "propose", "block_reward", "3ether")
    assert (proposed["name"], proposed["value"]) == ("block_reward", 3 * ETHER)
    (approved,) = shell.sent("delegate 1", "approve", proposed["id"])
    assert approved["id"] == proposed["id"]
    (open_now,) = shell.told("parameters")["proposals"]
    assert (open_now["votes"], open_now["state"]) == (2, "open")
    assert "2 of 3" in shell.run("parameters").stdout
    assert "not up for votes" in shell.refused("propose", "chain_id", 1, *shell.signed(DELEGATE))
    line = shell.refused("propose", "slot_ms", 0, *shell.signed("delegate 1"))
    assert line.startswith("error: invalid parameter")


def pay(shell: Shell, to: bytes) -> None:
    """Gives a delegate wei to pay for gas."""
    told = CliRunner().invoke(
        app,
        ["send", "--to", checksum(to), "--value", "1ether", "--url", shell.url,
         *map(str, shell.signed(USERS[2]))],
    )  # fmt: skip
    assert told.exit_code == 0, told.output


def test_rewards_are_claimed(shell: Shell, running: Running) -> None:
    pay(shell, address_of(DELEGATE))
    while not int(shell.told("status", DELEGATE)["account"]["rewards"], 16):
        running.produce()
    (claimed,) = shell.sent(DELEGATE, "claim")
    assert claimed["rewards"] >= ETHER
    assert "ether" in shell.run("status", DELEGATE).stdout


def test_evidence_is_sent_once(shell: Shell, running: Running) -> None:
    assert shell.told("evidence", *shell.signed(USERS[2])) == []
    node = running.node
    offender, slot = "delegate 3", node.chain.head.slot
    for block_id in (b"\1" * 32, b"\2" * 32):
        ballot = Ballot(BallotKind.PROPOSAL, node.chain.epoch.number, slot, block_id, 0)
        signature = sign(ballot.digest(node.genesis.chain_id), secret(offender))
        node.voting.tally.add_proposal(Statement(ballot, signature), address_of(offender), slot)
    (slashed,) = shell.sent(USERS[2], "evidence")
    assert (slashed["event"], slashed["offence"]) == ("Slashed", "E0")
    assert slashed["delegate"] == checksum(address_of(offender))
    assert shell.told("status", offender)["candidate"]["tombstoned"] is True
    assert "tombstoned" in shell.run("list").stdout
    line = shell.refused("evidence", *shell.signed(USERS[2]))
    assert line.startswith("error: delegate is punished already")


def test_what_the_contract_refuses_has_its_reason_and_remedy(shell: Shell) -> None:
    line = shell.refused("vote", DELEGATE, *shell.signed(USERS[3]))
    assert line == ("error: not enough stake: stake before you vote (stake more, or unstake less)")
    assert "nothing to claim" in shell.refused("claim", *shell.signed(USERS[3]))
    assert "register" in shell.run("register", "--help").output


def test_what_is_wrong_at_once_is_not_sent(shell: Shell) -> None:
    signed = shell.signed(USERS[3])
    assert "nobody is called so" in shell.refused("vote", "nobody", *signed)
    assert "give --nobody" in shell.refused("vote", *signed)
    assert "give --nobody" in shell.refused("vote", DELEGATE, "--nobody", *signed)
    assert "one of --from and --dev" in shell.refused("claim")
    assert "is no amount" in shell.refused("stake", "much", *signed)
    assert "no percentage" in shell.refused("register", "--name", "x", "--commission", "x", *signed)
    assert "checksum" in shell.refused("vote", ALICE.swapcase().replace("0X", "0x"), *signed)


@pytest.mark.parametrize(
    ("text", "points"),
    [("5", 500), ("5%", 500), ("2.5%", 250), ("0.01", 1), ("100 %", 10_000), ("0", 0)],
)
def test_commissions(text: str, points: int) -> None:
    assert read_commission(text) == points


@pytest.mark.parametrize("text", ["", "-1", "101", "0.001", "5%%", "1e1", "٥"])
def test_no_commissions(text: str) -> None:
    with pytest.raises(Invalid, match="no percentage"):
        read_commission(text)


def test_organisations() -> None:
    assert read_organisation("A") == b"A" + bytes(31)
    assert read_organisation("") == bytes(32)
    for text in ("x" * 33, "ü", "a\0b"):
        with pytest.raises(Invalid, match="at most 32"):
            read_organisation(text)


def test_only_reverts_with_our_codes_are_explained() -> None:
    told = explained(Invalid("reverted", "dpos_votes: invalid list of delegates: 17 delegates"))
    assert (told.code, told.detail) == ("dpos_votes", "17 delegates")
    for error in (Invalid("reverted", "other: x"), Invalid("funds", "dpos_votes: x")):
        assert explained(error) is error


def test_status_of_the_node(shell: Shell, running: Running) -> None:
    told = shell.told("status")
    assert told["candidate"]["name"] == DELEGATE
    text = shell.run("status").stdout
    assert "keeps up" in text
    assert "takes part  yes" in text
    voter, running.node.voting.voter = running.node.voting.voter, None
    assert shell.told("status")["account"] is None
    assert "takes part" not in shell.run("status").stdout
    running.node.voting.voter = voter


def test_the_node_on_this_machine(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, str]] = []

    def answer(socket: Path, method: str) -> dict[str, Any]:
        asked.append((socket, method))
        signed = {"epoch": 2, "proposed": 65, "prevoted": 66, "committed": 66}
        return {
            "paused": method == "admin_pause", "delegate": ALICE, "votes": signed, "signer": None,
        }  # fmt: skip

    line = shell.refused("pause", "--data", tmp_path)
    assert "admin.sock" in line
    assert "--data" in line
    monkeypatch.setattr(cli_delegate_views, "admin_call", answer)
    assert shell.told("pause", "--data", tmp_path)["paused"] is True
    assert shell.told("resume", "--socket", tmp_path / "s")["paused"] is False
    text = shell.run("pause", "--data", tmp_path).stdout
    assert "signed  epoch 2, proposed 65, prevoted 66, committed 66" in text
    assert "{" not in text
    del asked[2:]
    assert asked == [
        (tmp_path / "admin.sock", "admin_pause"), (tmp_path / "s", "admin_resume"),
    ]  # fmt: skip


def test_parameters_and_abi_are_told(shell: Shell) -> None:
    assert list(shell.told("parameters")["inForce"]) == list(AMENDABLE)
    found = json.loads(shell.run("abi").stdout)
    assert {"register", "stake", "vote", "submitEvidence", "Slashed"} <= {
        event["name"] for event in found
    }
