"""Hashes, secp256k1 keys, signatures and addresses, over native/ and coincurve (docs/design.md
"Values").

An argument of a wrong length is a bug of the caller and raises ValueError. A bad signature is an
answer: ``recover`` raises ``Invalid("sender")``, a batch marks the row. A signature is good only
with 1 <= r < n, 1 <= s <= n/2 (EIP-2) and a recovery id of 0 to 3. The batches release the GIL and
run on native threads; ``threads=0`` means ``THREADS``.
"""

from typing import Final

from coincurve import PrivateKey

from dipnet._native.crypto import (
    SECP_TABLE,
    THREADS,
    address,
    keccak256,
    recover_batch,
    sha256,
    verify_batch,
)
from dipnet.primitives.errors import Invalid

__all__ = [
    "ADDRESS_BYTES",
    "ADDRESS_ZERO",
    "SECP_TABLE",
    "THREADS",
    "address",
    "checksum",
    "keccak256",
    "public_key",
    "recover",
    "recover_batch",
    "sha256",
    "sign",
    "verify_batch",
]

ADDRESS_BYTES: Final = 20
ADDRESS_ZERO: Final = bytes(ADDRESS_BYTES)
SECRET_BYTES: Final = 32


def public_key(secret: bytes) -> bytes:
    """The compressed public key (33 bytes) of a secret key; ValueError unless it is 32 bytes, 1 to
    n - 1."""
    return _private(secret).public_key.format(compressed=True)


def sign(digest: bytes, secret: bytes) -> bytes:
    """The signature (65 bytes: r || s || recovery id) of a digest of 32 bytes; s <= n/2, nonce by
    RFC 6979."""
    return _private(secret).sign_recoverable(digest, hasher=None)


def recover(digest: bytes, signature: bytes) -> bytes:
    """The address (20 bytes) of the key that signed a digest (32 bytes).

    Raises ``Invalid("sender")`` where the signature recovers no key, or s > n/2.
    """
    if len(digest) != 32:
        raise ValueError(f"a digest has 32 bytes, not {len(digest)}")
    signer = recover_batch(digest, signature, 1)
    if signer == ADDRESS_ZERO:
        raise Invalid("sender")
    return signer


def checksum(account: bytes) -> str:
    """The text of an address: ``0x`` and 40 digits whose case is a checksum (EIP-55)."""
    if len(account) != 20:
        raise ValueError(f"an address has 20 bytes, not {len(account)}")
    text = account.hex()
    shade = keccak256(text.encode()).hex()
    return "0x" + "".join(
        letter.upper() if level >= "8" else letter
        for letter, level in zip(text, shade, strict=False)
    )


def _private(secret: bytes) -> PrivateKey:
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret key has {SECRET_BYTES} bytes, not {len(secret)}")
    return PrivateKey(bytes(secret))
