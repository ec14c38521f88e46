"""A system contract in place of IDpos, for tests of what carries calls and events.

The first byte of the input says what it does: ``L`` logs the rest under a topic of its own,
``S`` stores the rest in slot 1, ``R`` reverts with the rest as data, ``G`` burns all gas, ``E``
returns the rest; anything else returns nothing.
"""

import pytest

from dipnet.codec import to_hex
from dipnet.consensus import idpos
from dipnet.crypto import keccak256
from dipnet.tx import Tx
from dipnet.vm.system import Call, Revert, System
from tests.chain_builder import transfer

WORK_GAS = 10_000
SLOT = bytes(31) + b"\1"
DPOS = to_hex(idpos.DPOS_ADDRESS)


def run(call: Call) -> bytes:
    """The contract."""
    what, rest = call.input[:1], call.input[1:]
    call.charge(WORK_GAS)
    if what == b"L":
        call.log((keccak256(rest), call.caller.rjust(32, b"\0")), rest)
    elif what == b"S":
        call.sstore(SLOT, int.from_bytes(rest, "big"))
    elif what == b"R":
        raise Revert(rest)
    elif what == b"G":
        call.charge(2**62)
    return rest if what == b"E" else b""


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every chain of the test has this contract."""
    table: System = {idpos.DPOS_ADDRESS: run}
    monkeypatch.setattr(idpos, "system", lambda around: table)


def sent(sender: str, nonce: int, data: bytes, **more: int) -> Tx:
    """A transaction to it."""
    return transfer(
        sender, nonce, idpos.DPOS_ADDRESS, more.pop("value", 0), data=data, gas=200_000, **more
    )
