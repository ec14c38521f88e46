"""Costly work that a node does once: calls are counted, not timed."""

from itertools import count
from typing import Any

import msgpack
import pytest

from dipnet.consensus.chain import block as block_module
from dipnet.consensus.chain import rules
from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.finality import votes as votes_module
from dipnet.consensus.finality.votes import BallotKind
from dipnet.ledger import tx as tx_module
from dipnet.node.effects import Send, Verify
from dipnet.p2p import messages as m
from dipnet.p2p.messages import Topic
from dipnet.p2p.votepush import VotePush
from dipnet.primitives import crypto
from tests.fixtures.chain_builder import Net
from tests.fixtures.node_bench import Bench, of, proposals
from tests.sim.scenario import network

DELEGATES = 4


def started() -> tuple[Bench, Net]:
    """A node, and all keys of its network to make the blocks and votes of the other delegates."""
    bench = Bench(delegates=DELEGATES)
    bench.start()
    bench.greet()
    _, keys, _ = network(DELEGATES)
    secrets = {crypto.address(crypto.public_key(key)): key for key in keys}
    return bench, Net(bench.genesis, secrets)


def of_another(bench: Bench, net: Net) -> block_module.Block:
    """A block by another delegate than the node's, of a slot that has begun."""
    chain = bench.node.chain
    for slot in count(chain.head.slot + 1):
        position = chain.position(chain.head, slot, chain.section(chain.head))
        leader = rules.leader(position.epoch, slot, position.links.final[1])
        if leader not in (None, bench.proposer):
            bench.answered(bench.at_slot(slot))
            return net.child(chain, chain.head.hash, slot)
    raise AssertionError


def counted(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[Any]:
    """A list that gets the first argument of each call of the function ``module.name``."""
    calls: list[Any] = []
    call = getattr(module, name)

    def counting(first: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(first)
        return call(first, *args, **kwargs)

    monkeypatch.setattr(module, name, counting)
    return calls


def test_a_pushed_block_is_decoded_once_and_its_signature_recovered_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench, net = started()
    block = of_another(bench, net)
    push = m.Items(Topic.BLOCK, (block.raw,))
    digest = block.header.proposal_digest
    headers = counted(monkeypatch, block_module, "decode_header")
    recovered = [
        counted(monkeypatch, module, "recover_batch")
        for module in (crypto, votes_module, tx_module)
    ]
    bench.answered(bench.receive(push))
    assert bench.node.chain.head.hash == block.hash
    assert headers == [block.header.raw]
    assert [argument for calls in recovered for argument in calls if digest in argument] == [digest]
    stated = [*bench.node.voting.tally._slots[block.header.slot].stated]
    assert (block.signer, BallotKind.PROPOSAL, 0) in stated, "and yet the proposal is counted"
    assert not of(bench.receive(push), Verify), "another peer pushes it too"
    assert headers == [block.header.raw]


def test_a_vote_that_was_pushed_is_not_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, net = started()
    block = of_another(bench, net)
    bench.answered(bench.receive(m.Items(Topic.BLOCK, (block.raw,))))
    chain = bench.node.chain
    foreign = [
        vote
        for vote in net.votes(chain, block.header, BallotKind.PREVOTE)
        if chain.epoch.members.addresses[vote.index] != bench.proposer
    ]
    push = m.Votes(tuple(vote.raw for vote in foreign[:1]))
    packs = counted(monkeypatch, msgpack, "packb")
    hashes = counted(monkeypatch, votes_module, "keccak256")
    bench.answered(bench.receive(push))
    assert packs, "frames are encoded"
    assert not [record for record in packs if foreign[0].signature in record]
    assert hashes.count(foreign[0].raw[:-65]) == 2, "by gossip before it is decoded, and after"
    kept = bench.node.voting.tally._slots[block.header.slot].votes[foreign[0].ballot]
    assert kept[foreign[0].index].raw == foreign[0].raw


def test_our_own_vote_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, net = started()
    block = of_another(bench, net)
    packs = counted(monkeypatch, votes_module, "pack")
    out = bench.answered(bench.receive(m.Items(Topic.BLOCK, (block.raw,))))
    pushed = [
        raw
        for send in of(out, Send)
        if isinstance(message := m.decode(send.protocol, send.data), m.Votes)
        for raw in message.raws
    ]
    ours = {raw: votes_module.decode_vote(raw) for raw in pushed}
    assert len(ours) == 1
    ((raw, vote),) = ours.items()
    assert vote.ballot.block_id == block.hash
    assert [record[-1] for record in packs].count(raw[-65:]) == 1
    assert not [record for record in packs if record[-1] == b""], "none without its signature"


def test_votes_are_flushed_once_in_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, net = started()
    block = of_another(bench, net)
    bench.answered(bench.receive(m.Items(Topic.BLOCK, (block.raw,))))
    flushes = counted(monkeypatch, VotePush, "flush")
    for steps, kind in enumerate((BallotKind.PREVOTE, BallotKind.COMMIT), 1):
        vote = net.votes(bench.node.chain, block.header, kind)[1]
        bench.receive(m.Votes((vote.raw,)))
        assert len(flushes) == steps


def test_a_leader_looks_once_for_its_position_and_its_certificates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench, _ = started()
    slot = next(slot for slot in bench.own_slots() if slot > 1)
    bench.at_slot(slot - 1)
    positions = counted(monkeypatch, Chain, "position")
    sections = counted(monkeypatch, Chain, "section")
    assert proposals(bench.at_slot(slot))
    assert len(positions) == len(sections) == 1
