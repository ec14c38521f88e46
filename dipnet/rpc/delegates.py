"""The ``dpos_`` methods that read IDpos' storage: candidates, accounts, parameters, proposals.

``eth_call`` can ask the contract for the same, and ``eth_getProof`` prove it. A method that reads
every candidate goes in steps (ADR 90); each step opens the state of the same block again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from dipnet.consensus.chain.epochs import Epoch
from dipnet.consensus.finality.header import Header
from dipnet.consensus.finality.tally import Participation
from dipnet.consensus.staking import candidates, election, parameters, stakes
from dipnet.consensus.staking.candidates import Candidate, Commission
from dipnet.ledger.rules import RULES_KNOWN
from dipnet.primitives.codec import to_hex
from dipnet.primitives.crypto import checksum
from dipnet.primitives.errors import Invalid
from dipnet.rpc import lookup
from dipnet.rpc.backend import Backend
from dipnet.rpc.block_json import JsonObject, quantity
from dipnet.rpc.method import Param, RpcMethod, Steps
from dipnet.rpc.params import ADDRESS, BLOCK, BlockRef, ByHash
from dipnet.vm.storage_layout import PROPOSALS_OPEN, WORD, StorageSlot

STATUSES: Final = {
    candidates.NONE: "none",
    candidates.REGISTERED: "registered",
    candidates.RESIGNED: "resigned",
    candidates.TOMBSTONED: "tombstoned",
}
PROPOSAL_STATES: Final = {
    parameters.OPEN: "open",
    parameters.PASSED: "passed",
    parameters.EFFECTIVE: "effective",
    parameters.EXPIRED: "expired",
    parameters.REFUSED: "refused",
    parameters.DECIDED: "decided",
}
WEI: Final = frozenset(("base_fee_floor", "block_reward", "delegate_stake_min"))


@dataclass(frozen=True, slots=True)
class At:
    """The contract's state after one block, and the epoch of that block's children."""

    backend: Backend
    header: Header
    epoch: Epoch

    @staticmethod
    def of(backend: Backend, ref: BlockRef) -> "At":
        """The contract after the block that ``ref`` names; raises ``Invalid("not_found")``."""
        header = lookup.need(backend, ref)
        return At(backend, header, backend.chain.epoch_at(header))

    def root(self) -> StorageSlot:
        """The contract's storage; valid until the chain's next block."""
        return lookup.contract(self.backend, ByHash(self.header.hash, False))


def named(public: bytes) -> str:
    """The name of an organisation (32 bytes): printable ASCII as text, else hex; empty for none."""
    text = public.rstrip(b"\0")
    if text.isascii() and text.decode("ascii").isprintable():
        return text.decode("ascii")
    return to_hex(public)


def _taking_part(participation: Participation) -> JsonObject:
    return {
        "slots": participation.slots,
        "prevotes": participation.prevotes,
        "commits": participation.commits,
    }


def _announced(epoch: Epoch, commission: Commission) -> JsonObject | None:
    """The announced commission that is not in force yet, or None."""
    most = epoch.parameters.commission_bps_max
    if commission.starts <= epoch.number:
        return None
    return {"bps": commission.at(commission.starts, most), "epoch": commission.starts}


def candidate_json(
    epoch: Epoch, candidate: Candidate, own_stake: int, taken: Mapping[bytes, Participation]
) -> JsonObject:
    """The JSON of a candidate, without the fields that depend on all candidates."""
    seen = taken.get(candidate.address)
    return {
        "name": candidate.name,
        "address": checksum(candidate.address),
        "publicKey": to_hex(candidate.public_key),
        "url": candidate.url,
        "commissionBps": candidate.commission.at(epoch.number, epoch.parameters.commission_bps_max),
        "commissionNext": _announced(epoch, candidate.commission),
        "organisation": named(candidate.organisation),
        "status": STATUSES[candidate.status],
        "votes": quantity(candidate.votes),
        "stake": quantity(own_stake),
        "produced": candidate.produced,
        "missed": candidate.missed,
        "jailed": candidate.jailed_until > epoch.number,
        "jailedUntil": candidate.jailed_until,
        "tombstoned": candidate.status == candidates.TOMBSTONED,
        "active": epoch.members.index(candidate.address) is not None,
        "next": epoch.next_members.index(candidate.address) is not None,
        "ready": candidate.ready,
        "participation": None if seen is None else _taking_part(seen),
    }


def _listed(at: At) -> list[bytes]:
    """Addresses of the registered candidates and of other delegates that still have a seat."""
    listed = dict.fromkeys(candidates.roll(at.root()))
    listed |= dict.fromkeys(at.epoch.members.addresses)
    return list(listed | dict.fromkeys(at.epoch.next_members.addresses))


def list_delegates(backend: Backend) -> Steps[list[JsonObject]]:
    at = At.of(backend, "latest")
    waiting = election.standby(at.root(), at.epoch.number + 1)
    standby = {address: place for place, address in enumerate(waiting, 1)}
    taken = backend.voting.tally.participation()
    read: list[tuple[Candidate, JsonObject]] = []
    for address in _listed(at):
        yield
        root = at.root()
        candidate = candidates.read(root, address)
        own = stakes.record_of(root, address)[stakes.STAKE]
        read.append((candidate, candidate_json(at.epoch, candidate, own, taken)))
    total = sum(candidate.votes for candidate, _ in read)
    read.sort(key=lambda pair: (-pair[0].votes, pair[0].address))
    return [
        fields
        | {
            "share": round(candidate.votes / total, 6) if total else 0.0,
            "standby": standby.get(candidate.address),
        }
        for candidate, fields in read
    ]


def account(backend: Backend, address: bytes, ref: BlockRef) -> JsonObject:
    at = At.of(backend, ref)
    root = at.root()
    stored = stakes.record_of(root, address)
    votes = [checksum(delegate) for delegate in stakes.votes(stored)]
    return {
        "address": checksum(address),
        "stake": quantity(stored[stakes.STAKE]),
        "votes": votes,
        "expires": stored[stakes.EXPIRES] if votes else None,
        "rewards": quantity(stakes.rewards(root, address)),
        "unbonding": quantity(stored[stakes.UNBONDING]),
        "release": stored[stakes.RELEASE] if stored[stakes.UNBONDING] else None,
        "claimable": quantity(
            stakes.rewards(root, address) + stakes.matured(stored, at.epoch.number)
        ),
    }


def shown(name: str, value: int) -> object:
    """A parameter's value as JSON: wei as quantities, others as numbers."""
    return quantity(value) if name in WEI else value


