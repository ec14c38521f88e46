"""Wrong votes, certificates and blocks that a node receives from a peer.

Each case has its code, leaves the node as it was, is relayed to no peer, and is charged to the peer
that sent it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from dipnet.consensus.chain.block import Block, cert_root, seal
from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.chain.schedule import slot_start_ms
from dipnet.consensus.finality import finality
from dipnet.consensus.finality.header import Header
from dipnet.consensus.finality.votes import Ballot, BallotKind, Certificate, Vote, certificate_of
from dipnet.node.effects import Drop, Effect, Send, Woke
from dipnet.node.offences import OFFENCE_OF
from dipnet.node.work import Incoming
from dipnet.p2p import messages as m
from dipnet.p2p.messages import Topic
from dipnet.p2p.scores import OFFENCES, SCORE_MIN
from dipnet.primitives import crypto
from tests.fixtures.chain_builder import Net, add, grow, secret, sustain, with_fields
from tests.fixtures.memory import Memory
from tests.fixtures.node_bench import PEER, Bench, of
from tests.fuzz.node_delegates import high_s
from tests.fuzz.node_world import U64, standing
from tests.sim.world import peer_id

OTHER = peer_id(crypto.public_key(secret("another peer")))
HEAD_SLOT = 13
"""The slot of the node's head, in epoch 1, whose boundary is final; it has no vote yet."""


@cache
def built() -> tuple[Memory, m.Items]:
    """The disk of a node that has the chain, and the blocks."""
    bench = Bench(delegates=4)
    net = Net(bench.genesis, bench.secrets)
    chain, memory = net.chain()
    chained = sustain(net, chain, memory, range(1, HEAD_SLOT))
    chained += grow(net, chain, memory, [HEAD_SLOT])
    return memory, blocks(*chained)


class Told(Bench):
    """A node with two peers in a network of four delegates, whose keys the test has."""

    def __init__(self) -> None:
        super().__init__(delegates=4)
        self.net = Net(self.genesis, self.secrets)
        self.memory = Memory(built()[0])
        self.theirs = Chain(self.genesis, self.memory)
        self.node.voting.paused = True
        self.now_ms = slot_start_ms(self.genesis.parameters, HEAD_SLOT + 1)
        self.start()
        for peer in (PEER, OTHER):
            self.greet(peer=peer)
        self.codes: list[str] = []
        judged = self.node.peers.on_judged

        def on_judged(now_ms: int, incoming: Incoming, refused: Any) -> None:
            known = list(refused)
            self.codes += [result.code for result in known]
            judged(now_ms, incoming, known)

        self.node.peers.on_judged = on_judged  # type: ignore[method-assign]
        self.hear(built()[1])
        assert self.node.chain.head == self.theirs.head
        assert self.node.chain.final.slot == HEAD_SLOT - 1
        assert self.node.chain.epoch.number == 1
        assert not self.codes

    @property
    def head(self) -> Header:
        return self.theirs.head

    def hear(self, message: m.Message) -> list[Effect]:
        """The effects of a message and of the time in which it would be relayed."""
        effects = self.answered(self.receive(message))
        return effects + self.answered(self.step(Woke(), self.now_ms + 50))

    def score(self) -> int:
        return self.node.peers._scores.score(self.node.steady_ms, PEER)

    def ballot(self, kind: BallotKind = BallotKind.PREVOTE, **changes: Any) -> Ballot:
        """A ballot that a delegate may sign for the head, with ``fields`` changed."""
        ballot = finality.prevote(self.head, self.theirs.epoch_of(self.head).boundary)
        ballot = ballot if kind is BallotKind.PREVOTE else finality.commit(ballot)
        return replace(ballot, **changes)

    def votes(self, ballot: Ballot) -> list[Vote]:
        """The votes of all four delegates for ``ballot``."""
        digest = ballot.digest(self.genesis.chain_id)
        members = self.theirs.epoch.members.addresses
        return [
            Vote(ballot, index, crypto.sign(digest, self.secrets[address]))
            for index, address in enumerate(members)
        ]

    def vote(self, **changes: Any) -> Vote:
        return self.votes(self.ballot(**changes))[1]

    def certificate(self, votes: int = 3, **changes: Any) -> Certificate:
        """The certificate of the first ``signers`` delegates for ``ballot``; a quorum is three."""
        return certificate_of(self.votes(self.ballot(**changes))[:votes], self.theirs.epoch.members)

    def block(self, section: Sequence[Certificate] = (), **changes: Any) -> Block:
        """A child of the head that carries these certificates, valid or not."""
        good = self.net.child(self.theirs, self.head.hash, HEAD_SLOT + 1, (), ())
        roots = (
            {"cert_root": cert_root([certificate.raw for certificate in section])}
            if section
            else {}
        )
        header = with_fields(good.header, **(roots | changes))
        key = self.secrets.get(header.proposer, self.key)
        return seal(header, (), crypto.sign(header.proposal_digest, key), b"", section)

    def under(self, change: Callable[[bytes], bytes]) -> Block:
        """The valid child of the head under another signature."""
        good = self.block()
        return seal(good.header, (), change(good.signature))


