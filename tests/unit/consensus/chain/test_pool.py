"""The pool: Ethereum's error texts, bounds, order, and a slow model that it must agree with."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dipnet.consensus.chain import pool as pool_module
from dipnet.consensus.chain.pool import Pool, cost
from dipnet.ledger.tx import Tx
from dipnet.primitives.errors import Invalid
from tests.fixtures.chain_builder import ETHER, Net, transfer

FEE = 10**10
RICH = 10**6 * ETHER
TEMPLATE = transfer("user 0", 0)
SENDERS = tuple(bytes([index]) * 20 for index in range(256))


def tx(
    sender: int, nonce: int, tip: int = 10**9, fee: int = FEE, value: int = 0, size: int = 0
) -> Tx:
    """A transaction as if signed, with a hash made of its fields."""
    name = f"{sender} {nonce} {tip} {fee} {value}".encode()
    raw = name + bytes(max(size - len(name), 0))
    return replace(
        TEMPLATE, raw=raw, hash=name.ljust(48, b"."), sender=SENDERS[sender], nonce=nonce,
        max_priority_fee=tip, max_fee=fee, value=value,
    )  # fmt: skip


def made(**parameters: Any) -> Pool:
    parameters.setdefault("pool_account_txs_max", parameters.get("pool_txs_max", 16_384))
    return Pool(Net.of(**parameters).genesis.parameters)


def refusal(pool: Pool, tx: Tx, nonce: int = 0, balance: int = RICH, base_fee: int = 0) -> Invalid:
    """The refusal of ``tx``, which must not change the pool."""
    before = held(pool)
    with pytest.raises(Invalid) as caught:
        pool.add(tx, nonce, balance, base_fee)
    assert held(pool) == before
    check_bookkeeping(pool)
    return caught.value


def put(pool: Pool, *txs: Tx, base_fee: int = 0, balance: int = RICH) -> None:
    for tx in txs:
        pool.add(tx, 0, balance, base_fee)
        check_bookkeeping(pool)


def held(pool: Pool) -> set[bytes]:
    return set(pool._txs)


def picked(pool: Pool, base_fee: int = 0) -> list[Tx]:
    picks, order = pool.picks(base_fee), []
    while (best := picks.peek()) is not None:
        order.append(best)
        picks.take()
    return order


def check_bookkeeping(pool: Pool) -> None:
    """Compare all counters of the pool with its transactions."""
    waiting = [
        entry.tx for account in pool._accounts.values() for entry in account.waiting.values()
    ]
    assert {entry.hash for entry in waiting} == set(pool._txs)
    assert pool._bytes == sum(len(entry.raw) for entry in waiting)
    queued = set()
    for address, account in pool._accounts.items():
        assert account.waiting, "no empty accounts"
        assert account.cost == sum(cost(entry.tx) for entry in account.waiting.values())
        assert all(entry.tx.sender == address for entry in account.waiting.values())
        assert account.ready not in account.waiting
        assert set(range(account.nonce, account.ready)) <= set(account.waiting)
        assert min(account.waiting) >= account.nonce
        beyond = {
            entry.tx.hash for nonce, entry in account.waiting.items() if nonce > account.ready
        }
        assert len(beyond) == account.queued()
        queued |= beyond
    assert queued == set(pool._queued)
    assert pool.counts() == (len(waiting) - len(queued), len(queued))


# --- texts


def test_refusals_have_the_texts_of_ethereum() -> None:
    pool = made()
    put(pool, tx(1, 0, value=7))
    assert str(refusal(pool, tx(1, 0, value=7))) == "already known"
    assert str(refusal(pool, tx(1, 0, value=8))) == "replacement transaction underpriced"
    low = refusal(pool, tx(1, 4), nonce=5)
    assert str(low) == "nonce too low: next nonce 5, tx nonce 4"
    poor = refusal(pool, tx(2, 0, value=1), balance=FEE * 21_000)
    assert str(poor).startswith("insufficient funds for gas * price + value: balance ")
    assert refusal(pool, replace(tx(2, 0), gas=20_999)).code == "intrinsic_gas"
    assert refusal(pool, replace(tx(2, 0), to=b"", gas=60_000)).code == "no_vm"
    floor = Net.of().genesis.parameters.base_fee_floor
    assert refusal(pool, tx(2, 0, tip=0, fee=floor - 1)).code == "underpriced"
    assert refusal(pool, replace(tx(2, 0), gas=2**24 + 1)).code == "gas_cap"


def test_the_cost_of_what_waits_is_counted() -> None:
    pool = made()
    each = FEE * 21_000
    put(pool, tx(1, 0), tx(1, 1), balance=3 * each)
    over = refusal(pool, tx(1, 2, value=1), balance=3 * each)
    assert over.code == "funds"
    assert f"balance {3 * each}, queued cost {2 * each}" in str(over)
    put(pool, tx(1, 2), balance=3 * each)
    put(pool, tx(1, 2, tip=2 * 10**9, fee=2 * FEE), balance=4 * each)


# --- order


def test_pending_and_queued() -> None:
    pool = made()
    put(pool, tx(1, 0), tx(1, 1), tx(1, 3), tx(1, 4))
    assert pool.counts() == (2, 2)
    assert pool.pending_nonce(SENDERS[1], 0) == 2
    assert pool.pending_nonce(SENDERS[2], 9) == 9
    assert picked(pool) == [tx(1, 0), tx(1, 1)]
    put(pool, tx(1, 2))
    assert pool.counts() == (5, 0)
    assert pool.pending_nonce(SENDERS[1], 0) == 5
    assert [tx.nonce for tx in picked(pool)] == [0, 1, 2, 3, 4]
    assert pool.get(tx(1, 2).hash) == tx(1, 2)
    assert tx(1, 2).hash in pool
    assert pool.get(b"") is None


def test_picks_go_by_effective_tip_then_arrival_in_nonce_order() -> None:
    pool = made()
    put(pool, tx(1, 0, tip=5), tx(2, 0, tip=9), tx(3, 0, tip=5), tx(1, 1, tip=50))
    assert picked(pool) == [tx(2, 0, tip=9), tx(1, 0, tip=5), tx(1, 1, tip=50), tx(3, 0, tip=5)]
    # base fee eats into the tip of 4, whose cap is low, and shuts 5 out
    put(pool, tx(4, 0, tip=900, fee=10**7), tx(5, 0, tip=900, fee=10**7 - 5))
    order = picked(pool, base_fee=10**7 - 4)
    assert order == [
        tx(2, 0, tip=9), tx(1, 0, tip=5), tx(1, 1, tip=50), tx(3, 0, tip=5),
        tx(4, 0, tip=900, fee=10**7),
    ]  # fmt: skip


def test_a_cap_below_the_base_fee_ends_an_account() -> None:
    pool = made()
    put(pool, tx(1, 0), tx(1, 1, fee=10**7), tx(1, 2), tx(2, 0, tip=1))
    assert picked(pool, base_fee=10**7 + 1) == [tx(1, 0), tx(2, 0, tip=1)]


def test_a_skipped_account_stays_out() -> None:
    pool = made()
    put(pool, tx(1, 0, tip=9), tx(1, 1, tip=9), tx(2, 0, tip=5))
    picks = pool.picks(0)
    assert picks.peek() == tx(1, 0, tip=9)
    picks.skip()
    assert picks.peek() == tx(2, 0, tip=5)
    picks.take()
    assert picks.peek() is None


def test_replacement_needs_the_rise_on_both_fees() -> None:
    pool = made(pool_replacement_percent=10)
    put(pool, tx(1, 0, tip=100, fee=10**7), tx(1, 1))
    for tip, fee in ((109, 2 * 10**7), (200, 11 * 10**6 - 1), (100, 10**8), (99, 10**8)):
        assert refusal(pool, tx(1, 0, tip=tip, fee=fee)).code == "replacement"
    put(pool, tx(1, 0, tip=110, fee=11 * 10**6))
    assert picked(pool)[0] == tx(1, 0, tip=110, fee=11 * 10**6)
    assert len(pool) == 2
    put(pool, tx(2, 0, tip=0, fee=10**7))
    assert refusal(pool, tx(2, 0, tip=0, fee=2 * 10**7)).code == "replacement"
    put(pool, tx(3, 5, tip=10), tx(3, 5, tip=11, fee=2 * FEE))
    assert pool.counts()[1] == 1


# --- bounds


def test_an_account_has_a_limit() -> None:
    pool = made(pool_txs_max=10, pool_account_txs_max=3)
    put(pool, tx(1, 0), tx(1, 1), tx(1, 2))
    assert refusal(pool, tx(1, 3)).code == "account_full"
    put(pool, tx(1, 2, tip=2 * 10**9, fee=2 * FEE), tx(2, 0))


def test_gaps_have_limits_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "QUEUED_ACCOUNT_TXS_MAX", 2)
    monkeypatch.setattr(pool_module, "QUEUED_TXS_MAX", 3)
    pool = made()
    put(pool, tx(1, 2), tx(1, 3))
    assert refusal(pool, tx(1, 4)).code == "account_full"
    put(pool, tx(2, 7), tx(3, 7))
    assert held(pool) == {tx(1, 3).hash, tx(2, 7).hash, tx(3, 7).hash}, "the oldest went"
    put(pool, tx(4, 0), tx(4, 1), tx(4, 2))
    assert pool.counts() == (3, 3)


def test_a_full_pool_keeps_the_better() -> None:
    pool = made(pool_txs_max=4)
    put(pool, tx(1, 0, tip=5), tx(2, 0, tip=3), tx(3, 0, tip=3), tx(4, 0, tip=9))
    assert refusal(pool, tx(5, 0, tip=3)).code == "underpriced"
    put(pool, tx(5, 0, tip=4))
    assert tx(3, 0, tip=3).hash not in pool, "of equals the newest goes"
    assert tx(2, 0, tip=3).hash in pool
    put(pool, tx(6, 0, tip=6), tx(7, 0, tip=6))
    assert sorted(tx.max_priority_fee for tx in picked(pool)) == [5, 6, 6, 9]


def test_a_cheap_transaction_in_front_makes_those_behind_it_cheap() -> None:
    pool = made(pool_txs_max=3)
    put(pool, tx(1, 0, tip=1), tx(1, 1, tip=100), tx(2, 0, tip=5))
    put(pool, tx(3, 0, tip=6))
    assert held(pool) == {tx(1, 0, tip=1).hash, tx(2, 0, tip=5).hash, tx(3, 0, tip=6).hash}
    assert refusal(pool, tx(1, 1, tip=100)).code == "underpriced", "worth no more than its front"
    put(pool, tx(4, 0, tip=2))
    assert tx(1, 0, tip=1).hash not in pool


def test_a_low_cap_in_front_counts_like_a_low_tip() -> None:
    pool = made(pool_txs_max=3)
    base_fee = 10**8
    put(pool, tx(1, 0, tip=9, fee=base_fee + 1), tx(1, 1, tip=9), tx(2, 0, tip=5),
        base_fee=base_fee)  # fmt: skip
    put(pool, tx(3, 0, tip=4), base_fee=base_fee)
    assert tx(1, 1, tip=9).hash not in pool


def test_a_transaction_that_no_block_takes_now_is_worth_least() -> None:
    """A high tip with a fee cap below the base fee is worth nothing."""
    pool = made(pool_txs_max=2)
    put(pool, tx(1, 0, tip=10**7, fee=10**7), tx(2, 0, tip=1), base_fee=10**8)
    put(pool, tx(3, 0, tip=2), base_fee=10**8)
    assert held(pool) == {tx(2, 0, tip=1).hash, tx(3, 0, tip=2).hash}


def test_queued_transactions_go_first_and_evict_nothing() -> None:
    pool = made(pool_txs_max=3)
    put(pool, tx(1, 0, tip=1), tx(2, 5, tip=1_000), tx(3, 0, tip=2))
    put(pool, tx(4, 0, tip=0))
    assert tx(2, 5, tip=1_000).hash not in pool
    assert refusal(pool, tx(5, 1, tip=10**9)).code == "pool_full"


def test_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "POOL_BYTES_MAX", 1_000)
    pool = made()
    put(pool, tx(1, 0, tip=5, size=400), tx(2, 0, tip=7, size=400), tx(3, 0, tip=8, size=200))
    assert refusal(pool, tx(4, 0, tip=8, size=900)).code == "underpriced"
    put(pool, tx(4, 0, tip=9, size=500))
    assert held(pool) == {tx(3, 0, tip=8).hash, tx(4, 0, tip=9).hash}
    grown = replace(tx(4, 0, tip=20, fee=2 * FEE), raw=bytes(900))
    assert refusal(pool, grown).code == "pool_full"
    queued = made()
    put(queued, tx(1, 5, tip=5, size=600))
    assert refusal(queued, tx(1, 5, tip=9, fee=2 * FEE, size=1_100)).code == "pool_full"


def test_a_ranking_follows_replacements_and_additions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stale entries of the ranking evict nothing, and no transaction is evicted twice."""
    pool = made(pool_txs_max=2)
    put(pool, tx(1, 0, tip=1), tx(2, 0, tip=5))
    assert refusal(pool, tx(3, 0, tip=1)).code == "underpriced"
    put(pool, tx(1, 0, tip=9, fee=2 * FEE), tx(4, 0, tip=6))
    assert held(pool) == {tx(1, 0, tip=9, fee=2 * FEE).hash, tx(4, 0, tip=6).hash}
    monkeypatch.setattr(pool_module, "POOL_BYTES_MAX", 1_000)
    pool = made()
    put(pool, tx(1, 0, tip=1, size=200), tx(2, 0, tip=2, size=200), tx(3, 0, tip=9, size=200))
    assert refusal(pool, tx(4, 0, tip=0, size=900)).code == "underpriced"
    put(pool, tx(1, 1, tip=7, size=200), tx(4, 0, tip=8, size=700))
    assert held(pool) == {tx(3, 0, tip=9).hash, tx(4, 0, tip=8).hash}


