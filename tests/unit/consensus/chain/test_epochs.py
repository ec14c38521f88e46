"""A chain at a boundary: which set votes on which blocks, and the effect of its votes."""

from dataclasses import dataclass, replace

import pytest

from dipnet.consensus.chain.block import Block, cert_root
from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.chain.epochs import decode
from dipnet.consensus.finality.header import HASH_ZERO
from dipnet.consensus.finality.members import Members
from dipnet.consensus.finality.votes import BallotKind, Certificate
from dipnet.primitives.errors import Corrupt
from tests.fixtures.chain_builder import (
    Net,
    add,
    grow,
    learn,
    refusal,
    sustain,
    voters,
    with_fields,
)
from tests.fixtures.elections import Elections
from tests.fixtures.later_rules import NEXT, LaterGenesis, LaterParameters
from tests.fixtures.memory import Memory

EPOCH_SLOTS = 3
FEES = {2: {"elasticity": 4}, 3: {"elasticity": 8}}


@dataclass
class Boundary:
    """A chain at the unfinal boundary from epoch 1 to epoch 2, at which the set changes wholly."""

    net: Net
    chain: Chain
    memory: Memory
    boundary: Block
    old: Members
    new: Members

    def child(self, slot: int, *section: Certificate) -> Block:
        """Makes and imports a block on the boundary."""
        block = self.net.child(self.chain, self.boundary.hash, slot, section=section)
        add(self.chain, self.memory, block)
        return block

    def certificate(self, block: Block, kind: BallotKind) -> Certificate:
        return self.net.certificate(self.chain, block.header, kind)

    def settle(self) -> Certificate:
        """The old set makes the boundary final; returns the commit certificate."""
        certificate = self.certificate(self.boundary, BallotKind.COMMIT)
        learn(self.chain, self.memory, certificate)
        return certificate


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Boundary:
    net = Net.of(4, epoch_slots=EPOCH_SLOTS)
    new = net.recruits("ada", "bea", "cleo", "dora")
    Elections(
        lambda members, epoch: members if epoch < 2 else new, lambda epoch: FEES.get(epoch, {})
    ).put(monkeypatch)
    chain, memory = net.chain()
    old = chain.epoch.members
    sustain(net, chain, memory, range(1, 2 * EPOCH_SLOTS))
    (boundary,) = grow(net, chain, memory, [2 * EPOCH_SLOTS])
    return Boundary(net, chain, memory, boundary, old, new)


def test_a_boundary_names_the_set_after_it(at: Boundary) -> None:
    chain = at.chain
    assert (at.boundary.header.epoch, chain.epoch.number) == (1, 2)
    assert at.boundary.header.next_set_hash == at.new.digest(2)
    assert chain.epoch.members == chain.epoch.next_members == at.new
    assert set(chain.epoch.order) == set(at.new.addresses)
    before = chain.need(at.boundary.header.parent)
    assert before.next_set_hash == HASH_ZERO
    assert chain.epoch_at(before).members == at.old, "it was elected a boundary ago"
    assert chain.epoch_at(before).next_members == at.new
    assert chain.epoch_at(before).members_of(1) == at.old
    assert chain.epoch_at(before).members_of(2) == at.new


def test_everybody_knows_the_sets_around_the_final_block(at: Boundary) -> None:
    assert dict(at.chain.sets) == {0: at.old, 1: at.old, 2: at.new}
    at.settle()
    assert dict(at.chain.sets) == {1: at.old, 2: at.new, 3: at.new}
    again = Chain(at.net.genesis, Memory(at.memory))
    assert again.sets == at.chain.sets


def test_an_epoch_and_its_parameters_outlive_a_restart(at: Boundary) -> None:
    assert at.chain.parameters.elasticity == 4
    again = Chain(at.net.genesis, Memory(at.memory))
    assert again.epoch == at.chain.epoch
    assert again.epoch is not at.chain.epoch


def test_the_old_set_votes_until_the_boundary_is_final(at: Boundary) -> None:
    handed_over = at.child(8)
    assert voters(at.chain, handed_over.header) == at.old
    certificate = at.settle()
    own = at.child(9, certificate)
    assert voters(at.chain, own.header) == at.new
    assert own.header.justify == (at.boundary.hash, at.boundary.header.slot, 2)
    for block in (handed_over, own):
        child = at.net.child(
            at.chain, block.hash, 10, section=[at.certificate(block, BallotKind.PREVOTE)]
        )
        add(at.chain, at.memory, child)