def flipped(signature: bytes) -> bytes:
    return bytes([signature[0] ^ 1]) + signature[1:]


Case = tuple[str, Callable[[Told], Vote | Certificate | Block]]

VOTES: list[Case] = [
    ("vote_epoch", lambda told: told.vote(epoch=3)),
    ("vote_epoch", lambda told: told.vote(epoch=U64)),
    ("vote_signature", lambda told: replace(told.vote(), ballot=told.ballot(epoch=0))),
    ("vote_slot", lambda told: told.vote(slot=HEAD_SLOT + 3)),
    ("vote_slot", lambda told: told.vote(slot=U64)),
    ("vote_old", lambda told: told.vote(slot=HEAD_SLOT - 10)),
    ("vote_member", lambda told: replace(told.vote(), index=4)),
    ("vote_member", lambda told: replace(told.vote(), index=100)),
    ("vote_signature", lambda told: replace(told.vote(), index=2)),
    ("vote_signature", lambda told: replace(told.vote(), signature=high_s(told.vote().signature))),
    ("vote_signature", lambda told: replace(told.vote(), signature=flipped(told.vote().signature))),
    ("vote_signature", lambda told: replace(told.vote(), signature=bytes(65))),
    ("vote_signature", lambda told: replace(told.vote(), ballot=told.ballot(justify_slot=0))),
    ("vote_form", lambda told: told.vote(kind=BallotKind.COMMIT, justify_slot=1)),
    (
        "vote_form",
        lambda told: told.votes(Ballot(BallotKind.PROPOSAL, 1, 13, told.head.hash, 0))[0],
    ),
    ("record", lambda told: replace(told.vote(), index=101)),
]

BOUNDARY_SLOT = 10

SPOILT: list[Case] = [
    ("certificate_quorum", lambda told: told.certificate(2)),
    ("certificate_form", lambda told: replace(told.certificate(2), bitmap=b"\x07")),
    ("certificate_form", lambda told: replace(told.certificate(3), bitmap=b"\x03")),
    ("certificate_form", lambda told: replace(told.certificate(3), bitmap=b"\x13")),
    ("certificate_form", lambda told: replace(told.certificate(3), bitmap=b"\x07\x00")),
    ("certificate_signature", lambda told: replace(told.certificate(3), bitmap=b"\x0b")),
    ("certificate_signature", lambda told: twice(told.certificate(3))),
    ("certificate_signature", lambda told: spoilt(told.certificate(3), high_s)),
    ("certificate_signature", lambda told: spoilt(told.certificate(3), flipped)),
]

CERTIFICATES: list[Case] = [
    (
        "certificate_signature",
        lambda told: replace(told.certificate(), ballot=told.ballot(epoch=2)),
    ),
    ("vote_epoch", lambda told: told.certificate(epoch=3)),
    ("vote_old", lambda told: told.certificate(slot=HEAD_SLOT - 1)),
]

UNVOTABLE: list[Case] = [
    # A quorum signed a ballot whose epoch, slot or justify is not the block's.
    ("certificate_block", lambda told: told.certificate(epoch=0)),
    ("certificate_block", lambda told: told.certificate(slot=HEAD_SLOT + 50)),
    ("certificate_block", lambda told: told.certificate(justify_slot=BOUNDARY_SLOT - 1)),
    ("certificate_block", lambda told: told.certificate(justify_slot=0)),
]


def twice(certificate: Certificate) -> Certificate:
    """``certificate`` with the first member's signature in place of the second's."""
    return replace(
        certificate, signatures=certificate.signatures[:64] * 2 + certificate.signatures[128:]
    )


def spoilt(certificate: Certificate, change: Callable[[bytes], bytes]) -> Certificate:
    return replace(
        certificate, signatures=change(certificate.signatures[:64]) + certificate.signatures[64:]
    )


BLOCKS: list[Case] = [
    ("block_epoch", lambda told: told.block(epoch=0)),
    ("block_epoch", lambda told: told.block(epoch=3)),
    ("block_future", lambda told: future(told)),
    ("block_leader", lambda told: told.block(proposer=bytes(20))),
    ("block_leader", lambda told: told.block(proposer=other(told))),
    ("block_signature", lambda told: told.under(flipped)),
    ("block_signature", lambda told: told.under(high_s)),
    ("block_signature", lambda told: told.under(lambda signature: bytes(65))),
    ("block_form", lambda told: told.block(justify=(told.head.hash, HEAD_SLOT, 1))),
    ("block_form", lambda told: told.block(final=(told.head.hash, HEAD_SLOT))),
    ("block_seed", lambda told: told.block(seed_reveal=b"\1" * 32)),
    ("block_root", lambda told: told.block(state_root=bytes(32))),
    ("block_root", lambda told: told.block(cert_root=bytes(32))),
]
"""Blocks that are bad without a certificate; blocks with a bad certificate are below."""