def _open_proposals(at: At) -> Iterator[JsonObject]:
    root = at.root()
    numbers = [root.element(PROPOSALS_OPEN, place)[WORD] for place in range(root[PROPOSALS_OPEN])]
    for number in numbers:
        proposal = parameters.read(at.root(), number, at.epoch.members)
        yield {
            "id": number,
            "name": proposal.name,
            "value": shown(proposal.name, proposal.value),
            "proposer": checksum(proposal.proposer),
            "state": PROPOSAL_STATES[proposal.state],
            "votes": proposal.voters,
            "quorum": at.epoch.members.quorum,
            "expires": proposal.expires,
            "starts": proposal.starts or None,
        }


def list_parameters(backend: Backend) -> Steps[JsonObject]:
    at = At.of(backend, "latest")
    in_force = at.epoch.parameters
    proposals: list[JsonObject] = []
    for proposal in _open_proposals(at):
        yield
        proposals.append(proposal)
    return {
        "epoch": at.epoch.number,
        "inForce": {name: shown(name, getattr(in_force, name)) for name in in_force.amendable},
        "rulesKnown": RULES_KNOWN,
        "proposals": proposals,
    }


def delegate(backend: Backend, address: bytes) -> JsonObject:
    at = At.of(backend, "latest")
    root = at.root()
    candidate = candidates.read(root, address)
    if candidate.status == candidates.NONE:
        raise Invalid("not_found", f"{checksum(address)} is not a candidate")
    own, taken = stakes.record_of(root, address)[stakes.STAKE], backend.voting.tally.participation()
    return candidate_json(at.epoch, candidate, own, taken)


_CANDIDATE: Final = (
    "name, address, publicKey, url, commissionBps, commissionNext (null, or bps, epoch), "
    "organisation, status, votes and stake (quantities, wei), produced, missed, jailed, "
    "jailedUntil, tombstoned, active, next, ready, "
    "participation (null, or slots, prevotes, commits)"
)

METHODS: Final = (
    RpcMethod(
        "dpos_delegates",
        (),
        list_delegates,
        f"array of objects of {_CANDIDATE}, share, standby",
        "Every candidate and every other delegate that still has a seat, most votes first. `votes` "
        "is the stake that votes for it, `share` its part of all votes, `stake` its own stake. "
        "`active` and `next` say whether it has a seat in this epoch and in the next, `standby` is "
        "its place among those that wait for a seat. `participation` counts its votes in the last "
        "certified slots, as far as this node saw them.",
        ("busy", "limit"),
        way="steps",
    ),
    RpcMethod(
        "dpos_delegate",
        (Param("address", ADDRESS),),
        delegate,
        f"object of {_CANDIDATE}",
        "One candidate, with the fields of `dpos_delegates` but `share` and `standby`.",
        ("not_found",),
    ),
    RpcMethod(
        "dpos_account",
        (Param("address", ADDRESS), Param("block", BLOCK, "latest")),
        account,
        "object of address, stake, votes, expires, rewards, unbonding, release, claimable",
        "Stake, votes and rewards of an account; amounts are quantities of wei. The votes lapse "
        "with epoch `expires`; `unbonding` can be claimed from epoch `release` on.",
        ("not_found", "not_canonical", "no_state"),
    ),
    RpcMethod(
        "dpos_parameters",
        (),
        list_parameters,
        "object of epoch, inForce (by the names of genesis.json), rulesKnown, proposals (id, name, "
        "value, proposer, state, votes, quorum, expires, starts)",
        "The parameters that delegates may change, as in force for the next block, and the "
        "proposals that are open or wait for their epoch. `rulesKnown` is the highest number of "
        "rules that this node can follow.",
        ("busy", "limit"),
        way="steps",
    ),
)
