"""Addresses have one spelling; networks are counted by the ranges that an owner could hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipnet.p2p.address import (
    is_loopback,
    is_peer_id,
    is_public,
    parse,
    parse_endpoint,
    site,
    subnet,
)
from dipnet.primitives.errors import Invalid
from tests.fixtures.peer_ids import address, base58, peer_id

P = peer_id(7)


@pytest.mark.parametrize(
    ("text", "kind", "host", "port"),
    [
        (f"/ip4/1.2.3.4/tcp/1/p2p/{P}", "ip4", "1.2.3.4", 1),
        (f"/ip6/::1/tcp/65535/p2p/{P}", "ip6", "::1", 65535),
        (f"/ip6/2001:db8::7/tcp/30301/p2p/{P}", "ip6", "2001:db8::7", 30301),
        (f"/dns4/node-1.example.org/tcp/30301/p2p/{P}", "dns4", "node-1.example.org", 30301),
        (f"/dns6/localhost/tcp/30301/p2p/{P}", "dns6", "localhost", 30301),
    ],
)
def test_parses(text: str, kind: str, host: str, port: int) -> None:
    got = parse(text)
    assert (got.text, got.kind, got.host, got.port, got.peer) == (text, kind, host, port, P)
    assert got.named is kind.startswith("dns")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/" * 7,
        f"/ip4/1.2.3.4/tcp/1/p2p/{P}/",
        f"ip4/1.2.3.4/tcp/1/p2p/{P}",
        f"/ip4/01.2.3.4/tcp/1/p2p/{P}",
        f"/ip4/1.2.3/tcp/1/p2p/{P}",
        f"/ip4/1.2.3.4.5/tcp/1/p2p/{P}",
        f"/ip4/::1/tcp/1/p2p/{P}",
        f"/ip6/0:0::1/tcp/1/p2p/{P}",
        f"/ip6/2001:DB8::7/tcp/1/p2p/{P}",
        f"/ip6/fe80::1%eth0/tcp/1/p2p/{P}",
        f"/ip4/1.2.3.4/tcp/0/p2p/{P}",
        f"/ip4/1.2.3.4/tcp/01/p2p/{P}",
        f"/ip4/1.2.3.4/tcp/65536/p2p/{P}",
        f"/ip4/1.2.3.4/tcp/+1/p2p/{P}",
        f"/ip4/1.2.3.4/tcp/1\n/p2p/{P}",
        f"/ip4/1.2.3.4/tcp/١/p2p/{P}",
        f"/ip4/1.2.3.4/udp/1/p2p/{P}",
        f"/ip4/1.2.3.4/tcp/1/ipfs/{P}",
        "/ip4/1.2.3.4/tcp/1/p2p/",
        f"/ip4/1.2.3.4/tcp/1/p2p/{P[:-1]}",
        f"/ip4/1.2.3.4/tcp/1/p2p/{P[:-1]}0",
        f"/dns4//tcp/1/p2p/{P}",
        f"/dns4/-a/tcp/1/p2p/{P}",
        f"/dns4/a..b/tcp/1/p2p/{P}",
        f"/dns4/A.b/tcp/1/p2p/{P}",
        f"/dns4/a_b/tcp/1/p2p/{P}",
        f"/dns4/{'a' * 64}/tcp/1/p2p/{P}",
        f"/dns4/{'a.' * 100}a/tcp/1/p2p/{P}",
        f"/dns/a/tcp/1/p2p/{P}",
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse(text)
    assert refusal.value.code == "peer_message"


@given(st.one_of(st.text(), st.builds("/{}/{}/tcp/{}/p2p/{}".format, *[st.text(max_size=9)] * 4)))
def test_any_text(text: str) -> None:
    try:
        assert parse(text).text == text
    except Invalid as refusal:
        assert "address" in str(refusal) or "not" in str(refusal)  # noqa: PT017


@pytest.mark.parametrize(
    ("raw", "ok"),
    [
        (b"\x12\x20" + b"h" * 32, True),
        (b"\x12\x1f" + b"h" * 31, False),
        (b"\x12\x20" + b"h" * 31, False),
        (b"\x00\x24" + b"k" * 36, True),
        (b"\x00\x2a" + b"k" * 42, True),
        (b"\x00\x2b" + b"k" * 43, False),
        (b"\x00\x00", False),
        (b"\x00", False),
        (b"\x13\x20" + b"h" * 32, False),
    ],
)
def test_peer_ids(raw: bytes, ok: bool) -> None:
    assert is_peer_id(base58(raw)) is ok


def test_known_peer_ids() -> None:
    assert peer_id(1).startswith("16Uiu2HA")
    assert is_peer_id("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")
    assert is_peer_id("12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA")
    assert not is_peer_id("")
    assert not is_peer_id("1" * 65)


@pytest.mark.parametrize(
    ("host", "narrow", "wide", "loopback", "public"),
    [
        ("127.0.0.1", "127.0.0.1/32", "127.0.0.0/24", True, False),
        ("127.9.9.9", "127.9.9.9/32", "127.9.9.0/24", True, False),
        ("::1", "::/64", "::/48", True, False),
        ("8.8.4.200", "8.8.4.200/32", "8.8.4.0/24", False, True),
        ("10.0.0.1", "10.0.0.1/32", "10.0.0.0/24", False, False),
        ("224.0.0.1", "224.0.0.1/32", "224.0.0.0/24", False, False),
        ("2a00:1:2:3:4::5", "2a00:1:2:3::/64", "2a00:1:2::/48", False, True),
        ("::ffff:8.8.4.200", "8.8.4.200/32", "8.8.4.0/24", False, True),
        ("example.org", "example.org", "example.org", False, False),
    ],
)
def test_networks(host: str, narrow: str, wide: str, loopback: bool, public: bool) -> None:
    assert (site(host), subnet(host)) == (narrow, wide)
    assert (is_loopback(host), is_public(host)) == (loopback, public)


def test_address_helper() -> None:
    assert parse(address(3, "::1")).kind == "ip6"
    assert parse(address(3, "a.b")).kind == "dns4"


# --- with or without a peer


@given(st.text() | st.from_regex(r"/(ip4|ip6|dns4)/[0-9a-z.:]+/tcp/[0-9]+(/p2p/\w+)?"))
def test_any_text_is_an_endpoint_or_refused(text: str) -> None:
    try:
        got = parse_endpoint(text)
    except Invalid:
        pass
    else:
        assert 0 <= got.port <= 65535
        assert text.split("/")[2] == got.host
        assert text.endswith(got.peer)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("/ip4/10.0.0.1/tcp/30303", ("10.0.0.1", 30303, "")),
        ("/ip6/::1/tcp/0", ("::1", 0, "")),
        ("/dns4/node-1.example.org/tcp/1", ("node-1.example.org", 1, "")),
    ],
)
def test_endpoints(text: str, parsed: tuple[str, int, str]) -> None:
    got = parse_endpoint(text)
    assert (got.host, got.port, got.peer) == parsed
    got = parse_endpoint(f"{text}/p2p/{P}")
    assert (got.host, got.port, got.peer) == (*parsed[:2], P)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "/ip4/10.0.0.1",
        "/ip4/10.0.0.1/tcp/65536",
        "/ip4/10.0.0.1/udp/1",
        "/ip4/10.0.0.256/tcp/1",
        "/ip4/::1/tcp/1",
        "/dns9/x/tcp/1",
        "/dns4/-x/tcp/1",
        f"/dns4/{'a' * 64}/tcp/1",
        "/ip4/10.0.0.1/tcp/1/p2p/0OIl",
        "/ip4/10.0.0.1/tcp/1/p2p/",
        "/ip4/10.0.0.1/tcp/١",
        "/ip4/10.0.0.1/tcp/1/ws",
        "/ip4/10.0.0.1/tcp/1/p2p/" + "1" * 300,
        "/ip4/10.0.0.1/tcp/00",
        "/ip4/10.0.0.1/tcp/1\n",
        "/ip6/0:0::1/tcp/1",
        "/dns4/A.b/tcp/1",
        "/dns/a.b/tcp/1",
    ],
)
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(Invalid):
        parse_endpoint(text)


@pytest.mark.parametrize("text", ["/ip4/10.0.0.1/tcp/1", f"/ip4/10.0.0.1/tcp/0/p2p/{P}"])
def test_an_endpoint_may_lack_what_a_peer_has(text: str) -> None:
    assert parse_endpoint(text).text == text
    with pytest.raises(Invalid):
        parse(text)
