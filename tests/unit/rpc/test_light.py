"""Light clients against a real chain: boundaries, hand-over, elections, and the RPC's answers."""

from typing import Any

import pytest

from dipnet.cli.light import Followed, follow, of_hash
from dipnet.consensus.chain.rules import leader
from dipnet.consensus.finality.finality import commit, prevote
from dipnet.consensus.finality.header import HASH_ZERO, Header
from dipnet.consensus.finality.votes import BallotKind
from dipnet.primitives.codec import from_hex, to_hex
from dipnet.primitives.errors import Invalid
from dipnet.rpc import light as served
from dipnet.sdk import light
from dipnet.sdk.light import FinalProof, LightState
from dipnet.sdk.trust import from_genesis
from tests.fixtures.light_peer import Peer
from tests.fixtures.rpc_node import Node, ask, error

SLOTS = 6
EPOCH = {"epoch_slots": SLOTS, "unbonding_epochs": 3, "evidence_epochs": 2}


def node_of(delegates: int = 4, **parameters: Any) -> Node:
    return Node(delegates=delegates, **(EPOCH | parameters))


def run(node: Node, epochs: int, without: bytes = b"") -> None:
    """Grows the chain by ``epochs`` boundaries; the delegate ``without`` never proposes."""
    target = node.chain.epoch.number + epochs
    while node.chain.epoch.number < target:
        slots = 1
        while without and leads(node, slots) == without:
            slots += 1
        node.produce(slots)


def leads(node: Node, slots: int) -> bytes | None:
    chain, slot = node.chain, node.chain.head.slot + slots
    position = chain.position(chain.head, slot, chain.section(chain.head))
    return leader(position.epoch, slot, position.links.final[1])


def start(node: Node) -> LightState:
    return from_genesis(node.genesis).state


def followed(node: Node, state: LightState, **options: Any) -> tuple[LightState, int]:
    """The client's state after it followed the node to its newest final block, and its hops."""
    done = Followed()
    peer: Any = Peer(node)
    for newer in follow(peer, state, final(node).certificate.ballot.epoch, done, **options):
        state = newer
    return state, done.boundaries


def final(node: Node, *block_hash: bytes) -> FinalProof:
    shown = ask(node, "dpos_finalHeader", *(to_hex(block_id) for block_id in block_hash))
    return light.decode_final(from_hex(shown))


def verify(state: LightState, proof: FinalProof) -> None:
    light.verify_final(state, proof.header, proof.path, proof.certificate)


def test_trust_in_genesis_needs_no_node() -> None:
    node = node_of()
    known = from_genesis(node.genesis)
    assert known.trusted == node.chain.genesis_hash
    assert known.period_ms == 3 * SLOTS * 1000 // 2
    assert known.state.members == node.chain.epoch.members


def test_a_chain_without_final_blocks_answers_nothing() -> None:
    node = node_of()
    assert ask(node, "dpos_borders", 0) == []
    assert ask(node, "dpos_finalHeader") is None


@pytest.mark.parametrize("delegates", [1, 4])
def test_a_client_follows_a_real_chain(delegates: int) -> None:
    node = node_of(delegates)
    run(node, 4)
    node.produce()
    state, boundaries = followed(node, start(node))
    assert (state.epoch, boundaries) == (4, 1), "the set is always the same: one hop"
    assert state.boundary.hash == node.chain.epoch.boundary.block_id
    assert followed(node, start(node), every=True) == (state, 4)
    proof = final(node)
    assert (proof.header, proof.path) == (node.chain.final, ())
    verify(state, proof)


def test_a_client_follows_elections() -> None:
    """A delegate that never proposes loses its seat to a standby, two boundaries later."""
    node = node_of(6, delegates_active=4, delegates_standby=2)
    absent = node.chain.epoch.members.addresses[0]
    run(node, 4, without=absent)
    node.produce()
    state, boundaries = followed(node, start(node))
    assert state.members == node.chain.epoch.members
    assert state.members.index(absent) is None
    assert 2 <= boundaries < 4
    verify(state, final(node))
    with pytest.raises(Invalid) as caught:
        verify(start(node), final(node))
    assert caught.value.code == "light_epoch"


