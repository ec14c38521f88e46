"""A fuzzer of every decoder of foreign bytes: it mutates valid bytes. Run as a program (``make
fuzz``), each target gets a number of seconds. A decoder gives a value whose only encoding is the
input, or refuses with a code that it declares; any other outcome is a bug, and is printed with the
bytes. Accepted inputs are mutated further.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from dipnet.consensus.chain.block import Block, decode_block, seal
from dipnet.consensus.finality.boundaries import decode_boundary, decode_final
from dipnet.consensus.finality.header import decode_header
from dipnet.consensus.finality.votes import (
    Ballot,
    BallotKind,
    VoteState,
    decode_certificate,
    decode_vote,
)
from dipnet.consensus.staking import evidence
from dipnet.consensus.staking.idpos import METHODS
from dipnet.ledger.tx import decode as decode_tx
from dipnet.node.effects import PROTOCOLS
from dipnet.p2p import messages
from dipnet.primitives.codec import BIG, UINT, Bin, Many, Text, big, pack, unpack
from dipnet.primitives.errors import Invalid
from dipnet.sdk.light import decode_state
from dipnet.signing import signer_socket, votefile
from dipnet.signing.signer import Answer
from dipnet.vm.abi import Method
from tests.fixtures.chain_builder import CHAIN_ID, Net, address_of, grow, learn, transfer
from tests.unit.consensus.finality.test_boundaries import BOUNDARIES, FINALITY, STATE
from tests.unit.p2p.test_messages import MESSAGES

KEPT = 256
BYTES_MAX = 8_192
MARKS = bytes((
    0x00, 0x01, 0x7F, 0x80, 0x90, 0x91, 0x9F, 0xA0, 0xC0, 0xC2, 0xC4, 0xC5, 0xC6, 0xCC, 0xCD, 0xCE,
    0xCF, 0xD0, 0xD9, 0xDC, 0xDD, 0xDE, 0xFF,
))  # fmt: skip
SECTION = {"vote_form", "certificate_form"}
RECORD = {"record", "oversized"}
TX = {
    "rlp", "oversized", "tx_type", "tx_form", "chain_id", "unprotected", "sender", "nonce_max",
    "tip_above_cap",
}  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A decoder: ``spell`` encodes the value that ``decode`` gives."""

    name: str
    decode: Callable[[bytes], Any]
    spell: Callable[[Any], bytes]
    samples: tuple[bytes, ...]
    codes: set[str]


def raw_of(value: Any) -> bytes:
    return bytes(value.raw)


def encoded_again(value: Any) -> bytes:
    """The record that is made of the fields: a decoded value keeps the bytes it came from."""
    return bytes(replace(value).raw)


def sealed(block: Block) -> bytes:
    certificates = [replace(certificate) for certificate in block.certificates]
    return seal(replace(block.header), block.txs, block.signature, b"", certificates).raw


def answer(value: signer_socket.SignerHello | Answer) -> bytes:
    if isinstance(value, Answer):
        return signer_socket.encode_answer(value)
    return signer_socket.encode_hello(value)


RECORDS = (1, UINT, BIG, Text(9), Bin(0, 300), Many((UINT, Many(Bin(1, 40), 3)), 20))


def records() -> Iterator[Target]:
    """The decoder of records, which the others use: ``pack`` encodes its values in the same
    bytes."""
    small: list[Any] = [1, 7, big(10), b"text", b"", []]
    large: list[Any] = [1, 2**40, big(2**250), b"", bytes(299), [[300, [b"x" * 33]]] * 17]
    yield Target(
        "record", partial(unpack, shape=RECORDS, bytes_max=BYTES_MAX), pack,
        (pack(small), pack(large)), {"record"},
    )  # fmt: skip


def consensus() -> Iterator[Target]:
    net = Net.of(4)
    chain, memory = net.chain()
    grow(net, chain, memory, [1, 2])
    proofs = [
        net.certificate(chain, chain.head, kind) for kind in (BallotKind.PREVOTE, BallotKind.COMMIT)
    ]
    votes = [
        net.votes(chain, chain.head, kind)[0] for kind in (BallotKind.PREVOTE, BallotKind.COMMIT)
    ]
    learn(chain, memory, proofs[0])
    txs = [transfer("user 0", nonce) for nonce in range(2)]
    blocks = [net.child(chain, chain.head.hash, 3), net.child(chain, chain.head.hash, 4, txs)]
    records = [evidence.record(vote.ballot, vote.signature) for vote in votes]
    headers = tuple(block.header.raw for block in blocks)
    yield Target("vote", decode_vote, encoded_again, tuple(map(raw_of, votes)), RECORD | SECTION)
    yield Target(
        "certificate",
        decode_certificate,
        encoded_again,
        tuple(map(raw_of, proofs)),
        RECORD | SECTION,
    )
    yield Target("header", decode_header, encoded_again, headers, RECORD)
    yield Target(
        "block", partial(decode_block, genesis=net.genesis), sealed, tuple(map(raw_of, blocks)),
        RECORD | SECTION | TX | {"block_form", "block_tx", "block_root", "block_signature"},
    )  # fmt: skip
    yield Target(
        "payment", partial(decode_tx, chain_id=CHAIN_ID), raw_of, tuple(map(raw_of, txs)), TX
    )
    yield Target(
        "evidence", evidence.statement, lambda pair: evidence.record(*pair), tuple(records),
        {"dpos_offence"},
    )  # fmt: skip


