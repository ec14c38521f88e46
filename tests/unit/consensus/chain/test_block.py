"""Blocks: bytes, hashes, signatures, and every refusal that needs no chain."""

from dataclasses import replace
from typing import Any

import pytest
from coincurve import PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from dipnet.consensus.chain.block import (
    HEADER_END_MAX,
    TX_BYTES_MIN,
    Block,
    cert_root,
    claimed_id,
    decode_block,
    genesis_block,
    genesis_members,
    ordered_root,
    seal,
    stored_block,
    stored_header,
)
from dipnet.consensus.finality.header import HASH_ZERO, HEADER_BYTES_MAX, Header, decode_header
from dipnet.consensus.finality.votes import BallotKind, Certificate
from dipnet.ledger.parameters import BLOCK_BYTES_MAX
from dipnet.ledger.state import EMPTY_ROOT, trie_root
from dipnet.ledger.tx import TX_BYTES_MAX
from dipnet.primitives.codec import pack, rlp_encode
from dipnet.primitives.crypto import address, keccak256, public_key, sign
from dipnet.primitives.errors import Invalid
from tests.fixtures.chain_builder import CHAIN_ID, Net, add, secret, transfer, with_fields

NET = Net.of()
CHAIN, DISK = NET.chain()
TXS = [transfer("user 0", 0), transfer("user 1", 0), transfer("user 0", 1)]
BLOCK = NET.child(CHAIN, CHAIN.genesis_hash, 3, TXS)
add(CHAIN, DISK, BLOCK)
PREVOTES, COMMITS = (
    NET.certificate(CHAIN, BLOCK.header, kind) for kind in (BallotKind.PREVOTE, BallotKind.COMMIT)
)
CERTIFYING = NET.child(CHAIN, BLOCK.hash, 4, [], [PREVOTES])
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def proposer(header: Header) -> bytes:
    """The address whose key may sign the block, where delegates sign with their account's key."""
    return header.proposer


def refusal(raw: bytes, net: Net = NET) -> str:
    with pytest.raises(Invalid) as caught:
        decode_block(raw, net.genesis, proposer)
    return caught.value.code


def assembled(block: Block, **parts: Any) -> bytes:
    """The record of a block with some of its fields replaced."""
    chosen: dict[str, Any] = {
        "version": 1,
        "header": block.header.raw,
        "signature": block.signature,
        "txs": [tx.raw for tx in block.txs],
        "certificates": [certificate.raw for certificate in block.certificates],
        "frontier": [],
    } | parts
    return pack(tuple(chosen.values()))


def test_a_block_keeps_its_bytes() -> None:
    decoded = decode_block(BLOCK.raw, NET.genesis)
    assert decoded == BLOCK
    assert decoded.signer == BLOCK.header.proposer
    assert decoded.raw is BLOCK.raw
    assert decoded.hash == keccak256(decoded.header.raw) == BLOCK.hash
    assert decode_header(BLOCK.header.raw) == BLOCK.header == stored_header(BLOCK.raw)
    assert claimed_id(BLOCK.raw) == BLOCK.hash
    assert len(BLOCK.header.raw) <= HEADER_BYTES_MAX
    assert BLOCK.raw == assembled(BLOCK)
    senders = [tx.sender for tx in TXS]
    assert stored_block(BLOCK.raw, BLOCK.header, CHAIN_ID, senders) == replace(BLOCK, signer=b"")
    with pytest.raises(Invalid):
        stored_block(BLOCK.raw, BLOCK.header, CHAIN_ID, senders[1:])
    with pytest.raises(Invalid):
        stored_block(BLOCK.raw, CERTIFYING.header, CHAIN_ID, senders)


def test_an_id_is_claimed_without_a_look_at_the_rest() -> None:
    """The id comes from the first bytes alone, so that a known block is not decoded again."""
    start = len(BLOCK.header.raw) + 5
    assert claimed_id(BLOCK.raw[:start] + b"\xc1" * 99) == BLOCK.hash
    forged = BLOCK.raw[:5] + bytes([BLOCK.raw[5] ^ 1]) + BLOCK.raw[6:]
    assert claimed_id(forged) == keccak256(forged[5:start])
    for raw in (BLOCK.raw[: start - 1], b"\x95" + BLOCK.raw[1:], b"\x96\x02" + BLOCK.raw[2:]):
        with pytest.raises(Invalid):
            claimed_id(raw)
    assert len(assembled(BLOCK, header=bytes(HEADER_BYTES_MAX), txs=[])) - 70 <= HEADER_END_MAX


