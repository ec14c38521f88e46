"""The light client's library: it follows honest chains, and refuses every kind of forged hop."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from dipnet.consensus.finality.boundaries import BoundaryProof, FinalProof
from dipnet.consensus.finality.header import HASH_ZERO, Header
from dipnet.consensus.finality.members import Members
from dipnet.consensus.finality.votes import Ballot, BallotKind
from dipnet.primitives.errors import Invalid
from dipnet.sdk.light import (
    LightState,
    advance,
    check_age,
    decode_state,
    genesis_state,
    trusted_state,
    verify_final,
)
from tests.fixtures.light_chain import (
    CHAIN_ID,
    LightChain,
    certificate,
    child,
    commit,
    members_of,
    rotating,
    signed_by,
    with_fields,
)
from tests.fixtures.processes import environment

DAY_MS = 86_400_000


def chain_of(size: int = 4, every: int = 1, epochs: int = 6) -> LightChain:
    return LightChain(rotating(epochs, size, every))


def refused(state: LightState, boundary: BoundaryProof) -> str:
    with pytest.raises(Invalid) as caught:
        advance(state, boundary)
    return caught.value.code


def refused_final(state: LightState, proof: FinalProof) -> str:
    with pytest.raises(Invalid) as caught:
        verify_final(state, proof.header, proof.path, proof.certificate)
    return caught.value.code


# --- what it needs


def test_it_needs_nothing_of_the_node() -> None:
    foreign = (
        "libp2p", "msgspec", "plyvel", "pydantic", "starlette", "trio", "typer",
        "uvicorn", "uvloop", "websockets",
    )  # fmt: skip
    code = (
        "import sys; sys.modules.update(dict.fromkeys(sys.argv[1:])); import dipnet.sdk.light;"
        "print(*sorted(name for name in sys.modules if name.split('.')[0] == 'dipnet'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *foreign],  # a module that is None cannot be imported
        env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert set(done.stdout.split()) == {
        "dipnet", "dipnet._native", "dipnet._native.crypto", "dipnet.primitives",
        "dipnet.primitives.codec", "dipnet.primitives.crypto", "dipnet.primitives.errors",
        "dipnet.consensus", "dipnet.consensus.finality", "dipnet.consensus.finality.boundaries",
        "dipnet.consensus.finality.finality", "dipnet.consensus.finality.header",
        "dipnet.consensus.finality.members", "dipnet.consensus.finality.votes",
        "dipnet.sdk", "dipnet.sdk.light",
    }  # fmt: skip


# --- honest chains


@pytest.mark.parametrize("size", [1, 2, 4, 21])
def test_it_follows_every_boundary(size: int) -> None:
    chain = chain_of(size)
    state = chain.start
    for epoch in range(4):
        chain.block()
        state = advance(state, chain.boundary(hand_over=epoch))
        assert (state.epoch, state.members) == (epoch + 1, chain.sets[epoch + 1])
        assert decode_state(state.encode()) == state
        for above in (0, 1, 3):
            proof = chain.finality(above)
            verify_final(state, proof.header, proof.path, proof.certificate)


def test_it_skips_boundaries_at_which_the_set_stays() -> None:
    chain = LightChain(rotating(12, 4, 5))
    for _ in range(11):
        chain.boundary()
    changed = [boundary for boundary in chain.boundaries if boundary.opens in (6, 11)]
    state = chain.start
    for boundary in changed:
        state = advance(state, boundary)
    proof = chain.finality()
    verify_final(state, proof.header, proof.path, proof.certificate)
    assert refused(chain.start, changed[1]) == "certificate_signature", "over a change"


def test_a_header_below_the_boundary_is_final_with_it() -> None:
    chain = chain_of()
    below = chain.block()
    boundary = chain.boundary(hand_over=2)
    state = chain.start
    verify_final(state, below, (boundary.header, *boundary.path), boundary.certificate)
    verify_final(state, boundary.header, boundary.path, boundary.certificate)
    above = FinalProof(boundary.path[0], boundary.path[1:], boundary.certificate)
    assert refused_final(state, above) == "light_epoch", "truncated at the boundary"
    beyond = FinalProof(boundary.path[0], boundary.path[1:], boundary.certificate)
    assert refused_final(advance(state, boundary), beyond) == "light_epoch"


def test_any_quorum_will_do_and_all_of_them() -> None:
    chain = chain_of(7)
    boundary = chain.boundary()
    for signers in range(1, 8):
        proof = certificate(commit(boundary.header), chain.sets[0], signers)
        forged = replace(boundary, certificate=proof)
        if signers >= 5:
            assert advance(chain.start, forged).epoch == 1
        else:
            assert refused(chain.start, forged) == "certificate_quorum"


# --- forged hops


def wrong_set(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    return replace(boundary, members=members_of(range(90, 94)))


def smaller_set(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    return replace(boundary, members=Members(boundary.members.pairs[1:]))


def other_key(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    (delegate, _), *others = boundary.members.pairs
    return replace(boundary, members=Members(((delegate, b"\x02" + bytes(32)), *others)))


def too_few(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    proof = certificate(boundary.certificate.ballot, sets[0], sets[0].quorum - 1)
    return replace(boundary, certificate=proof)


def signed_twice(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    """A certificate with a signature under two bits: a quorum by count, not by members."""
    proof = boundary.certificate
    doubled = proof.signatures[:64] + proof.signatures[:128]
    return replace(boundary, certificate=replace(proof, signatures=doubled))


def strangers(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    proof = signed_by(boundary.certificate, sets[0], members_of(range(90, 94)))
    return replace(boundary, certificate=proof)


def spoiled(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    proof = boundary.certificate
    flipped = bytes((proof.signatures[0] ^ 1,)) + proof.signatures[1:]
    return replace(boundary, certificate=replace(proof, signatures=flipped))


def high_s(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    proof = boundary.certificate
    mirrored = order - int.from_bytes(proof.signatures[32:64], "big")
    signatures = proof.signatures[:32] + mirrored.to_bytes(32, "big") + proof.signatures[64:]
    return replace(boundary, certificate=replace(proof, signatures=signatures))


def bit_outside(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    proof = boundary.certificate
    return replace(boundary, certificate=replace(proof, bitmap=b"\x83"))


def long_bitmap(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    proof = boundary.certificate
    return replace(boundary, certificate=replace(proof, bitmap=proof.bitmap + b"\0"))


def of_another_epoch(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    return replace(boundary, certificate=certificate(commit(boundary.header, 1), sets[0]))


def of_prevotes(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    ballot = replace(commit(boundary.header), kind=BallotKind.PREVOTE)
    return replace(boundary, certificate=certificate(ballot, sets[0]))


def of_another_block(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    other = with_fields(boundary.header, gas_used=7)
    return replace(boundary, certificate=certificate(commit(other), sets[0]))


def of_another_slot(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    ballot = replace(commit(boundary.header), slot=boundary.header.slot + 1)
    return replace(boundary, certificate=certificate(ballot, sets[0]))


def on_another_chain(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    header = with_fields(boundary.header, chain_id=CHAIN_ID + 1)
    return replace(boundary, header=header, certificate=certificate(commit(header), sets[0]))


def signed_for_another_chain(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    proof = certificate(boundary.certificate.ballot, sets[0], chain_id=CHAIN_ID + 1)
    return replace(boundary, certificate=proof)


def no_boundary(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    header = with_fields(boundary.header, next_set_hash=HASH_ZERO)
    return replace(boundary, header=header, certificate=certificate(commit(header), sets[0]))


def set_of_another_epoch(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    header = with_fields(boundary.header, next_set_hash=boundary.members.digest(2))
    return replace(boundary, header=header, certificate=certificate(commit(header), sets[0]))


def genesis_again(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    header = LightChain(sets).genesis
    return replace(boundary, header=header, certificate=certificate(commit(header), sets[0]))


def certified_above(
    boundary: BoundaryProof, sets: list[Members], top: Header, *path: Header
) -> BoundaryProof:
    proof = certificate(commit(top, 0), sets[0])
    return replace(boundary, path=(*path, top), certificate=proof)


def path_of_strangers(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    return certified_above(boundary, sets, child(with_fields(boundary.header, gas_used=7), 1))


def path_with_a_hole(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    return certified_above(boundary, sets, child(child(boundary.header, 1)))


def path_with_a_false_height(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    return certified_above(
        boundary, sets, child(boundary.header, 1, height=boundary.header.height + 2)
    )


def path_of_another_chain(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    return certified_above(boundary, sets, child(boundary.header, 1, chain_id=CHAIN_ID + 1))


def path_of_the_same_epoch(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    return certified_above(boundary, sets, child(boundary.header, 0))


def path_two_epochs_up(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    first = child(boundary.header, 1)
    return certified_above(boundary, sets, child(first, 2), first)


def path_that_the_new_set_votes_on(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    """A path to a block that knows the boundary to be final: the old set does not vote on it."""
    settled = (boundary.header.hash, boundary.header.slot)
    return certified_above(boundary, sets, child(boundary.header, 1, final=settled))


def path_that_goes_on(boundary: BoundaryProof, sets: list[Members]) -> BoundaryProof:
    """A path that ends above the block of the certificate, which is the boundary."""
    return replace(boundary, path=(child(boundary.header, 1),))


@pytest.mark.parametrize(
    ("forge", "code"),
    [
        (wrong_set, "light_set"),
        (smaller_set, "light_set"),
        (other_key, "light_set"),
        (set_of_another_epoch, "light_set"),
        (too_few, "certificate_quorum"),
        (signed_twice, "certificate_signature"),
        (strangers, "certificate_signature"),
        (spoiled, "certificate_signature"),
        (high_s, "certificate_signature"),
        (signed_for_another_chain, "certificate_signature"),
        (bit_outside, "certificate_form"),
        (long_bitmap, "certificate_form"),
        (of_another_epoch, "light_epoch"),
        (of_prevotes, "light_certificate"),
        (of_another_block, "light_certificate"),
        (of_another_slot, "light_certificate"),
        (path_that_goes_on, "light_certificate"),
        (path_that_the_new_set_votes_on, "light_certificate"),
        (on_another_chain, "light_chain"),
        (path_of_another_chain, "light_chain"),
        (no_boundary, "light_border"),
        (genesis_again, "light_border"),
        (path_of_the_same_epoch, "light_border"),
        (path_of_strangers, "light_path"),
        (path_with_a_hole, "light_path"),
        (path_with_a_false_height, "light_path"),
        (path_two_epochs_up, "light_epoch"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_forged_hops(
    forge: Callable[[BoundaryProof, list[Members]], BoundaryProof], code: str
) -> None:
    chain = chain_of()
    boundary = chain.boundary()
    assert advance(chain.start, boundary).epoch == 1
    assert refused(chain.start, forge(boundary, chain.sets)) == code


def test_hops_do_not_go_back() -> None:
    chain = chain_of()
    first, second = chain.boundary(), chain.boundary()
    state = advance(chain.start, first)
    assert refused(state, first) == "light_epoch"
    assert refused(advance(state, second), second) == "light_epoch"
    third = chain.boundary()
    assert refused(chain.start, third) == "certificate_signature", "by a set not known yet"


def test_a_boundary_of_the_same_epoch_must_lie_above_the_known_boundary() -> None:
    chain = chain_of()
    state = advance(chain.start, chain.boundary())
    low = with_fields(
        state.boundary, epoch=1, next_set_hash=chain.sets[2].digest(2), height=state.boundary.height
    )
    forged = BoundaryProof(low, (), certificate(commit(low), chain.sets[1]), chain.sets[2])
    assert refused(state, forged) == "light_border"


# --- headers that are not final


def test_a_certificate_makes_only_its_block_and_ancestors_final() -> None:
    chain = chain_of()
    state = advance(chain.start, chain.boundary())
    proof = chain.finality()
    assert refused_final(state, replace(proof, header=chain.block())) == "light_certificate"
    sibling = with_fields(proof.header, gas_used=9)
    assert refused_final(state, replace(proof, header=sibling)) == "light_certificate"
    above = chain.finality(above=2)
    assert refused_final(state, replace(above, path=above.path[:1])) == "light_certificate"
    assert refused_final(state, replace(above, path=above.path[1:])) == "light_path"
    assert refused_final(state, replace(above, path=above.path[::-1])) == "light_path"
    lower = replace(proof, certificate=certificate(commit(proof.header), chain.sets[1], 2))
    assert refused_final(state, lower) == "certificate_quorum"
    ballot = Ballot(BallotKind.PREVOTE, 1, proof.header.slot, proof.header.hash, 0)
    prevotes = replace(proof, certificate=certificate(ballot, chain.sets[1]))
    assert refused_final(state, prevotes) == "light_certificate"
    foreign = with_fields(proof.header, chain_id=CHAIN_ID + 1)
    assert refused_final(state, replace(proof, header=foreign)) == "light_chain"


def test_finality_is_of_the_known_epoch_only() -> None:
    """Skipping lets a set prove later boundaries, but not final headers of later epochs."""
    chain = LightChain(rotating(4, 4, 9))
    chain.boundary()
    proof = chain.finality()
    assert refused_final(chain.start, proof) == "light_epoch"
    old = replace(proof, certificate=certificate(commit(proof.header, 0), chain.sets[0]))
    assert refused_final(advance(chain.start, chain.boundaries[0]), old) == "light_epoch"


# --- where trust begins


def test_trust_begins_at_a_header_that_commits_to_its_set() -> None:
    chain = chain_of()
    boundary = chain.boundary()
    begin: list[tuple[Any, str]] = [
        ((CHAIN_ID + 1, 1, boundary.header, boundary.members), "light_chain"),
        ((CHAIN_ID, 2, boundary.header, boundary.members), "light_epoch"),
        ((CHAIN_ID, 0, boundary.header, boundary.members), "light_epoch"),
        ((CHAIN_ID, 1, boundary.header, chain.sets[2]), "light_set"),
        ((CHAIN_ID, 1, chain.genesis, chain.sets[0]), "light_epoch"),
    ]
    for fields, code in begin:
        with pytest.raises(Invalid) as caught:
            trusted_state(*fields)
        assert caught.value.code == code
    for header, members, code in (
        (chain.genesis, members_of(range(9, 13)), "light_set"),
        (boundary.header, boundary.members, "light_border"),
    ):
        with pytest.raises(Invalid) as caught:
            genesis_state(header, members)
        assert caught.value.code == code
    assert trusted_state(CHAIN_ID, 1, boundary.header, boundary.members) == advance(
        chain.start, boundary
    )


def test_an_old_header_is_not_trusted() -> None:
    state = chain_of().start
    born = state.boundary.timestamp_ms
    check_age(state, born + 7 * DAY_MS, 7 * DAY_MS)
    check_age(state, born - DAY_MS, 7 * DAY_MS)
    with pytest.raises(Invalid, match="7 days old where at most 7 are safe") as caught:
        check_age(state, born + 7 * DAY_MS + 1, 7 * DAY_MS)
    assert caught.value.code == "light_age"


@pytest.mark.parametrize(
    "changes",
    [{"justify": (b"\1" * 32, 2**64 - 1, 0)}, {"slot": 0}, {"final": (b"\1" * 32, 2**64 - 1)}],
)
def test_a_header_with_impossible_links_is_judged_and_no_bug(changes: dict[str, Any]) -> None:
    """A forger with the keys of a set can sign any header: the rules are computed on it all the
    same, and the answer is a header or a refusal."""
    chain = chain_of()
    header = with_fields(chain.finality().header, **changes)
    proof = certificate(commit(header), chain.sets[header.epoch])
    with suppress(Invalid):
        verify_final(chain.start, header, (), proof)
