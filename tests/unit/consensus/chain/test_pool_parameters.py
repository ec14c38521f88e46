"""The pool follows the parameters in force: changes by vote bind it from the boundary on."""

from dataclasses import replace

from tests.unit.consensus.chain.test_pool import follow, held, made, put, refusal, tx


def test_a_higher_floor_drops_what_no_block_may_hold() -> None:
    pool = made(base_fee_floor=10**6)
    low, high = tx(1, 1, fee=10**7), tx(1, 2, fee=2 * 10**7)
    put(pool, tx(1, 0, fee=2 * 10**7), low, high, tx(2, 0, fee=10**7))
    follow(pool, {}, [], base_fee_floor=2 * 10**7)
    assert held(pool) == {tx(1, 0, fee=2 * 10**7).hash, high.hash}
    assert pool.counts() == (1, 1), "the one behind it waits"
    assert refusal(pool, low).code == "underpriced"
    follow(pool, {}, [], base_fee_floor=10**7)
    put(pool, low)
    assert pool.counts() == (3, 0)


def test_a_lower_floor_lets_cheaper_transactions_in() -> None:
    pool = made(base_fee_floor=10**8)
    cheap = tx(1, 0, tip=0, fee=10**7)
    assert refusal(pool, cheap).code == "underpriced"
    follow(pool, {}, [], base_fee_floor=10**7)
    put(pool, cheap)


def test_the_gas_of_a_transaction_is_bounded_by_the_limit_in_force() -> None:
    pool = made()
    large = replace(tx(1, 0), gas=10**6)
    put(pool, large, tx(2, 0))
    follow(pool, {}, [], gas_limit=10**6 - 1)
    assert held(pool) == {tx(2, 0).hash}
    assert refusal(pool, large).code == "block_gas"
    follow(pool, {}, [], gas_limit=10**6)
    put(pool, large)


def test_what_comes_back_is_judged_by_the_parameters_of_the_new_head() -> None:
    pool = made(base_fee_floor=10**6)
    cheap, dear = tx(1, 0, fee=10**7), tx(2, 0, fee=10**9)
    follow(pool, {1: 0, 2: 0}, [], (cheap, dear), base_fee_floor=10**8)
    assert held(pool) == {dear.hash}
