"""Keys, signatures and addresses, with the functions that the rest of the house calls."""

from collections.abc import Callable

import coincurve
import pytest
from eth_account import Account
from eth_utils import to_checksum_address
from hypothesis import given, settings
from hypothesis import strategies as st

from dipnet.primitives import crypto
from dipnet.primitives.errors import Invalid

ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
SECRETS = st.integers(1, ORDER - 1).map(lambda n: n.to_bytes(32))
DIGESTS = st.binary(min_size=32, max_size=32)


def test_key_and_address_of_the_secret_one() -> None:
    key = crypto.public_key((1).to_bytes(32))
    assert key.hex() == "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
    assert crypto.checksum(crypto.address(key)) == "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"


def test_rfc_6979_nonce() -> None:
    # The secp256k1 vector that wallets share: secret 1 over SHA-256 of the name.
    signature = crypto.sign(crypto.sha256(b"Satoshi Nakamoto"), (1).to_bytes(32))
    assert signature[:64].hex() == (
        "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8"
        "2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5"
    )


@settings(max_examples=50, deadline=None)
@given(DIGESTS, SECRETS)
def test_sign_then_recover_and_verify(digest: bytes, secret: bytes) -> None:
    signature, key = crypto.sign(digest, secret), crypto.public_key(secret)
    assert len(signature) == 65
    assert signature[64] <= 3
    assert 0 < int.from_bytes(signature[32:64]) <= ORDER // 2
    assert crypto.sign(digest, secret) == signature
    assert crypto.recover(digest, signature) == crypto.address(key)
    assert crypto.verify_batch(digest, signature[:64], key) == b"\1"


def test_addresses_are_those_of_eth_account() -> None:
    for n in (2, 3, 2018, ORDER - 1):
        secret = n.to_bytes(32)
        address = crypto.address(crypto.public_key(secret))
        assert crypto.checksum(address) == Account.from_key(secret).address


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s[:64] + b"\x04",
        lambda s: s[:64] + b"\x1b",
        lambda s: s[:32] + (ORDER - int.from_bytes(s[32:64])).to_bytes(32) + bytes([s[64] ^ 1]),
        lambda s: bytes(32) + s[32:],
        lambda s: s[:32] + bytes(32) + s[64:],
        lambda s: b"\xff" * 32 + s[32:],
    ],
    ids=["id 4", "id 27", "high s", "r zero", "s zero", "r past n"],
)
def test_recover_refuses(change: Callable[[bytes], bytes]) -> None:
    digest = crypto.keccak256(b"message")
    signature = change(crypto.sign(digest, b"\x05" * 32))
    with pytest.raises(Invalid) as refusal:
        crypto.recover(digest, signature)
    assert refusal.value.code == "sender"


@settings(max_examples=200, deadline=None)
@given(DIGESTS, st.binary(min_size=65, max_size=65), st.integers(0, 3))
def test_recover_of_anything_is_an_address_or_invalid(
    digest: bytes, signature: bytes, recovery_id: int
) -> None:
    signature = bytes([0, *signature[1:32], 0, *signature[33:64], recovery_id])
    try:
        answer: bytes | str = crypto.recover(digest, signature)
    except Invalid as refusal:
        answer = refusal.code
    assert answer == "sender" or len(answer) == 20


def test_wrong_lengths_are_bugs() -> None:
    signature = crypto.sign(bytes(32), b"\x05" * 32)
    for digest, bad in (
        (bytes(31), signature),
        (bytes(64), signature * 2),
        (b"", b""),
        (bytes(32), signature[:64]),
    ):
        with pytest.raises(ValueError, match=r"bytes|as many"):
            crypto.recover(digest, bad)
    with pytest.raises(ValueError, match="32 bytes"):
        crypto.sign(bytes(31), b"\x05" * 32)
    with pytest.raises(ValueError, match="20 bytes"):
        crypto.checksum(bytes(19))


@pytest.mark.parametrize(
    "secret", [b"", bytes(31), bytes(32), bytes(33), ORDER.to_bytes(32), b"\xff" * 32]
)
def test_secrets_out_of_range(secret: bytes) -> None:
    with pytest.raises(ValueError, match=r"secret|Secret"):
        crypto.public_key(secret)
    with pytest.raises(ValueError, match=r"secret|Secret"):
        crypto.sign(bytes(32), secret)


@pytest.mark.parametrize(
    "text",
    [  # EIP-55
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
        "0xde709f2102306220921060314715629080e2fb77",
        "0x27b1fdb04752bbc536007a920d24acb045561c26",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    ],
)
def test_checksum_of_the_published(text: str) -> None:
    assert crypto.checksum(bytes.fromhex(text[2:])) == text


@given(st.binary(min_size=20, max_size=20))
def test_checksum_of_any(address: bytes) -> None:
    assert crypto.checksum(address) == to_checksum_address(address)


def test_batches_agree_with_the_single_call() -> None:
    digests = [crypto.keccak256(bytes([i])) for i in range(40)]
    signatures = [crypto.sign(digest, bytes([i + 1] * 32)) for i, digest in enumerate(digests)]
    found = crypto.recover_batch(b"".join(digests), b"".join(signatures))
    assert found == b"".join(map(crypto.recover, digests, signatures))
    assert crypto.THREADS >= 1


def test_coincurve_verifies_what_is_signed() -> None:
    digest, secret = crypto.keccak256(b"x"), b"\x09" * 32
    key = coincurve.PublicKey.from_signature_and_message(
        crypto.sign(digest, secret), digest, hasher=None
    )
    assert key.format() == crypto.public_key(secret)
