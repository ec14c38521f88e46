"""Every rule that ties a block to its chain, with a forged block that breaks it. The rules of
certificates are in test_certified.py, the rules of epochs in test_epochs.py.
"""

from typing import Any

import pytest

from dipnet.consensus.chain import execute, rules
from dipnet.consensus.chain.block import Block, ordered_root
from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.chain.execute import SYSTEM_PREFIX
from dipnet.consensus.chain.pool import Pool
from dipnet.consensus.chain.produce import build, turn
from dipnet.consensus.chain.schedule import slot_start_ms
from dipnet.consensus.finality.header import HASH_ZERO
from dipnet.consensus.finality.votes import BallotKind
from dipnet.consensus.staking.idpos import DPOS_ADDRESS
from dipnet.ledger.rules import RULES, RULES_KNOWN
from dipnet.ledger.state import Journal
from dipnet.ledger.tx import Tx
from dipnet.primitives.crypto import sha256, sign
from dipnet.primitives.errors import Invalid
from dipnet.vm.receipt import Receipt
from dipnet.vm.system import System
from dipnet.vm.transaction import Env, apply_tx
from tests.fixtures.chain_builder import (
    ETHER,
    LATE_MS,
    Net,
    add,
    grow,
    refusal,
    secret,
    sustain,
    transfer,
    with_fields,
)
from tests.fixtures.elections import Elections
from tests.fixtures.memory import Memory

NET = Net.of(4)
RULED, RULED_MEMORY = NET.chain()
sustain(NET, RULED, RULED_MEMORY, range(1, 35))
VALID = NET.child(RULED, RULED.head.hash, 36, [transfer("user 0", 0), transfer("user 1", 0)])
HEAD = RULED.head

OTHERS = sorted(set(NET.secrets) - {VALID.header.proposer})
MUTANTS: list[tuple[str, Any, str]] = [
    ("parent", b"\x01" * 32, "block_parent"),
    ("height", VALID.header.height + 1, "block_form"),
    ("height", VALID.header.height - 1, "block_old"),
    ("slot", 37, "block_leader"),
    ("slot", 40, "block_form"),
    ("epoch", 0, "block_epoch"),
    ("epoch", 2, "block_epoch"),
    ("timestamp_ms", VALID.header.timestamp_ms + 1, "block_form"),
    *[("proposer", address, "block_leader") for address in OTHERS],
    ("state_root", HASH_ZERO, "block_root"),
    ("receipt_root", HASH_ZERO, "block_root"),
    ("logs_bloom", b"\x01" * 256, "block_root"),
    ("gas_limit", 399_999_999, "block_form"),
    ("gas_used", 41_999, "block_root"),
    ("base_fee", VALID.header.base_fee + 1, "block_form"),
    ("base_fee", VALID.header.base_fee - 1, "block_form"),
    ("justify", HEAD.justify, "block_form"),
    ("justify", (HEAD.hash, HEAD.slot + 1, 1), "block_form"),
    ("justify", (HEAD.hash, HEAD.slot, 0), "block_form"),
    ("justify", (HEAD.hash, HEAD.slot, 2), "block_form"),
    ("justify", (HEAD.parent, HEAD.slot, 1), "block_form"),
    ("final", HEAD.final, "block_form"),
    ("final", (HEAD.hash, HEAD.slot + 1), "block_form"),
    ("final", (HEAD.hash, 2**64 - 1), "block_form"),
    ("final", (HEAD.parent, HEAD.slot), "block_form"),
    ("next_set_hash", b"\x01" * 32, "block_form"),
    ("next_set_hash", RULED.epoch.next_members.digest(2), "block_form"),
    ("seed_reveal", HASH_ZERO, "block_seed"),
    ("seed_reveal", b"\x01" * 32, "block_seed"),
    ("seed_commitment", b"\x01" * 32, "block_root"),
    ("dag_acc", b"\x01" * 32, "block_form"),
]


@pytest.mark.parametrize(("name", "value", "code"), MUTANTS, ids=lambda p: str(p)[:12])
def test_a_wrong_field_is_refused(name: str, value: Any, code: str) -> None:
    assert refusal(RULED, NET.forged(VALID, **{name: value})) == code


def test_every_field_has_a_mutant() -> None:
    """Each header field has a mutant here, except the fields that test_block.py checks."""
    in_block = {"chain_id", "cert_root", "dag_root", "dag_count", "dag_bytes", "tx_root"}
    fields = set(VALID.header.__slots__) - {"raw", "hash"}
    assert fields == in_block | {name for name, _, _ in MUTANTS}
    chain = Chain(NET.genesis, Memory(RULED_MEMORY))
    assert chain.on_block(NET.decoded(VALID), LATE_MS).applied, "the original is good"


