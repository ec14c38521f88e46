"""The DAG against its twin: random graphs in shuffled arrivals, batches, restarts, tips."""

import random
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dipnet._native import dag as native
from dipnet.dag import graph, vertex
from dipnet.dag.graph import KEY_VERTEX, Dag, Inserted
from dipnet.dag.vertex import ID_ZERO, topic_of
from dipnet.primitives.crypto import address, public_key
from dipnet.primitives.errors import Corrupt, Invalid
from tests.fixtures import dag_twin
from tests.fixtures.drawing import CHAIN_ID, draw, secret, vertex_id
from tests.fixtures.memory import Memory

AGE = 60


@dataclass(frozen=True)
class Rules:
    chain_id: int = CHAIN_ID
    dag_max_parent_age: int = AGE


class Node:
    """A DAG and its disk."""

    def __init__(self, disk: Memory | None = None) -> None:
        self.disk = Memory() if disk is None else disk
        self.dag = Dag.load(self.disk, Rules(), seed=5)

    def insert(self, *wires: bytes) -> Inserted:
        done = self.dag.insert(native.check_items(list(wires), CHAIN_ID, None, 1))
        self.disk.apply(done.puts)
        assert list(done.wires()) == [self.dag.raw(id) for id in done.accepted]
        return done

    def tips(self) -> set[bytes]:
        return set(self.dag.tips(10_000, 0))


def random_dag(rng: random.Random, count: int) -> list[bytes]:
    """Wire bytes with parents before children; some vertices break the rule of ages."""
    words: list[str] = []
    refs: list[int] = []
    for i in range(count):
        names = rng.sample(range(i), min(i, rng.choice([0, 1, 2, 2, 4, 8])))
        low = max((refs[j] for j in names), default=0)
        ref = max(0, low + rng.choice([0, 0, 0, 1, 5, 30, 55, 61, -1]))
        refs.append(ref)
        issuer = rng.choice("pqrs")
        suffix = f":{','.join(words[j].split('@')[0] for j in names)}" if names else ""
        words.append(f"{issuer}{i}@{ref}#{rng.randrange(1, 9)}{suffix}")
    return list(draw(" ".join(words), sign=False).values())


@given(st.integers(0, 2**64 - 1), st.integers(1, 40))
@settings(max_examples=150)
def test_any_arrival_gives_what_the_twin_gives(seed: int, count: int) -> None:
    rng = random.Random(seed)
    wires = random_dag(rng, count)
    arrival = wires + rng.sample(wires, rng.randrange(count))
    rng.shuffle(arrival)
    node, twin = Node(), dag_twin.TwinDag(AGE)
    twin.add(dag_twin.parse(wire)[0] for wire in wires)
    accepted: list[bytes] = []
    while arrival:
        step = rng.randrange(1, 8)
        accepted += node.insert(*arrival[:step]).accepted
        arrival = arrival[step:]
    assert sorted(accepted) == sorted(twin.standing)
    assert {id: node.dag.height(id) for id in accepted} == twin.heights
    assert node.tips() == twin.tips()
    assert [node.dag.ordinal(id) for id in accepted] == list(range(len(accepted)))
    for v in twin.standing.values():
        assert node.dag.raw(v.id) == v.raw
    for issuer in {v.issuer for v in twin.standing.values()}:
        compare_issuer(node.dag, twin, issuer)
    compare_restart(node)


def compare_issuer(dag: Dag, twin: dag_twin.TwinDag, issuer: bytes) -> None:
    for topic in (None, topic_of("t")):
        latest = dag.latest(issuer, topic)
        assert latest is not None
        assert latest.id in twin.latest(issuer, topic)
    assert dag.latest(issuer, topic_of("other")) is None
    mine = [v for v in twin.standing.values() if v.issuer == issuer and v.seq >= 3]
    found = dag.range(issuer, 3, 256)
    assert Counter(v.id for v in found) == Counter(v.id for v in mine)
    assert [v.seq for v in found] == sorted(v.seq for v in mine)


def compare_restart(node: Node) -> None:
    again = Node(node.disk)
    assert len(again.dag) == len(node.dag)
    assert again.tips() == node.tips()
    before, after = node.dag.stats(), again.dag.stats()
    for name in ("vertices", "tips", "edges", "issuers", "streams"):
        assert before[name] == after[name]


def test_statuses_of_one_batch() -> None:
    node = Node()
    wires = draw("a@5 b@5:a c@5:b late@70:a early@4:a x@5 y@5:x z@5:x,a", sign=False)
    del wires["x"]
    bad = wires["a"][:-1] + b"?"
    done = node.insert(
        wires["b"], wires["a"], wires["a"], wires["c"], wires["late"], wires["early"], wires["z"],
        wires["y"], bad,
    )  # fmt: skip
    names = {graph.ACCEPTED: "A", graph.KNOWN: "K", graph.PENDING: "P", graph.REFUSED: "R"}
    assert "".join(names[status] for status in done.statuses) == "AAKARRPPR"
    assert done.accepted == tuple(vertex_id(wires[name]) for name in "abc")
    assert [(index, error.code) for index, error in done.refused] == [
        (4, "vertex_age"), (5, "vertex_age"), (8, "vertex_payload"),
    ]  # fmt: skip
    x = vertex_id(draw("x@5", sign=False)["x"])
    assert done.missing == (x,)
    assert node.insert(wires["y"]).missing == ()
    assert node.dag.wanted() == [x]
    assert node.dag.is_pending(vertex_id(wires["y"]))
    assert not node.dag.has(vertex_id(wires["y"]))
    released = node.insert(draw("x@5", sign=False)["x"])
    assert released.accepted == (x, vertex_id(wires["z"]), vertex_id(wires["y"]))
    assert node.dag.wanted() == []
    assert released.ordinal == 3


