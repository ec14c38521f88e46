"""The base fee of the next block in integers (EIP-1559), with a floor.

The gas target of a block is its limit divided by ``elasticity``. A block that used more than the
target raises the price of the next block, a block that used less lowers it, each by at most one
part in ``base_fee_change_denominator``. The floor keeps the price of an idle chain above zero.
"""

from dipnet.ledger.parameters import Parameters


def next_base_fee(parameters: Parameters, base_fee: int, gas_used: int) -> int:
    """The base fee of the child of a block with ``base_fee``, which used ``gas_used``.

    Fees are wei for a unit of gas.
    """
    target = parameters.gas_limit // parameters.elasticity
    denominator = parameters.base_fee_change_denominator
    # EIP-1559 divides twice: by the target, then by the denominator.
    if gas_used > target:
        # At least 1 wei: otherwise a low price would never rise.
        base_fee += max(base_fee * (gas_used - target) // target // denominator, 1)
    elif gas_used < target:
        base_fee -= base_fee * (target - gas_used) // target // denominator
    return max(base_fee, parameters.base_fee_floor)
