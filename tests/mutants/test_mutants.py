"""The table of mutants: each can be planted, and its row is true."""

import ast
import builtins
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


def unbound(source: str) -> set[str]:
    """The names that a module reads and binds nowhere."""
    nodes = [*ast.walk(ast.parse(source))]
    names = [node for node in nodes if isinstance(node, ast.Name)]
    bound = {name.id for name in names if not isinstance(name.ctx, ast.Load)} | {*dir(builtins)}
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
            bound.add(node.name)
    return {name.id for name in names} - bound


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: f"{edit.rule} {edit.name}")
def test_an_edit_is_of_a_line_that_is_there(edit: Edit) -> None:
    """And gives a module that runs: a ``NameError`` would fail every test and show no rule."""
    compile(edit.source(), edit.path, "exec")
    assert unbound(edit.source()) <= unbound(edit.path.read_text())
    assert all((ROOT / test.partition("::")[0]).is_file() for test in edit.tests)


def test_a_name_that_is_gone_is_found() -> None:
    assert unbound("from a import b as c\ndef f(x): return [y for y in x if c(y, here)]") == {
        "here"
    }


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
