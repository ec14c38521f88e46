"""The ``dpos_`` methods about the protocol: status of finality, leaders of slots, evidence.

The methods that read the contract IDpos are in ``delegates.py``.
"""

from typing import Final

from dipnet.consensus.chain import rules
from dipnet.consensus.chain.epochs import Epoch
from dipnet.consensus.chain.schedule import shuffle, slot_at, slot_start_ms
from dipnet.consensus.finality import finality
from dipnet.consensus.finality.header import Header
from dipnet.consensus.finality.tally import Statement
from dipnet.consensus.staking import candidates
from dipnet.primitives.codec import to_hex
from dipnet.primitives.crypto import address as key_address
from dipnet.primitives.crypto import checksum
from dipnet.primitives.errors import Invalid
from dipnet.rpc import lookup
from dipnet.rpc.backend import Backend
from dipnet.rpc.block_json import JsonObject
from dipnet.rpc.method import Param, RpcMethod
from dipnet.rpc.params import between
from dipnet.rpc.watch import lagging

SCHEDULE_SLOTS_MAX: Final = 10_000
LATENCY_PERCENTS: Final = (50, 99)


def slot_now(backend: Backend) -> int:
    """The slot of now, by the parameters in force."""
    return slot_at(backend.chain.parameters, backend.now_ms())


def backoff_step(backend: Backend) -> int:
    """The back-off step now: a block on the head needs a slot that is a multiple of it."""
    unfinal = slot_now(backend) - rules.links_of(backend.chain.head).final[1]
    return finality.backoff_step(max(unfinal, 0), backend.chain.parameters.backoff_slots)


def _boundary(backend: Backend, epoch: Epoch) -> JsonObject:
    header = backend.chain.need(epoch.boundary.block_id)
    return {"height": header.height, "hash": to_hex(header.hash), "slot": header.slot}


def schedule(backend: Backend, number: int) -> JsonObject:
    epoch = backend.chain.epoch
    parameters = epoch.parameters
    boundary, members, order = _boundary(backend, epoch), epoch.members, epoch.order
    first, last = epoch.boundary.slot + 1, epoch.end_slot
    if number == epoch.number + 1:  # it begins at the earliest where this epoch ends
        boundary, members = {}, epoch.next_members
        order = shuffle(members.addresses, epoch.next_seed)
        first, last = last + 1, finality.end_slot(last, parameters.epoch_slots)
    elif number not in (-1, epoch.number):
        raise Invalid("not_found", f"epoch {number}; here are {epoch.number} and the next")
    shown = range(first, min(last + 1, first + SCHEDULE_SLOTS_MAX))
    return {
        "epoch": epoch.number if number < 0 else number,
        "border": boundary or None,
        "firstSlot": first,
        "lastSlot": last,
        "startMs": slot_start_ms(parameters, first),
        "slotMs": parameters.slot_ms,
        "members": [checksum(address) for address in members.addresses],
        "quorum": members.quorum,
        # Without back-off the leader of slot s is order[s mod n].
        "order": [checksum(address) for address in order],
        "leaders": [checksum(order[slot % len(order)]) for slot in shown],
    }


def _place(header: Header, now_ms: int) -> JsonObject:
    return {
        "height": header.height,
        "hash": to_hex(header.hash),
        "slot": header.slot,
        "ageMs": max(now_ms - header.timestamp_ms, 0),
    }


def own_address(backend: Backend) -> bytes | None:
    """The address of this node's delegate; None without a key, or before it is registered."""
    voter = backend.voting.voter
    if voter is None:
        return None
    owner = candidates.owner_of(lookup.contract(backend, "latest"), key_address(voter.public_key))
    return owner if any(owner) else None


def _silence(backend: Backend, member: bool) -> str | None:
    """Why the node's delegate neither proposes nor votes; None if it does."""
    voting = backend.voting
    if voting.paused:
        return "paused"
    return voting.idle or (None if member else "not in the set of this epoch")


