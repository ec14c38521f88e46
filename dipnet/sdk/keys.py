"""Keys on disk: a node's or device's plain key file, and keystores (Web3 secret storage v3).

Rules that bind this file: a file with a secret is made with mode 0600 in one step, never written
over, and refused when other users may read it; a directory made for keys has mode 0700. Keystores
are those that geth and eth-account write and read; tests compare them with eth-keyfile, which is
not used here because its import takes longer than a node's whole start. The cost parameters of a
foreign keystore are bounded before the key is derived. No error contains a secret.
"""

import hashlib
import hmac
import json
import os
import secrets
import stat
import time
import uuid
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from dipnet.primitives import jsontext
from dipnet.primitives.crypto import address, checksum, keccak256, public_key
from dipnet.primitives.errors import Invalid

KEY_FILE_BYTES_MAX: Final = 1 << 10
KEYSTORE_BYTES_MAX: Final = 64 << 10
_KEYSTORE: Final = jsontext.JsonBounds(KEYSTORE_BYTES_MAX)
PASSWORD_BYTES_MAX: Final = 4 << 10
SCRYPT_N: Final = 1 << 18  # 256 MiB and about a second, as in geth
SCRYPT_N_TEST: Final = 1 << 12  # for keys that protect nothing: 4 MiB, 15 ms
SCRYPT_R: Final = 8
SCRYPT_BYTES_MAX: Final = 1 << 30
SCRYPT_P_MAX: Final = 16
PBKDF2_ROUNDS_MAX: Final = 10_000_000
SALT_BYTES: Final = 32

DEV_MNEMONIC: Final = "test test test test test test test test test test test junk"
# m/44'/60'/0'/0/0..9 of DEV_MNEMONIC. They are public: for test networks only.
DEV_SECRETS: Final = tuple(
    bytes.fromhex(digits)
    for digits in (
        "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
        "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
        "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
        "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
        "47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
        "8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
        "92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e",
        "4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356",
        "dbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97",
        "2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6",
    )
)


def new_secret() -> bytes:
    """A random secp256k1 key, 32 bytes."""
    while True:
        secret = secrets.token_bytes(32)
        if _is_key(secret):  # all values but one in 2^128 are keys
            return secret


def address_of(secret: bytes) -> bytes:
    """The address of a key's account, 20 bytes."""
    return address(public_key(secret))


# --- files that only their owner may read


def write_private(path: Path, data: bytes) -> None:
    """Makes a file with mode 0600, durably; raises ``Invalid("key")`` when it exists."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        directory = os.open(path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
    except FileExistsError:
        raise Invalid("key", f"{path} is there already and is not written over") from None
    except OSError as error:
        raise Invalid("key", f"cannot write {path}: {error.strerror}") from None


def read_private(path: Path, bytes_max: int) -> bytes:
    """At most ``bytes_max`` bytes of a file that no other user may read; ``Invalid("key")``."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise Invalid(
                    "key", f"others may read {path} (mode {mode:04o}); run: chmod 600 {path}"
                )
            data = file.read(bytes_max + 1)
    except FileNotFoundError:
        raise Invalid("key", f"there is no {path}") from None
    except OSError as error:
        raise Invalid("key", f"cannot read {path}: {error.strerror}") from None
    if len(data) > bytes_max:
        raise Invalid("key", f"{path} has more than {bytes_max} bytes")
    return data


def read_password(path: Path) -> bytes:
    """The first line of a password file, without its end; ``Invalid("key")``."""
    return read_private(path, PASSWORD_BYTES_MAX).split(b"\n")[0].rstrip(b"\r")


def write_key(path: Path, secret: bytes) -> None:
    """Makes a plain key file: 64 hex digits and a line end; ``Invalid("key")`` when it exists."""
    write_private(path, secret.hex().encode() + b"\n")


def read_key(path: Path) -> bytes:
    """The key of a plain key file; ``Invalid("key")``."""
    return key_from_hex(read_private(path, KEY_FILE_BYTES_MAX), str(path))


def key_from_hex(raw: bytes, where: str) -> bytes:
    """The key in hex, with or without 0x; raises ``Invalid("key")``, which names ``where``."""
    digits = raw.strip().removeprefix(b"0x")
    try:
        secret = bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        secret = b""
    if len(digits) != 64 or not _is_key(secret):
        raise Invalid("key", f"{where} holds no key: a key is 64 hex digits, not zero")
    return secret


def load_or_make_key(path: Path) -> bytes:
    """The key of a plain key file, which is made when missing; ``Invalid("key")``."""
    if not path.exists():
        write_key(path, new_secret())
    return read_key(path)


def _is_key(secret: bytes) -> bool:
    try:
        public_key(secret)
    except ValueError:
        return False
    return True


# --- keystores


