"""A light client: it checks by signatures alone that a header is final, without a node.

The library needs bytes, hashes and signatures. It has no clock, disk or network: times are
arguments, and proofs may come from an untrusted source. Every refusal is ``Invalid`` with a code.

* ``LightState`` is the trusted state: a boundary block's header and the set that votes above it.
* ``advance`` goes over a boundary to a later set: a *hop*. Boundaries at which the set did not
  change may be left out (ADR 93 has the argument and its assumption; docs/light.md explains it).
* ``verify_final`` checks a header by a commit certificate of the state's own epoch.

A hop proves the set that a valid boundary commits to. Only ``verify_final`` proves that a header is
final, because only there the set is known to be exactly the set of the epoch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from dipnet.consensus.finality import finality
from dipnet.consensus.finality.boundaries import (
    BoundaryProof,
    FinalProof,
    decode_boundary,
    decode_final,
    ordered_members,
)
from dipnet.consensus.finality.finality import EpochBoundary
from dipnet.consensus.finality.header import HASH_ZERO, HEADER_BYTES_MAX, Header, decode_header
from dipnet.consensus.finality.members import MEMBERS_MAX, Members
from dipnet.consensus.finality.votes import Certificate, check_certificate
from dipnet.primitives.codec import UINT, Bin, Many, Uint, pack, unpack
from dipnet.primitives.errors import Invalid

__all__ = [
    "BoundaryProof", "FinalProof", "LightState", "advance", "check_age", "decode_boundary",
    "decode_final", "decode_state", "genesis_state", "trusted_state", "verify_final",
]  # fmt: skip

STATE_VERSION: Final = 1
STATE_BYTES_MAX: Final = 16_384
CHAIN_ID_MAX: Final = 2**32 - 1

_STATE: Final = (
    STATE_VERSION, Uint(CHAIN_ID_MAX), UINT, Bin(1, HEADER_BYTES_MAX),
    Many((Bin(20), Bin(33)), MEMBERS_MAX),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LightState:
    """The state that a light client trusts: ``members`` is the set of ``epoch`` on ``chain_id``.

    ``boundary`` is the header that commits to the set: the boundary block below the epoch, or
    genesis.
    """

    chain_id: int
    epoch: int
    boundary: Header
    members: Members

    def encode(self) -> bytes:
        """The record for ``decode_state``; keep it where no other user may write."""
        return pack((
            STATE_VERSION, self.chain_id, self.epoch, self.boundary.raw, self.members.pairs,
        ))  # fmt: skip


def decode_state(raw: bytes) -> LightState:
    """The state in the record ``raw``, which the caller trusts; only its consistency is checked.

    Raises ``Invalid``: ``oversized``, ``record``, ``light_chain``, ``light_set``.
    """
    _, chain_id, epoch, header, pairs = unpack(raw, _STATE, STATE_BYTES_MAX)
    return trusted_state(chain_id, epoch, decode_header(header), ordered_members(pairs))


def trusted_state(chain_id: int, epoch: int, boundary: Header, members: Members) -> LightState:
    """The state of ``epoch`` above a boundary header that the caller trusts.

    Raises ``Invalid``: ``light_chain``, ``light_epoch`` (the header is not the boundary below that
    epoch), ``light_set`` (it commits to another set).
    """
    if boundary.chain_id != chain_id:
        raise Invalid("light_chain", f"chain {boundary.chain_id} where {chain_id} is followed")
    if epoch != (boundary.epoch + 1 if boundary.height else 0):
        raise Invalid("light_epoch", f"a boundary of epoch {boundary.epoch} does not open {epoch}")
    if boundary.next_set_hash != members.digest(epoch):
        raise Invalid("light_set", f"not the set of epoch {epoch} that the header commits to")
    return LightState(chain_id, epoch, boundary, members)


def genesis_state(genesis_header: Header, members: Members) -> LightState:
    """The first state of a client that trusts genesis.json; ``members`` are its delegates.

    Raises ``Invalid`` as ``trusted_state`` does, and ``light_border`` for another block.
    """
    if genesis_header.height:
        raise Invalid("light_border", f"height {genesis_header.height} is not genesis")
    return trusted_state(genesis_header.chain_id, 0, genesis_header, members)


def check_age(state: LightState, now_ms: int, period_ms: int) -> None:
    """Raises ``Invalid("light_age")`` when the state's boundary is older than ``period_ms``.

    ``now_ms`` is Unix time. The period is half of the unbonding time: until then all members of the
    set have stake to lose for a false signature, and the other half is left to prove it.
    """
    age_ms = now_ms - state.boundary.timestamp_ms
    if age_ms > period_ms:
        days, days_max = age_ms // 86_400_000, period_ms // 86_400_000
        raise Invalid("light_age", f"{days} days old where at most {days_max} are safe")


def advance(state: LightState, boundary: BoundaryProof) -> LightState:
    """The state of the epoch that a boundary opens.

    The boundary is that of the state's epoch or of a later epoch. A quorum of the state's members
    must have signed for it: either they were the set still, or a quorum is dishonest (ADR 93).
    Raises ``Invalid``: ``light_chain``, ``light_epoch``, ``light_border``,
    ``light_set``, ``light_path``, ``light_certificate``, ``certificate_form``,
    ``certificate_quorum``, ``certificate_signature``.
    """
    header = boundary.header
    if header.epoch < state.epoch:
        raise Invalid("light_epoch", f"a boundary of epoch {header.epoch}, known is {state.epoch}")
    if header.next_set_hash == HASH_ZERO or header.height <= state.boundary.height:
        raise Invalid("light_border", f"block {header.height} is no boundary above the known one")
    if boundary.path and boundary.path[0].epoch == header.epoch:
        raise Invalid("light_border", f"block {header.height} is not the last of its epoch")
    _check_certified(state, header.epoch, header, boundary.path, boundary.certificate)
    return trusted_state(state.chain_id, boundary.opens, header, boundary.members)


def verify_final(
    state: LightState, header: Header, path: Sequence[Header], certificate: Certificate
) -> None:
    """Checks that ``header`` is final: it or a block above it has a commit certificate.

    ``path`` is that of ``FinalProof``. The certificate must be of the state's epoch. On a block
    above the epoch's boundary it proves the boundary and the blocks below it only
    (docs/spec/consensus.md "Epoch hand-over"). Raises ``Invalid`` as ``advance`` does, without the
    codes of sets and boundaries.
    """
    if header.epoch > state.epoch:
        raise Invalid("light_epoch", f"a header of epoch {header.epoch}, known is {state.epoch}")
    _check_certified(state, state.epoch, header, path, certificate)


def _check_certified(
    state: LightState,
    epoch: int,
    header: Header,
    path: Sequence[Header],
    certificate: Certificate,
) -> None:
    """Checks that commits of ``epoch`` by a quorum of the state's members make ``header`` final."""
    headers = (header, *path)
    for each in headers:
        if each.chain_id != state.chain_id:
            raise Invalid("light_chain", f"chain {each.chain_id}, followed is {state.chain_id}")
    for below, above in pairwise(headers):
        if above.parent != below.hash or above.height != below.height + 1:
            raise Invalid("light_path", f"block {above.height} is not on block {below.height}")
    top, ballot = headers[-1], certificate.ballot
    if ballot.epoch != epoch or top.epoch not in (epoch, epoch + 1):
        detail = f"epoch {ballot.epoch} certifies a block of {top.epoch} where {epoch} is meant"
        raise Invalid("light_epoch", detail)
    # The only commit that a node may sign for the block, made by the functions of a node.
    voted = finality.commit(finality.prevote(top, _boundary_below(state, epoch, headers)))
    if ballot != voted:
        raise Invalid("light_certificate", f"not what is to be voted on block {top.height}")
    check_certificate(certificate, state.members, state.chain_id)


def _boundary_below(state: LightState, epoch: int, headers: Sequence[Header]) -> EpochBoundary:
    """The boundary below the last header, a block of ``epoch`` or of the hand-over above it."""
    top = headers[-1]
    if top.epoch > epoch:  # the last block of the epoch is its boundary
        last = [each for each in headers if each.epoch <= epoch][-1]
        return EpochBoundary(top.epoch, last.hash, last.slot)
    if epoch == state.epoch:
        return EpochBoundary(epoch, state.boundary.hash, state.boundary.slot)
    # Boundaries were skipped. The top is a boundary, so the unknown boundary below it is final.
    return EpochBoundary(epoch, HASH_ZERO, 0)
