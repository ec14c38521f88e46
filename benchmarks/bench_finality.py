"""The cost of finality for a node: verifying the certificates of sets of 21 and 101 delegates.

A certificate has a bare quorum of signatures, as leaders make them, or those of the whole set. The
limit is the same number of raw verifications by the native batch, with keys and digests ready.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from benchmarks.harness import Figure, Raw, Row, Run, Scale, again, clocked, measure
from dipnet.consensus.finality.members import Members
from dipnet.consensus.finality.votes import (
    Ballot,
    BallotKind,
    Certificate,
    Vote,
    certificate_of,
    check_certificate,
    decode_certificate,
)
from dipnet.primitives.crypto import address, keccak256, public_key, sign, verify_batch

TURNS_OF: Final = {"full": 100, "quick": 50, "tiny": 2}
GOALS_MS: Final = {21: 1, 101: 5}
CHAIN_ID: Final = 2018
BALLOT: Final = Ballot(BallotKind.COMMIT, 3, 7_200, keccak256(b"block"), 0)


def run(scale: Scale, say: Callable[[str], None]) -> list[Figure]:
    """Milliseconds a certificate."""
    rows: list[Row] = []
    for count, goal in GOALS_MS.items():
        secrets = {public_key(one): one for one in (keccak256(b"%d" % n) for n in range(count))}
        members = Members.of((address(key), key) for key in secrets)
        for signers in (members.quorum, count):
            certificate = _certificate(members, secrets, signers)
            turns = TURNS_OF[scale.name]
            rows.append(
                Row(
                    f"certificate, {signers} of {count} delegates", "ms",
                    again(partial(_verified, certificate.raw, members, turns)),
                    partial(_raw, certificate, members, turns),
                    "raw verify, 1 thread", f"<= {goal}", more=False,
                )
            )  # fmt: skip
    return measure(rows, scale, say)


def _certificate(members: Members, secrets: dict[bytes, bytes], signers: int) -> Certificate:
    digest = BALLOT.digest(CHAIN_ID)
    votes = [
        Vote(BALLOT, index, sign(digest, secrets[key]))
        for index, key in enumerate(members.keys[:signers])
    ]
    return certificate_of(votes, members)


def _verified(raw: bytes, members: Members, turns: int) -> Run:
    """As a node does it: from the bytes of a peer to the verdict."""
    with clocked() as clock:
        for _ in range(turns):
            check_certificate(decode_certificate(raw), members, CHAIN_ID)
    return Run(clock.wall_s / turns * 1e3, clock.cpu_s / turns * 1e6)


def _raw(certificate: Certificate, members: Members, turns: int) -> Raw:
    indices = certificate.indices()
    digests = BALLOT.digest(CHAIN_ID) * len(indices)
    keys = b"".join(members.keys[index] for index in indices)
    with clocked() as clock:
        for _ in range(turns):
            assert all(verify_batch(digests, certificate.signatures, keys, 1))
    return Raw(clock.wall_s / turns * 1e3, clock.cpu_s / turns * 1e6)