# --- following the chain


def follow(pool: Pool, nonces: dict[int, int], included: list[Tx], reverted: tuple[Tx, ...] = (),
           balance: int = RICH, **changes: Any) -> None:  # fmt: skip
    """Gives the pool a new head, with the parameters of ``made()`` and ``changes``."""
    by_sender = {SENDERS[sender]: nonce for sender, nonce in nonces.items()}
    in_force = replace(pool._parameters, **changes)
    pool.on_head(by_sender.__getitem__, lambda _: balance, in_force, 0, included, reverted)
    check_bookkeeping(pool)


def test_included_transactions_leave() -> None:
    pool = made()
    put(pool, tx(1, 0), tx(1, 1), tx(1, 2), tx(2, 0))
    follow(pool, {1: 2}, [tx(1, 0), tx(1, 1)])
    assert picked(pool) == [tx(1, 2), tx(2, 0)]
    follow(pool, {2: 1}, [tx(2, 0, tip=77)])
    assert picked(pool) == [tx(1, 2)], "another with that nonce was included"
    follow(pool, {1: 3}, [tx(1, 2)])
    assert len(pool) == 0


def test_a_gap_closed_by_the_chain() -> None:
    pool = made()
    put(pool, tx(1, 2), tx(1, 3))
    follow(pool, {1: 2}, [tx(1, 0, tip=77), tx(1, 1, tip=77)])
    assert pool.counts() == (2, 0)
    put(pool, tx(2, 2))
    pool.add(tx(2, 3), 2, RICH, 0)
    assert picked(pool) == [tx(1, 2), tx(1, 3), tx(2, 2), tx(2, 3)], "a newer state nonce counts"


