"""The drill, small: four real delegates and a candidate. ``make drill`` is the whole of it."""

from pathlib import Path

import pytest

from tests.processes.drill import Drill
from tests.processes.drill_net import network, pace_ms
from tests.processes.drill_watch import Watcher

SLOT_MS = 300
"""On a machine with nothing else to do."""
SLOT_MS_MAX = 1_500
"""A machine that cannot keep these would take many minutes, in real time."""


@pytest.mark.timeout(600)
def test_delegates_are_elected_replaced_killed_and_come_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slot_ms = pace_ms(SLOT_MS)
    if slot_ms > SLOT_MS_MAX:
        pytest.skip(f"the machine is too busy: slots of {slot_ms} ms; make drill takes its time")
    pace = (f"--slot-ms={slot_ms}", "--epoch-slots=12")
    options = ("--delegates=4", "--candidates=1", *pace)
    with network(tmp_path / "net", *options) as net, Watcher(net) as watcher:
        drill = Drill(net, watcher, print)
        drill.begin()
        drill.vote_in()
        drill.stop_one()
        drill.kill_three(8)
        drill.end()
    assert "verified" in capsys.readouterr().out