def test_the_header_is_the_record_of_the_design() -> None:
    """Compares the header, field by field, with msgpack written by hand."""
    header = BLOCK.header
    bin32 = b"\xc4\x20"
    assert header.raw.startswith(b"\xdc\x00\x19\x01\xcd\x07\xe2" + bin32 + header.parent)
    assert header.raw.endswith(bin32 + header.dag_root + b"\x00\x00" + bin32 + header.dag_acc)
    assert header.raw.count(b"\x93" + bin32 + header.justify[0] + b"\x00\x00") == 1
    record = b"\x95\x01\xcd\x07\xe2\x00\x03" + bin32 + header.hash
    assert header.proposal_digest == keccak256(b"DIPNET/proposal" + record)


def test_roots_are_tries_by_index() -> None:
    assert ordered_root([]) == EMPTY_ROOT
    raws = [tx.raw for tx in TXS]
    pairs = [(rlp_encode(index), raw) for index, raw in enumerate(raws)]
    assert BLOCK.header.tx_root == ordered_root(raws) == trie_root(pairs)
    assert ordered_root(raws[::-1]) != ordered_root(raws)


def test_genesis_names_every_parameter() -> None:
    block, puts = genesis_block(NET.genesis)
    header = block.header
    assert (header.height, header.slot, header.parent) == (0, 0, HASH_ZERO)
    assert header.proposer == bytes(20)
    assert header.timestamp_ms == NET.genesis.time_ms
    assert header.base_fee == NET.genesis.base_fee_initial
    assert header.next_set_hash == genesis_members(NET.genesis).digest(0)
    assert header.seed_reveal == keccak256(NET.genesis.encode())
    assert puts
    hashes = {block.hash}
    for changed in (
        {"slot_ms": 500}, {"epoch_slots": 31}, {"block_reward": 1}, {"undo_blocks_max": 999},
        {"chain_id": 7}, {"users": ("somebody",)},
    ):  # fmt: skip
        hashes.add(genesis_block(Net.of(**changed).genesis)[0].hash)
    assert len(hashes) == 7


CONSTANT = [("chain_id", 2019), ("dag_root", HASH_ZERO), ("dag_count", 1), ("dag_bytes", 1)]


@pytest.mark.parametrize(("name", "value"), CONSTANT, ids=[name for name, _ in CONSTANT])
def test_a_field_that_is_the_same_in_all_blocks(name: str, value: Any) -> None:
    assert refusal(NET.forged(BLOCK, **{name: value}).raw) == "block_form"


def test_body_and_header_belong_together() -> None:
    raws = [tx.raw for tx in TXS]
    assert refusal(assembled(BLOCK, txs=raws[:2])) == "block_root"
    assert refusal(assembled(BLOCK, txs=raws[::-1])) == "block_root"
    assert refusal(NET.forged(BLOCK, tx_root=HASH_ZERO).raw) == "block_root"
    assert refusal(assembled(BLOCK, certificates=[PREVOTES.raw])) == "block_root"
    assert refusal(assembled(CERTIFYING, certificates=[])) == "block_root"
    assert refusal(assembled(CERTIFYING, certificates=[COMMITS.raw])) == "block_root"
    assert refusal(assembled(BLOCK, frontier=[HASH_ZERO])) == "record"


def test_only_the_proposer_signs() -> None:
    digest, right = BLOCK.header.proposal_digest, BLOCK.signature
    stranger = sign(digest, secret("stranger"))
    other_digest = sign(BLOCK.hash, NET.secrets[BLOCK.header.proposer])
    s = int.from_bytes(right[32:64], "big")
    high = right[:32] + (ORDER - s).to_bytes(32, "big") + bytes([right[64] ^ 1])
    key = PublicKey.from_signature_and_message(high, digest, hasher=None)
    assert key.format() == NET.genesis.delegates[0].public_key, "high s still recovers the key"
    for signature in (stranger, other_digest, high, bytes(65), b"\xff" * 65):
        assert refusal(assembled(BLOCK, signature=signature)) == "block_signature"
    flipped = right[:64] + bytes([right[64] ^ 1])
    assert refusal(assembled(BLOCK, signature=flipped)) == "block_signature"
    for size in (0, 64, 66):
        assert refusal(assembled(BLOCK, signature=bytes(size))) == "record"
    somebody = with_fields(BLOCK.header, proposer=b"\x22" * 20)
    assert refusal(seal(somebody, TXS, right).raw) == "block_signature"