def test_a_parent_is_at_most_so_old() -> None:
    node = Node()
    wires = draw(f"a@5 b@{5 + AGE}:a c@{6 + AGE}:a d@4:a e@5:a", sign=False)
    done = node.insert(*wires.values())
    assert [index for index, _ in done.refused] == [2, 3]


def test_equivocation_keeps_both() -> None:
    node = Node()
    wires = draw("p1@1#1 p2@1#2 p3@2#2:p2 p4@1#1", sign=False)
    assert len(node.insert(*wires.values()).accepted) == 4
    issuer = secret("p")[:20]
    ids = {name: vertex_id(wire) for name, wire in wires.items()}
    assert [v.id for v in node.dag.range(issuer, 1, 256)] == [
        ids["p1"], ids["p4"], ids["p2"], ids["p3"],
    ]  # fmt: skip
    assert [v.id for v in node.dag.range(issuer, 1, 2)] == [ids["p1"], ids["p4"]]
    latest = node.dag.latest(issuer)
    assert latest is not None
    assert latest.id == ids["p2"]
    assert node.dag.range(secret("q")[:20], 0, 256) == ()
    for seq, count in ((-1, 1), (0, 0), (0, 257), (2**64, 1)):
        with pytest.raises(Invalid):
            node.dag.range(issuer, seq, count)


def test_records_on_disk() -> None:
    node = Node()
    wires = draw("p1@1#1 p2@1#2", sign=False)
    node.insert(wires["p2"])
    done = node.insert(wires["p1"])
    assert done.puts == {KEY_VERTEX + (1).to_bytes(8, "big"): wires["p1"]}


def test_a_template_is_accepted_and_chains() -> None:
    node, rng = Node(), random.Random(3)
    key = secret("device")
    issuer = address(public_key(key))
    assert node.dag.template(issuer, 4, 0, 0) == graph.VertexTemplate((), 1, ID_ZERO)
    prev = ID_ZERO
    for seq in range(1, 60):
        final = seq * 3
        template = node.dag.template(issuer, rng.randrange(1, 9), final, rng.getrandbits(64))
        assert (template.seq, template.prev) == (seq, prev)
        assert list(template.parents) == sorted(set(template.parents))
        assert prev == ID_ZERO or prev in template.parents
        draft = vertex.VertexDraft(
            CHAIN_ID, final, bytes(8), seq, prev, 0, bytes(16), b"", parents=template.parents
        )
        others = draw(f"n{seq}@{final} m{seq}@{final}", sign=False)
        done = node.insert(vertex.sign_vertex(key, draft), *others.values())
        assert len(done.accepted) == 3
        prev = done.accepted[0]
    old = node.dag.template(issuer, 4, 59 * 3 + AGE + 1, 0)
    assert old == graph.VertexTemplate((), 60, prev)
    for k in (0, 9):
        with pytest.raises(Invalid):
            node.dag.template(issuer, k, 0, 0)


def test_tips_too_old_leave_and_tips_too_new_wait() -> None:
    node = Node()
    stale = draw(" ".join(f"o{i}@1" for i in range(50)), sign=False)
    fresh = draw(" ".join(f"f{i}@80" for i in range(3)), sign=False)
    ahead = draw(" ".join(f"h{i}@200" for i in range(3)), sign=False)
    node.insert(*stale.values(), *fresh.values(), *ahead.values())
    ids = {vertex_id(wire) for wire in fresh.values()}
    for seed in range(40):
        assert set(node.dag.template(bytes(20), 8, 100, seed).parents) == ids
    assert node.dag.stats()["tips"] == 6
    assert node.tips() == ids | {vertex_id(wire) for wire in ahead.values()}


def test_tips_are_drawn_evenly_and_without_replacement() -> None:
    wires = draw(" ".join(f"v{i}" for i in range(20)), sign=False)
    node = Node()
    node.insert(*wires.values())
    rounds, k = 6_000, 4
    counts: Counter[bytes] = Counter()
    pairs: Counter[tuple[bytes, bytes]] = Counter()
    for seed in range(rounds):
        parents = node.dag.template(bytes(20), k, 0, seed).parents
        assert len(set(parents)) == k
        counts.update(parents)
        pairs.update((a, b) for a in parents for b in parents if a < b)
    # 99.9 % quantiles of chi-square: 43.8 for 19 degrees of freedom, 253 for 189
    assert chi_square(counts, 20) < 44
    assert chi_square(pairs, 190) < 253
    assert node.dag.template(bytes(20), k, 0, 1) == node.dag.template(bytes(20), k, 0, 1)


