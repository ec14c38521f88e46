"""Any bytes are one message or ``Invalid("peer_message")``; a message has one encoding."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dipnet.consensus.finality import votes
from dipnet.p2p import messages as wire
from dipnet.p2p.messages import (
    ADDRESSES_MAX,
    CERTIFICATE_BYTES_MAX,
    CERTIFICATES_MAX,
    FETCHED,
    FRAME_BYTES_MAX,
    IDS_MAX,
    LOCATOR_MAX,
    VOTE_BYTES_MAX,
    VOTES_MAX,
    Absent,
    Announce,
    Blocks,
    Certificates,
    Fetch,
    GetBlocks,
    GetPeers,
    GetVertices,
    Hello,
    Items,
    Located,
    LocateVertices,
    Message,
    PeerAddresses,
    Status,
    Tips,
    Topic,
    VertexRange,
    Vertices,
    Votes,
    decode,
    encode,
    protocol_of,
)
from dipnet.primitives.codec import pack
from dipnet.primitives.errors import Invalid

HASH = bytes(range(32))
HELLO = Hello(
    version="dipnet/0.1.0",
    chain_id=2018,
    genesis_hash=HASH,
    capabilities=("gossip/1", "sync/1"),
    listen=("/ip4/10.0.0.1/tcp/30301",),
    nonce=b"12345678",
    head_height=7,
    head_hash=HASH,
    final_height=5,
    final_hash=bytes(32),
    safe_epoch=3,
    safe_slot=6,
    dag_count=1 << 40,
    dag_sum=2**64 - 1,
    time_ms=1_700_000_000_000,
)
MESSAGES: list[Message] = [
    HELLO,
    Status(7, HASH, 5, bytes(32), 3, 6, 9, 3, 1_700_000_000_000),
    Votes((b"a", b"vote")),
    Certificates((b"certificate",)),
    Absent(Topic.BLOCK, (HASH,)),
    Announce(Topic.VERTEX, (HASH, bytes(32))),
    Fetch(Topic.BLOCK, (HASH,)),
    Items(Topic.TX, (b"a", b"bc")),
    Vertices(b"two"),
    Tips((HASH,)),
    GetBlocks(1, (HASH,), 128),
    Blocks(1, (b"block",), True),
    LocateVertices(2, (HASH,)),
    Located(2, 77),
    GetVertices(3, 77, 1000),
    VertexRange(3, 1077, False, b"wire"),
    GetPeers(),
    PeerAddresses(("/ip4/10.0.0.1/tcp/1/p2p/x",)),
]
PROTOCOLS = sorted(FRAME_BYTES_MAX)

ids = st.lists(st.binary(min_size=32, max_size=32), max_size=5).map(tuple)
uints = st.integers(0, 2**64 - 1)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
raws = st.lists(st.binary(min_size=1, max_size=50), max_size=4).map(tuple)
hashes = st.binary(min_size=32, max_size=32)
text_lists = st.lists(texts, max_size=4).map(tuple)
messages = st.one_of(
    st.builds(
        Hello,
        texts,
        uints,
        hashes,
        text_lists,
        text_lists,
        st.binary(min_size=8, max_size=8),
        uints,
        hashes,
        uints,
        hashes,
        uints,
        uints,
        uints,
        uints,
        uints,
    ),
    st.builds(Status, uints, hashes, uints, hashes, uints, uints, uints, uints, uints),
    st.builds(Votes, raws),
    st.builds(Certificates, raws),
    st.builds(Absent, st.sampled_from(FETCHED), ids),
    st.builds(Announce, st.sampled_from(FETCHED), ids),
    st.builds(Fetch, st.sampled_from(FETCHED), ids),
    st.builds(Items, st.sampled_from([Topic.BLOCK, Topic.TX]), raws),
    st.builds(Vertices, st.binary(max_size=99)),
    st.builds(Tips, ids),
    st.builds(GetBlocks, uints, ids, uints),
    st.builds(Blocks, uints, raws, st.booleans()),
    st.builds(LocateVertices, uints, ids),
    st.builds(Located, uints, uints),
    st.builds(GetVertices, uints, uints, uints),
    st.builds(VertexRange, uints, uints, st.booleans(), st.binary(max_size=99)),
    st.builds(GetPeers),
    st.builds(PeerAddresses, text_lists),
)


def refused(protocol: str, data: bytes) -> bool:
    try:
        message = decode(protocol, data)
    except Invalid as invalid:
        return invalid.code == "peer_message" or pytest.fail(invalid.code)
    assert encode(message) == data
    assert protocol_of(message) == protocol
    return False


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_round_trip(message: Message) -> None:
    data = encode(message)
    assert decode(protocol_of(message), data) == message
    hash(message)
    for protocol in PROTOCOLS:
        if protocol != protocol_of(message) and not refused(protocol, data):
            assert decode(protocol, data) != message


def test_encoding_is_pinned() -> None:
    assert encode(GetPeers()).hex() == "920100"
    assert encode(Fetch(Topic.VERTEX, (HASH,))).hex() == "9401010491c420" + HASH.hex()
    assert encode(Blocks(1, (b"b",), True)).hex() == "9501010191c4016201"


@given(messages)
def test_every_message_survives(message: Message) -> None:
    assert decode(protocol_of(message), encode(message)) == message


@given(st.sampled_from(PROTOCOLS), st.binary(max_size=200))
def test_any_bytes(protocol: str, data: bytes) -> None:
    refused(protocol, data)


@settings(max_examples=300)
@given(messages, st.data())
def test_mutated_messages(message: Message, data: st.DataObject) -> None:
    raw = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw)))
        match data.draw(st.sampled_from(["flip", "cut", "insert"])):
            case "flip" if at < len(raw):
                raw[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del raw[at:]
            case _:
                raw[at:at] = data.draw(st.binary(min_size=1, max_size=4))
    refused(protocol_of(message), bytes(raw))


@pytest.mark.parametrize(
    ("protocol", "record"),
    [
        ("gossip", [1, 0, 0, [HASH]]),  # votes are not announced
        ("gossip", [1, 1, 1, [HASH]]),  # certificates are not fetched
        ("gossip", [1, 2, 0, [b"vote"]]),  # votes and certificates have a protocol of their own
        ("gossip", [1, 0, 5, [HASH]]),
        ("gossip", [1, 2, 4, [b"vertex"]]),  # vertices are sent concatenated
        ("gossip", [1, 2, 3, [b""]]),
        ("gossip", [1, 0, 3, [HASH[:31]]]),
        ("votes", [1, 0, [b""]]),
        ("votes", [1, 0, [bytes(VOTE_BYTES_MAX + 1)]]),
        ("votes", [1, 0, [b"v"] * (VOTES_MAX + 1)]),
        ("votes", [1, 1, [bytes(CERTIFICATE_BYTES_MAX + 1)]]),
        ("votes", [1, 1, [b"c"] * (CERTIFICATES_MAX + 1)]),
        ("votes", [1, 2, [b"v"]]),
        ("hello", [1, 1, 7, HASH, 5, HASH, 0, 0, 9, 3]),  # a status without a clock
        ("hello", [1, 1, 7, HASH, 5, HASH, 0, 0, 9, 3, 2**63, 0]),
        ("gossip", [1, 4, [HASH] * (IDS_MAX + 1)]),
        ("gossip", [2, 4, [HASH]]),
        ("gossip", [1, 9, [HASH]]),
        ("sync", [1, 0, 1, [HASH] * (LOCATOR_MAX + 1), 1]),
        ("sync", [1, 1, 1, [], 2]),
        ("sync", [1, 3, 1]),
        ("sync", [1, 3, 1, 2, 3]),
        ("peers", [1, 1, [b"x"] * (ADDRESSES_MAX + 1)]),
        ("peers", [1, 1, [b"x" * 257]]),
        ("peers", [1, 1, [b"/ip4/\x1b[2J"]]),
        ("peers", [1, 1, ["é".encode()]]),
        ("peers", [1, 1, [b"\xff"]]),
        ("nobody", [1, 0]),
    ],
)
def test_refused(protocol: str, record: list[Any]) -> None:
    assert refused(protocol, pack(record))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_length_is_refused_before_parsing(protocol: str) -> None:
    with pytest.raises(Invalid, match="too many"):
        decode(protocol, encode(GetPeers()) + bytes(FRAME_BYTES_MAX[protocol]))


def test_limits_themselves_are_accepted() -> None:
    for message in (
        Tips((HASH,) * IDS_MAX),
        GetBlocks(1, (HASH,) * LOCATOR_MAX, 1),
        PeerAddresses(("x" * 256,) * ADDRESSES_MAX),
        Votes((bytes(VOTE_BYTES_MAX),) * VOTES_MAX),
        Certificates((bytes(CERTIFICATE_BYTES_MAX),) * CERTIFICATES_MAX),
    ):
        assert decode(protocol_of(message), encode(message)) == message


def test_limits_are_those_of_votes_and_certificates() -> None:
    """The limits are written twice, because p2p imports nothing of consensus."""
    assert VOTE_BYTES_MAX == votes.VOTE_BYTES_MAX
    assert CERTIFICATE_BYTES_MAX == votes.CERTIFICATE_BYTES_MAX


def test_claims_compare_as_fork_choice_does() -> None:
    """A higher certificate is better than more blocks (docs/spec/consensus.md "Fork choice")."""
    longer = Status(9, HASH, 0, HASH, 1, 5, 0, 0, 0)
    later = Status(8, HASH, 0, HASH, 1, 6, 0, 0, 0)
    next_epoch = Status(7, HASH, 0, HASH, 2, 4, 0, 0, 0)
    assert longer.claim < later.claim < next_epoch.claim
    assert HELLO.status.claim == (3, 6, 7)
    assert set(Topic) == {*wire.PUSHED, *FETCHED}


def test_lying_lengths_cost_nothing() -> None:
    for data in (
        bytes.fromhex("93010 4ddffffffff".replace(" ", "")),  # array of 2^32-1
        bytes.fromhex("940102 02 dcffff".replace(" ", "")),
        bytes.fromhex("9501010 1 91 c6ffffffff".replace(" ", "")),
    ):
        for protocol in PROTOCOLS:
            assert refused(protocol, data)
    deep = b"\x93\x01\x04" + b"\x91" * 100_000
    assert refused("gossip", deep)
