"""The fast lanes: sent once to each, judged once, repeated when asked, bounded."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dipnet.p2p.express import FRAME_MAX, GOOD_MAX, SEEN_MAX, Express
from dipnet.p2p.gossip import Gossip
from dipnet.p2p.messages import (
    CERTIFICATES_MAX,
    FRAME_BYTES_MAX,
    PUSHED,
    VOTES_MAX,
    Certificates,
    Lane,
    Message,
    Votes,
    decode,
)


def raw_of(number: int, copy: int = 0) -> bytes:
    """A vote: its id is what comes before the last byte, its signature."""
    return b"vote" + number.to_bytes(8, "big") + bytes([copy])


def id_of(_lane: Lane, raw: bytes) -> bytes:
    return raw[:-1].rjust(32, b"\0")


def joined(*peers: str) -> Express:
    express = Express()
    for peer in peers:
        express.join(peer)
    return express


def push(express: Express, number: int, except_peer: str = "") -> None:
    raw = raw_of(number)
    express.push(Lane.VOTE, id_of(Lane.VOTE, raw), raw, except_peer)


def flushed(express: Express) -> list[tuple[str, Message]]:
    out = express.flush()
    assert not express.waiting
    assert not express.flush()
    assert all(protocol == "votes" for _, protocol, _ in out)
    assert all(len(frame) <= FRAME_BYTES_MAX["votes"] for *_, frame in out)
    return [(peer, decode(protocol, frame)) for peer, protocol, frame in out]


def test_each_peer_gets_a_vote_once_and_not_back() -> None:
    express = joined("a", "b", "c")
    push(express, 1, except_peer="a")
    assert express.waiting
    push(express, 2)
    both, second = Votes((raw_of(1), raw_of(2))), Votes((raw_of(2),))
    assert flushed(express) == [("b", both), ("c", both), ("a", second)]
    push(express, 1)
    push(express, 2)
    assert flushed(express) == [("a", Votes((raw_of(1),)))]
    express.forget("b")
    express.join("b")  # a new connection knows nothing
    push(express, 2)
    assert flushed(express) == [("b", second)]


def test_votes_leave_before_certificates_and_both_before_all_else() -> None:
    gossip = Gossip()
    for peer in "ab":
        gossip.join(peer)
    gossip.push(Lane.BLOCK, bytes(32), b"block")
    gossip.announce(Lane.TX, [bytes(32)])
    gossip.push(Lane.CERTIFICATE, bytes(32), b"certificate")
    gossip.push(Lane.VOTE, bytes(32), b"vote")
    assert gossip.express.waiting
    out = gossip.flush()
    assert [(peer, protocol) for peer, protocol, _ in out] == [
        *[("a", "votes"), ("b", "votes")] * 2,
        *[("a", "gossip"), ("b", "gossip")] * 2,
    ]
    first = [type(decode(protocol, frame)) for _, protocol, frame in out[:4]]
    assert first == [Votes, Votes, Certificates, Certificates]


def test_frames_are_cut() -> None:
    express = joined("a")
    for number in range(VOTES_MAX + 1):
        push(express, number)
    for number in range(CERTIFICATES_MAX + 1):
        express.push(Lane.CERTIFICATE, raw_of(number), bytes(8_192))
    sizes = [len(m.raws) for _, m in flushed(express) if isinstance(m, Votes | Certificates)]
    assert sizes == [VOTES_MAX, 1, CERTIFICATES_MAX, 1]


def test_repeats_reach_everybody_and_are_bounded() -> None:
    express = joined("a", "b")
    push(express, 1)
    express.flush()
    express.repeat(Lane.VOTE, [raw_of(1)])
    assert flushed(express) == [(peer, Votes((raw_of(1),))) for peer in "ab"]
    express.repeat(Lane.VOTE, [])
    assert flushed(express) == []
    for lane in PUSHED:
        express.repeat(lane, [raw_of(n) for n in range(10**4)])
    sizes = [len(m.raws) for _, m in flushed(express) if isinstance(m, Votes | Certificates)]
    assert sizes == [FRAME_MAX[Lane.VOTE]] * 2 + [FRAME_MAX[Lane.CERTIFICATE]] * 2


def test_what_is_known_to_be_good_is_not_judged_again() -> None:
    express = joined("a", "b")
    raws = [raw_of(1), raw_of(2), raw_of(1)]
    fresh = express.sift("a", Lane.VOTE, raws, id_of)
    assert fresh == (raw_of(1), raw_of(2))
    express.on_judging(Lane.VOTE, fresh)
    push(express, 1, except_peer="a")
    express.on_good("a", Lane.VOTE, [id_of(Lane.VOTE, raw_of(2))])
    express.on_judged(Lane.VOTE, fresh)
    other_signatures = [raw_of(1, copy=7), raw_of(2, copy=7)]
    assert express.sift("b", Lane.VOTE, other_signatures, id_of) == ()
    assert express.sift("stranger", Lane.VOTE, [raw_of(3)], id_of) == (raw_of(3),)
    assert flushed(express) == [("b", Votes((raw_of(1),)))]  # sent before b had it
    push(express, 1)
    push(express, 2)
    assert flushed(express) == []  # both have both


def test_what_is_being_judged_is_judged_once_at_a_time() -> None:
    express = joined("a", "b")
    express.on_judging(Lane.VOTE, express.sift("a", Lane.VOTE, [raw_of(1)], id_of))
    assert express.sift("b", Lane.VOTE, [raw_of(1)], id_of) == ()
    # a forged copy under judgement does not keep the true one from it
    assert express.sift("b", Lane.VOTE, [raw_of(1, copy=1)], id_of) == (raw_of(1, copy=1),)
    # nor do its bytes in another lane
    assert express.sift("b", Lane.CERTIFICATE, [raw_of(1)], id_of) == (raw_of(1),)
    express.on_judged(Lane.VOTE, [raw_of(1)])  # refused: its epoch was unknown, say
    assert express.sift("b", Lane.VOTE, [raw_of(1)], id_of) == (raw_of(1),)


def test_filters_are_bounded() -> None:
    express = joined("a")
    for lane in PUSHED:
        raws = [raw_of(number) for number in range(3 * GOOD_MAX[lane])]
        express.sift("a", lane, raws, id_of)
        express.on_good("a", lane, [id_of(lane, raw) for raw in raws])
        assert len(express._peers["a"].seen[lane]) <= 2 * SEEN_MAX[lane]
        assert len(express._good[lane]) <= 2 * GOOD_MAX[lane]
    express.forget("a")
    assert not express._peers
    assert not express._mail
    assert not express._judging


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["push", "repeat", "sift", "flush", "join", "forget"]),
        st.sampled_from("abc"),
        st.integers(0, 9),
    ),
    max_size=60,
)


@given(ACTS)
def test_each_gets_all_but_what_it_has(acts: list[tuple[str, str, int]]) -> None:
    """Whatever the order of calls: no vote twice to one who has it, none forgotten."""
    express, has = Express(), dict[str, set[bytes]]()
    known: set[bytes] = set()

    def deliver() -> None:
        for peer, message in flushed(express):
            assert isinstance(message, Votes)
            for one, other in pairwise(message.raws):
                assert one != other
            has[peer] |= set(message.raws)

    for act, peer, number in acts:
        raw = raw_of(number)
        match act:
            case "push":
                before = {name for name, those in has.items() if raw in those}
                deliver()
                push(express, number, except_peer=peer)
                known.add(raw)
                told = {name for name, message in flushed(express)}
                assert told == set(has) - before - {peer}
                for name in told:
                    has[name].add(raw)
            case "repeat":
                deliver()
                express.repeat(Lane.VOTE, [raw])
                assert {name for name, _ in flushed(express)} == set(has)
            case "sift":
                fresh = express.sift(peer, Lane.VOTE, [raw], id_of)
                assert (fresh == ()) is (raw in known)
                if peer in has:
                    has[peer].add(raw)
            case "flush":
                deliver()
            case "join":
                express.join(peer)
                has.setdefault(peer, set())
            case "forget":
                express.forget(peer)
                has.pop(peer, None)
