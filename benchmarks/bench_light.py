"""A light client's year: 8,760 hourly boundaries, a set that changes every 50 epochs.

A client reads the answers' JSON from genesis to the newest final header, decodes the boundaries,
verifies every signature, and ends with a commit certificate. The node's part (finding the
boundaries, writing JSON) is before the clock. The limit is bare verification of as many signatures.
A row of its own has the bytes of all answers as they go over HTTP.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self

from benchmarks.harness import Figure, Raw, Row, Run, Scale, again, clocked, measure
from dipnet.cli.light import Followed, follow
from dipnet.primitives.crypto import verify_batch
from dipnet.sdk.light import decode_final, verify_final
from tests.fixtures.light_chain import LightChain, rotating
from tests.fixtures.light_peer import Shown

EPOCHS: Final = {"full": 8_760, "quick": 800, "tiny": 12}
CHANGE_EPOCHS: Final = {"full": 50, "quick": 50, "tiny": 5}
SIZES: Final = {"full": (21, 101), "quick": (21,), "tiny": (4,)}
MEBI: Final = 1 << 20


@dataclass
class Recorded:
    """The answers of a node to one client, in their order, as JSON."""

    answers: list[str]
    at: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def call(self, method: str, *params: object) -> Any:
        self.at += 1
        return json.loads(self.answers[self.at - 1])["result"]


@dataclass
class Recorder:
    """Passes on the answers of a node and keeps them."""

    shown: Shown
    answers: list[str]

    def call(self, method: str, *params: object) -> Any:
        result = self.shown.call(method, *params)
        self.answers.append(json.dumps({"jsonrpc": "2.0", "id": 0, "result": result}))
        return result


def run(scale: Scale, say: Callable[[str], None]) -> list[Figure]:
    """Milliseconds and bytes of a year; the goals are 1,000 ms and 5 MB."""
    rows = []
    for size in SIZES[scale.name]:
        epochs = EPOCHS[scale.name]
        say(f"  making {epochs:,} boundaries of {size} delegates")
        chain = LightChain(rotating(epochs + 1, size, CHANGE_EPOCHS[scale.name]), epoch_slots=3_600)
        for _ in range(epochs):
            chain.boundary()
        recorder = Recorder(Shown(chain, chain.finality()), [])
        done = _follow(chain, recorder)
        size_bytes = sum(map(len, recorder.answers))
        say(f"  {done.boundaries} boundaries, {done.signatures:,} signatures, {size_bytes:,} bytes")
        what = f"{epochs:,} epochs, {size} delegates"
        rows += [
            Row(
                f"verify {what}", "ms", again(partial(_verify, chain, recorder.answers)),
                partial(_signatures, chain, done.signatures), "its signatures alone",
                "<= 1,000", more=False,
            ),
            Row(f"bytes of {what}", "MiB", again(partial(Run, size_bytes / MEBI)), goal="<= 4.77"),
        ]  # fmt: skip
    return measure(rows, scale, say)


def _follow(chain: LightChain, node: Any) -> Followed:
    """All that ``dipnet verify-header`` does, without its file."""
    done, state = Followed(), chain.start
    proof = decode_final(bytes.fromhex(node.call("dpos_finalHeader")[2:]))
    for one in follow(node, state, proof.certificate.ballot.epoch, done):
        state = one
    verify_final(state, proof.header, proof.path, proof.certificate)
    done.signatures += len(proof.certificate.indices())
    return done


def _verify(chain: LightChain, answers: list[str]) -> Run:
    with clocked() as clock:
        done = _follow(chain, Recorded(answers))
    assert done.signatures
    return Run(clock.wall_s * 1000, clock.cpu_s * 1e6)


def _signatures(chain: LightChain, count: int) -> Raw:
    """As many signatures of the chain, quorum after quorum, on the threads that the client uses."""
    boundary = chain.boundaries[0]
    proof, keys = boundary.certificate, chain.sets[0].keys
    quorum = len(proof.indices())
    digests = proof.ballot.digest(chain.chain_id) * quorum
    joined = b"".join(keys[index] for index in proof.indices())
    with clocked() as clock:
        for _ in range(count // quorum):
            verify_batch(digests, proof.signatures, joined)
    return Raw(clock.wall_s * 1000, clock.cpu_s * 1e6)
