"""The accounts of a mnemonic as wallets derive them: BIP-39, BIP-32, m/44'/60'/0'/0/i.

eth-account does the same, and tests compare the two, but its import takes half a second, for which
every command of the client would wait. Only its word list is read.
"""

import hashlib
import hmac
import importlib.util
import re
import unicodedata
from pathlib import Path
from typing import Final

from dipnet.primitives.crypto import public_key
from dipnet.primitives.errors import Invalid

WORDS: Final = (12, 15, 18, 21, 24)
SEED_ROUNDS: Final = 2_048
HARDENED: Final = 1 << 31
ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
PATH: Final = (44 + HARDENED, 60 + HARDENED, HARDENED, 0)
"""The derivation path of Ethereum's accounts without the index (BIP-44, SLIP-44)."""
WORD_LIST: Final = "hdaccount/wordlist/english.txt"
BITS_A_WORD: Final = 11


def secret_of(phrase: str, index: int = 0, passphrase: str = "") -> bytes:
    """The key of account ``index`` of a phrase, 32 bytes; ``Invalid("key")``."""
    words = unicodedata.normalize("NFKD", phrase).lower().split()
    _check(words)
    if not 0 <= index < HARDENED:
        raise Invalid("key", f"account {index}: 0 to {HARDENED - 1}")
    salt = unicodedata.normalize("NFKD", "mnemonic" + passphrase).encode()
    seed = hashlib.pbkdf2_hmac("sha512", " ".join(words).encode(), salt, SEED_ROUNDS)
    node = hmac.digest(b"Bitcoin seed", seed, "sha512")
    for step in (*PATH, index):
        node = _child(node[:32], node[32:], step)
    return node[:32]


def is_phrase(text: str) -> bool:
    """Whether the text is several words of letters, as a mnemonic is; spelling is not checked."""
    return bool(re.fullmatch(r"\s*[a-zA-Z]+(\s+[a-zA-Z]+)+\s*", text))


def _child(secret: bytes, chain_code: bytes, step: int) -> bytes:
    """The child's key and chain code, 64 bytes (BIP-32)."""
    point = b"\0" + secret if step >= HARDENED else public_key(secret)
    mixed = hmac.digest(chain_code, point + step.to_bytes(4, "big"), "sha512")
    tweak = int.from_bytes(mixed[:32], "big")
    child = (tweak + int.from_bytes(secret, "big")) % ORDER
    assert tweak < ORDER  # else, and for a child of zero, BIP-32 skips the index: once in 2^127
    assert child
    return child.to_bytes(32, "big") + mixed[32:]


def _check(words: list[str]) -> None:
    """Checks the words and the checksum: the last bits start the SHA-256 of the others (BIP-39)."""
    if len(words) not in WORDS:
        raise Invalid("key", f"a mnemonic has 12, 15, 18, 21 or 24 words, not {len(words)}")
    places = {word: n for n, word in enumerate(_word_list())}
    for n, word in enumerate(words, 1):
        if word not in places:
            raise Invalid("key", f"word {n} of the mnemonic is not on the English list of BIP-39")
    number = 0
    for word in words:
        number = number << BITS_A_WORD | places[word]
    checksum_bits = len(words) * BITS_A_WORD // 33
    entropy_bytes = checksum_bits * 4
    entropy = (number >> checksum_bits).to_bytes(entropy_bytes, "big")
    expected = hashlib.sha256(entropy).digest()[0] >> 8 - checksum_bits
    if number & (1 << checksum_bits) - 1 != expected:
        raise Invalid("key", "the mnemonic's checksum is wrong: a word or their order is mistyped")


def _word_list() -> list[str]:
    found = importlib.util.find_spec("eth_account")
    if found is None or not found.submodule_search_locations:
        raise Invalid("key", "the word list of eth-account is not installed")
    return (Path(found.submodule_search_locations[0]) / WORD_LIST).read_text().split()