def _own(backend: Backend) -> JsonObject | None:
    voting, members = backend.voting, backend.chain.epoch.members
    if voting.voter is None:
        return None
    state, address = voting.voter.state, own_address(backend)
    index = members.index_of_key(voting.voter.public_key)
    return {
        "address": None if address is None else checksum(address),
        "publicKey": to_hex(voting.voter.public_key),
        "index": index,
        "voteState": {
            "epoch": state.epoch,
            "proposed": state.proposed,
            "prevoted": state.prevoted,
            "committed": state.committed,
        },
        "paused": voting.paused,
        "silent": _silence(backend, index is not None),
    }


def status(backend: Backend) -> JsonObject:
    chain, now_ms, slot = backend.chain, backend.now_ms(), slot_now(backend)
    epoch, watch = chain.epoch, backend.finality
    links = rules.links_of(chain.head)
    return {
        "epoch": epoch.number,
        "votingEpoch": finality.voting_epoch(epoch.boundary, links.final[1]),
        "border": _boundary(backend, epoch),
        "endSlot": epoch.end_slot,
        "slot": slot,
        "members": len(epoch.members),
        "quorum": epoch.members.quorum,
        "head": _place(chain.head, now_ms),
        "safe": _place(chain.safe, now_ms),
        "finalized": _place(chain.final, now_ms),
        "finalityLagSlots": max(slot - chain.final.slot, 0),
        "unfinalBlocks": chain.head.height - chain.final.height,
        "certificateLatencyMs": {"blocks": watch.blocks}
        | {f"p{percent}": watch.latency_ms(percent) for percent in LATENCY_PERCENTS},
        "backoffStep": backoff_step(backend),
        "systemOnly": rules.system_only(epoch, slot, links.final[1]),
        "complaint": lagging(slot, chain.final),
        "delegate": _own(backend),
        "clockOffsetMs": backend.clock_offset_ms(),
    }


def _statement(statement: Statement) -> JsonObject:
    ballot = statement.ballot
    return {
        "kind": ballot.kind.name.lower(),
        "epoch": ballot.epoch,
        "slot": ballot.slot,
        "blockId": to_hex(ballot.block_id),
        "justifySlot": ballot.justify_slot,
        "signature": to_hex(statement.signature),
    }


def evidence(backend: Backend) -> list[JsonObject]:
    return [
        {
            "offence": offence.name,
            "signer": checksum(offence.signer),
            "statements": [_statement(offence.first), _statement(offence.second)],
        }
        for offence in backend.voting.tally.offences()
    ]


METHODS: Final = (
    RpcMethod(
        "dpos_status",
        (),
        status,
        "object of epoch, votingEpoch, `border`, endSlot, slot, members, quorum, head, safe and "
        "finalized (height, hash, slot, ageMs), finalityLagSlots, unfinalBlocks, "
        "certificateLatencyMs (blocks, p50, p99), backoffStep, systemOnly, complaint, delegate "
        "(null, or address, publicKey, index, voteState, paused, silent), clockOffsetMs",
        "The state of finality, and this node's delegate. `border` is the boundary that opened the "
        "epoch. Latency is the time from the start of a block's slot until this node knows the "
        "block final. `silent` says why the delegate neither proposes nor votes. `clockOffsetMs` "
        "is how far the clocks of peers are ahead of the node's.",
    ),
    RpcMethod(
        "dpos_schedule",
        (Param("epoch", between(0, 2**53), -1),),
        schedule,
        "object of epoch, `border` (null for the next), firstSlot, lastSlot, startMs, slotMs, "
        "members, quorum, order, leaders",
        "The leaders of the slots of the current epoch (default) or of the next. An epoch begins "
        "at `firstSlot`, or later while the boundary before it is not final. `leaders` holds the "
        f"first {SCHEDULE_SLOTS_MAX:,} slots, without back-off. `border` is the boundary that "
        "opened the epoch.",
        ("not_found",),
    ),
    RpcMethod(
        "dpos_evidence",
        (),
        evidence,
        "array of objects of offence (E0 to E3), signer, statements (two of kind, epoch, slot, "
        "blockId, justifySlot, signature)",
        "The offences that this node can prove; `dipnet delegate evidence` reports them.",
    ),
)
