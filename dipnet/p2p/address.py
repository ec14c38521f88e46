"""Addresses as text, a small strict subset of multiaddr, and the networks that they lie in.

``/ip4|ip6|dns4|dns6/HOST/tcp/PORT[/p2p/ID]``, each part in its one canonical spelling. The
package multiaddr, which libp2p brings, accepts several spellings of one host and all protocols of
its table, so that two texts could be one address. Nothing here resolves a name.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from dipnet.p2p.messages import ADDRESS_BYTES_MAX
from dipnet.primitives.errors import Invalid

PEER_CHARS_MAX: Final = 64
IDENTITY_BYTES_MAX: Final = 42  # libp2p peer ids: keys up to this size are inlined
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGIT: Final = {char: digit for digit, char in enumerate(_BASE58)}
_PEER: Final = re.compile(f"[{_BASE58}]{{1,{PEER_CHARS_MAX}}}")
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PORT: Final = re.compile(r"0|[1-9][0-9]{0,4}")
_FORM: Final = re.compile(r"/(ip4|ip6|dns4|dns6)/([^/]+)/tcp/([^/]+)(?:/p2p/([^/]+))?")


@dataclass(frozen=True, slots=True)
class Multiaddr:
    """A TCP endpoint, and the peer that listens there.

    ``text`` is the whole address, ``kind`` is ip4, ip6, dns4 or dns6, ``port`` is 0 to 65535 and
    ``peer`` a libp2p peer id, empty where the address has none.
    """

    text: str
    kind: str
    host: str
    port: int
    peer: str

    @property
    def named(self) -> bool:
        """Whether the host is a name, so that nothing is known of its network."""
        return self.kind.startswith("dns")


def parse(text: str) -> Multiaddr:
    """The address of a peer: with its id and a port that is not 0; ``Invalid("peer_message")``."""
    address = parse_endpoint(text)
    if not address.peer:
        raise Invalid("peer_message", "the address of a peer ends in /p2p/ID")
    if not address.port:
        raise Invalid("peer_message", "port is not 1..65535")
    return address


def parse_endpoint(text: str) -> Multiaddr:
    """An address with or without a peer id; port 0 stands for any free port.

    Raises ``Invalid("peer_message")`` for any other text.
    """
    match = _FORM.fullmatch(text) if len(text) <= ADDRESS_BYTES_MAX else None
    if match is None:
        raise Invalid(
            "peer_message",
            "the address is not /ip4/HOST/tcp/PORT/p2p/ID, or with ip6, dns4 or dns6",
        )
    kind, host, port, peer = match.groups(default="")
    if not _is_host(kind, host):
        raise Invalid("peer_message", f"not a canonical {kind} host")
    if not _PORT.fullmatch(port) or int(port) > 0xFFFF:
        raise Invalid("peer_message", "port is not 0..65535")
    if peer and not is_peer_id(peer):
        raise Invalid("peer_message", "not a libp2p peer id")
    return Multiaddr(text, kind, host, int(port), peer)


def is_peer_id(text: str) -> bool:
    """Whether ``text`` is base58btc of an identity or SHA-256 multihash (libp2p peer ids)."""
    if not _PEER.fullmatch(text):
        return False
    number = 0
    for char in text:
        number = number * 58 + _DIGIT[char]
    zeros = len(text) - len(text.lstrip("1"))
    raw = bytes(zeros) + number.to_bytes((number.bit_length() + 7) >> 3, "big")
    size = len(raw) - 2
    if size < 1 or raw[1] != size:
        return False
    return (raw[0] == 0x12 and size == 32) or (raw[0] == 0x00 and size <= IDENTITY_BYTES_MAX)


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine."""
    ip = _ip(host)
    return ip is not None and ip.is_loopback


def is_public(host: str) -> bool:
    """Whether ``host`` is an IP address of the public internet."""
    ip = _ip(host)
    return ip is not None and ip.is_global and not ip.is_multicast


def site(host: str) -> str:
    """The network that one party surely holds: an IPv4 address, an IPv6 /64, a name."""
    return _network(host, 32, 64)


def subnet(host: str) -> str:
    """The network that one party may easily hold: an IPv4 /24, an IPv6 /48, a name."""
    return _network(host, 24, 48)


def _network(host: str, bits4: int, bits6: int) -> str:
    ip = _ip(host)
    if ip is None:
        return host
    width, bits = (32, bits4) if isinstance(ip, IPv4Address) else (128, bits6)
    return f"{type(ip)(int(ip) >> (width - bits) << (width - bits))}/{bits}"


def _ip(host: str) -> IPv4Address | IPv6Address | None:
    try:
        if ":" not in host:
            return IPv4Address(host)
        ip = IPv6Address(host)
    except ValueError:
        return None
    return ip.ipv4_mapped or ip


def _is_host(kind: str, host: str) -> bool:
    try:
        if kind == "ip4":
            return str(IPv4Address(host)) == host
        if kind == "ip6":
            return "%" not in host and str(IPv6Address(host)) == host
    except ValueError:
        return False
    labels = host.split(".")
    return kind in ("dns4", "dns6") and all(_LABEL.fullmatch(label) for label in labels)
