"""docs/staking.md: its example runs as it stands, and it names all that there is."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dipnet.cli.main import app
from dipnet.consensus.staking import parameters, stakes
from dipnet.consensus.staking.idpos import METHODS
from dipnet.consensus.staking.queries import PAGE_MAX
from dipnet.ledger.parameters import (
    CHANGE_MS_MAX,
    EPOCH_MS_MIN,
    FLOOR_TIMES_MAX,
    Parameters,
    rows,
)
from dipnet.ledger.rules import RULES
from dipnet.primitives.errors import REFUSALS
from dipnet.vm.abi import INPUT_BYTES_MAX
from dipnet.vm.storage_layout import ACCOUNTS
from dipnet.vm.system import TRANSFER_GAS
from tests import ROOT
from tests.fixtures.chain_builder import ETHER, USERS, secret
from tests.fixtures.rpc_running import Running

TEXT = (ROOT / "docs" / "staking.md").read_text()


@pytest.fixture(name="running")
def _running() -> Iterator[Running]:
    found = Running(mining=True, delegates=4, delegate_stake_min=100 * ETHER)
    yield found
    found.stop()


def test_the_example_runs(
    running: Running,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    abi = CliRunner().invoke(app, ["delegate", "abi"])
    Path("IDpos.json").write_text(abi.stdout)
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(example, {"url": running.url, "key": secret(USERS[0])})
    expires = running.node.genesis.parameters.vote_expiry_epochs
    told, proven = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"[\[(]'0x\w+', '0x\w+'[\])] until epoch {expires}", told)
    assert proven == "True"


def test_it_names_every_method_refusal_and_price() -> None:
    marked = {*re.findall(r"`(\w+)[`(]", TEXT)}
    assert set(METHODS) - marked == set()
    codes = {code for code in REFUSALS if code.startswith("dpos_")}
    assert set(re.findall(r"^\| `(dpos_\w+)` \|", TEXT, re.MULTILINE)) == codes


def test_its_words_in_code_are_parameters() -> None:
    named = {*re.findall(r"`([a-z]+(?:_[a-z]+)+)`", TEXT)} - set(REFUSALS)
    assert len(named) > 15
    assert named - set(rows(Parameters)) == {"dpos_delegates", "dpos_schedule"}
    prices = {f"dpos_gas{suffix}" for suffix in re.findall(r"`(_[a-z]+)`", TEXT)}
    assert prices == {"dpos_gas_text", "dpos_gas_array", "dpos_gas_judge"}
    assert prices <= set(rows(Parameters))


def test_its_limits_of_votes() -> None:
    lines = re.findall(r"^\| `(\w+)` \| ([\d,^]+) \| ([\d,^]+) \|$", TEXT, re.MULTILINE)
    shown = {name: (number_of(low), number_of(high)) for name, low, high in lines}
    assert shown == {
        name: row.votes
        for name, row in rows(Parameters).items()
        if row.votes is not None and row.votes != (row.low, row.high)
    }
    assert f"shorter than {EPOCH_MS_MIN // 1_000} seconds" in TEXT
    assert f"longer than {CHANGE_MS_MAX // 86_400_000} days" in TEXT
    assert f"more than {FLOOR_TIMES_MAX:,} times" in TEXT


def test_its_numbers_of_the_rules() -> None:
    lines = re.findall(r"^\| (\d+) \| (.+) \|$", TEXT, re.MULTILINE)
    assert lines == [(str(one.number), one.changes) for one in RULES.values()]


def number_of(text: str) -> int:
    base, _, power = text.replace(",", "").partition("^")
    return int(base) ** int(power or 1)


def test_its_numbers() -> None:
    assert f"after {parameters.PROPOSAL_EPOCHS}\n" in TEXT
    assert f"at most\n  {PAGE_MAX}" in TEXT
    assert f"more than {INPUT_BYTES_MAX:,} bytes" in TEXT
    assert f"transfers of {TRANSFER_GAS:,}" in TEXT
    assert "accounts is variable 1" in TEXT
    assert ACCOUNTS.word == 1
    assert "stake its first word" in TEXT
    assert stakes.STAKE.word == 0