def chi_square(counts: Counter[bytes] | Counter[tuple[bytes, bytes]], cells: int) -> float:
    mean = sum(counts.values()) / cells
    return sum((count - mean) ** 2 for count in counts.values()) / mean + mean * (
        cells - len(counts)
    )


def test_announced_tips_come_round() -> None:
    node = Node()
    assert node.dag.tips(5, 1) == []
    wires = draw(" ".join(f"v{i}" for i in range(12)), sign=False)
    node.insert(*wires.values())
    counts = Counter(id for seed in range(12) for id in node.dag.tips(5, seed))
    assert set(counts.values()) == {5}
    assert len(counts) == 12


def test_a_peer_fetches_all_by_ordinal() -> None:
    node, twin = Node(), Node()
    wires = list(draw("a b:a c:a d:b,c e:d f:e", sign=False).values())
    node.insert(*wires)
    size, at, calls = len(wires[0]), 0, 0
    while True:
        stream, following = node.dag.wires(at, 4, 2 * size + 200)
        if not stream:
            break
        twin.dag.insert(batch := native.check_batch(stream, 100, CHAIN_ID, None, 1))
        assert len(batch) == following - at <= 4
        assert len(stream) <= 2 * size + 200
        at, calls = following, calls + 1
    assert calls > 1
    assert len(twin.dag) == len(wires) == at
    assert node.dag.wires(0, 10, 10) == (b"", 0)
    assert node.dag.wires(99, 10, 10_000) == (b"", 99)
    assert node.dag.wires(0, 0, 10_000) == (b"", 0)


@pytest.mark.parametrize("harm", ["gap", "flip", "cut", "order", "chain", "first", "extra key"])
def test_a_harmed_disk_is_corrupt(harm: str) -> None:
    node = Node()
    node.insert(*draw("a b:a c:b", sign=False).values())
    first, second, third = (KEY_VERTEX + i.to_bytes(8, "big") for i in range(3))
    disk, rules = node.disk, Rules()
    if harm == "gap":
        del disk[second]
    elif harm == "flip":
        disk[second] = disk[second][:-1] + b"?"
    elif harm == "cut":
        disk[second] = disk[second][:-1]
    elif harm == "order":
        disk[first], disk[second] = disk[second], disk[first]
    elif harm == "chain":
        rules = Rules(chain_id=1)
    elif harm == "first":
        del disk[first]
    else:
        disk[third + b"x"] = b""
    with pytest.raises(Corrupt, match="vertex record"):
        Dag.load(disk, rules, 0)


def test_a_vanished_body_is_corrupt() -> None:
    node = Node()
    (id,) = node.insert(draw("a", sign=False)["a"]).accepted
    node.disk.clear()
    assert node.dag.has(id)
    with pytest.raises(Corrupt):
        node.dag.get(id)
    assert node.dag.get(bytes(32)) is None


def test_a_graph_grows_past_every_doubling() -> None:
    """20,000 vertices of 1,000 issuers; 10 of them with 300 topics each."""
    rng, node = random.Random(1), Node()
    ids: list[bytes] = []
    issuers = [address(public_key(secret(str(i)))) for i in range(100)]
    for at in range(0, 20_000, 1_000):
        wires = []
        for i in range(at, at + 1_000):
            parents = tuple(dict.fromkeys(rng.choice(ids[-300:]) for _ in range(4))) if ids else ()
            draft = vertex.VertexDraft(
                CHAIN_ID, 0, bytes(8), i + 1, bytes(32), 0, topic_of(str(i % 300)), b"",
                parents=parents,
            )  # fmt: skip
            envelope = vertex.build_envelope(draft, issuers[i % 100])
            wires.append(envelope + bytes(65))
        done = node.insert(*wires)
        assert set(done.statuses) == {graph.ACCEPTED}
        ids += done.accepted
    stats = node.dag.stats()
    assert (stats["vertices"], stats["issuers"], stats["streams"]) == (20_000, 100, 300)
    assert [node.dag.ordinal(id) for id in ids] == list(range(20_000))
    for i in rng.sample(range(20_000), 200):
        latest = node.dag.latest(issuers[i % 100], topic_of(str(i % 300)))
        assert latest is not None
        assert latest.seq > 19_700
    for seed in range(200):
        assert len(node.dag.template(bytes(20), 8, 0, seed).parents) == 8


def test_sum_is_of_the_set_and_not_of_its_order() -> None:
    wires = random_dag(random.Random(4), 40)
    batched, single = Node(), Node()
    batched.insert(*wires)
    for wire in wires[::-1]:
        single.insert(wire)
    ids = [batched.dag.id_at(i) for i in range(len(batched.dag))]
    assert batched.dag.sum == sum(int.from_bytes(id[:8], "big") for id in ids) % 2**64
    assert single.dag.sum == batched.dag.sum == Node(batched.disk).dag.sum
