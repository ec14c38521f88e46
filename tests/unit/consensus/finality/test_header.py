"""The header's record: its table of fields, pinned bytes, and no second encoding."""

from dataclasses import replace
from typing import Any

import msgpack
import pytest

from dipnet.consensus.finality import header as header_module
from dipnet.consensus.finality.header import HEADER_BYTES_MAX, Header, decode_header
from dipnet.primitives.codec import pack
from dipnet.primitives.crypto import keccak256
from dipnet.primitives.errors import Invalid


def hash_of(number: int) -> bytes:
    return bytes([number]) * 32


KNOWN = Header(
    chain_id=2018, parent=hash_of(1), height=7, slot=300, epoch=2, timestamp_ms=1_700_000_000_000,
    proposer=bytes([2]) * 20, state_root=hash_of(3), tx_root=hash_of(4), receipt_root=hash_of(5),
    logs_bloom=bytes([6]) * 256, gas_limit=60_000_000, gas_used=21_000, base_fee=10**9,
    justify=(hash_of(7), 299, 2), final=(hash_of(8), 298), cert_root=hash_of(9),
    next_set_hash=hash_of(10), seed_reveal=hash_of(11), seed_commitment=hash_of(12),
    dag_root=hash_of(13), dag_count=14, dag_bytes=65_536, dag_acc=hash_of(15),
)  # fmt: skip


def test_the_hash_of_a_known_header() -> None:
    """The hash of a header is the id of a block, so its record must never change."""
    assert KNOWN.hash.hex() == "8c4b96361d23b5f36c57aafcc53dea183d321d781cefba04bf0939d9b9846a28"
    assert KNOWN.hash == keccak256(KNOWN.raw)


def test_the_record_is_the_fields_in_their_order() -> None:
    """Compares the record with msgpack's; docs/spec/bytes.md "Records" has the same list of
    fields."""
    record: list[Any] = [
        1, 2018, hash_of(1), 7, 300, 2, 1_700_000_000_000, bytes([2]) * 20, hash_of(3), hash_of(4),
        hash_of(5), bytes([6]) * 256, 60_000_000, 21_000, b"\x3b\x9a\xca\x00", [hash_of(7), 299, 2],
        [hash_of(8), 298], hash_of(9), hash_of(10), hash_of(11), hash_of(12), hash_of(13), 14,
        65_536, hash_of(15),
    ]  # fmt: skip
    assert KNOWN.raw == msgpack.packb(record, use_bin_type=True)
    assert decode_header(pack(record)) == KNOWN
    for at, value in enumerate(record):
        wrong: Any = b"" if isinstance(value, int | list) else 7
        with pytest.raises(Invalid):
            decode_header(pack([*record[:at], wrong, *record[at + 1 :]]))


def test_a_decoded_header_keeps_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = KNOWN.raw
    packs: list[Any] = []
    monkeypatch.setattr(msgpack, "packb", lambda *args, **_: packs.append(args))
    hashes: list[bytes] = []
    monkeypatch.setattr(
        header_module, "keccak256", lambda data: hashes.append(data) or keccak256(data)
    )
    decoded = decode_header(raw)
    assert decoded.raw is raw
    assert (decoded, decoded.hash) == (KNOWN, KNOWN.hash)
    assert not packs
    assert hashes == [raw]


def test_a_changed_header_has_bytes_of_its_own() -> None:
    decoded = decode_header(KNOWN.raw)
    changed = replace(decoded, base_fee=0)
    assert changed.raw != decoded.raw
    assert decode_header(changed.raw) == changed != decoded
    widest = replace(decoded, base_fee=2**256 - 1, dag_bytes=2**64 - 1)
    assert len(widest.raw) <= HEADER_BYTES_MAX
    assert decode_header(widest.raw) == widest
