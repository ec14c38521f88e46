"""Reads in steps: other requests are served between steps, few reads run at a time, none for
long."""

import asyncio
import json
from typing import Any, cast

import pytest

from dipnet.primitives.errors import Invalid
from dipnet.rpc import jsonrpc
from dipnet.rpc.backend import Backend
from dipnet.rpc.jsonrpc import STEPS_RUNNING_MAX, Rpc
from dipnet.rpc.method import RpcMethod, Steps, table


class Fake:
    """A backend that counts the reads under way, and their greatest number at once."""

    def __init__(self) -> None:
        self.running = self.most = 0
        self.bugs: list[Exception] = []

    async def settled(self) -> None:
        """Returns at once: no write is under way."""

    def failed(self, error: Exception) -> None:
        self.bugs.append(error)


def counted(backend: Fake) -> Steps[int]:
    backend.running += 1
    backend.most = max(backend.most, backend.running)
    for _ in range(50):
        yield
    backend.running -= 1
    return backend.most


def endless(backend: Fake) -> Steps[int]:
    while True:
        yield


def refusing(backend: Fake) -> Steps[int]:
    yield
    raise Invalid("limit", "at the second step")


def broken(backend: Fake) -> Steps[int]:
    yield
    raise KeyError("a bug")


METHODS = table(
    [RpcMethod(function.__name__, (), function, "", "", way="steps")
     for function in (counted, endless, refusing, broken)]
)  # fmt: skip


def request(method: str) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method}).encode()


def answers(*methods: str, fake: Fake | None = None) -> list[Any]:
    async def main() -> list[Any]:
        rpc = Rpc(cast(Backend, fake or Fake()), METHODS)
        raws = await asyncio.gather(*[rpc.answer(request(method)) for method in methods])
        return [json.loads(raw) for raw in raws]

    return asyncio.run(main())


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonrpc, "STEPS_TURN_MS", 0)


@pytest.mark.usefixtures("_short")
def test_few_run_at_a_time_and_all_are_answered() -> None:
    fake = Fake()
    found = answers(*["counted"] * 10, fake=fake)
    assert fake.most == STEPS_RUNNING_MAX
    assert [answer["result"] for answer in found[-3:]] == [STEPS_RUNNING_MAX] * 3


@pytest.mark.usefixtures("_short")
def test_others_are_served_between_the_steps() -> None:
    turns: list[int] = []

    async def main() -> None:
        fake = Fake()
        rpc = Rpc(cast(Backend, fake), METHODS)
        reading = asyncio.create_task(rpc.answer(request("counted")))
        while not reading.done():
            turns.append(fake.running)
            await asyncio.sleep(0)

    asyncio.run(main())
    assert sum(turns) > 20


def code(answer: Any) -> str:
    return str(answer["error"]["data"]["code"])


def test_no_read_lasts_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonrpc, "STEPS_MS_MAX", 5)
    assert [code(answer) for answer in answers("endless", "endless", "endless")] == ["limit"] * 3


def test_too_many_that_wait_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonrpc, "STEPS_WAITING_MAX", 3)
    monkeypatch.setattr(jsonrpc, "STEPS_TURN_MS", 0)
    found = answers(*["counted"] * 5)
    assert ["error" in answer for answer in found] == [False] * 3 + [True] * 2
    assert code(found[-1]) == "busy"


@pytest.mark.parametrize(
    ("method", "expected", "bugs"), [("refusing", "limit", 0), ("broken", "internal", 1)]
)
def test_a_failure_at_a_later_step(method: str, expected: str, bugs: int) -> None:
    fake = Fake()
    (answer,) = answers(method, fake=fake)
    assert (code(answer), len(fake.bugs)) == (expected, bugs)
