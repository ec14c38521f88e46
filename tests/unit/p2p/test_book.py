"""The address book: which address to dial, floods of false addresses, restarts."""

import pytest

from dipnet.p2p.book import (
    ANCHORS_MAX,
    DIAL_MS_MAX,
    DIALS_MAX,
    FAILURES_MAX,
    FAILURES_REACHED_MAX,
    HEARSAY_MAX,
    KEY_PEER,
    OUTBOUND_TARGET,
    REACHED_MAX,
    REDIAL_KNOWN_MS,
    REDIAL_LOST_MS,
    REDIAL_MS,
    REDIAL_MS_MAX,
    REDIAL_TRUSTED_MS_MAX,
    SHARE_MAX,
    STOOD_MS,
    AddressBook,
    _shuffled,
)
from dipnet.p2p.connections import OUTBOUND_RESERVED, Connections
from dipnet.p2p.messages import ADDRESSES_MAX
from dipnet.primitives.errors import Corrupt, Invalid
from tests.fixtures.memory import Memory
from tests.fixtures.peer_ids import address, peer_id

OWN = peer_id(0)
BOOT = [address(1, "boot.example.org"), address(2, "8.8.1.1")]


def book_of(
    memory: Memory | None = None, bootstrap: list[str] | None = None, local: bool = False
) -> AddressBook:
    records = (memory or Memory()).scan(KEY_PEER)
    return AddressBook(records, OWN, BOOT if bootstrap is None else bootstrap, local)


def public(number: int) -> str:
    """A public host; each number has a /24 of its own."""
    return f"{20 + (number >> 16)}.{number >> 8 & 255}.{number & 255}.1"


def learn(book: AddressBook, numbers: range, teller: str = "9.9.9.9") -> int:
    return book.learn("teller", teller, [address(n, public(n)) for n in numbers])


def test_bootstrap_first_and_always() -> None:
    book, slots = book_of(), Connections(local=False)
    learn(book, range(10, 30))
    chosen = book.to_dial(0, slots, seed=1)
    assert sorted(chosen[:2]) == sorted(BOOT)
    assert len(chosen) == DIALS_MAX
    for now in range(0, 10**9, 10**8):
        assert book.on_failed(now, BOOT[0]) == {}
    due = 9 * 10**8 + REDIAL_TRUSTED_MS_MAX
    assert BOOT[0] not in book.to_dial(due - 1, slots, 1)
    assert BOOT[0] in book.to_dial(due + DIAL_MS_MAX, slots, 1)


def test_a_bootstrap_that_is_lost_again_and_again_is_dialled_as_often() -> None:
    """A busy machine that lost its peers for a long time has them back soon after."""
    book, slots, now = book_of(), Connections(local=False), 0
    for _ in range(40):
        assert BOOT[0] in book.to_dial(now, slots, 1)
        book.on_connected(now, BOOT[0])
        book.on_lost(now, BOOT[0], 0)
        now += REDIAL_TRUSTED_MS_MAX


def test_own_address_is_no_bootstrap_and_a_wrong_address_is_kept() -> None:
    assert len(book_of(bootstrap=[address(0)])) == 0
    with pytest.raises(Invalid, match="bootstrap /ip4/nowhere") as refusal:
        book_of(bootstrap=["/ip4/nowhere"])
    assert refusal.value.code == "config"


