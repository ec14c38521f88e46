"""The base fee against the reference code of EIP-1559 and against the EIP's goals."""

from hypothesis import given
from hypothesis import strategies as st

from dipnet.consensus.chain.fees import next_base_fee
from tests.fixtures.chain_builder import Net

GENESIS = Net.of(gas_limit=30_000_000, base_fee_floor=7, base_fee_initial=10**9).genesis


def eip_1559(base_fee: int, gas_used: int, gas_limit: int) -> int:
    """The branches of the EIP's reference code, for its constants 2 and 8."""
    target = gas_limit // 2
    if gas_used == target:
        return base_fee
    if gas_used > target:
        return base_fee + max(base_fee * (gas_used - target) // target // 8, 1)
    return base_fee - base_fee * (target - gas_used) // target // 8


@given(st.integers(7, 2**80), st.integers(0, 30_000_000))
def test_is_eip_1559_above_the_floor(base_fee: int, gas_used: int) -> None:
    expected = max(eip_1559(base_fee, gas_used, 30_000_000), 7)
    assert next_base_fee(GENESIS.parameters, base_fee, gas_used) == expected


def test_known_steps() -> None:
    assert next_base_fee(GENESIS.parameters, 10**9, 15_000_000) == 10**9
    assert next_base_fee(GENESIS.parameters, 10**9, 30_000_000) == 1_125_000_000
    assert next_base_fee(GENESIS.parameters, 10**9, 0) == 875_000_000
    assert next_base_fee(GENESIS.parameters, 7, 15_000_001) == 8, "a low price can rise"
    assert next_base_fee(GENESIS.parameters, 8, 0) == 7
    assert next_base_fee(GENESIS.parameters, 7, 0) == 7, "the floor holds"


def test_elasticity_and_denominator_are_parameters() -> None:
    genesis = Net.of(gas_limit=40_000_000, elasticity=4, base_fee_change_denominator=50).genesis
    assert next_base_fee(genesis.parameters, 10**9, 10_000_000) == 10**9
    assert next_base_fee(genesis.parameters, 10**9, 20_000_000) == 10**9 + 10**9 // 50
    assert next_base_fee(genesis.parameters, 10**9, 0) == 10**9 - 10**9 // 50