# --- time and leaders


def test_slots_go_up() -> None:
    head = RULED.head
    for slot in (head.slot, head.slot - 1, 0):
        late = NET.child(RULED, head.hash, slot)
        assert refusal(RULED, late) == "block_slot"


def test_a_slot_begins_before_its_block_comes() -> None:
    start_ms = slot_start_ms(NET.genesis.parameters, VALID.header.slot)
    assert refusal(RULED, VALID, start_ms - rules.CLOCK_SKEW_MS - 1) == "block_future"
    far = NET.forged(VALID, slot=2**64 - 1)
    assert refusal(RULED, far) == "block_future"
    chain = Chain(NET.genesis, Memory(RULED_MEMORY))
    assert chain.on_block(VALID, start_ms - rules.CLOCK_SKEW_MS).applied


def test_only_the_proposers_own_key_signs() -> None:
    """The key of the proposer in its epoch signs, not its account's key nor another member's."""
    with pytest.MonkeyPatch.context() as patch:
        net = Net.of(1, epoch_slots=2)
        members = net.recruits("ada", "bea", "cleo", "dora")
        Elections(lambda _, epoch: members).put(patch)
        chain, memory = net.chain()
        sustain(net, chain, memory, range(1, 6))
        assert chain.epoch.members == members
        block = net.child(chain, chain.head.hash, 6)
        assert block.header.proposer != block.signer
        for key in (secret("ada"), secret("hot key of nobody"), *net.secrets.values()):
            forged = net.decoded(_resigned(block, key))
            if forged != block:
                assert refusal(chain, forged) == "block_signature"
        add(chain, memory, net.decoded(block))
        assert chain.head == block.header
        # A vote by that key counts too.
        net.certify(chain, memory, block.header)
        assert chain.final == block.header


def _resigned(block: Block, key: bytes) -> Block:
    net = Net(NET.genesis, {block.header.proposer: key})
    return net.signed(block.header, block.txs, block.certificates)


def test_the_signer_of_a_header_is_known_before_its_body_is_judged() -> None:
    """The checks of a header before its body is judged."""
    assert RULED.signer_of(VALID.header) == VALID.signer
    for epoch in (0, 1, 2):
        header = with_fields(VALID.header, epoch=epoch)
        assert RULED.signer_of(header) == VALID.signer
    for changes, code in (
        ({"epoch": 3}, "block_epoch"),
        ({"proposer": b"\x22" * 20}, "block_leader"),
    ):
        with pytest.raises(Invalid) as caught:
            RULED.signer_of(with_fields(VALID.header, **changes))
        assert caught.value.code == code


def test_missed_slots_name_their_leaders() -> None:
    epoch, head = RULED.epoch, RULED.head
    for slot in (35, 36, 39, 60):
        position = RULED.position(head, slot, RULED.section(head))
        between = range(head.slot + 1, slot)
        assert position.missed == tuple(epoch.order[at % 4] for at in between)
    far = rules.missed(epoch, with_fields(head, slot=1_000, final=(head.hash, 1_000)), 2_000)
    assert len(far) <= rules.MISSED_SLOTS_MAX
    near = rules.missed(epoch, with_fields(head, slot=1_743, final=(head.hash, 1_000)), 2_000)
    assert far == near, "the nearest ones"


