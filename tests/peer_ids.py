"""Peer ids for tests: well-formed, made from a number."""

from functools import cache

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def base58(raw: bytes) -> str:
    number, text = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + text


@cache
def peer_id(number: int) -> str:
    """A secp256k1 id: identity multihash of a protobuf with a 33-byte key."""
    key = b"\x02" + number.to_bytes(32, "big")
    return base58(b"\x00\x25\x08\x02\x12\x21" + key)


def address(number: int, host: str = "127.0.0.1", port: int = 30_301) -> str:
    kind = "ip6" if ":" in host else "ip4" if host[0].isdigit() else "dns4"
    return f"/{kind}/{host}/tcp/{port}/p2p/{peer_id(number)}"
