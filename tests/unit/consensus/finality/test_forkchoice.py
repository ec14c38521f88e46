"""The choice of the head, rule by rule, and the branches that are kept."""

from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.finality.forkchoice import Tree
from dipnet.consensus.finality.header import Header
from dipnet.consensus.finality.votes import BallotKind
from tests.fixtures.chain_builder import Net, add, grow, learn, refusal, transfer, with_fields
from tests.fixtures.memory import Memory

NET = Net.of(4)


def headers(chain: Chain, memory: Memory, slots: list[int], parent: bytes) -> list[Header]:
    """Empty blocks in these slots on ``parent``, imported."""
    return [block.header for block in grow(NET, chain, memory, slots, parent)]


def test_a_final_block_is_never_left() -> None:
    chain, memory = NET.chain()
    root = chain.genesis_hash
    final = headers(chain, memory, [1], root)[0]
    beside = headers(chain, memory, [2, 3, 4], root)
    assert chain.head == beside[-1]
    late = NET.child(chain, beside[-1].hash, 5)
    level = NET.child(chain, root, 5)
    prevotes = NET.certificate(chain, beside[-1], BallotKind.PREVOTE)
    NET.certify(chain, memory, final)
    learn(chain, memory, prevotes)
    assert chain.head == chain.final == final
    assert refusal(chain, late) == "block_old"
    assert refusal(chain, level) == "block_old"


def test_prevotes_make_nothing_final() -> None:
    chain, memory = NET.chain()
    certified = headers(chain, memory, [1], chain.genesis_hash)[0]
    NET.certify(chain, memory, certified, BallotKind.PREVOTE)
    assert chain.safe == certified
    assert chain.final.height == 0


def test_the_highest_certificate_wins_and_not_the_last() -> None:
    chain, memory = NET.chain()
    low = headers(chain, memory, [1], chain.genesis_hash)[0]
    high = headers(chain, memory, [2], chain.genesis_hash)[0]
    longest = headers(chain, memory, [3, 4, 5], chain.genesis_hash)[-1]
    assert chain.head == longest
    for header, head in ((low, low), (high, high), (low, high)):
        NET.certify(chain, memory, header, BallotKind.PREVOTE)
        assert chain.head == chain.safe == head


def test_above_one_certificate_more_blocks_then_the_lower_slot_then_the_lower_id() -> None:
    chain, memory = NET.chain()
    root = chain.genesis_hash
    late = headers(chain, memory, [2], root)[0]
    early = NET.child(chain, root, 1)
    paid = NET.child(chain, root, 1, [transfer("user 0", 0)])
    for block in (early, paid):
        add(chain, memory, block)
    assert chain.head.slot == 1
    assert chain.head.hash == min(early.hash, paid.hash)
    longer = headers(chain, memory, [3], late.hash)[0]
    assert chain.head == longer


def test_what_does_not_descend_from_the_final_block_leaves_the_tree() -> None:
    chain, memory = NET.chain()
    root = chain.need(chain.genesis_hash)
    trunk = headers(chain, memory, [1, 2], root.hash)
    side = headers(chain, memory, [3, 4], root.hash)
    tree = Tree(root)
    assert all(tree.add(header) for header in (*trunk, *side, *trunk))
    assert not tree.add(with_fields(side[-1], parent=b"\x01" * 32))
    assert len(tree) == 5
    assert tree.ancestor(trunk[1], trunk[0].hash)
    assert not tree.ancestor(trunk[1], side[0].hash)
    assert not tree.ancestor(trunk[0], trunk[1].hash)
    tree.finalize(trunk[0])
    assert len(tree) == 2
    asked = (trunk[0], trunk[1], root, side[0])
    assert [header.hash in tree for header in asked] == [
        True, True, False, False,
    ]  # fmt: skip
    assert tree.head(side[-1].hash) == trunk[1]