def test_no_body_is_judged_before_its_proposer() -> None:
    """The proposer is judged before thousands of senders are recovered and roots computed."""
    costly = {"txs": [b"\x01"], "certificates": [b"\x01"]}
    right = BLOCK.header.proposer

    def delegate(header: Header) -> bytes:
        if header.proposer != right:
            raise Invalid("block_leader")
        return right

    assert decode_block(BLOCK.raw, NET.genesis, delegate) == BLOCK
    key = secret("stranger")
    header = with_fields(BLOCK.header, proposer=address(public_key(key)))
    signature = sign(header.proposal_digest, key)
    for changes, code in (
        ({"header": header.raw, "signature": signature}, "block_leader"),
        ({"signature": sign(BLOCK.header.proposal_digest, key)}, "block_signature"),
        ({"signature": bytes(65)}, "block_signature"),
    ):
        with pytest.raises(Invalid) as caught:
            decode_block(assembled(BLOCK, **costly, **changes), NET.genesis, delegate)
        assert caught.value.code == code


def test_the_key_that_signs_is_not_the_proposers_address() -> None:
    """A delegate is named by its account's address; its epoch has the key that signs for it."""
    header = with_fields(BLOCK.header, proposer=b"\x22" * 20)
    key = secret("hot key")
    signer = address(public_key(key))
    block = seal(header, TXS, sign(header.proposal_digest, key), signer)
    assert decode_block(block.raw, NET.genesis, lambda _: signer) == block
    assert decode_block(block.raw, NET.genesis) == block, "without advice the chain judges it"
    assert refusal(block.raw) == "block_signature"


# --- certificates


def carrying(*certificates: Certificate) -> bytes:
    """A block with these certificates, which its header commits to."""
    raws = [certificate.raw for certificate in certificates]
    header = with_fields(CERTIFYING.header, cert_root=cert_root(raws))
    signature = sign(header.proposal_digest, NET.secrets[header.proposer])
    return assembled(CERTIFYING, header=header.raw, signature=signature, certificates=raws)


def test_the_section_holds_a_certificate_of_each_kind() -> None:
    for section in ((), (PREVOTES,), (COMMITS,), (PREVOTES, COMMITS)):
        assert decode_block(carrying(*section), NET.genesis, proposer).certificates == section
    for section in ((COMMITS, PREVOTES), (PREVOTES, PREVOTES), (COMMITS, COMMITS)):
        assert refusal(carrying(*section)) == "certificate_form"
    assert refusal(carrying(PREVOTES, COMMITS, COMMITS)) == "record"


def test_one_certificate_is_the_section_of_the_design() -> None:
    """keccak256 of the record of [1, kind, epoch, slot, block_id, justify_slot, bitmap, ...]."""
    assert decode_block(CERTIFYING.raw, NET.genesis) == CERTIFYING
    record = (
        b"\x98\x01\x01\x00\x03\xc4\x20"
        + BLOCK.hash
        + b"\x00\xc4\x01\x01\xc4\x40"
        + PREVOTES.signatures
    )
    assert CERTIFYING.header.cert_root == keccak256(record)
    assert BLOCK.header.cert_root == keccak256(b"")


def test_a_malformed_certificate_spoils_the_block() -> None:
    assert refusal(carrying(replace(PREVOTES, bitmap=b"\x03"))) == "certificate_form"
    assert (
        refusal(carrying(replace(COMMITS, ballot=replace(COMMITS.ballot, justify_slot=1))))
        == "vote_form"
    )
    for raw in (b"", b"\x01", PREVOTES.raw + b"\x00", PREVOTES.raw[:-1], BLOCK.header.raw):
        header = with_fields(CERTIFYING.header, cert_root=cert_root([raw]))
        signature = sign(header.proposal_digest, NET.secrets[header.proposer])
        parts: dict[str, Any] = {"header": header.raw, "signature": signature}
        assert refusal(assembled(CERTIFYING, **parts, certificates=[raw])) == "record"


# --- transactions and bounds


