"""The device library against the shipping DAG: nothing lost or doubled, one unbroken chain."""

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dipnet.dag import senml
from dipnet.dag.vertex import ID_ZERO, PAYLOAD_SENML, topic_of
from dipnet.primitives.errors import Corrupt, Invalid
from dipnet.sdk import keys
from dipnet.sdk.device import Device, Template, patiently, sign_chain
from dipnet.sdk.outbox import HEAD_NONE, Head, Outbox, Unsigned
from tests.fixtures.device_node import CHAIN_ID, DagNode

SECRET = keys.DEV_SECRETS[5]
ISSUER = keys.address_of(SECRET)


def device(node: DagNode, path: Path | None = None, batch: int = 3) -> Device:
    return Device(SECRET, node, path, now_ms=lambda: 1_700_000_000_000, batch=batch)


def numbered(*numbers: int) -> list[Unsigned]:
    return [Unsigned(topic_of("t"), b"%d" % n, 0, n) for n in numbers]


def recorded(node: DagNode, issuer: bytes = ISSUER) -> list[int]:
    """The numbers in the DAG, after a check that its vertices form a chain."""
    prev, seq = ID_ZERO, 0
    numbers = []
    for vertex in node.chain(issuer):
        assert (vertex.seq, vertex.prev) == (seq + 1, prev)
        prev, seq = vertex.id, vertex.seq
        numbers.append(int(vertex.payload))
    return numbers


def refused(made: Device) -> Invalid:
    with pytest.raises(Invalid) as error:
        made.flush()
    return error.value


def test_a_reading_becomes_a_signed_senml_vertex() -> None:
    node = DagNode()
    with device(node) as made:
        made.reading("pump-7", 21.5, unit="Cel", time_s=1_600_000_000)
        made.reading("pump-7", True)
        made.payload("log", b"raw")
        assert made.flush() == 3
        assert made.outbox.waiting == 0
    old, now, raw = node.chain(ISSUER)
    assert senml.resolve(old.payload, 0) == (senml.Reading("pump-7", 1_600_000_000, 21.5, "Cel"),)
    assert senml.resolve(now.payload, 0)[0].time == 1_700_000_000
    assert (old.payload_type, old.topic) == (PAYLOAD_SENML, topic_of("pump-7"))
    assert old.timestamp_ms == 1_700_000_000_000
    assert (raw.payload_type, raw.payload) == (0, b"raw")
    assert now.parents == (old.id,)


def test_a_chain_goes_on_after_a_restart(tmp_path: Path) -> None:
    node = DagNode()
    for n in range(4):
        with device(node, tmp_path / "box") as made:
            made.put(numbered(2 * n, 2 * n + 1))
            assert made.flush() == 2
    assert recorded(node) == list(range(8))
    with device(node, tmp_path / "box") as made:
        assert (made.outbox.settled, made.outbox.source) == (8, 7)


def test_a_lost_outbox_goes_on_where_the_node_is() -> None:
    node = DagNode()
    for n in range(3):
        with device(node) as made:
            made.put(numbered(n))
            made.flush()
    assert recorded(node) == [0, 1, 2]


def test_the_same_bytes_are_sent_again(tmp_path: Path) -> None:
    node = DagNode(faults=["lost", "unanswered"])
    with device(node, tmp_path / "box") as made:
        made.put(numbered(0, 1, 2))
        assert refused(made).code == "unreachable"
    with device(node, tmp_path / "box") as made:
        assert refused(made).code == "unreachable"
        made.put(numbered(3))
        assert made.flush() == 4
    assert node.submissions[0] == node.submissions[1] == node.submissions[2]
    assert recorded(node) == [0, 1, 2, 3]