@pytest.mark.parametrize("succeeded", [False, True])
def test_redial_backs_off_and_gives_up(succeeded: bool) -> None:
    book, slots, now = book_of(bootstrap=[]), Connections(local=False), 0
    learn(book, range(10, 11))
    text = address(10, public(10))
    if succeeded:
        for number in range(20, 20 + ANCHORS_MAX):  # others are the anchors
            learn(book, range(number, number + 1))
            book.on_connected(0, address(number, public(number)))
            slots.on_connected(peer_id(number), address(number, public(number)), outbound=True)
        book.on_connected(0, text)
    unit = REDIAL_KNOWN_MS if succeeded else REDIAL_MS
    waits = []
    while True:
        assert book.to_dial(now, slots, 1) == [text]
        assert book.to_dial(now, slots, 1) == []
        puts = book.on_failed(now, text)
        if text not in book:
            break
        start = now
        while not book.to_dial(now, slots, 1):
            now += unit
        waits.append((now - start) // unit)
        book._dialling.clear()
    expected = [min(1 << n, REDIAL_MS_MAX // unit) for n in range(20)]
    assert waits == expected[: (FAILURES_REACHED_MAX if succeeded else FAILURES_MAX) - 1]
    assert puts == ({KEY_PEER + text.encode(): None} if succeeded else {})


def test_dial_without_outcome_expires() -> None:
    book, slots = book_of(bootstrap=[]), Connections(local=False)
    learn(book, range(10, 11))
    assert len(book.to_dial(0, slots, 1)) == 1
    assert book.to_dial(DIAL_MS_MAX, slots, 1) == []
    assert len(book.to_dial(DIAL_MS_MAX + REDIAL_MS, slots, 1)) == 1


def test_a_connection_that_broke_is_dialled_again_at_once_with_jitter() -> None:
    dues = []
    for draw in (0, 123, 2**63):
        book, slots = book_of(bootstrap=[]), Connections(local=False)
        learn(book, range(10, 11))
        text = address(10, public(10))
        for _ in range(2):
            book.on_failed(0, text)
        book.on_connected(1_000, text)
        slots.on_connected(peer_id(10), text, outbound=True)
        assert book.to_dial(10**9, slots, 1) == []
        slots.forget(peer_id(10))
        lost = 1_000 + STOOD_MS
        book.on_lost(lost, text, draw)
        now = lost
        while not book.returning(now):
            assert book.to_dial(now, slots, 1) == []
            now += 1
        assert book.to_dial(now, slots, 1) == [text]
        assert not book.returning(10**9)
        assert now < lost + REDIAL_LOST_MS
        dues.append(now - lost)
        book.on_failed(now, text)  # not back yet
        assert book.to_dial(now + REDIAL_KNOWN_MS - 1, slots, 1) == []
        assert book.to_dial(now + REDIAL_KNOWN_MS, slots, 1) == [text]
    assert len(set(dues)) == len(dues)
    book.on_lost(0, address(99, public(99)), 1)
    assert not book.returning(10**9)


@pytest.mark.parametrize(("anchor", "most"), [(True, 10), (False, 30)])
def test_a_connection_that_keeps_breaking_is_dialled_less_and_less(anchor: bool, most: int) -> None:
    book, slots, now, waits = book_of(bootstrap=[]), Connections(local=False), 0, list[int]()
    learn(book, range(10, 11))
    for number in range(20, 20 if anchor else 20 + ANCHORS_MAX):  # others are the anchors
        learn(book, range(number, number + 1))
        book.on_connected(0, address(number, public(number)))
        slots.on_connected(peer_id(number), address(number, public(number)), outbound=True)
    text = address(10, public(10))
    for _ in range(8):
        assert book.to_dial(now, slots, 1) == [text]
        book.on_connected(now, text)
        book.on_lost(now + STOOD_MS - 1, text, 0)
        start = now = now + STOOD_MS - 1
        while not book.to_dial(now, slots, 1):
            now += REDIAL_KNOWN_MS
        book._dialling.clear()
        waits.append((now - start) // REDIAL_KNOWN_MS)
    assert waits == [min(wait, most) for wait in (1, 2, 4, 8, 16, 32, 64, 128)]
    book.on_connected(now, text)
    book.on_lost(now + STOOD_MS, text, 0)
    assert book.to_dial(now + STOOD_MS, slots, 1) == [text]


def test_outbound_target_leaves_places_for_the_trusted() -> None:
    book, slots = book_of(), Connections(local=False)
    learn(book, range(100, 160))
    for number in range(OUTBOUND_TARGET):
        where = address(10 + number, f"30.1.{number}.1")
        slots.on_connected(peer_id(10 + number), where, outbound=True)
    assert sorted(book.to_dial(0, slots, 1)) == sorted(BOOT)
    for number in range(OUTBOUND_TARGET, OUTBOUND_RESERVED):
        where = address(10 + number, f"30.1.{number}.1")
        slots.on_connected(peer_id(10 + number), where, outbound=True)
    assert book.to_dial(10**9, slots, 1) == []


def test_target_counts_what_is_under_way() -> None:
    book, slots = book_of(bootstrap=[]), Connections(local=False)
    learn(book, range(100, 160))
    first = book.to_dial(0, slots, 1)
    for text in first[:6]:
        book.on_connected(0, text)
        slots.on_connected(text.rsplit("/", 1)[1], text, outbound=True)
    second = book.to_dial(0, slots, 1)
    assert len(first) == DIALS_MAX
    assert len(second) == OUTBOUND_TARGET - DIALS_MAX
    assert not set(first) & set(second)


def test_a_batch_dials_a_subnet_and_a_peer_once() -> None:
    book, slots = book_of(bootstrap=[]), Connections(local=False)
    book.learn("t", "9.9.9.9", [address(n, f"30.1.1.{n}") for n in range(10, 20)])
    assert len(book.to_dial(0, slots, 1)) == 1
    book = book_of(bootstrap=[])
    book.learn("t", "9.9.9.9", [address(10, f"30.1.{n}.1") for n in range(10, 20)])
    assert len(book.to_dial(0, slots, 1)) == 1
    crowded = book_of(bootstrap=[])
    crowded.learn("t", "9.9.9.9", [address(10, "30.1.1.1")])
    for number in (1, 2):
        slots.on_connected(f"p{number}", address(number, "30.1.1.1"), outbound=False)
    assert crowded.to_dial(0, slots, 1) == []


def test_local_networks_dial_many_on_loopback() -> None:
    book, slots = (
        book_of(bootstrap=[address(n, port=n) for n in range(1, 6)], local=True),
        Connections(True),
    )
    assert len(book.to_dial(0, slots, 1)) == 5


def test_the_order_is_the_seeds() -> None:
    def order(seed: int) -> list[str]:
        book = book_of()
        learn(book, range(10, 60))
        return book.to_dial(0, Connections(local=False), seed)

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(20)}) > 15
    assert _shuffled(range(8), 0) == _shuffled(range(8), 0)
    first = [_shuffled(range(4), seed)[0] for seed in range(4000)]
    assert all(800 < first.count(n) < 1200 for n in range(4))


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        address(10, "names.are.for.operators"),
        address(0, public(10)),
        address(10, "127.0.0.1"),
        address(10, "10.0.0.1"),
        address(10, "224.0.0.1"),
        address(10, "::1"),
    ],
)
def test_hearsay_that_is_not_taken(text: str) -> None:
    book = book_of(bootstrap=[])
    assert book.learn("teller", "9.9.9.9", [text]) == 0
    assert len(book) == 0


