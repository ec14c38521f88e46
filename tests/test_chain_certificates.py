"""What a chain makes of certificates: the same on every node, whatever it has heard before."""

from dipnet.consensus.votes import Certificate, Kind
from tests.chain_builder import LATE_MS, Net, add, learn, refusal

NET = Net.of(4)


def test_signatures_in_a_block_are_judged_by_who_knows_the_quorum_as_by_who_does_not() -> None:
    (knows, memory), (knows_not, other) = NET.chain(), NET.chain()
    first = NET.child(knows, knows.genesis_hash, 1)
    add(knows, memory, first)
    add(knows_not, other, first)
    NET.certify(knows, memory, first.header, Kind.PREVOTE)
    good = NET.certificate(knows, first.header, Kind.PREVOTE)
    bad = Certificate(good.ballot, good.bitmap, good.signatures[:-1] + b"\x01")
    for section, code in (([good], ""), ([bad], "certificate_signature")):
        block = NET.child(knows, first.hash, 2, section=section)
        for chain in (knows, knows_not):
            if code:
                assert refusal(chain, block) == code
            else:
                chain.on_block(block, LATE_MS)


def test_another_quorum_of_the_same_ballot_is_as_good_in_a_block() -> None:
    chain, memory = NET.chain()
    first = NET.child(chain, chain.genesis_hash, 1)
    add(chain, memory, first)
    NET.certify(chain, memory, first.header)
    votes = NET.votes(chain, first.header, Kind.COMMIT)
    members = chain.sets[0]
    bits = bytes((0b1110,))
    others = Certificate(votes[0].ballot, bits, b"".join(one.signature[:64] for one in votes[1:]))
    assert len(others.indices()) == members.quorum
    block = NET.child(chain, first.hash, 2, section=[others])
    add(chain, memory, block)
    assert block.header.final == (first.hash, 1)


def test_a_certificate_out_of_an_invalid_block_is_followed_when_it_comes_again() -> None:
    chain, memory = NET.chain()
    first = NET.child(chain, chain.genesis_hash, 1)
    add(chain, memory, first)
    certificate = NET.certificate(chain, first.header, Kind.COMMIT)
    block = NET.child(chain, first.hash, 2, section=[certificate])
    assert refusal(chain, NET.forged(block, state_root=bytes(32))) == "block_root"
    assert chain.final.height == 0
    learn(chain, memory, certificate)
    assert chain.final.hash == first.hash
