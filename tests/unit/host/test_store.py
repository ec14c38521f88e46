"""The store: reads see what is staged, batches are atomic, the first error ends it."""

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import plyvel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipnet.host.store import FORMAT, META_FORMAT, Store
from dipnet.primitives.errors import Corrupt, Invalid
from tests.fixtures.memory import Memory


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "db")
    yield opened
    opened.close()


KEYS = st.binary(min_size=1, max_size=3).map(lambda key: b"x" + key)
PUTS = st.dictionaries(KEYS, st.none() | st.binary(max_size=4), max_size=8)


@given(
    batches=st.lists(st.tuples(PUTS, st.booleans()), max_size=6),
    start=st.binary(max_size=3).map(lambda key: b"x" + key),
)
def test_reads_equal_a_plain_mapping(
    tmp_path_factory: pytest.TempPathFactory, batches: list, start: bytes
) -> None:
    store, memory = Store(tmp_path_factory.mktemp("s") / "db"), Memory()
    try:
        for puts, commit in batches:
            store.stage(puts)
            memory.apply(puts)
            if commit:
                store.commit()
            assert all(store.get(key) == memory.get(key) for key in puts)
            for reverse in (False, True):
                for begin in (b"", start):
                    got = list(store.scan(b"x", begin, reverse))
                    assert got == list(memory.scan(b"x", begin, reverse))
    finally:
        store.close()


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({META_FORMAT: b"dipnet 1"}, "was written by an earlier dipnetd"),
        ({META_FORMAT: b"dipnet 1", b"b": b"1"}, "move the directory away"),
        ({META_FORMAT: b"dipnet 3"}, "was written by a later dipnetd"),
        ({META_FORMAT: b"dipnet 10"}, "was written by a later dipnetd"),
        ({META_FORMAT: b"dipnet " + b"9" * 10_000}, "was written by a later dipnetd"),
        ({META_FORMAT: b"dipnet two"}, "a database that is not dipnetd's"),
        ({META_FORMAT: b"dipnet "}, "a database that is not dipnetd's"),
        ({META_FORMAT: b"another program"}, "a database that is not dipnetd's"),
        ({b"key": b"value"}, "a database that is not dipnetd's"),
    ],
)
def test_records_of_other_programs_are_refused_and_left_alone(
    tmp_path: Path, found: dict[bytes, bytes], told: str
) -> None:
    made = plyvel.DB(str(tmp_path / "db"), create_if_missing=True)
    for key, value in found.items():
        made.put(key, value)
    made.close()
    for _ in range(2):
        with pytest.raises(Invalid, match=told) as caught:
            Store(tmp_path / "db")
        assert caught.value.code == "config"
    left = plyvel.DB(str(tmp_path / "db"))
    assert dict(left) == found
    left.close()


def test_a_new_store_says_its_format(store: Store) -> None:
    assert store.get(META_FORMAT) == FORMAT == b"dipnet 2"


def test_reopens_with_all_that_was_committed_and_nothing_staged(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    store.stage({b"a": b"1", b"b": b"2"})
    store.commit()
    store.stage({b"a": None, b"c": b"3"})
    store.close()
    again = Store(tmp_path / "db")
    assert [again.get(key) for key in (b"a", b"b", b"c")] == [b"1", b"2", None]
    again.close()


def test_second_opener_is_told_what_to_do(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="in use by another dipnetd"):
        Store(tmp_path / "db")


def test_thread_joins_staged_writes_and_reports_them_in_order(store: Store) -> None:
    seen: list[int] = []
    all_done = threading.Event()

    def durable(count: int) -> None:
        seen.append(count)
        if count == 100:
            all_done.set()

    store.start(durable, pytest.fail)
    for number in range(100):
        store.stage({b"k%d" % number: b"v"})
    assert all_done.wait(30)
    assert seen == sorted(set(seen))
    assert seen[-1] == 100


def test_a_write_before_its_thread_has_begun_counts(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the count of durable writes would lag, and effects would wait for ever."""

    class Late(threading.Thread):
        def start(self) -> None:
            store.stage({b"early": b"1"})
            super().start()

    monkeypatch.setattr("dipnet.host.store.threading.Thread", Late)
    seen: list[int] = []
    done = threading.Event()

    def durable(count: int) -> None:
        seen.append(count)
        done.set()

    store.start(durable, pytest.fail)
    assert done.wait(30)
    assert seen == [1]


def test_what_waits_for_the_disk_is_counted(store: Store) -> None:
    store.stage({b"k": bytes(1000), b"gone": None})
    store.stage({b"k": bytes(500)})
    assert store.staged_bytes == 1505 + 1
    store.commit()
    assert store.staged_bytes == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_its_thread_leaves_nobody_waiting(store: Store) -> None:
    told: list[str] = []
    done = threading.Event()

    def failed(reason: str) -> None:
        told.append(reason)
        done.set()

    def bug(count: int) -> None:
        raise ZeroDivisionError(count)

    store.start(bug, failed)
    store.stage({b"k": b"v"})
    assert done.wait(30)
    assert "storage failed" in told[0]
    with pytest.raises(Corrupt):
        store.stage({b"k": b"w"})


def test_damaged_log_is_corrupt_and_says_what_to_do(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    for number in range(50):
        store.stage({b"key%d" % number: os.urandom(300)})
        store.commit()
    store.close()
    log = max((tmp_path / "db").glob("*.log"), key=lambda path: path.stat().st_size)
    damaged = bytearray(log.read_bytes())
    damaged[len(damaged) // 2] ^= 0x40
    log.write_bytes(bytes(damaged))
    with pytest.raises(Corrupt, match="move the directory away"):
        Store(tmp_path / "db")


FULL_DISK = """
import resource, sys
from pathlib import Path
from dipnet.primitives.errors import Corrupt
from dipnet.host.store import Store
store = Store(Path(sys.argv[1]))
store.stage({b"before": b"1"}); store.commit()
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
failed = 0
for number in range(20):
    try:
        store.stage({b"k%d" % number: bytes(50_000)}); store.commit()
        print("ok", number)
    except Corrupt as error:
        failed += 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        assert "storage failed" in str(error), error
assert failed > 10
"""


def test_first_write_error_latches_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """A file-size limit stands for the full disk: the append fails inside LevelDB."""
    ran = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "db")],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    )
    assert ran.returncode == 0, ran.stderr
    acknowledged = [int(line.split()[1]) for line in ran.stdout.splitlines()]
    assert acknowledged == list(range(len(acknowledged))), "nothing is written after the error"
    again = Store(tmp_path / "db")
    assert again.get(b"before") == b"1"
    assert all(again.get(b"k%d" % number) == bytes(50_000) for number in acknowledged)
    again.close()