def peers() -> Iterator[Target]:
    for protocol in PROTOCOLS:
        own = [message for message in MESSAGES if messages.protocol_of(message) == protocol]
        yield Target(
            f"frame of {protocol}", partial(messages.decode, protocol), messages.encode,
            tuple(map(messages.encode, own)), {"peer_message"},
        )  # fmt: skip


def signer() -> Iterator[Target]:
    owner, state = address_of("delegate 0"), VoteState(1, 2, 3, 2**60)
    ballots = [None, *(Ballot(kind, 1, 2**40, bytes(32), 0) for kind in BallotKind)]
    requests = tuple(map(signer_socket.encode_request, ballots))
    answers = (
        answer(signer_socket.SignerHello(CHAIN_ID, bytes(33), bytes(32), state)),
        answer(Answer(bytes(65), state)), answer(Answer(b"", state, "no")),
    )  # fmt: skip
    yield Target(
        "signer's request", signer_socket.decode_request, signer_socket.encode_request, requests,
        RECORD,
    )  # fmt: skip
    yield Target("signer's answer", signer_socket.decode_answer, answer, answers, RECORD)
    yield Target(
        "vote file", lambda raw: votefile.decode(raw, CHAIN_ID, owner, "here"),
        lambda value: votefile.encode(CHAIN_ID, owner, value),
        (votefile.encode(CHAIN_ID, owner, state),), {"votes_damaged", "votes_foreign"},
    )  # fmt: skip


def light() -> Iterator[Target]:
    codes = RECORD | SECTION | {"light_chain", "light_set", "light_epoch"}
    yield Target("boundary", decode_boundary, encoded_again, (BOUNDARIES[1].raw,), codes)
    yield Target("finality", decode_final, encoded_again, (FINALITY.raw,), codes)
    yield Target(
        "light state", decode_state, lambda state: state.encode(), (STATE.encode(),), codes
    )


def contract() -> Iterator[Target]:
    usual = {
        "string": "a name", "uint16": 7, "uint256": 2**200, "bytes": b"bytes" * 9,
        "bytes32": bytes(range(32)), "address": address_of("user 0"),
        "address[]": [address_of("user 0"), address_of("user 1")],
    }  # fmt: skip
    for method in METHODS.values():
        if method.inputs:
            yield Target(
                f"arguments of {method.name}", method.arguments,
                partial(_arguments, method),
                (method.call_data(*(usual[kind] for kind in method.inputs))[4:],), {"dpos_call"},
            )  # fmt: skip


def _arguments(method: Method, values: tuple[Any, ...]) -> bytes:
    """The call data without its selector."""
    return method.call_data(*values)[4:]


def targets() -> list[Target]:
    return [*records(), *consensus(), *peers(), *signer(), *light(), *contract()]


def mutated(rng: random.Random, raw: bytes, other: bytes) -> bytes:
    """``raw`` with one to four small changes."""
    data = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        at, size = rng.randint(0, len(data)), rng.choice((1, 1, 2, 8, 32))
        match rng.randrange(7):
            case 0:
                data[at : at + 1] = rng.randbytes(1)
            case 1:
                data[at : at + 1] = bytes((rng.choice(MARKS),))
            case 2:
                data[at:at] = rng.randbytes(size)
            case 3:
                del data[at : at + size]
            case 4:
                data[at:at] = data[at : at + size]
            case 5:
                data[at:] = other[rng.randint(0, len(other)) :]
            case _:
                data[at : at + size] = bytes(size) if rng.random() < 0.5 else b"\xff" * size
    return bytes(data[:BYTES_MAX])


def judge(target: Target, raw: bytes) -> bool:
    """Whether ``raw`` is accepted; AssertionError, or whatever the decoder raises, is a bug."""
    try:
        value = target.decode(raw)
    except Invalid as refused:
        code = refused.code
    else:
        assert target.spell(value) == raw, f"{target.name}: two spellings"
        return True
    assert code in target.codes, f"{target.name}: {code}"
    return False


def fuzz(target: Target, rng: random.Random, goes_on: Callable[[int], bool]) -> tuple[int, int]:
    """(inputs tried, inputs accepted)."""
    pool, tried, accepted = list(target.samples), 0, 0
    for sample in pool:
        assert judge(target, sample), f"{target.name}: a sample is refused"
    while goes_on(tried):
        raw = mutated(rng, rng.choice(pool), rng.choice(pool))
        tried += 1
        try:
            good = judge(target, raw)
        except Exception as bug:
            bug.add_note(f"{target.name}: {raw.hex()}")
            raise
        if good:
            accepted += 1
            if raw not in pool:
                pool = [*target.samples, *pool[len(target.samples) :][1 - KEPT :], raw]
    return tried, accepted


def _until(end_s: float) -> Callable[[int], bool]:
    """Whether ``time.monotonic`` is before ``end_s``, for ``fuzz``."""
    return lambda _: time.monotonic() < end_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20, help="for each decoder")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}")
    for target in targets():
        rng = random.Random(f"{chosen.seed} {target.name}")
        tried, accepted = fuzz(target, rng, _until(time.monotonic() + chosen.seconds))
        print(f"{target.name:32}{tried:10,} inputs, {accepted:8,} accepted", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