def test_reverted_transactions_come_back() -> None:
    pool = made()
    pool.add(tx(1, 2), 2, RICH, 0)
    follow(pool, {1: 0, 2: 1}, [tx(2, 0)], (tx(1, 0), tx(1, 1), tx(2, 0)))
    assert picked(pool) == [tx(1, 0), tx(1, 1), tx(1, 2)]
    follow(pool, {1: 0}, [], ())
    again = made()
    again.add(tx(1, 2), 2, RICH, 0)
    follow(again, {1: 1}, [], (replace(tx(1, 1), gas=1),))
    assert again.counts() == (0, 1), "what is not good stays out"


def test_what_the_balance_does_not_pay_leaves_from_the_end() -> None:
    pool = made()
    put(pool, tx(1, 0), tx(1, 1), tx(1, 2), tx(1, 4))
    follow(pool, {1: 1}, [tx(1, 0)], balance=FEE * 21_000)
    assert held(pool) == {tx(1, 1).hash}


def test_a_dropped_transaction_leaves_a_gap() -> None:
    pool = made()
    put(pool, tx(1, 0), tx(1, 1), tx(1, 2))
    pool.drop(tx(1, 1).hash)
    pool.drop(tx(1, 1).hash)
    check_bookkeeping(pool)
    assert pool.counts() == (1, 1)
    put(pool, tx(1, 1))
    assert pool.counts() == (3, 0)


