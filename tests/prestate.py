"""The state before an official state test, as a journal over an empty disk."""

from typing import Any

from dipnet.state import Journal
from tests.memory import Memory


def load(pre: dict[str, Any]) -> Journal:
    """The accounts of ``pre`` as the fixtures of ethereum/execution-spec-tests spell them."""
    journal = Journal(Memory())
    for name, account in pre.items():
        address = bytes.fromhex(name[2:])
        journal.set_nonce(address, int(account["nonce"], 16))
        journal.add_balance(address, int(account["balance"], 16))
        journal.set_code(address, bytes.fromhex(account["code"][2:]))
        for slot, word in account["storage"].items():
            journal.set_slot(address, int(slot, 16).to_bytes(32, "big"), int(word, 16))
    return journal