SECTIONS: list[tuple[str, Callable[[Told], list[Certificate]]]] = [
    *((code, lambda told, make=make: [make(told)]) for code, make in [*SPOILT, *UNVOTABLE]),
    ("certificate_block", lambda told: [told.certificate(epoch=3)]),
    ("certificate_block", lambda told: [told.certificate(block_id=b"\7" * 32)]),
    ("certificate_section", lambda told: [settled(told)]),
    ("certificate_form",
         lambda told: [told.certificate(kind=BallotKind.COMMIT), told.certificate()]),
    ("certificate_form", lambda told: [told.certificate(), told.certificate()]),
]  # fmt: skip


def settled(told: Told) -> Certificate:
    """A certificate that raises no link: its block is final for the parent already."""
    return list(told.theirs.certificates)[-1]


def other(told: Told) -> bytes:
    """The address of a member that does not lead the slot."""
    leader = told.block().header.proposer
    return next(address for address in told.theirs.epoch.members.addresses if address != leader)


def future(told: Told) -> Block:
    """A block by the leader of a slot that has not begun."""
    return told.net.child(told.theirs, told.head.hash, HEAD_SLOT + 3, (), ())


def message(item: Vote | Certificate | Block) -> m.Message:
    if isinstance(item, Vote):
        return m.Votes((item.raw,))
    return m.Certificates((item.raw,)) if isinstance(item, Certificate) else blocks(item)


def blocks(*pushed: Block) -> m.Items:
    return m.Items(Topic.BLOCK, tuple(block.raw for block in pushed))


def refused(told: Told, item: Vote | Certificate | Block, code: str) -> None:
    """Checks that ``item`` is refused with this code, and that only the sender's score changes.

    A peer that repeats old votes may only be late: it pays with its allowance, not its score.
    """
    before = standing(told.node)
    counted = told.node.voting.results[""]
    effects = told.hear(message(item))
    assert told.codes == [code]
    assert standing(told.node) == before
    assert told.node.voting.results[""] == counted
    assert item.raw not in relayed(effects)
    points = OFFENCES[OFFENCE_OF[code]] if code != "vote_old" else 0
    if points <= SCORE_MIN:
        assert [drop.peer for drop in of(effects, Drop) if isinstance(drop, Drop)] == [PEER]
    else:
        assert told.score() == points


def relayed(effects: Sequence[Effect]) -> list[bytes]:
    """All votes, certificates and blocks that are sent to any peer."""
    sent = [m.decode(e.protocol, e.data) for e in effects if isinstance(e, Send)]
    kinds = m.Votes | m.Certificates | m.Items
    return [raw for told in sent if isinstance(told, kinds) for raw in told.raws]


@pytest.mark.parametrize(("code", "make"), [*VOTES, *SPOILT, *CERTIFICATES, *UNVOTABLE, *BLOCKS])
def test_bad_input_has_its_code_and_its_price(
    code: str, make: Callable[[Told], Vote | Certificate | Block]
) -> None:
    told = Told()
    refused(told, make(told), code)


@pytest.mark.parametrize(("code", "make"), SECTIONS)
def test_a_block_with_a_bad_certificate_is_a_bad_block(
    code: str, make: Callable[[Told], list[Certificate]]
) -> None:
    """The header claims each pair of links that the bad certificate could give."""
    told = Told()
    section = make(told)
    links = {"justify": (told.head.hash, HEAD_SLOT, 1)}
    if any(certificate.ballot.kind is BallotKind.COMMIT for certificate in section):
        links["final"] = (told.head.hash, HEAD_SLOT)  # type: ignore[assignment]
    refused(told, told.block(section, **links), code)


def test_good_items_are_followed_and_relayed() -> None:
    """The same items without their fault pass: no case above is refused for another reason."""
    told = Told()
    vote = told.vote()
    assert vote.raw in relayed(told.hear(message(vote)))
    certificate = told.certificate()
    assert certificate.raw in relayed(told.hear(message(certificate)))
    assert told.node.chain.safe == told.head
    block = told.block([certificate], justify=(told.head.hash, HEAD_SLOT, 1))
    assert block.raw in relayed(told.hear(message(block)))
    assert told.node.chain.head.hash == block.hash
    commits = told.certificate(kind=BallotKind.COMMIT)
    told.hear(message(commits))
    assert told.node.chain.final == told.head
    assert told.codes == []
    assert told.score() == 0


def test_a_quorum_for_another_justify_than_the_blocks_certifies_nothing() -> None:
    """Each vote alone may be half of a proof and is kept; their certificate is refused."""
    told = Told()
    add(told.theirs, told.memory)
    before = standing(told.node)
    for vote in told.votes(told.ballot(justify_slot=BOUNDARY_SLOT - 1))[:3]:
        assert not told.codes
        told.hear(m.Votes((vote.raw,)))
    assert told.codes == ["certificate_block"]
    assert standing(told.node) == before
    assert told.score() == OFFENCES["untimely"]
