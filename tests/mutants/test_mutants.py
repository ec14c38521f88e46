"""The table of mutants: each can be planted, and its row is true."""

from dataclasses import replace

import pytest

from tests import ROOT
from tests.mutants.edits import Edit
from tests.mutants.run import GROUPS, caught, chosen, judge, mutants, row

EVERY = [(group, one) for group, module, name in GROUPS for one in mutants(module, name)]
EDITS = [one for _, one in EVERY if isinstance(one, Edit)]
QUICK = replace(
    next(one for one in EDITS if one.name == "users are never refused"),
    tests=(
        "tests/unit/consensus/finality/test_finality.py::test_users_wait_from_four_times_the_parameter",
    ),
)


def test_every_mutant_has_a_row_of_its_own() -> None:
    rows = [row(group, one) for group, one in EVERY]
    assert len(rows) == len({*rows}) > 100


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: f"{edit.rule} {edit.name}")
def test_an_edit_is_of_a_line_that_is_there(edit: Edit) -> None:
    compile(edit.source(), edit.path, "exec")
    assert all((ROOT / test.partition("::")[0]).is_file() for test in edit.tests)


def test_an_edit_is_caught_and_none_is_not() -> None:
    assert caught(QUICK).startswith(QUICK.tests[0])
    assert caught(replace(QUICK, new=QUICK.old)) == ""
    with pytest.raises(RuntimeError, match="pytest ends"):
        caught(replace(QUICK, tests=("tests/test_nothing.py",)))
    with pytest.raises(ValueError, match="has 0 times"):
        caught(replace(QUICK, old="a line that nobody wrote"))


def test_rows_are_found_by_their_words() -> None:
    (place,) = chosen(["finality: V2 dropped"])
    judged = judge(place)
    assert judged.row == "finality: V2 dropped"
    assert judged.where.startswith("tree ")
    assert not judged.error