def test_the_taken_part_of_a_batch_is_settled(tmp_path: Path) -> None:
    node = DagNode(faults=["cut"])
    with device(node, tmp_path / "box", batch=4) as made:
        made.put(numbered(0, 1, 2, 3))
        assert refused(made).code == "disk"
        assert (made.outbox.settled, made.outbox.waiting) == (2, 2)
        assert made.flush() == 2
    assert recorded(node) == [0, 1, 2, 3]


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 7),
            st.lists(st.sampled_from(["", "lost", "unanswered", "busy", "cut"]), max_size=4),
            st.booleans(),
        ),
        max_size=8,
    ),
    st.integers(1, 5),
)
def test_whatever_fails_every_reading_is_recorded_once(
    tmp_path_factory: pytest.TempPathFactory,
    rounds: list[tuple[int, list[str], bool]],
    batch: int,
) -> None:
    node, path = DagNode(), tmp_path_factory.mktemp("box") / "box"
    made, total = device(node, path, batch), 0
    for count, faults, killed in rounds:
        made.put(numbered(*range(total + 1, total + 1 + count)))
        total += count
        node.faults = faults
        try:
            made.flush()
        except Invalid as error:
            assert error.code in ("unreachable", "busy", "disk")  # noqa: PT017
        if killed:
            made.close()
            made = device(node, path, batch)
    node.faults = []
    made.flush()
    assert made.outbox.settled == total
    made.close()
    assert recorded(node) == list(range(1, total + 1))


def test_a_killed_process_loses_nothing_that_was_put_or_signed(tmp_path: Path) -> None:
    node = DagNode(faults=["lost"])
    made = device(node, tmp_path / "box")
    made.put(numbered(0, 1))
    assert refused(made).code == "unreachable"
    made.put(numbered(2))
    # Not closed: a kill leaves the files as they are now.
    for name in ("box", "box-wal"):
        (tmp_path / "copy" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "copy" / name).write_bytes((tmp_path / name).read_bytes())
    made.close()
    with device(node, tmp_path / "copy" / "box") as again:
        assert again.outbox.waiting == 3
        assert again.flush() == 3
    assert node.submissions[0] == node.submissions[1]
    assert recorded(node) == [0, 1, 2]


# --- what an outbox refuses


def test_two_outboxes_of_one_key(tmp_path: Path) -> None:
    node = DagNode()
    with (
        device(node, tmp_path / "one") as first_device,
        device(node, tmp_path / "two") as second_device,
    ):
        for made in (first_device, second_device):
            made.put(numbered(1))
            made.flush()
        first_device.put(numbered(2))
        first = refused(first_device)
        # a running device cannot tell this from a node that is behind
        assert first.code == "syncing"
        assert "another outbox signs with the same key" in str(refused(first_device))


def test_another_chain(tmp_path: Path) -> None:
    with device(DagNode(), tmp_path / "box") as made:
        made.put(numbered(1))
        made.flush()
    with device(DagNode(genesis=bytes(32)), tmp_path / "box") as made:
        made.put(numbered(2))
        error = refused(made)
    assert error.code == "outbox"
    assert "is for the chain" in str(error)


def test_a_node_that_is_behind_is_waited_for(tmp_path: Path) -> None:
    ahead, behind = DagNode(), DagNode()
    with device(ahead, tmp_path / "box") as made:
        made.put(numbered(1, 2))
        made.flush()
    with device(behind, tmp_path / "box") as made:
        made.put(numbered(3))
        assert refused(made).code == "syncing"
        for wires in ahead.submissions:
            behind._submit(wires)
        assert made.flush() == 1
    assert recorded(behind) == [1, 2, 3]


def test_one_process_at_a_time_and_one_key(tmp_path: Path) -> None:
    with device(DagNode(), tmp_path / "box"), pytest.raises(Invalid, match="in use by another"):
        Outbox(tmp_path / "box", ISSUER)
    with pytest.raises(Invalid, match="is of another key"):
        Outbox(tmp_path / "box", bytes(20))


