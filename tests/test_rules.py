"""Every rule that ties a block to its chain, with a mutant that breaks it."""

from typing import Any

import pytest

from dipnet.consensus import execute, rules
from dipnet.consensus.block import HASH_ZERO, Block, ordered_root
from dipnet.consensus.chain import Chain
from dipnet.consensus.schedule import genesis_set, set_digest, slot_start_ms
from dipnet.crypto import sha256
from dipnet.state import Journal
from dipnet.tx import Tx
from dipnet.vm.receipt import Receipt
from dipnet.vm.system import System
from dipnet.vm.transaction import Env, apply_tx
from tests.chain_builder import ETHER, LATE_MS, Net, add, grow, refusal, transfer, with_fields
from tests.memory import Memory

NET = Net.of(4)
RULED, RULED_MEMORY = NET.chain()
grow(NET, RULED, RULED_MEMORY, range(1, 30))
VALID = NET.child(RULED, RULED.head.hash, 31, [transfer("user 0", 0), transfer("user 1", 0)])

OTHERS = sorted(set(NET.secrets) - {VALID.header.proposer})
MUTANTS: list[tuple[str, Any, str]] = [
    ("parent", b"\x01" * 32, "block_parent"),
    ("height", VALID.header.height + 1, "block_form"),
    ("height", VALID.header.height - 1, "block_form"),
    *[("proposer", who, "block_leader") for who in OTHERS],
    ("state_root", HASH_ZERO, "block_root"),
    ("receipt_root", HASH_ZERO, "block_root"),
    ("logs_bloom", b"\x01" * 256, "block_root"),
    ("gas_used", 41_999, "block_root"),
    ("base_fee", VALID.header.base_fee + 1, "block_form"),
    ("base_fee", VALID.header.base_fee - 1, "block_form"),
    ("justify", (VALID.header.parent, 0, 0), "block_form"),
    ("justify", (RULED.genesis_hash, 1, 0), "block_form"),
    ("justify", (RULED.genesis_hash, 0, 1), "block_form"),
    ("final", (RULED.genesis_hash, 0), "block_form"),
    ("final", (VALID.header.final[0], VALID.header.final[1] + 1), "block_form"),
    ("final", (RULED.head.hash, RULED.head.slot), "block_form"),
    ("next_set_hash", HASH_ZERO, "block_form"),
    ("next_set_hash", set_digest(2, genesis_set(NET.genesis)), "block_form"),
    ("dag_acc", b"\x01" * 32, "block_form"),
]


@pytest.mark.parametrize(("name", "value", "code"), MUTANTS, ids=lambda p: str(p)[:12])
def test_a_wrong_field_is_refused(name: str, value: Any, code: str) -> None:
    assert refusal(RULED, NET.forged(VALID, **{name: value})) == code


def test_every_field_has_a_mutant() -> None:
    """Those that follow from the slot alone are in test_block.py."""
    in_block = {
        "chain_id", "slot", "epoch", "timestamp_ms", "gas_limit", "cert_root", "seed_reveal",
        "seed_commitment", "dag_root", "dag_count", "dag_bytes", "tx_root",
    }  # fmt: skip
    fields = set(VALID.header.__slots__) - {"raw", "hash"}
    assert fields == in_block | {name for name, _, _ in MUTANTS}
    chain = Chain(NET.genesis, Memory(RULED_MEMORY))
    assert chain.on_block(VALID, LATE_MS).new_head, "the original is good"


def test_slots_go_up() -> None:
    head = RULED.head
    for slot in (head.slot, head.slot - 1, 0):
        late = NET.child(RULED, head.hash, slot)
        assert refusal(RULED, late) == "block_slot"


def test_a_slot_begins_before_its_block_comes() -> None:
    start_ms = slot_start_ms(NET.genesis, VALID.header.slot)
    assert refusal(RULED, VALID, start_ms - rules.CLOCK_SKEW_MS - 1) == "block_future"
    far = NET.forged(VALID, slot=2**64 - 1)
    assert refusal(RULED, far) == "block_future"
    chain = Chain(NET.genesis, Memory(RULED_MEMORY))
    assert chain.on_block(VALID, start_ms - rules.CLOCK_SKEW_MS).new_head


def bad_body(*txs: Any, **changes: Any) -> Block:
    """The valid block with another body under a header that claims it."""
    root = ordered_root([tx.raw for tx in txs])
    return NET.signed(with_fields(VALID.header, tx_root=root, **changes), txs)


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
    assert chain.on_block(block, LATE_MS).new_head
    assert chain.head.gas_used == 42_000


def test_a_border_block_names_the_set() -> None:
    borders = [RULED.need(RULED.hash_at(height) or b"") for height in range(RULED.head.height + 1)]
    assert [one.height for one in borders if one.next_set_hash != HASH_ZERO] == [0]
    assert VALID.header.epoch == 1
    assert VALID.header.next_set_hash == set_digest(1, genesis_set(NET.genesis))
    assert VALID.header.cert_root != HASH_ZERO
    assert VALID.header.dag_root == sha256(b"")


def test_a_slot_has_few_blocks() -> None:
    """A proposer that signs many blocks for one slot costs us a few, on each of our disks."""
    memory = Memory(RULED_MEMORY)
    chain = Chain(NET.genesis, memory)
    parents = [chain.hash_at(height) or b"" for height in range(10, chain.head.height + 1)]
    twins = [NET.child(chain, parent, 31) for parent in parents[-(rules.SLOT_BLOCKS_MAX + 1) :]]
    add(chain, memory, *twins[:-1])
    assert refusal(chain, twins[-1]) == "block_limit"
    assert refusal(Chain(NET.genesis, memory), twins[-1]) == "block_limit"
    add(chain, memory, twins[0])


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
        header.base_fee, header.gas_limit, header.slot, header.proposer,
    )  # fmt: skip
    assert seen == [(env, 0), (env, 21_000)]
    assert env.timestamp_s == 1_700_000_031
