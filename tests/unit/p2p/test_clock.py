"""The offset of our clock by the peers' clocks: liars can move it little, and it is only shown."""

from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipnet.p2p.clock import OWN_MIN, SAMPLES_MAX, Clock

NOW = 1_700_000_000_000


def clock_of(*offsets: int) -> Clock:
    clock = Clock()
    for number, offset in enumerate(offsets):
        clock.on_time(f"p{number}", NOW + offset, NOW)
    return clock


def test_without_peers_nothing_is_known() -> None:
    clock = Clock()
    assert clock.offset_ms([]) is None
    assert clock.offset_ms(["unknown"]) is None
    assert clock.of("unknown") is None


def test_the_shortest_way_of_a_peer_counts() -> None:
    """Their time minus ours is too low by the message's delay, so the highest sample is the
    best."""
    clock = Clock()
    for way_ms in (110, 45, 300, 80):
        clock.on_time("a", NOW + 700, NOW + way_ms)
    assert clock.of("a") == 700 - 45
    assert clock.offset_ms([]) == 655


def test_a_step_of_our_clock_is_noticed_after_a_few_statuses() -> None:
    clock = Clock()
    for _ in range(SAMPLES_MAX):
        clock.on_time("a", NOW, NOW)
    for count in range(1, SAMPLES_MAX + 1):
        clock.on_time("a", NOW, NOW + 5_000)  # set forward
        assert clock.of("a") == (0 if count < SAMPLES_MAX else -5_000)
    clock.on_time("a", NOW, NOW - 5_000)  # set back: at once
    assert clock.of("a") == 5_000


LEAP = 86_400_000


@pytest.mark.parametrize(
    ("peers", "told", "expected"),
    [
        (1, (), None),
        (1, (-LEAP,), -LEAP),
        (2, (), None),
        (2, (-LEAP,), -LEAP),
        (2, (3,), 0),  # half of the peers that count
        (3, (0,), None),
        (3, (-LEAP,), None),
        (3, (0, 0), 0),
        (3, (0, -LEAP), -LEAP),  # a peer that leapt as we did, or lies, and a peer that did not
        (3, (0, -LEAP, -LEAP), -LEAP),
        (3, (0, 0, -LEAP), 0),
        (4, (0,), None),
        (4, (7, 5), 0),
        (4, (0, -LEAP), -LEAP),
        (5, (0, 0), None),
        (5, (0, 0, 0), 0),
    ],
)
def test_after_a_leap_of_our_clock_nothing_is_known_before_half_have_told(
    peers: int, told: tuple[int, ...], expected: int | None
) -> None:
    clock = clock_of(*[0] * peers)
    clock.leapt()
    assert clock.of("p0") is None
    for number, offset in enumerate(told):
        clock.on_time(f"p{number}", NOW + offset, NOW)
    assert clock.offset_ms([]) == expected
    own = [f"p{number}" for number in range(peers)]
    for number in range(30):  # inbound peers do not count beside enough outbound peers
        clock.on_time(f"c{number}", NOW, NOW)
    assert clock.offset_ms(own) == (expected if peers >= OWN_MIN else 0)


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [
        ((900,), 900),
        ((-900,), -900),
        ((900, 2), 2),  # neither of two peers is a majority
        ((900, -900), 0),
        ((900, 800), 800),
        ((-900, -800), -800),
        ((0, 1, 2**63), 1),
        ((-(2**62), -(2**62), 3, 4, 5), 3),
    ],
)
def test_a_majority_must_say_that_our_clock_is_wrong(
    offsets: tuple[int, ...], expected: int
) -> None:
    assert clock_of(*offsets).offset_ms([]) == expected


def test_outbound_peers_count_alone_if_there_are_enough() -> None:
    clock = clock_of(*[1, 2, 3], *[9_000] * 30)  # any number of inbound peers
    own = ["p0", "p1", "p2"]
    assert len(own) == OWN_MIN
    assert clock.offset_ms(own) == 2
    assert clock.offset_ms(own[:2]) == 9_000
    clock.forget("p2")
    assert clock.offset_ms(own) == 9_000
    for number in range(33):
        clock.forget(f"p{number}")
    assert clock.offset_ms(own) is None
    assert not clock._samples


@given(
    st.lists(st.integers(-300, 300), min_size=1, max_size=20),
    st.lists(st.integers(-(2**64), 2**64), max_size=20),
)
def test_fewer_than_half_move_it_only_among_the_honest(honest: list[int], liars: list[int]) -> None:
    liars = liars[: len(honest) - 1]
    offset = clock_of(*honest, *liars).offset_ms([])
    assert offset is not None
    assert min(0, *honest) <= offset <= max(0, *honest)


@given(st.lists(st.integers(-(2**64), 2**64), min_size=1, max_size=9).filter(lambda x: len(x) % 2))
def test_it_is_the_median(offsets: list[int]) -> None:
    assert clock_of(*offsets).offset_ms([]) == median(offsets)
