"""The drill, small: four real delegates and a candidate. ``make drill`` is the whole of it."""

from pathlib import Path

import pytest

from tests.drill import Drill
from tests.drill_net import network
from tests.drill_watch import Watcher

PACE = ("--delegates=4", "--candidates=1", "--slot-ms=300", "--epoch-slots=12")


@pytest.mark.timeout(240)
def test_delegates_are_elected_replaced_killed_and_come_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with network(tmp_path / "net", *PACE) as net, Watcher(net) as watcher:
        drill = Drill(net, watcher, print)
        drill.begin()
        drill.vote_in()
        drill.stop_one()
        drill.kill_three(8)
        drill.end()
    assert "verified" in capsys.readouterr().out
