"""Which offence of a peer a refusal is, by the code of the refusal.

``p2p/scores.py`` has the points of each offence. A code that is missing here costs the relaying
peer nothing.
"""

from typing import Final

OFFENCE_OF: Final[dict[str, str]] = {
    "peer_message": "malformed",
    "peer_network": "network",
    "peer_limit": "rate",
    "record": "malformed",
    "oversized": "malformed",
    "rlp": "malformed",
    "tx_type": "invalid_item",
    "tx_form": "invalid_item",
    "chain_id": "invalid_item",
    "unprotected": "invalid_item",
    "sender": "bad_signature",
    "intrinsic_gas": "invalid_item",
    "block_form": "invalid_block",
    "block_tx": "invalid_block",
    "block_slot": "invalid_block",
    "block_leader": "invalid_block",
    "block_root": "invalid_block",
    "block_signature": "bad_signature",
    "block_seed": "invalid_block",
    "certificate_section": "invalid_block",
    # The peer or this node is behind, or the clock of one of them is wrong.
    "block_epoch": "untimely",
    "block_future": "untimely",
    "vote_epoch": "untimely",
    "vote_slot": "untimely",
    "certificate_block": "untimely",
    # vote_old and block_old are missing: a delegate repeats its last vote, and it may be late;
    # vote_limit and block_limit too: the offender is the delegate, not the peer that relays it.
    "vote_form": "malformed",
    "vote_member": "bad_signature",
    "vote_signature": "bad_signature",
    "certificate_form": "bad_certificate",
    "certificate_quorum": "bad_certificate",
    "certificate_signature": "bad_certificate",
    "vertex_form": "malformed",
    "vertex_chain": "invalid_item",
    "vertex_parents": "invalid_item",
    "vertex_payload": "invalid_item",
    "vertex_age": "invalid_item",
    "vertex_signature": "bad_signature",
}
