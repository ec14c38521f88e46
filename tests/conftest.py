"""The settings of every test, the tests that stay together, and the last line of a run."""

from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.fixtures.vectors import MISSING

FOUND = (Phase.explicit, Phase.generate)

# No test is judged by the wall clock: machines are shared. Examples are few by default, so that the
# suite stays short; --hypothesis-profile=deep looks longer, found takes the same examples in every
# run and shrinks no failure.
settings.register_profile(
    "default", deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "found", settings.get_profile("default"), phases=FOUND, derandomize=True, database=None
)
settings.register_profile("deep", settings.get_profile("default"), max_examples=20_000)
settings.load_profile("default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups tests for ``--dist loadgroup``: a group runs on one worker, in order.

    Real networks need the processors for their slots, so tests of ``tests/processes`` never run
    beside one another. Tests that share a fixture of their module are together, so that the fixture
    is made once. All other tests go to the worker that is free.
    """
    for item in items:
        if group := _group(item):
            item.add_marker(pytest.mark.xdist_group(group))


def _group(item: pytest.Item) -> str:
    folder, _, _ = item.location[0].rpartition("/")
    if folder == "tests/processes":
        return folder
    fixtures = getattr(item, "_fixtureinfo", None)
    shared = (
        definition.scope
        for definitions in (fixtures.name2fixturedefs.values() if fixtures else ())
        for definition in definitions
    )
    return item.location[0] if "module" in shared else ""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, Any, Any]:
    """The last line of a run says when official vectors were missing."""
    result = yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:  # a worker
        return result
    skipped = reporter.stats.get("skipped", [])
    if missing := sum(MISSING in str(report.longrepr) for report in skipped):
        reporter.write_line(
            "README's whole suite is less without ../shared/vectors beside the checkout: "
            f"{missing} tests skipped",
            yellow=True,
        )
    return result
