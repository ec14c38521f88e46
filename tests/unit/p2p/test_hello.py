"""The handshake: it admits only peers of this network, once a connection, within a deadline."""

from dataclasses import replace

import pytest

from dipnet.p2p.hello import CAPABILITIES, HELLO_MS_MAX, Hellos
from dipnet.p2p.messages import FRAME_BYTES_MAX, Hello, Status, decode
from dipnet.primitives.errors import Invalid

GENESIS = b"g" * 32
HERE = Status(3, b"h" * 32, 2, b"f" * 32, 1, 2, 10, 77, 1_000)


def hellos(nonce: bytes = b"ourselfs") -> Hellos:
    return Hellos("dipnet/0.1.0", 2018, GENESIS, nonce)


def theirs() -> Hello:
    raw = hellos(b"theirs!!").ours(HERE, ("/ip4/1.2.3.4/tcp/1",))
    assert len(raw) < FRAME_BYTES_MAX["hello"]
    hello = decode("hello", raw)
    assert isinstance(hello, Hello)
    return hello


def test_accepts_its_own_kind() -> None:
    ours = hellos()
    ours.on_connected(0, "a")
    assert not ours.greeted("a")
    greeting = ours.on_hello("a", theirs())
    assert greeting.capabilities == CAPABILITIES
    assert greeting.listen == ("/ip4/1.2.3.4/tcp/1",)
    assert ours.greeted("a")
    assert ours.greeting("a") is greeting
    assert ours.standing() == {"a": HERE}
    assert ours.late(10**9) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"chain_id": 1}, "chain id 1"),
        ({"genesis_hash": bytes(32)}, "another genesis"),
        ({"nonce": b"ourselfs"}, "ourselves"),
        ({"capabilities": ("gossip/1", "votes/1", "peers/1")}, "lacks sync/1"),
        ({"capabilities": ()}, "lacks gossip/1, votes/1, sync/1"),
    ],
)
def test_refuses(change: dict[str, object], text: str) -> None:
    ours = hellos()
    ours.on_connected(0, "a")
    with pytest.raises(Invalid, match=text) as refusal:
        ours.on_hello("a", replace(theirs(), **change))  # type: ignore[arg-type]
    assert refusal.value.code == "peer_network"
    assert not ours.greeted("a")


def test_shared_capabilities_are_used() -> None:
    ours = hellos()
    ours.on_connected(0, "a")
    hello = replace(theirs(), capabilities=("sync/1", "new/9", "gossip/1", "votes/1"))
    assert ours.on_hello("a", hello).capabilities == ("gossip/1", "votes/1", "sync/1")


def test_one_hello_a_connection_and_status_only_after() -> None:
    ours = hellos()
    with pytest.raises(Invalid, match="without a connection"):
        ours.on_hello("a", theirs())
    with pytest.raises(Invalid, match="status before hello"):
        ours.on_status("a", HERE)
    ours.on_connected(0, "a")
    ours.on_hello("a", theirs())
    with pytest.raises(Invalid, match="without a connection"):
        ours.on_hello("a", theirs())
    lower = replace(HERE, head_height=1)
    ours.on_status("a", lower)
    assert ours.standing()["a"] == lower


def test_silence_is_late_and_forgotten() -> None:
    ours = hellos()
    ours.on_connected(5, "a")
    assert ours.late(4 + HELLO_MS_MAX) == []
    assert ours.late(5 + HELLO_MS_MAX) == ["a"]
    ours.forget("a")
    assert ours.late(10**9) == []
    ours.on_connected(5, "a")
    ours.on_hello("a", theirs())
    ours.forget("a")
    assert ours.standing() == {}
    assert not ours.greeted("a")
