"""A light client: which header is final, told by signatures alone, without a node.

A library for who cannot or will not run a node. It needs bytes, hashes and signatures; it has no
clock, disk or network: times are arguments, and what it judges may come from anybody. Every
refusal is ``Invalid`` with a code.

* ``LightState`` is what is known: a boundary block's header and the set that votes above it.
* ``advance`` goes over a boundary to a later set: a *hop*. Boundaries at which the set did not
  change may be left out (ADR 93 has the argument and its assumption, docs/light.md the words of
  it).
* ``verify_final`` judges a header by a commit certificate of the state's own epoch.

What a hop gives is the set that a valid boundary commits to; what is *final* is only what
``verify_final`` says, because only there the set is known to be exactly that of the epoch.
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
    """What a light client trusts: ``members`` is the set of ``epoch`` on the chain ``chain_id``.

    ``boundary`` is the header that says so: the boundary block below that epoch, or genesis.
    """

    chain_id: int
    epoch: int
    boundary: Header
    members: Members

    def encode(self) -> bytes:
        """The record that ``decode_state`` takes, to be kept where nobody else writes."""
        return pack((
            STATE_VERSION, self.chain_id, self.epoch, self.boundary.raw, self.members.pairs,
        ))  # fmt: skip


def decode_state(raw: bytes) -> LightState:
    """The state in ``raw``, which the caller trusts; checked as far as it proves itself.

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
    """Where a client begins that trusts nothing but genesis: ``members`` are those of genesis.json.

    Raises ``Invalid`` as ``trusted_state`` does, and ``light_border`` for another block.
    """
    if genesis_header.height:
        raise Invalid("light_border", f"height {genesis_header.height} is not genesis")
    return trusted_state(genesis_header.chain_id, 0, genesis_header, members)


def check_age(state: LightState, now_ms: int, period_ms: int) -> None:
    """Refuses a state whose boundary is older than ``period_ms``: ``Invalid("light_age")``.

    The period is half of the unbonding time: until then whoever signs for a set of that age has
    stake to lose, and the other half is left to prove it. ``now_ms`` is Unix time.
    """
    age_ms = now_ms - state.boundary.timestamp_ms
    if age_ms > period_ms:
        days, days_max = age_ms // 86_400_000, period_ms // 86_400_000
        raise Invalid("light_age", f"{days} days old where at most {days_max} are safe")


def advance(state: LightState, boundary: BoundaryProof) -> LightState:
    """Over a boundary: the state of the epoch that it opens.

    The boundary may be that of the state's epoch or of any later one; then a quorum of the state's
    members has signed for it and so must have been the set still, or has lost its honesty
    (ADR 93). Raises ``Invalid``: ``light_chain``, ``light_epoch``, ``light_border``,
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
    """Returns when ``header`` is final: it or a block above it has a commit certificate.

    ``path`` as in ``FinalProof``. The certificate must be of the state's epoch; on a block above
    that epoch's boundary it counts for nothing but the boundary and what is below
    (docs/spec/consensus.md "Epoch hand-over": truncation). Raises ``Invalid`` as ``advance`` does,
    without the codes of sets and boundaries.
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
    """A quorum of the state's members has made ``header`` final with its commits of ``epoch``."""
    headers = (header, *path)
    for one in headers:
        if one.chain_id != state.chain_id:
            raise Invalid("light_chain", f"chain {one.chain_id}, followed is {state.chain_id}")
    for below, above in pairwise(headers):
        if above.parent != below.hash or above.height != below.height + 1:
            raise Invalid("light_path", f"block {above.height} is not on block {below.height}")
    top, ballot = headers[-1], certificate.ballot
    if ballot.epoch != epoch or top.epoch not in (epoch, epoch + 1):
        detail = f"epoch {ballot.epoch} certifies a block of {top.epoch} where {epoch} is meant"
        raise Invalid("light_epoch", detail)
    # What may be voted on the block at all, by the functions of a node: prevotes prove nothing.
    voted = finality.commit(finality.prevote(top, _boundary_below(state, epoch, headers)))
    if ballot != voted:
        raise Invalid("light_certificate", f"not what is to be voted on block {top.height}")
    check_certificate(certificate, state.members, state.chain_id)


def _boundary_below(state: LightState, epoch: int, headers: Sequence[Header]) -> EpochBoundary:
    """The boundary below the last of ``headers``, which is of ``epoch`` or a hand-over above it."""
    top = headers[-1]
    if top.epoch > epoch:  # the last block of the epoch is its boundary
        last = [one for one in headers if one.epoch <= epoch][-1]
        return EpochBoundary(top.epoch, last.hash, last.slot)
    if epoch == state.epoch:
        return EpochBoundary(epoch, state.boundary.hash, state.boundary.slot)
    # Skipped: the top is itself a boundary, and no block is one before the boundary below is final.
    return EpochBoundary(epoch, HASH_ZERO, 0)