# --- against a model

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 5), st.integers(0, 5), st.integers(0, 6)),
        st.tuples(st.just("drop"), st.integers(1, 5), st.integers(0, 5), st.integers(0, 6)),
        st.tuples(st.just("head"), st.integers(1, 5), st.integers(0, 6), st.integers(0, 6)),
    ),
    max_size=60,
)


@settings(max_examples=150)
@given(STEPS, st.integers(3, 9))
def test_random_lives(steps: list[tuple[str, int, int, int]], most: int) -> None:
    """For random steps bounds and counters hold, picks are ordered, a refusal changes nothing."""
    pool = made(pool_txs_max=most, pool_account_txs_max=min(4, most))
    nonces = dict.fromkeys(range(1, 6), 0)
    base_fee = 0
    for what, sender, nonce, amount in steps:
        new = tx(sender, nonce, tip=amount, fee=10**7 + 3 * amount)
        if what == "add":
            before = held(pool)
            try:
                pool.add(new, nonces[sender], RICH, base_fee)
            except Invalid:
                assert held(pool) <= before
            else:
                assert new.hash in pool
        elif what == "drop":
            pool.drop(new.hash)
        else:
            nonces[sender] = nonce
            base_fee = 10**7 + amount
            in_force = replace(pool._parameters, base_fee_floor=10**7 + 5 * amount)
            pool.on_head(lambda s: nonces[s[0]], lambda _: RICH, in_force, base_fee, [new])
            assert all(held.max_fee >= in_force.base_fee_floor for held in pool._txs.values())
        check_bookkeeping(pool)
        assert len(pool) <= most
        order = picked(pool, base_fee)
        expected = model_order(pool, base_fee)
        assert order == expected


