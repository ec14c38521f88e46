"""How a chain goes over a border: which set votes on what, and what its votes are worth."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from dipnet.consensus.chain.block import Block, cert_root
from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.finality.header import HASH_ZERO
from dipnet.consensus.finality.members import Members
from dipnet.consensus.finality.votes import Certificate, Kind
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
from tests.fixtures.memory import Memory

EPOCH_SLOTS = 3
FEES = {2: {"elasticity": 4}, 3: {"elasticity": 8}}


@dataclass
class Border:
    """A chain at the unfinal border from epoch 1 to epoch 2, at which the set changes wholly."""

    net: Net
    chain: Chain
    memory: Memory
    border: Block
    old: Members
    new: Members

    def child(self, slot: int, *section: Certificate) -> Block:
        """A block on the border."""
        block = self.net.child(self.chain, self.border.hash, slot, section=section)
        add(self.chain, self.memory, block)
        return block

    def certificate(self, block: Block, kind: Kind) -> Certificate:
        return self.net.certificate(self.chain, block.header, kind)

    def settle(self) -> Certificate:
        """The border becomes final by the old set."""
        certificate = self.certificate(self.border, Kind.COMMIT)
        learn(self.chain, self.memory, certificate)
        return certificate


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Border]:
    net = Net.of(4, epoch_slots=EPOCH_SLOTS)
    new = net.recruits("ada", "bea", "cleo", "dora")
    Elections(
        lambda members, epoch: members if epoch < 2 else new, lambda epoch: FEES.get(epoch, {})
    ).put(monkeypatch)
    chain, memory = net.chain()
    old = chain.epoch.members
    sustain(net, chain, memory, range(1, 2 * EPOCH_SLOTS))
    (border,) = grow(net, chain, memory, [2 * EPOCH_SLOTS])
    return Border(net, chain, memory, border, old, new)


def test_a_border_names_the_set_after_it(at: Border) -> None:
    chain = at.chain
    assert (at.border.header.epoch, chain.epoch.number) == (1, 2)
    assert at.border.header.next_set_hash == at.new.digest(2)
    assert chain.epoch.members == chain.epoch.next_members == at.new
    assert set(chain.epoch.order) == set(at.new.addresses)
    before = chain.need(at.border.header.parent)
    assert before.next_set_hash == HASH_ZERO
    assert chain.epoch_at(before).members == at.old, "it was elected a border ago"
    assert chain.epoch_at(before).next_members == at.new
    assert chain.epoch_at(before).members_of(1) == at.old
    assert chain.epoch_at(before).members_of(2) == at.new


def test_everybody_knows_the_sets_around_the_final_block(at: Border) -> None:
    assert dict(at.chain.sets) == {0: at.old, 1: at.old, 2: at.new}
    at.settle()
    assert dict(at.chain.sets) == {1: at.old, 2: at.new, 3: at.new}
    again = Chain(at.net.genesis, Memory(at.memory))
    assert again.sets == at.chain.sets


def test_an_epoch_and_its_parameters_outlive_a_restart(at: Border) -> None:
    assert at.chain.parameters.elasticity == 4
    again = Chain(at.net.genesis, Memory(at.memory))
    assert again.epoch == at.chain.epoch
    assert again.epoch is not at.chain.epoch


def test_the_old_set_votes_until_the_border_is_final(at: Border) -> None:
    handed_over = at.child(8)
    assert voters(at.chain, handed_over.header) == at.old
    certificate = at.settle()
    own = at.child(9, certificate)
    assert voters(at.chain, own.header) == at.new
    assert own.header.justify == (at.border.hash, at.border.header.slot, 2)
    for block in (handed_over, own):
        child = at.net.child(
            at.chain, block.hash, 10, section=[at.certificate(block, Kind.PREVOTE)]
        )
        add(at.chain, at.memory, child)


def test_a_certificate_is_by_the_set_of_its_own_epoch(at: Border) -> None:
    """Each set's signatures under the ballot of the other's are good for nothing."""
    good = at.certificate(at.border, Kind.COMMIT)
    digest_signers = at.net.certificate(at.chain, at.child(7).header, Kind.PREVOTE)
    wrong = Certificate(good.ballot, good.bitmap, digest_signers.signatures)
    block = at.net.child(at.chain, at.border.hash, 8, section=[wrong])
    assert refusal(at.chain, block) == "certificate_signature"
    add(at.chain, at.memory, at.net.child(at.chain, at.border.hash, 8, section=[good]))


def test_old_votes_above_the_border_settle_it_and_nothing_more(at: Border) -> None:
    handed_over = at.child(8)
    learn(at.chain, at.memory, at.certificate(handed_over, Kind.COMMIT))
    assert at.chain.final == at.border.header
    assert at.chain.safe == at.chain.head == handed_over.header


def test_a_certificate_of_the_new_set_outranks_later_ones_of_the_old(at: Border) -> None:
    handed_over = at.child(8)
    own = at.child(7, at.certificate(at.border, Kind.COMMIT))
    old, new = (at.certificate(block, Kind.PREVOTE) for block in (handed_over, own))
    learn(at.chain, at.memory, old)
    assert at.chain.head == handed_over.header
    learn(at.chain, at.memory, new)
    assert at.chain.head == at.chain.safe == own.header
    learn(at.chain, at.memory, old)
    assert at.chain.head == own.header


def test_a_commit_certificate_that_is_cut_at_the_border_still_says_where_to_build(
    at: Border,
) -> None:
    low, high = at.child(7), at.child(8)
    learn(at.chain, at.memory, at.certificate(low, Kind.PREVOTE))
    assert at.chain.head == low.header
    learn(at.chain, at.memory, at.certificate(high, Kind.COMMIT))
    assert at.chain.final == at.border.header
    assert at.chain.head == high.header


def test_what_lies_below_the_border_before_is_not_certified_any_more(at: Border) -> None:
    low = at.chain.need(at.chain.hash_at(1) or b"")
    certificate = at.net.certificate(at.chain, low, Kind.COMMIT)
    at.settle()
    child = at.net.child(at.chain, at.border.hash, 7)
    root = cert_root([certificate.raw])
    block = at.net.signed(with_fields(child.header, cert_root=root), (), [certificate])
    assert refusal(at.chain, block) == "certificate_block"


def test_an_epoch_goes_on_while_the_border_below_it_is_unfinal(at: Border) -> None:
    chain, memory, net = at.chain, at.memory, at.net
    blocks = grow(net, chain, memory, range(7, 7 + 2 * EPOCH_SLOTS))
    assert {block.header.epoch for block in blocks} == {2}
    assert {block.header.next_set_hash for block in blocks} == {HASH_ZERO}
    learn(chain, memory, at.certificate(blocks[-1], Kind.COMMIT))
    assert chain.final == at.border.header
    (border,) = grow(net, chain, memory, [7 + 2 * EPOCH_SLOTS])
    assert border.header.next_set_hash == at.new.digest(3)
    assert chain.epoch.number == 3
