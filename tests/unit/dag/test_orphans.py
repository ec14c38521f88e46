"""Orphans: bounded, released once, dropped with an invalid parent, their parents asked for
again."""

import random

from hypothesis import given
from hypothesis import strategies as st

from dipnet._native import dag as native
from dipnet.dag import graph
from dipnet.dag.graph import Dag
from dipnet.dag.orphans import Orphans
from tests.fixtures.drawing import CHAIN_ID, draw, vertex_id
from tests.fixtures.memory import Memory
from tests.unit.dag.test_graph import Node, Rules


def test_release_needs_every_parent() -> None:
    orphans = Orphans()
    assert orphans.add(b"c", b"wire c", [b"a", b"b"]) == [b"a", b"b"]
    assert orphans.add(b"d", b"wire d", [b"b", b"c"]) == [b"c"]
    assert orphans.add(b"c", b"again", [b"a", b"b"]) == []
    assert orphans.wanted(10) == [b"a", b"b"]
    assert orphans.wanted(1) == [b"a"]
    assert orphans.release(b"a") == []
    assert orphans.release(b"b") == [b"wire c"]
    assert orphans.release(b"c") == [b"wire d"]
    assert (len(orphans), orphans.size, orphans.wanted(10)) == (0, 0, [])


def test_an_orphan_that_came_again_and_stood_is_forgotten() -> None:
    orphans = Orphans()
    orphans.add(b"b", b"wire b", [b"a"])
    orphans.add(b"c", b"wire c", [b"b"])
    assert orphans.release(b"b") == [b"wire c"]
    assert (len(orphans), orphans.size, orphans.wanted(10)) == (0, 0, [])


def test_the_oldest_goes_first_by_count_and_by_bytes() -> None:
    for orphans in (Orphans(count_max=3), Orphans(bytes_max=12)):
        for name in b"abcdef":
            orphans.add(bytes((name,)), b"wire", [bytes((name + 1,))])
        assert [bytes((n,)) in orphans for n in b"abcdef"] == [False] * 3 + [True] * 3
        assert orphans.size == 12
        assert orphans.wanted(10) == [b"g"]
        assert orphans.release(b"d") == []
        assert orphans.release(b"g") == [b"wire"]


def test_an_evicted_parent_is_wanted_again() -> None:
    orphans = Orphans(count_max=2)
    orphans.add(b"b", b"wire", [b"a"])
    orphans.add(b"c", b"wire", [b"b"])
    assert orphans.wanted(10) == [b"a"]
    orphans.add(b"e", b"wire", [b"d"])
    assert orphans.wanted(10) == [b"b", b"d"]


@given(st.integers(0, 2**32))
def test_books_balance(seed: int) -> None:
    """After any steps the sizes are right, and each orphan waits only for missing parents."""
    rng, orphans = random.Random(seed), Orphans(count_max=6, bytes_max=60)
    held: dict[bytes, bytes] = {}
    for _ in range(60):
        id = bytes((rng.randrange(12),))
        step = rng.random()
        if step < 0.6:
            parents = [bytes((n,)) for n in rng.sample(range(12), rng.randrange(1, 4))]
            wire = bytes(rng.randrange(20))
            if id not in orphans:
                held[id] = wire
            orphans.add(id, wire, [parent for parent in parents if parent != id] or [b"p"])
        elif step < 0.9:
            orphans.release(id)
        else:
            assert id not in orphans or id in orphans.drop(id)
        held = {id: wire for id, wire in held.items() if id in orphans}
        assert len(held) == len(orphans) <= 6
        assert sum(map(len, held.values())) == orphans.size <= 60
        assert bool(held) == bool(orphans.wanted(1)) or held
        assert not set(orphans.wanted(99)) & set(held)
    for id in held:
        orphans.drop(id)
    assert (len(orphans), orphans.size, orphans.wanted(9)) == (0, 0, [])


def bounded(count_max: int) -> Dag:
    return Dag(Memory(), Rules(), 1, Orphans(count_max=count_max))


def test_a_batch_of_more_orphans_than_there_is_room_for() -> None:
    wires = draw("a " + " ".join(f"v{i}:a" for i in range(10)), sign=False)
    parent = wires.pop("a")
    dag = bounded(4)
    done = dag.insert(native.check_items(list(wires.values()), CHAIN_ID, None, 1))
    assert list(done.statuses) == [graph.REFUSED] * 6 + [graph.PENDING] * 4
    assert {error.code for _, error in done.refused} == {"vertex_orphan"}
    assert done.missing == (vertex_id(parent),)
    assert len(dag.insert(native.check_items([parent], CHAIN_ID, None, 1)).accepted) == 5


def test_descendants_of_a_refused_vertex_do_not_wait() -> None:
    node = Node()
    wires = draw("a@5 b@4:a c@5:b d@6:c e@5:b,a x@9 y@9:x", sign=False)
    done = node.insert(wires["c"], wires["d"], wires["e"], wires["y"])
    assert set(done.statuses) == {graph.PENDING}
    refused = node.insert(wires["a"], wires["b"])
    assert list(refused.statuses) == [graph.ACCEPTED, graph.REFUSED]
    assert refused.accepted == (vertex_id(wires["a"]),)
    assert node.dag.stats()["orphans"] == 1
    assert node.dag.wanted() == [vertex_id(wires["x"])]
    at_once = node.insert(wires["d"], wires["c"], wires["b"])
    assert [error.code for _, error in at_once.refused] == ["vertex_age"] * 3
    assert at_once.missing == ()


def test_a_chain_backwards_is_released_in_one_go() -> None:
    names = [f"v{i}" for i in range(300)]
    text = " ".join(f"{n}:{names[i - 1]}" if i else n for i, n in enumerate(names))
    wires = list(draw(text, sign=False).values())
    node = Node()
    for wire in reversed(wires[1:]):
        done = node.insert(wire)
        assert (len(done.accepted), len(done.missing)) == (0, 1)
    assert len(node.dag.wanted()) == 1
    done = node.insert(wires[0])
    assert done.accepted == tuple(map(vertex_id, wires))
    assert node.dag.height(vertex_id(wires[-1])) == 300
    assert node.dag.stats()["orphanBytes"] == 0