def test_private_addresses_are_taken_on_local_networks() -> None:
    assert book_of(local=True).learn("teller", "127.0.0.1", [address(10), address(11)]) == 2


def test_one_message_teaches_little() -> None:
    assert learn(book_of(), range(10, 500)) == ADDRESSES_MAX


def test_told_to_others_is_what_is_reached_or_declared() -> None:
    book, slots = book_of(), Connections(local=False)
    reached, declared, heard, lied = (address(n, public(n)) for n in (10, 11, 12, 13))
    book.learn("teller", "9.9.9.9", [reached, heard])
    book.learn(peer_id(11), public(11), [declared])
    book.learn(peer_id(13), "9.9.9.9", [lied])  # a peer that declares a wrong address
    book.on_connected(0, reached)
    book.on_connected(0, BOOT[0])  # a name is not passed on
    assert book.tell(slots, 1) == (reached,)
    slots.on_connected(peer_id(11), address(11, public(11), port=50_000), outbound=False)
    slots.on_connected(peer_id(13), address(13, "9.9.9.9", port=50_000), outbound=False)
    assert sorted(book.tell(slots, 1)) == sorted([reached, declared])
    many = book_of(bootstrap=[])
    for number in range(10, 300):
        learn(many, range(number, number + 1))
        many.on_connected(0, address(number, public(number)))
    assert len(many.tell(slots, 1)) == ADDRESSES_MAX


