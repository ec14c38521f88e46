"""The rules that tie a block to its chain, as functions of explicit arguments.

Fork choice and advisory finality stand here until the two votes replace them: the longest chain
wins, and what more than two thirds of the delegates have built upon is called final, with no
promise behind it (ADR 12).
"""

from typing import Any, Final

from dipnet.consensus.block import HASH_ZERO, Header
from dipnet.consensus.fees import next_base_fee
from dipnet.consensus.schedule import epoch_of, genesis_set, set_digest
from dipnet.genesis import Genesis

CLOCK_SKEW_MS: Final = 500
"""How far ahead of our clock the slot of a valid block may begin."""

SLOT_BLOCKS_MAX: Final = 4
"""Blocks of one slot, which is of one proposer, that are kept; the honest number is one."""


def better(one: Header, other: Header) -> bool:
    """Whether ``one`` is to be the head rather than ``other``.

    Longer chain, then lower slot of its head, then lower hash.
    """
    return (-one.height, one.slot, one.hash) < (-other.height, other.slot, other.hash)


def newest_with(newest: tuple[int, ...], index: int, height: int) -> tuple[int, ...]:
    """``newest`` (see ``records.Delta``) after member ``index`` proposed at ``height``."""
    return (*newest[:index], height, *newest[index + 1 :])


def final_height(newest: tuple[int, ...], height: int) -> int:
    """Height of the advisory-final block of the chain whose head is at ``height``.

    It is the highest block above which more than two thirds of the members have proposed; with
    one member the head. Along one chain it never falls.
    """
    members = len(newest)
    if members == 1:
        return height
    quorum = members * 2 // 3 + 1
    # The quorum-th newest proposal is the lowest of the blocks that make the quorum.
    return max(sorted(newest, reverse=True)[quorum - 1] - 1, 0)


def chained_fields(
    genesis: Genesis, genesis_hash: bytes, parent: Header, final: Header, slot: int
) -> dict[str, Any]:
    """The fields of a header that follow from its parent and its slot.

    ``final`` is the advisory-final block of the chain that ends with ``parent``. Producer and
    validator share this, so that neither can forget a rule that the other has.
    """
    epoch = epoch_of(genesis, slot)
    opens = epoch > parent.epoch  # the first block of an epoch is its border
    return {
        "parent": parent.hash,
        "height": parent.height + 1,
        "base_fee": next_base_fee(genesis, parent.base_fee, parent.gas_used),
        "justify": (genesis_hash, 0, 0),
        "final": (final.hash, final.slot),
        "next_set_hash": set_digest(epoch, genesis_set(genesis)) if opens else HASH_ZERO,
        "dag_acc": parent.dag_acc,
    }