def test_a_transaction_that_is_none_spoils_the_block() -> None:
    foreign = Net.of(chain_id=CHAIN_ID + 1)
    for raw in (b"\x01", b"\xc0", TXS[0].raw + b"\x00"):
        header = with_fields(BLOCK.header, tx_root=ordered_root([raw]))
        signature = sign(header.proposal_digest, NET.secrets[header.proposer])
        bad = assembled(BLOCK, header=header.raw, signature=signature, txs=[raw])
        assert refusal(bad) == "block_tx"
    header = with_fields(BLOCK.header, chain_id=CHAIN_ID + 1)
    assert refusal(foreign.signed(header, TXS).raw, foreign) == "block_tx", "another chain's"


def test_bounds() -> None:
    """The bounds of the blocks of all networks; the chain applies the parameters of an epoch."""
    most = BLOCK_BYTES_MAX // TX_BYTES_MIN
    assert refusal(assembled(BLOCK, txs=[b"\x01"] * most)) == "block_root"
    assert refusal(assembled(BLOCK, txs=[b"\x01"] * (most + 1))) == "record"
    assert refusal(assembled(BLOCK, txs=[b"\x02" * TX_BYTES_MAX])) == "block_root"
    assert refusal(assembled(BLOCK, txs=[b"\x02" * (TX_BYTES_MAX + 1)])) == "record"
    fillers = [b"\x02" * (TX_BYTES_MAX - 8)] * (BLOCK_BYTES_MAX // TX_BYTES_MAX - 1)
    last = b"\x02" * 0x10000
    longest = last + bytes(BLOCK_BYTES_MAX - len(assembled(BLOCK, txs=[*fillers, last])))
    exact = assembled(BLOCK, txs=[*fillers, longest])
    assert len(exact) == BLOCK_BYTES_MAX
    assert refusal(exact) == "block_root", "read, though it is wrong"
    assert refusal(assembled(BLOCK, txs=[*fillers, longest + b"x"])) == "oversized"
    assert refusal(assembled(BLOCK, header=bytes(HEADER_BYTES_MAX + 1))) == "record"


def test_versions_and_spellings() -> None:
    assert refusal(assembled(BLOCK, version=2)) == "record"
    raw = BLOCK.header.raw
    newer = raw[:3] + b"\x02" + raw[4:]
    assert refusal(assembled(BLOCK, header=newer)) == "record"
    assert refusal(BLOCK.raw + b"\x00") == "record"
    assert refusal(BLOCK.raw[:-1]) == "record"
    assert refusal(b"") == "record"
    # the array of six in its long form
    assert refusal(b"\xdc\x00\x06" + BLOCK.raw[1:]) == "record"


@given(st.binary(max_size=300))
def test_any_bytes_are_a_block_or_invalid(raw: bytes) -> None:
    for decode in (lambda: decode_block(raw, NET.genesis), lambda: decode_header(raw),
                   lambda: stored_header(raw),
                   lambda: stored_block(raw, BLOCK.header, CHAIN_ID, [])):  # fmt: skip
        with pytest.raises(Invalid):
            decode()


@settings(max_examples=300)
@given(st.integers(0, len(CERTIFYING.raw) - 1), st.integers(1, 255))
def test_any_changed_byte_is_noticed(at: int, flip: int) -> None:
    raw = CERTIFYING.raw[:at] + bytes([CERTIFYING.raw[at] ^ flip]) + CERTIFYING.raw[at + 1 :]
    with pytest.raises(Invalid):
        decode_block(raw, NET.genesis, proposer)


UINTS = st.integers(0, 2**64 - 1)
HASHES = st.binary(min_size=32, max_size=32)


@given(
    st.builds(
        Header, UINTS, HASHES, UINTS, UINTS, UINTS, UINTS, st.binary(min_size=20, max_size=20),
        HASHES, HASHES, HASHES, st.binary(min_size=256, max_size=256), UINTS, UINTS,
        st.integers(0, 2**256 - 1), st.tuples(HASHES, UINTS, UINTS), st.tuples(HASHES, UINTS),
        HASHES, HASHES, HASHES, HASHES, HASHES, UINTS, UINTS, HASHES,
    )
)  # fmt: skip
def test_headers_come_back(header: Header) -> None:
    assert decode_header(header.raw) == header
    assert replace(decode_header(header.raw)).raw == header.raw, "encoded anew"
    assert decode_header(header.raw).hash == header.hash
    assert len(header.raw) <= HEADER_BYTES_MAX