def test_poison() -> None:
    """10^5 hostile addresses displace no anchor, bootstrap or reached address, and no fair
    share."""
    memory = Memory()
    book, slots = book_of(), Connections(local=False)
    good = [address(n, public(n)) for n in range(10, 30)]
    book.learn("teller", "9.9.9.9", good)
    reached = good[:10]
    for text in reached:
        memory.apply(book.on_connected(0, text))
    size = len(memory)
    for number in range(100_000):
        if number % 50 == 0:
            teller = public(5_000_000 + number // 50 % 100)
            lies = [
                address(100 + n % 997, public(n)) for n in range(1_000 + number, 1_050 + number)
            ]
            assert book.learn("liar", teller, lies) == 50
    assert len(book) <= HEARSAY_MAX + len(reached) + len(BOOT)
    assert len(memory) == size
    assert all(text in book for text in [*BOOT, *good])
    assert book._hearsay == sum(len(texts) for texts in book._shares.values()) <= HEARSAY_MAX
    assert all(len(texts) <= SHARE_MAX for texts in book._shares.values())
    # after a restart trusted addresses come first, and no hostile address is left
    again = book_of(memory)
    first = again.to_dial(REDIAL_MS, slots, seed=3)
    assert set(first[: len(BOOT) + ANCHORS_MAX]) == {*BOOT, *reached[:ANCHORS_MAX]}
    assert len(again) == len(reached) + len(BOOT)


def test_a_full_book_takes_from_the_largest_share() -> None:
    book = book_of(bootstrap=[])
    for teller in range(HEARSAY_MAX // SHARE_MAX):
        for start in range(0, SHARE_MAX, ADDRESSES_MAX):
            base = 1_000 * (teller + 1) + start
            learn(book, range(base, base + ADDRESSES_MAX), teller=public(900_000 + teller))
    assert len(book) == HEARSAY_MAX
    assert learn(book, range(10, 30), teller="9.9.9.9") == 20
    assert len(book) == HEARSAY_MAX
    assert len(book._shares["9.9.9.0/24"]) == 20
    assert {len(texts) for texts in book._shares.values()} == {20, SHARE_MAX, SHARE_MAX - 1}


def test_what_was_reached_is_bounded_and_the_oldest_goes() -> None:
    memory, book = Memory(), book_of(bootstrap=[])
    for number in range(10, 10 + REACHED_MAX + ANCHORS_MAX + 5):
        learn(book, range(number, number + 1))
        memory.apply(book.on_connected(1 + number, address(number, public(number))))
    assert len(book) == len(memory) == REACHED_MAX + ANCHORS_MAX
    kept = {key[1:].decode() for key in memory}
    anchors = {address(n, public(n)) for n in range(10, 10 + ANCHORS_MAX)}
    assert anchors <= kept
    assert address(10 + ANCHORS_MAX, public(10 + ANCHORS_MAX)) not in kept


def test_anchor_that_is_gone_makes_place() -> None:
    memory, book = Memory(), book_of(bootstrap=[])
    learn(book, range(10, 20))
    texts = [address(n, public(n)) for n in range(10, 20)]
    for text in texts[: ANCHORS_MAX + 1]:
        memory.apply(book.on_connected(1, text))
    for _ in range(FAILURES_REACHED_MAX):
        memory.apply(book.on_failed(2, texts[0]))
    assert texts[0] in book
    memory.apply(book.on_connected(3, texts[9]))
    again = book_of(memory, bootstrap=[])
    anchors = {text for text, entry in again._entries.items() if entry.anchor}
    assert anchors == {*texts[1:ANCHORS_MAX], texts[9]}
    assert len(again) == ANCHORS_MAX + 2


def test_damaged_records_are_our_disk() -> None:
    good, record = KEY_PEER + address(10, public(10)).encode(), b"\x93\x01\x05\x01"
    for key, raw in [
        (good, b""),
        (good, b"\x93\x01\x05\x02"),
        (KEY_PEER + b"\xff", record),
    ]:
        with pytest.raises(Corrupt, match="address book"):
            book_of(Memory({key: raw}))
    assert len(book_of(Memory({good: record}), bootstrap=[])) == 1


def test_outcomes_of_strangers_change_nothing() -> None:
    book = book_of()
    assert book.on_connected(0, address(77)) == {}
    assert book.on_failed(0, address(77)) == {}
    assert len(book) == len(BOOT)


def test_trusted_is_dialled_again_soon() -> None:
    book, slots, now, waits = book_of(bootstrap=BOOT[:1]), Connections(local=False), 0, []
    for _ in range(8):
        assert book.to_dial(now, slots, 1) == BOOT[:1]
        book.on_failed(now, BOOT[0])
        start = now
        while not book.to_dial(now, slots, 1):
            now += REDIAL_KNOWN_MS
        book._dialling.clear()
        waits.append((now - start) // REDIAL_KNOWN_MS)
    assert waits == [1, 2, 4, 8, 10, 10, 10, 10]


def test_a_dial_that_crossed_did_not_fail() -> None:
    book, slots = book_of(bootstrap=BOOT[:1]), Connections(local=False)
    assert book.to_dial(0, slots, 1) == BOOT[:1]
    book.on_crossed(BOOT[0])
    assert book.to_dial(1, slots, 1) == BOOT[:1]