def encrypt(secret: bytes, password: bytes, scrypt_n: int = SCRYPT_N) -> bytes:
    """The JSON text of a keystore v3 (scrypt, AES-128-CTR) of a key of 32 bytes."""
    salt, iv = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(16)
    params = {"dklen": 32, "n": scrypt_n, "r": SCRYPT_R, "p": 1, "salt": salt.hex()}
    derived = _derive("scrypt", params, password)
    ciphertext = _aes(derived[:16], iv, secret)
    keystore = {
        "version": 3,
        "id": str(uuid.UUID(bytes=secrets.token_bytes(16), version=4)),
        "address": address_of(secret).hex(),
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": iv.hex()},
            "ciphertext": ciphertext.hex(),
            "kdf": "scrypt",
            "kdfparams": params,
            "mac": keccak256(derived[16:32] + ciphertext).hex(),
        },
    }
    return json.dumps(keystore, indent=2).encode() + b"\n"


def decrypt(raw: bytes, password: bytes, where: str = "the keystore") -> bytes:
    """The key in a keystore v3; raises ``Invalid("key")`` for a wrong password or another form."""
    try:
        fields = {name.lower(): value for name, value in jsontext.load(raw, _KEYSTORE).items()}
        box = fields["crypto"]
        if fields["version"] != 3 or box["cipher"] != "aes-128-ctr":
            raise ValueError("want version 3 with aes-128-ctr")
        iv, ciphertext = _hex(box["cipherparams"]["iv"], 16), _hex(box["ciphertext"], 32)
        mac = _hex(box["mac"], 32)
        derived = _derive(str(box["kdf"]), box["kdfparams"], password)
    except (
        KeyError,
        TypeError,
        AttributeError,
        ArithmeticError,
        ValueError,
    ) as error:
        fault = f"{error} is missing" if isinstance(error, KeyError) else str(error)[:120]
        raise Invalid("key", f"{where} is no keystore: {fault}") from None
    if not hmac.compare_digest(keccak256(derived[16:32] + ciphertext), mac):
        raise Invalid("key", f"the password does not open {where}")
    secret = _aes(derived[:16], iv, ciphertext)
    if not _is_key(secret):
        raise Invalid("key", f"{where} holds no key")
    return secret


def read_keystore(path: Path, password: bytes) -> bytes:
    """The key in a keystore file that only its owner may read; ``Invalid("key")``."""
    return decrypt(read_private(path, KEYSTORE_BYTES_MAX), password, str(path))


def keystore_address(raw: bytes) -> bytes | None:
    """The address that a keystore claims, unproven; None when it has none."""
    try:
        return _hex(jsontext.load(raw, _KEYSTORE)["address"].removeprefix("0x"), 20)
    except (KeyError, TypeError, AttributeError, ValueError):
        return None


def add_keystore(directory: Path, secret: bytes, password: bytes, scrypt_n: int = SCRYPT_N) -> Path:
    """Writes a keystore under the name that geth would give it; returns its path.

    Raises ``Invalid("key")`` when the directory has a keystore of this account.
    """
    account = address_of(secret)
    if account in list_keystores(directory):
        raise Invalid("key", f"{directory} has {checksum(account)} already")
    now = time.strftime("%Y-%m-%dT%H-%M-%S.000000000Z", time.gmtime())
    path = directory / f"UTC--{now}--{account.hex()}"
    write_private(path, encrypt(secret, password, scrypt_n))
    return path


def list_keystores(directory: Path) -> dict[bytes, Path]:
    """The keystores of a directory by account, in order of their names."""
    if not directory.is_dir():
        return {}
    found: dict[bytes, Path] = {}
    for path in sorted(directory.iterdir()):
        if path.is_file() and path.stat().st_size <= KEYSTORE_BYTES_MAX:
            account = keystore_address(path.read_bytes())
            if account is not None:
                found.setdefault(account, path)
    return found


def _hex(text: Any, size: int) -> bytes:
    value = bytes.fromhex(text)
    if len(value) != size:
        raise ValueError(f"{size} bytes expected, {len(value)} found")
    return value


def _aes(key: bytes, iv: bytes, data: bytes) -> bytes:
    """AES-128 in counter mode, which is its own inverse."""
    return Cipher(AES(key), CTR(iv)).encryptor().update(data)


def _derive(kdf: str, params: dict[str, Any], password: bytes) -> bytes:
    salt = bytes.fromhex(params["salt"])
    if params["dklen"] != 32:
        raise ValueError("want a dklen of 32")
    if kdf == "scrypt":
        n, r, p = (int(params[name]) for name in "nrp")
        if not (n > 1 and n & (n - 1) == 0 and r > 0 and 0 < p <= SCRYPT_P_MAX):
            raise ValueError("scrypt with impossible n, r or p")
        if (size := 128 * n * r) > SCRYPT_BYTES_MAX:
            raise ValueError(f"scrypt that takes {size >> 20} MiB")
        return hashlib.scrypt(
            password, salt=salt, n=n, r=r, p=p, maxmem=size + 128 * r * (p + 2), dklen=32
        )
    if kdf == "pbkdf2" and params["prf"] == "hmac-sha256":
        rounds = int(params["c"])
        if not 0 < rounds <= PBKDF2_ROUNDS_MAX:
            raise ValueError(f"pbkdf2 with {rounds} rounds")
        return hashlib.pbkdf2_hmac("sha256", password, salt, rounds, 32)
    raise ValueError(f"key derivation {kdf[:40]!r} is not known")