def test_files_that_are_no_outbox(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("something else entirely, and longer than a header\n" * 100)
    with sqlite3.connect(tmp_path / "database") as db:
        db.execute("CREATE TABLE mine (x)")
    db.close()
    (tmp_path / "dir").mkdir()
    for name in ("text", "database", "dir", "none/box"):
        with pytest.raises(Invalid) as error:
            Outbox(tmp_path / name, ISSUER)
        assert error.value.code == "outbox"
    assert "something else" in (tmp_path / "text").read_text()


def test_a_damaged_outbox_is_corrupt(tmp_path: Path) -> None:
    node = DagNode(faults=["lost"])
    with device(node, tmp_path / "box") as made:
        made.put(numbered(*range(500)))
        refused(made)
    raw = bytearray((tmp_path / "box").read_bytes())
    for at in range(4096, len(raw)):
        raw[at] = 0xA5
    (tmp_path / "box").write_bytes(raw)
    with pytest.raises((Corrupt, Invalid)), device(node, tmp_path / "box") as made:
        made.flush()


def test_an_empty_file_becomes_an_outbox(tmp_path: Path) -> None:
    (tmp_path / "box").touch()
    with device(DagNode(), tmp_path / "box") as made:
        made.put(numbered(1))
        assert made.flush() == 1


# --- parts


def test_no_reference_is_older_than_the_own_vertex_before_it() -> None:
    head = Head(7, b"\7" * 32, 50, b"\5" * 8)
    behind = Template(CHAIN_ID, 40, b"\4" * 8, (b"\1" * 32,), 8, b"\7" * 32)
    _, after = sign_chain(SECRET, behind, head, numbered(1, 2), 0)
    assert (after.seq, after.ref_height, after.ref_hash) == (9, 50, b"\5" * 8)
    ahead = Template(CHAIN_ID, 60, b"\6" * 8, (), 8, b"\7" * 32)
    _, after = sign_chain(SECRET, ahead, head, numbered(1), 0)
    assert (after.ref_height, after.ref_hash) == (60, b"\6" * 8)


@pytest.mark.parametrize(
    "answer",
    [None, [], {}, {"chainId": 1}, {"chainId": "x", "refHeight": 1}],
)
def test_a_template_of_another_form(answer: object) -> None:
    with pytest.raises(Invalid) as error:
        Template.read(answer)
    assert error.value.code == "remote"


@pytest.mark.parametrize(("seq", "prev"), [(0, 32), (2**64, 32), (1, 31), (-1, 32)])
def test_a_template_of_impossible_values(seq: int, prev: int) -> None:
    answer = {"chainId": 1, "refHeight": 1, "refHash": "0x" + "00" * 8, "parents": []}
    with pytest.raises(Invalid):
        Template.read(answer | {"seq": seq, "prev": "0x" + "00" * prev})


def test_large_payloads_are_sent_in_parts(tmp_path: Path) -> None:
    node = DagNode()
    with device(node, tmp_path / "box", batch=100) as made:
        made.put([Unsigned(topic_of("t"), bytes(30_000), 0) for _ in range(40)])
        assert made.flush() == 40
    assert len(node.submissions) > 1
    assert all(2 * sum(map(len, wires)) + 2_000 < 1 << 20 for wires in node.submissions)


def test_patience_ends_only_for_what_does_not_pass() -> None:
    failures = [Invalid("unreachable"), Invalid("busy"), Invalid("busy"), None]
    said: list[str] = []
    slept: list[float] = []

    def work() -> None:
        failure = failures.pop(0)
        if failure is not None:
            raise failure

    patiently(work, said.append, slept.append)
    assert slept == [0.5, 1.0, 2.0]
    assert len(said) == 3  # each reason is logged once, and its end
    failures = [Invalid("vertex_signature")]
    with pytest.raises(Invalid):
        patiently(work, said.append, slept.append)


def test_head_none_is_no_vertex() -> None:
    assert Head(0, ID_ZERO, 0, bytes(8)) == HEAD_NONE