def model_order(pool: Pool, base_fee: int) -> list[Tx]:
    """The oracle of the order: in each step the best of the first transactions of all accounts."""
    lines = []
    for account in pool._accounts.values():
        pending = [account.waiting[nonce] for nonce in range(account.nonce, account.ready)]
        usable = []
        for entry in pending:
            if entry.tx.max_fee < base_fee:
                break
            usable.append(entry)
        lines.append(usable)
    order = []
    while any(lines):
        best = min(
            (line for line in lines if line),
            key=lambda line: (-line[0].tx.effective_tip(base_fee), line[0].arrival),
        )
        order.append(best.pop(0).tx)
    return order


ADDS = st.lists(
    st.tuples(st.integers(1, 6), st.integers(0, 9), st.integers(0, 9), st.sampled_from([50, 300])),
    max_size=60,
)


@settings(max_examples=150)
@given(ADDS, st.integers(2, 9), st.sampled_from([600, 10_000]), st.integers(0, 40))
def test_evictions_are_those_of_a_model(
    adds: list[tuple[int, int, int, int]], most: int, bytes_most: int, turn: int
) -> None:
    """Transactions are added at the ends of accounts; the model looks at all of them each time."""
    pool = made(pool_txs_max=most)
    lines: dict[int, list[Tx]] = {sender: [] for sender in range(1, 7)}
    arrivals: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool_module, "POOL_BYTES_MAX", bytes_most)
        for step, (sender, tip, cap, size) in enumerate(adds):
            base_fee = 10**7 + (3 if step >= turn else 0)
            new = tx(sender, len(lines[sender]), tip, 10**7 + cap, value=step, size=size)
            after = model_add(lines, arrivals, new, sender, base_fee, most, bytes_most)
            taken = True
            try:
                pool.add(new, 0, RICH, base_fee)
            except Invalid:
                taken = False
            assert taken == (after is not None)
            if after is not None:
                lines = after
                arrivals.append(new.hash)
            check_bookkeeping(pool)
            assert held(pool) == {kept.hash for line in lines.values() for kept in line}


def model_add(
    lines: dict[int, list[Tx]], arrivals: list[bytes], new: Tx, sender: int, base_fee: int,
    most: int, bytes_most: int,
) -> dict[int, list[Tx]] | None:  # fmt: skip
    """The transactions of the accounts with ``new`` added, None where it is refused."""

    def worth(line: list[Tx]) -> int:
        return min(tx.effective_tip(base_fee) for tx in line)

    after = {owner: list(line) for owner, line in lines.items()}
    while True:
        kept = [tx for line in after.values() for tx in line]
        if len(kept) < most and sum(len(tx.raw) for tx in (*kept, new)) <= bytes_most:
            after[sender].append(new)
            return after
        ends = [line for line in after.values() if line]
        if not ends:
            return None
        victim = min(ends, key=lambda line: (worth(line), -arrivals.index(line[-1].hash)))
        if worth(victim) >= worth([*lines[sender], new]):
            return None
        victim.pop()


def test_the_best_of_many_transactions_stay() -> None:
    """Of ten times as many transactions as fit, the pool keeps the first of a full sort."""
    pool = made(pool_txs_max=20)
    every = [tx(sender, 0, tip=(sender * 7919) % 1_009) for sender in range(1, 201)]
    refused = 0
    for new in every:
        try:
            pool.add(new, 0, RICH, 0)
        except Invalid:
            refused += 1
        check_bookkeeping(pool)
    assert picked(pool) == sorted(every, key=lambda tx: -tx.max_priority_fee)[:20]
    assert 0 < refused < 180