def test_a_leader_that_the_back_off_left_out_did_not_miss() -> None:
    net = Net.of(4, backoff_slots=4, epoch_slots=1_000)
    chain, _ = net.chain()
    epoch, genesis = chain.epoch, chain.head
    expected = [epoch.order[at % 4] for at in range(1, 8)]
    expected += [epoch.order[at // 2 % 4] for at in range(8, 16) if at % 2 == 0]
    expected += [epoch.order[at // 4 % 4] for at in range(16, 30) if at % 4 == 0]
    assert rules.missed(epoch, genesis, 30) == tuple(expected)


# --- back-off


def test_slots_are_left_out_while_nothing_is_final() -> None:
    net = Net.of(4, backoff_slots=4, epoch_slots=1_000)
    chain, memory = net.chain()
    for slot in range(1, 64):
        step = 1 if slot < 8 else 2 if slot < 16 else 4 if slot < 32 else 8
        wanted = chain.epoch.order[slot // step % 4] if slot % step == 0 else None
        assert rules.leader(chain.epoch, slot, 0) == wanted
        for proposer in chain.epoch.order:
            block = net.child(chain, chain.head.hash, slot, proposer=proposer)
            if proposer == wanted:
                good = block
            else:
                assert refusal(chain, block) == "block_leader"
        if wanted is not None:
            add(chain, memory, good)
    assert chain.head.slot == 56
    # Finality is back: the next slot may hold a block, counted from the certificate on the chain.
    net.certify(chain, memory, chain.head)
    for slot in (57, 58):
        block = net.child(chain, chain.head.hash, slot, proposer=chain.epoch.order[slot % 4])
        add(chain, memory, block)
    assert chain.head.slot == 58
    assert chain.head.final[1] == 56


def test_a_header_counts_its_own_final_block() -> None:
    """Without the certificate the slot must stay empty; a header that only claims it is refused."""
    net = Net.of(4, backoff_slots=4, epoch_slots=1_000)
    chain, memory = net.chain()
    grow(net, chain, memory, [1, 2, 3])
    net.certify(chain, memory, chain.head)
    with_it = net.child(chain, chain.head.hash, 9)
    assert with_it.header.proposer == chain.epoch.order[1]
    without = net.child(chain, chain.head.hash, 9, section=(), proposer=with_it.header.proposer)
    assert refusal(chain, without) == "block_leader"
    claimed = net.forged(without, final=with_it.header.final, justify=with_it.header.justify)
    assert refusal(chain, claimed) == "block_form"
    add(chain, memory, with_it)


def test_far_from_finality_only_system_transactions_pass() -> None:
    net = Net.of(1, backoff_slots=2, epoch_slots=1_000)
    chain, memory = net.chain()
    user, calling = transfer("user 0", 0), transfer("user 1", 0, DPOS_ADDRESS, gas=100_000)
    creation = transfer("user 2", 0, SYSTEM_PREFIX[:18] + b"\x0c\xff")
    last = transfer("user 3", 0, SYSTEM_PREFIX + b"\xff")
    before = net.child(chain, chain.genesis_hash, 6, [user])
    assert Chain(net.genesis, Memory(memory)).on_block(before, LATE_MS).applied
    good = net.child(chain, chain.genesis_hash, 8, [calling, last])
    assert Chain(net.genesis, Memory(memory)).on_block(good, LATE_MS).applied
    empty = net.child(chain, chain.genesis_hash, 8)
    for tx in (user, creation):
        root = ordered_root([tx.raw])
        bad = net.signed(with_fields(empty.header, tx_root=root), [tx])
        assert refusal(chain, bad) == "block_tx"
    # The producer leaves these transactions in the pool, where they may wait.
    pool = Pool(net.genesis.parameters)
    for tx in (user, calling):
        pool.add(tx, 0, 1_000 * ETHER, 0)
    key = net.secrets[good.header.proposer]
    next_turn = turn(chain, 8)
    assert next_turn.leader == good.header.proposer
    draft = build(chain, pool, next_turn, sha256(b""))
    assert draft.txs == (calling,)
    assert draft.refused == ()
    signature = sign(draft.header.proposal_digest, key)
    assert chain.on_block(draft.sealed(signature, net.genesis.delegates[0].public_key), LATE_MS)


# --- rules of later versions


def test_unknown_rules_stop_us() -> None:
    """A boundary puts unknown rules in force: the node follows the boundary but no child of it."""
    with pytest.MonkeyPatch.context() as patch:
        newer = {"rules": RULES_KNOWN + 1}
        Elections(changes=lambda epoch: newer if epoch == 2 else {}).put(patch)
        net = Net.of(4, epoch_slots=3)
        chain, memory = net.chain()
        sustain(net, chain, memory, range(1, 7))
        assert (chain.epoch.number, chain.parameters.rules) == (2, RULES_KNOWN + 1)
        block = net.child(chain, chain.head.hash, 7)
        assert refusal(chain, block) == "rules_unknown"
        patch.setattr(rules, "RULES", {**RULES, RULES_KNOWN + 1: RULES[RULES_KNOWN]})
        assert chain.on_block(block, LATE_MS).applied


# --- bodies


def bad_body(*txs: Any, **changes: Any) -> Block:
    """The valid block with another body, under a header that commits to that body."""
    root = ordered_root([tx.raw for tx in txs])
    header = with_fields(VALID.header, tx_root=root, **changes)
    return NET.signed(header, txs, VALID.certificates)


def test_a_transaction_that_cannot_run_spoils_the_block() -> None:
    good = transfer("user 0", 0)
    for txs in (
        [transfer("user 0", 1)],
        [good, good],
        [transfer("user 0", 0, value=1_000 * ETHER)],
        [transfer("nobody", 0)],
        [transfer("user 0", 0, tip=1, fee=VALID.header.base_fee - 1)],
        [transfer("user 0", 0, gas=20_999)],
    ):
        assert refusal(RULED, bad_body(*txs)) == "block_tx"
    assert refusal(RULED, bad_body(good)) == "block_root"


def test_the_gas_limit_binds() -> None:
    net = Net.of(gas_limit=42_000, elasticity=2)
    chain, _ = net.chain()
    over = [transfer("user 0", 0, gas=21_000), transfer("user 1", 0, gas=21_001)]
    exact = [transfer("user 0", 0), transfer("user 1", 0)]
    block = net.child(chain, chain.head.hash, 1, exact)
    claimed = with_fields(block.header, tx_root=ordered_root([tx.raw for tx in over]))
    assert refusal(chain, net.signed(claimed, over)) == "block_tx"
    assert chain.on_block(block, LATE_MS).applied
    assert chain.head.gas_used == 42_000


def test_the_bytes_of_a_block_are_those_of_its_epoch() -> None:
    net = Net.of(block_bytes_max=256 * 1024)
    chain, _ = net.chain()
    large = [transfer(f"user {at}", 0, data=bytes(99_000), gas=1_100_000) for at in range(3)]
    assert refusal(chain, net.child(chain, chain.head.hash, 1, large)) == "oversized"
    assert chain.on_block(net.child(chain, chain.head.hash, 1, large[:2]), LATE_MS).applied


def test_transactions_see_the_block_around_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watched(journal: Journal, env: Env, tx: Tx, gas: int, system: System) -> Receipt:
        seen.append((env, gas))
        return apply_tx(journal, env, tx, gas, system)

    monkeypatch.setattr(execute, "apply_tx", watched)
    Chain(NET.genesis, Memory(RULED_MEMORY)).on_block(VALID, LATE_MS)
    header = VALID.header
    env = Env(
        header.chain_id, header.height, header.timestamp_ms // 1000, header.proposer,
        header.base_fee, header.gas_limit, header.slot, DPOS_ADDRESS,
    )  # fmt: skip
    assert seen == [(env, 0), (env, 21_000)]
    assert env.timestamp_s == 1_700_000_036


# --- two blocks of one slot


def test_a_slot_has_few_blocks_of_one_leader() -> None:
    """A node stores few blocks of a proposer that signs many blocks for a slot."""
    net = Net.of(4)
    chain, memory = net.chain()
    trunk = grow(net, chain, memory, range(1, 8))
    parents = [block.hash for block in trunk]
    twins = [net.child(chain, parent, 12) for parent in parents[: rules.SLOT_BLOCKS_MAX + 1]]
    assert len({block.header.proposer for block in twins}) == 1
    add(chain, memory, *twins[:-1])
    assert refusal(chain, twins[-1]) == "block_limit"
    assert refusal(Chain(net.genesis, Memory(memory)), twins[-1]) == "block_limit"
    add(chain, memory, twins[0])
    # A child of the refused block arrives: the block is fetched again, and taken.
    asked = chain.on_block(twins[-1], LATE_MS, asked=True)
    assert asked.puts
    assert asked.surplus
    memory.apply(asked.puts)
    net.certify(chain, memory, twins[-1].header)
    assert chain.final == twins[-1].header


def test_a_full_slot_of_one_leader_leaves_room_to_another() -> None:
    """With a step of two the slot has another leader than on a branch whose back-off has ended."""
    net = Net.of(4, backoff_slots=2, epoch_slots=1_000)
    chain, memory = net.chain()
    trunk = grow(net, chain, memory, range(1, 4))
    liar = rules.leader(chain.epoch, 6, 0)
    twins = [net.child(chain, parent, 6) for parent in (chain.genesis_hash, *map(_hash, trunk))]
    assert {block.header.proposer for block in twins} == {liar}
    add(chain, memory, *twins)
    net.certify(chain, memory, trunk[-1].header, BallotKind.COMMIT)
    honest = net.child(chain, trunk[-1].hash, 6)
    assert honest.header.proposer != liar
    add(chain, memory, honest)
    assert chain.header(honest.hash) == honest.header


def _hash(block: Block) -> bytes:
    return block.hash


def test_equivocating_blocks_are_branches() -> None:
    """Two blocks of one slot: both are kept, and votes say which one stays."""
    net = Net.of(4)
    chain, memory = net.chain()
    plain = net.child(chain, chain.genesis_hash, 1)
    paid = net.child(chain, chain.genesis_hash, 1, [transfer("user 0", 0)])
    add(chain, memory, plain, paid)
    assert chain.head.hash == min(plain.hash, paid.hash)
    rival = paid if chain.head == plain.header else plain
    net.certify(chain, memory, rival.header, BallotKind.PREVOTE)
    assert chain.head == chain.safe == rival.header
    net.certify(chain, memory, rival.header, BallotKind.COMMIT)
    assert chain.final == rival.header
