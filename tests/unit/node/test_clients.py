"""Submissions of clients to ``node.step``: the verdicts, their order, and the items kept."""

from dipnet.dag.graph import KEY_VERTEX
from dipnet.node.effects import (
    Publish,
    Reply,
    Submitted,
    Verify,
    Write,
)
from dipnet.node.work import ClientTxs, ClientVertices
from dipnet.primitives.errors import Invalid
from tests.fixtures.node_bench import Bench, kinds, of


def test_a_vertex_is_written_before_it_is_acknowledged() -> None:
    bench = Bench()
    bench.start()
    effects = bench.answered(bench.step(Submitted(9, ClientVertices((bench.vertex(bench.key),)))))
    seen = [kind for kind in kinds(effects) if kind in (Verify, Write, Publish, Reply)]
    assert seen == [Verify, Write, Publish, Reply]
    (reply,) = of(effects, Reply)
    assert isinstance(reply, Reply)
    (result,) = reply.results
    assert result == (bench.node.dag.id_at(0), "accepted")
    assert next(bench.disk.scan(KEY_VERTEX))
    again = Bench(disk=bench.disk)
    assert len(again.node.dag) == 1


def test_wrong_items_are_refused_in_order_and_spoil_no_other() -> None:
    bench = Bench()
    bench.start()
    good = bench.payment()
    items = (
        b"", good, bench.payment(chain_id=1), b"\x03" + good[1:], good,
        bench.payment(nonce=1, value=10**30), bench.payment(nonce=1), b"\xff" * 9,
    )  # fmt: skip
    (reply,) = of(bench.answered(bench.step(Submitted(1, ClientTxs(items)))), Reply)
    assert isinstance(reply, Reply)
    codes = [r.code if isinstance(r, Invalid) else r[1] for r in reply.results]
    expected = ["tx_form", "accepted", "chain_id", "tx_type", "known", "funds", "accepted", "rlp"]
    assert codes == expected


def test_wrong_vertices_are_refused_in_order_and_spoil_no_other() -> None:
    bench = Bench()
    bench.start()
    good = bench.vertex(bench.key)
    items = (
        good, b"", bench.vertex(bench.key, chain_id=1), good[:-1] + b"X", good,
        good[:-5] + bytes([good[-5] ^ 1]) + good[-4:], good[:-30] + bytes(26) + good[-4:],
        bench.vertex(bench.key, parents=(bytes(32),)), bench.vertex(bench.key, seq=2),
    )  # fmt: skip
    (reply,) = of(bench.answered(bench.step(Submitted(1, ClientVertices(items)))), Reply)
    assert isinstance(reply, Reply)
    codes = [r.code if isinstance(r, Invalid) else r[1] for r in reply.results]
    assert codes == [
        "accepted", "vertex_form", "vertex_chain", "vertex_payload", "known",
        "known",  # the recovery id is only a hint, so this vertex is valid too
        "vertex_signature", "pending", "accepted",
    ]  # fmt: skip
    assert len(bench.node.dag) == 2


def test_a_payment_is_in_the_next_block_and_leaves_the_pool() -> None:
    bench = Bench()
    bench.start()
    effects = bench.answered(bench.step(Submitted(1, ClientTxs((bench.payment(),)))))
    assert kinds(of(effects, Publish)) == [Publish]
    assert len(bench.node.pool) == 1
    bench.propose(1)
    assert len(bench.node.pool) == 0
    assert bench.node.chain.account(b"\x01" * 20).balance == 1
