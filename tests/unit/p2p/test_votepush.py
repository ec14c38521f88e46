"""Votes and certificates: sent once to each peer, judged once, repeated when asked, bounded."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dipnet.p2p.gossip import Gossip
from dipnet.p2p.messages import (
    CERTIFICATES_MAX,
    FRAME_BYTES_MAX,
    PUSHED,
    VOTES_MAX,
    Certificates,
    Message,
    Topic,
    Votes,
    decode,
)
from dipnet.p2p.votepush import FRAME_MAX, GOOD_MAX, SEEN_MAX, VotePush


def raw_of(number: int, copy: int = 0) -> bytes:
    """A vote in bytes: the last byte is its signature, the bytes before are its id."""
    return b"vote" + number.to_bytes(8, "big") + bytes([copy])


def id_of(_topic: Topic, raw: bytes) -> bytes:
    return raw[:-1].rjust(32, b"\0")


def joined(*peers: str) -> VotePush:
    vote_push = VotePush()
    for peer in peers:
        vote_push.join(peer)
    return vote_push


def push(vote_push: VotePush, number: int, except_peer: str = "") -> None:
    raw = raw_of(number)
    vote_push.push(Topic.VOTE, id_of(Topic.VOTE, raw), raw, except_peer)


def flushed(vote_push: VotePush) -> list[tuple[str, Message]]:
    out = vote_push.flush()
    assert not vote_push.waiting
    assert not vote_push.flush()
    assert all(protocol == "votes" for _, protocol, _ in out)
    assert all(len(frame) <= FRAME_BYTES_MAX["votes"] for *_, frame in out)
    return [(peer, decode(protocol, frame)) for peer, protocol, frame in out]


def test_each_peer_gets_a_vote_once_and_not_back() -> None:
    vote_push = joined("a", "b", "c")
    push(vote_push, 1, except_peer="a")
    assert vote_push.waiting
    push(vote_push, 2)
    both, second = Votes((raw_of(1), raw_of(2))), Votes((raw_of(2),))
    assert flushed(vote_push) == [("b", both), ("c", both), ("a", second)]
    push(vote_push, 1)
    push(vote_push, 2)
    assert flushed(vote_push) == [("a", Votes((raw_of(1),)))]
    vote_push.forget("b")
    vote_push.join("b")  # a new connection knows nothing
    push(vote_push, 2)
    assert flushed(vote_push) == [("b", second)]


def test_votes_leave_before_certificates_and_both_before_all_else() -> None:
    """The order of ``Peers.drain``, which ``test_peers_votes`` looks at."""
    vote_push, gossip = joined("a", "b"), Gossip()
    for peer in "ab":
        gossip.join(peer)
    gossip.push(Topic.BLOCK, bytes(32), b"block")
    gossip.announce(Topic.TX, [bytes(32)])
    vote_push.push(Topic.CERTIFICATE, bytes(32), b"certificate")
    vote_push.push(Topic.VOTE, bytes(32), b"vote")
    assert vote_push.waiting
    out = vote_push.flush() + gossip.flush()
    assert [(peer, protocol) for peer, protocol, _ in out] == [
        *[("a", "votes"), ("b", "votes")] * 2,
        *[("a", "gossip"), ("b", "gossip")] * 2,
    ]
    first = [type(decode(protocol, frame)) for _, protocol, frame in out[:4]]
    assert first == [Votes, Votes, Certificates, Certificates]


def test_frames_are_cut() -> None:
    vote_push = joined("a")
    for number in range(VOTES_MAX + 1):
        push(vote_push, number)
    for number in range(CERTIFICATES_MAX + 1):
        vote_push.push(Topic.CERTIFICATE, raw_of(number), bytes(8_192))
    sizes = [len(m.raws) for _, m in flushed(vote_push) if isinstance(m, Votes | Certificates)]
    assert sizes == [VOTES_MAX, 1, CERTIFICATES_MAX, 1]


def test_repeats_reach_everybody_and_are_bounded() -> None:
    vote_push = joined("a", "b")
    push(vote_push, 1)
    vote_push.flush()
    vote_push.repeat(Topic.VOTE, [raw_of(1)])
    assert flushed(vote_push) == [(peer, Votes((raw_of(1),))) for peer in "ab"]
    vote_push.repeat(Topic.VOTE, [])
    assert flushed(vote_push) == []
    for topic in PUSHED:
        vote_push.repeat(topic, [raw_of(n) for n in range(10**4)])
    sizes = [len(m.raws) for _, m in flushed(vote_push) if isinstance(m, Votes | Certificates)]
    assert sizes == [FRAME_MAX[Topic.VOTE]] * 2 + [FRAME_MAX[Topic.CERTIFICATE]] * 2


def test_votes_known_to_be_good_are_not_judged_again() -> None:
    vote_push = joined("a", "b")
    raws = [raw_of(1), raw_of(2), raw_of(1)]
    fresh = vote_push.sift("a", Topic.VOTE, raws, id_of)
    assert fresh == (raw_of(1), raw_of(2))
    vote_push.on_judging(Topic.VOTE, fresh)
    push(vote_push, 1, except_peer="a")
    vote_push.on_good("a", Topic.VOTE, [id_of(Topic.VOTE, raw_of(2))])
    vote_push.on_judged(Topic.VOTE, fresh)
    other_signatures = [raw_of(1, copy=7), raw_of(2, copy=7)]
    assert vote_push.sift("b", Topic.VOTE, other_signatures, id_of) == ()
    assert vote_push.sift("stranger", Topic.VOTE, [raw_of(3)], id_of) == (raw_of(3),)
    assert flushed(vote_push) == [("b", Votes((raw_of(1),)))]  # sent before b had it
    push(vote_push, 1)
    push(vote_push, 2)
    assert flushed(vote_push) == []  # both peers have both votes


def test_a_vote_under_judgement_is_not_judged_twice() -> None:
    vote_push = joined("a", "b")
    vote_push.on_judging(Topic.VOTE, vote_push.sift("a", Topic.VOTE, [raw_of(1)], id_of))
    assert vote_push.sift("b", Topic.VOTE, [raw_of(1)], id_of) == ()
    # a forged copy under judgement does not keep the true copy from judgement
    assert vote_push.sift("b", Topic.VOTE, [raw_of(1, copy=1)], id_of) == (raw_of(1, copy=1),)
    # the same bytes in another topic do not either
    assert vote_push.sift("b", Topic.CERTIFICATE, [raw_of(1)], id_of) == (raw_of(1),)
    # refused, for example because its epoch was unknown
    vote_push.on_judged(Topic.VOTE, [raw_of(1)])
    assert vote_push.sift("b", Topic.VOTE, [raw_of(1)], id_of) == (raw_of(1),)


def test_filters_are_bounded() -> None:
    vote_push = joined("a")
    for topic in PUSHED:
        raws = [raw_of(number) for number in range(3 * GOOD_MAX[topic])]
        vote_push.sift("a", topic, raws, id_of)
        vote_push.on_good("a", topic, [id_of(topic, raw) for raw in raws])
        assert len(vote_push._peers["a"].seen[topic]) <= 2 * SEEN_MAX[topic]
        assert len(vote_push._good[topic]) <= 2 * GOOD_MAX[topic]
    vote_push.forget("a")
    assert not vote_push._peers
    assert not vote_push._mail
    assert not vote_push._judging


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
    """In any order of calls: no vote twice to a peer that has it, no vote forgotten."""
    vote_push, has = VotePush(), dict[str, set[bytes]]()
    known: set[bytes] = set()

    def deliver() -> None:
        for peer, message in flushed(vote_push):
            assert isinstance(message, Votes)
            for first, second in pairwise(message.raws):
                assert first != second
            has[peer] |= set(message.raws)

    for act, peer, number in acts:
        raw = raw_of(number)
        match act:
            case "push":
                before = {name for name, those in has.items() if raw in those}
                deliver()
                push(vote_push, number, except_peer=peer)
                known.add(raw)
                told = {name for name, message in flushed(vote_push)}
                assert told == set(has) - before - {peer}
                for name in told:
                    has[name].add(raw)
            case "repeat":
                deliver()
                vote_push.repeat(Topic.VOTE, [raw])
                assert {name for name, _ in flushed(vote_push)} == set(has)
            case "sift":
                fresh = vote_push.sift(peer, Topic.VOTE, [raw], id_of)
                assert (fresh == ()) is (raw in known)
                if peer in has:
                    has[peer].add(raw)
            case "flush":
                deliver()
            case "join":
                vote_push.join(peer)
                has.setdefault(peer, set())
            case "forget":
                vote_push.forget(peer)
                has.pop(peer, None)