def test_a_boundary_that_became_final_late_has_a_path() -> None:
    node = node_of()
    while node.chain.head.slot < SLOTS - 1:
        node.produce()
    boundary = node.produce(certified=False).header
    assert boundary.next_set_hash != HASH_ZERO
    assert ask(node, "dpos_borders", 0) == [], "not before it is final"
    above = [node.produce(certified=False) for _ in range(3)]
    assert ask(node, "dpos_finalHeader", to_hex(boundary.parent)), "what is below is final"
    node.certify(above[1])
    (raw,) = ask(node, "dpos_borders", 0)
    proof = light.decode_boundary(from_hex(raw))
    assert proof.header == boundary == node.chain.final
    assert proof.path == tuple(block.header for block in above[:2])
    assert proof.certificate.ballot == commit(prevote(above[1].header, node.chain.epoch.boundary))
    state = light.advance(start(node), proof)
    assert state.epoch == 1
    newest = final(node)
    assert (newest.header, newest.path) == (boundary, proof.path)
    verify(start(node), newest)
    run(node, 1)
    node.produce()
    assert followed(node, state)[0].epoch == 2


def test_any_final_header_can_be_proven() -> None:
    node = node_of()
    run(node, 3)
    node.produce(certified=False)
    node.certify(node.produce())
    node.produce(certified=False)
    chain = node.chain
    peer: Any = Peer(node)
    for height in range(1, chain.final.height + 1):
        block_hash = chain.hash_at(height)
        assert block_hash is not None
        proof = of_hash(peer, start(node), block_hash, Followed(), every=False)
        assert proof.header.height == height
        assert len(proof.path) <= 2
    code, text = error(node, "dpos_finalHeader", to_hex(chain.head.hash))
    assert (code, "no final block" in text) == ("not_found", True)
    assert error(node, "dpos_finalHeader", to_hex(bytes(32)))[0] == "not_found"
    assert ask(node, "dpos_finalHeader", to_hex(chain.genesis_hash)) is None


def test_certificates_of_a_lower_epoch_prove_no_header_above_their_boundary() -> None:
    """Hand-over blocks are proven by certificates of the new set."""
    node = node_of()
    while node.chain.head.slot < SLOTS - 1:
        node.produce()
    node.produce(certified=False)
    late = node.produce(certified=False)
    # the old set's certificate makes the boundary final and nothing above it
    node.certify(node.produce(certified=False))
    assert error(node, "dpos_finalHeader", to_hex(late.hash))[0] == "not_found"
    node.produce()
    proof = final(node, late.hash)
    assert proof.certificate.ballot.epoch == 1
    state, _ = followed(node, start(node))
    verify(state, proof)


def test_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    node = node_of()
    run(node, 5)
    every = ask(node, "dpos_borders", 1, 64, True)
    assert len(every) == 5
    assert ask(node, "dpos_borders", 2, 2, True) == every[1:3]
    for wrong in (0, 65):
        assert error(node, "dpos_borders", 1, wrong)[0] == "params"
    monkeypatch.setattr(served, "BOUNDARIES_BYTES_MAX", len(every[0]) // 2 + 1)
    assert ask(node, "dpos_borders", 1, 64, True) == every[:1]
    monkeypatch.setattr(served, "BOUNDARIES_BYTES_MAX", 0)
    assert ask(node, "dpos_borders", 2, 64, True) == every[1:2], "one at least"


def test_a_proof_is_searched_for_in_few_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the blocks above carry no certificate, the boundary's certificate or the newest
    serves."""
    node = node_of()
    first = node.produce(certified=False)
    node.certify(node.produce(certified=False))
    monkeypatch.setattr(served, "CARRIERS_MAX", 0)
    assert len(final(node, first.hash).path) == 1
    run(node, 2)
    proof = final(node, first.hash)
    assert proof.path[-1].next_set_hash != HASH_ZERO, "that of the boundary"
    state = start(node)
    verify(state, proof)
    monkeypatch.setattr(served, "PATH_HEADERS_MAX", 1)
    code, text = error(node, "dpos_finalHeader", to_hex(first.hash))
    assert (code, "within" in text) == ("not_found", True)


def test_boundaries_outlive_a_restart() -> None:
    node = node_of()
    run(node, 3)
    verify(followed(node, start(node))[0], final(node))
    node.produce()
    before = ask(node, "dpos_borders", 0, 64, True)
    node.chain = type(node.chain)(node.genesis, node.disk)
    assert ask(node, "dpos_borders", 0, 64, True) == before
    verify(followed(node, start(node))[0], final(node))


def test_every_boundary_of_a_chain_is_kept_once() -> None:
    node = node_of()
    run(node, 3)
    kinds = {BallotKind.COMMIT}
    seen: list[Header] = []
    for opens, raw in node.chain.boundaries(0, every=True):
        proof = light.decode_boundary(raw)
        assert (proof.opens, proof.certificate.ballot.kind in kinds) == (opens, True)
        seen.append(proof.header)
    assert [boundary.epoch for boundary in seen] == [0, 1, 2]
    assert all(node.chain.hash_at(boundary.height) == boundary.hash for boundary in seen)
