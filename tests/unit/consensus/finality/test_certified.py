"""Certificates in blocks and from gossip: which a block may carry, and their effects."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from dipnet.consensus.chain.block import Block, cert_root
from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.finality.finality import commit, prevote
from dipnet.consensus.finality.header import Header
from dipnet.consensus.finality.votes import Ballot, BallotKind, Certificate, Vote, certificate_of
from dipnet.primitives.crypto import sign
from dipnet.primitives.errors import Invalid
from tests.fixtures.chain_builder import (
    LATE_MS,
    Net,
    add,
    grow,
    learn,
    refusal,
    voters,
    with_fields,
)
from tests.fixtures.memory import Memory

NET = Net.of(4)


def carrying(net: Net, block: Block, *section: Certificate) -> Block:
    """``block`` with these certificates and unchanged links."""
    header = with_fields(
        block.header, cert_root=cert_root([certificate.raw for certificate in section])
    )
    return net.signed(header, block.txs, section)


def certificate(
    net: Net, chain: Chain, header: Header, ballot: Ballot, signers: int | None = None
) -> Certificate:
    """A certificate of ``ballot`` by the first members of the set that votes on a block."""
    members = voters(chain, header)
    digest = ballot.digest(net.genesis.chain_id)
    votes = [
        Vote(ballot, index, sign(digest, net.secrets[address]))
        for index, address in enumerate(members.addresses)
    ]
    return certificate_of(votes[: members.quorum if signers is None else signers], members)


def broken(good: Certificate) -> Certificate:
    """The certificate with one signature replaced by that of another member."""
    size = len(good.signatures) // 2
    return Certificate(good.ballot, good.bitmap, good.signatures[size:] + good.signatures[:size])


def test_a_certificate_is_of_an_ancestor() -> None:
    chain, memory = NET.chain()
    own, beside = (NET.child(chain, chain.genesis_hash, slot) for slot in (1, 2))
    add(chain, memory, own, beside)
    section = [NET.certificate(chain, beside.header, BallotKind.PREVOTE)]
    assert refusal(chain, NET.child(chain, own.hash, 3, section=section)) == "certificate_block"
    add(chain, memory, NET.child(chain, beside.hash, 3, section=section))


def test_a_certificate_changes_a_link() -> None:
    chain, memory = NET.chain()
    first, second = grow(NET, chain, memory, [1, 2])
    section = [NET.certificate(chain, first.header, BallotKind.PREVOTE)]
    third = NET.child(chain, second.hash, 3, section=section)
    add(chain, memory, third)
    again = NET.child(chain, third.hash, 4, section=section)
    assert refusal(chain, again) == "certificate_section"


def test_a_certificate_has_a_ballot_that_the_rules_allow() -> None:
    chain, memory = NET.chain()
    (block,) = grow(NET, chain, memory, [1])
    ballot = prevote(block.header, chain.epoch_of(block.header).boundary)
    child = NET.child(chain, block.hash, 2)
    for wrong in (
        replace(ballot, justify_slot=1),
        replace(ballot, epoch=1),
        replace(ballot, slot=2),
        replace(commit(ballot), epoch=1),
    ):
        section = [certificate(NET, chain, block.header, wrong)]
        assert refusal(chain, carrying(NET, child, *section)) == "certificate_block"
        with pytest.raises(Invalid) as caught:
            chain.on_certificate(section[0])
        assert caught.value.code == "certificate_block"


def test_a_quorum_has_signed_what_a_block_carries() -> None:
    chain, memory = NET.chain()
    (block,) = grow(NET, chain, memory, [1])
    ballot = prevote(block.header, chain.epoch_of(block.header).boundary)
    few = certificate(NET, chain, block.header, ballot, 2)
    good = NET.certificate(chain, block.header, BallotKind.PREVOTE)
    cases = ((few, "certificate_quorum"), (broken(good), "certificate_signature"))
    for certificate_, code in cases:
        bad = NET.child(chain, block.hash, 2, section=[certificate_])
        assert refusal(chain, bad) == code
    # The block is refused even where a valid certificate of the ballot is known: all nodes agree.
    learn(chain, memory, good)
    for certificate_, code in cases:
        bad = NET.child(chain, block.hash, 2, section=[certificate_])
        assert refusal(chain, bad) == code
    add(chain, memory, NET.child(chain, block.hash, 2, section=[good]))


@pytest.mark.parametrize(
    "kinds", [(BallotKind.PREVOTE, BallotKind.COMMIT), (BallotKind.COMMIT, BallotKind.PREVOTE)]
)
def test_certificates_wait_for_their_block(kinds: Sequence[BallotKind]) -> None:
    other, other_memory = NET.chain()
    (block,) = grow(NET, other, other_memory, [1])
    chain, memory = NET.chain()
    for kind in kinds:
        learn(chain, memory, NET.certificate(other, block.header, kind))
    assert chain.final.height == 0
    add(chain, memory, block)
    assert chain.final == chain.safe == block.header
    assert sorted(chain.certificates.highest) == [BallotKind.PREVOTE, BallotKind.COMMIT]


def test_a_certificate_that_waited_in_vain_spoils_no_block() -> None:
    other, other_memory = NET.chain()
    (block,) = grow(NET, other, other_memory, [1])
    ballot = prevote(block.header, other.epoch_of(block.header).boundary)
    chain, memory = NET.chain()
    learn(chain, memory, certificate(NET, other, block.header, replace(ballot, justify_slot=1)))
    assert chain.on_block(block, LATE_MS).applied
    assert chain.safe == chain.final
    assert not chain.certificates.highest


def test_what_is_certified_outlives_a_restart() -> None:
    chain, memory = NET.chain()
    short = NET.child(chain, chain.genesis_hash, 1)
    add(chain, memory, short)
    long = [block.header for block in grow(NET, chain, memory, [2, 3], chain.genesis_hash)]
    assert chain.head == long[-1]
    learn(chain, memory, NET.certificate(chain, short.header, BallotKind.PREVOTE))
    again = Chain(NET.genesis, Memory(memory))
    for either in (chain, again):
        assert either.head == either.safe == short.header
        assert [each.ballot.slot for each in either.section(short.header)] == [1]