def test_a_certificate_is_by_the_set_of_its_own_epoch(at: Boundary) -> None:
    """Signatures of a set under a ballot of the other set's epoch are refused."""
    good = at.certificate(at.boundary, BallotKind.COMMIT)
    digest_signers = at.net.certificate(at.chain, at.child(7).header, BallotKind.PREVOTE)
    wrong = Certificate(good.ballot, good.bitmap, digest_signers.signatures)
    block = at.net.child(at.chain, at.boundary.hash, 8, section=[wrong])
    assert refusal(at.chain, block) == "certificate_signature"
    add(at.chain, at.memory, at.net.child(at.chain, at.boundary.hash, 8, section=[good]))


def test_old_votes_above_the_boundary_settle_it_and_nothing_more(at: Boundary) -> None:
    handed_over = at.child(8)
    learn(at.chain, at.memory, at.certificate(handed_over, BallotKind.COMMIT))
    assert at.chain.final == at.boundary.header
    assert at.chain.safe == at.chain.head == handed_over.header


def test_a_certificate_of_the_new_set_outranks_later_ones_of_the_old(at: Boundary) -> None:
    handed_over = at.child(8)
    own = at.child(7, at.certificate(at.boundary, BallotKind.COMMIT))
    old, new = (at.certificate(block, BallotKind.PREVOTE) for block in (handed_over, own))
    learn(at.chain, at.memory, old)
    assert at.chain.head == handed_over.header
    learn(at.chain, at.memory, new)
    assert at.chain.head == at.chain.safe == own.header
    learn(at.chain, at.memory, old)
    assert at.chain.head == own.header


def test_a_commit_certificate_that_is_cut_at_the_boundary_still_says_where_to_build(
    at: Boundary,
) -> None:
    low, high = at.child(7), at.child(8)
    learn(at.chain, at.memory, at.certificate(low, BallotKind.PREVOTE))
    assert at.chain.head == low.header
    learn(at.chain, at.memory, at.certificate(high, BallotKind.COMMIT))
    assert at.chain.final == at.boundary.header
    assert at.chain.head == high.header


def test_what_lies_below_the_boundary_before_is_not_certified_any_more(at: Boundary) -> None:
    low = at.chain.need(at.chain.hash_at(1) or b"")
    certificate = at.net.certificate(at.chain, low, BallotKind.COMMIT)
    at.settle()
    child = at.net.child(at.chain, at.boundary.hash, 7)
    root = cert_root([certificate.raw])
    block = at.net.signed(with_fields(child.header, cert_root=root), (), [certificate])
    assert refusal(at.chain, block) == "certificate_block"


def test_an_epoch_goes_on_while_the_boundary_below_it_is_unfinal(at: Boundary) -> None:
    chain, memory, net = at.chain, at.memory, at.net
    blocks = grow(net, chain, memory, range(7, 7 + 2 * EPOCH_SLOTS))
    assert {block.header.epoch for block in blocks} == {2}
    assert {block.header.next_set_hash for block in blocks} == {HASH_ZERO}
    learn(chain, memory, at.certificate(blocks[-1], BallotKind.COMMIT))
    assert chain.final == at.boundary.header
    (boundary,) = grow(net, chain, memory, [7 + 2 * EPOCH_SLOTS])
    assert boundary.header.next_set_hash == at.new.digest(3)
    assert chain.epoch.number == 3


def test_a_record_outlives_a_program_that_knows_more_parameters(at: Boundary) -> None:
    today, epoch = at.net.genesis, at.chain.epoch
    later = LaterGenesis.decode(today.encode()).parameters
    raw = epoch.encode(today.parameters)
    again = decode(raw, later)
    assert again.encode(later) == raw
    assert (again.parameters, again.order) == (replace(later, elasticity=4), epoch.order)
    assert isinstance(again.parameters, LaterParameters)
    more = replace(again, parameters=replace(again.parameters, rules=NEXT, meters_max=9))
    assert decode(more.encode(later), later) == more
    with pytest.raises(Corrupt, match="parameter meters_max: run the newer dipnetd"):
        decode(more.encode(later), today.parameters)
