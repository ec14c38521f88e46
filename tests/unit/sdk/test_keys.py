"""Keys on disk: file modes, formats, and keystores against eth-keyfile and eth-account."""

import json
import stat
from pathlib import Path
from typing import Any

import eth_keyfile
import pytest
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st

from dipnet.primitives.crypto import checksum
from dipnet.primitives.errors import Invalid
from dipnet.sdk import keys

SECRET = keys.DEV_SECRETS[3]
N = 2  # the least cost that scrypt takes


def refused(call: Any, *args: Any) -> str:
    with pytest.raises(Invalid) as error:
        call(*args)
    assert error.value.code == "key"
    assert SECRET.hex() not in str(error.value)
    return str(error.value)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_dev_keys_are_those_of_the_mnemonic() -> None:
    Account.enable_unaudited_hdwallet_features()
    for n, secret in enumerate(keys.DEV_SECRETS):
        account = Account.from_mnemonic(keys.DEV_MNEMONIC, account_path=f"m/44'/60'/0'/0/{n}")
        assert bytes(account.key) == secret
        assert account.address == checksum(keys.address_of(secret))


# --- files


def test_a_key_file_is_private_and_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "new" / "node.key"
    keys.write_key(path, SECRET)
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    assert keys.read_key(path) == SECRET
    assert "is there already" in refused(keys.write_key, path, keys.DEV_SECRETS[0])
    assert keys.read_key(path) == SECRET
    assert keys.load_or_make_key(path) == SECRET
    made = keys.load_or_make_key(tmp_path / "other.key")
    assert made == keys.load_or_make_key(tmp_path / "other.key")
    assert made != SECRET


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o644, 0o660, 0o610])
def test_a_file_that_others_may_touch_is_refused_with_the_remedy(bits: int, tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    keys.write_key(path, SECRET)
    path.chmod(bits)
    assert f"chmod 600 {path}" in refused(keys.read_key, path)
    path.chmod(0o400)
    assert keys.read_key(path) == SECRET


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"12",
        b"0" * 64,
        b"f" * 64,
        b"x" * 64,
        SECRET.hex().encode() * 2,
        b"\xff" * 64,
        b"1" * 2000,
    ],
    ids=["empty", "short", "zero", "past n", "letters", "long", "bytes", "very long"],
)
def test_a_file_without_a_key(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    keys.write_private(path, raw)
    refused(keys.read_key, path)


def test_a_missing_file(tmp_path: Path) -> None:
    assert "there is no" in refused(keys.read_key, tmp_path / "none")
    refused(keys.read_key, tmp_path)
    refused(keys.write_key, Path("/proc/nowhere/node.key"), SECRET)


def test_a_key_with_0x_and_a_line_end() -> None:
    assert keys.key_from_hex(b"0x" + SECRET.hex().encode() + b"\r\n", "x") == SECRET


def test_a_password_is_the_first_line(tmp_path: Path) -> None:
    keys.write_private(tmp_path / "p", b"open sesame\r\nnot this")
    assert keys.read_password(tmp_path / "p") == b"open sesame"


# --- keystores


def test_eth_keyfile_reads_ours() -> None:
    raw = keys.encrypt(SECRET, "pässword".encode(), N)
    assert eth_keyfile.decode_keyfile_json(json.loads(raw), "pässword".encode()) == SECRET
    assert Account.decrypt(json.loads(raw), "pässword") == SECRET
    assert keys.decrypt(raw, "pässword".encode()) == SECRET
    assert keys.keystore_address(raw) == keys.address_of(SECRET)


@pytest.mark.parametrize(("kdf", "cost"), [("scrypt", 2), ("pbkdf2", 1)])
def test_we_read_eth_keyfiles(kdf: Any, cost: int) -> None:
    foreign = eth_keyfile.create_keyfile_json(SECRET, b"word", kdf=kdf, iterations=cost)
    assert keys.decrypt(json.dumps(foreign).encode(), b"word") == SECRET
    upper = {"Crypto": foreign["crypto"], "version": 3}  # as old versions of geth wrote it
    assert keys.decrypt(json.dumps(upper).encode(), b"word") == SECRET
    assert "does not open" in refused(keys.decrypt, json.dumps(foreign).encode(), b"other")


def test_the_usual_cost_is_geths() -> None:
    fields = json.loads(keys.encrypt(SECRET, b"word"))["crypto"]["kdfparams"]
    assert (fields["n"], fields["r"], fields["p"]) == (262_144, 8, 1)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("version",), 4),
        (("crypto", "cipher"), "aes-256-cbc"),
        (("crypto", "kdf"), "argon2"),
        (("crypto", "kdfparams", "n"), 2**40),
        (("crypto", "kdfparams", "n"), 3),
        (("crypto", "kdfparams", "n"), 0),
        (("crypto", "kdfparams", "n"), float("inf")),
        (("crypto", "kdfparams", "r"), 2**31),
        (("crypto", "kdfparams", "p"), 2**31),
        (("crypto", "kdfparams", "dklen"), 2**31),
        (("crypto", "kdfparams", "salt"), "zz"),
        (("crypto", "kdfparams"), None),
        (("crypto", "cipherparams", "iv"), "00"),
        (("crypto", "ciphertext"), ""),
        (("crypto", "mac"), 7),
        (("crypto",), []),
    ],
)
def test_a_keystore_that_asks_for_too_much_or_is_none(
    place: tuple[str, ...], value: object
) -> None:
    fields = json.loads(keys.encrypt(SECRET, b"word", N))
    at = fields
    for name in place[:-1]:
        at = at[name]
    at[place[-1]] = value
    refused(keys.decrypt, json.dumps(fields).encode(), b"word")
    del at[place[-1]]
    refused(keys.decrypt, json.dumps(fields).encode(), b"word")


@settings(max_examples=100)
@given(
    st.binary(max_size=100)
    | st.recursive(
        st.none() | st.text() | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["version", "crypto", "kdf"]), inner)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_are_a_keystore_or_refused(raw: bytes) -> None:
    keys.keystore_address(raw)
    refused(keys.decrypt, raw, b"word")


def test_a_directory_of_keystores(tmp_path: Path) -> None:
    assert keys.list_keystores(tmp_path / "none") == {}
    paths = [keys.add_keystore(tmp_path / "ks", s, b"word", N) for s in keys.DEV_SECRETS[:2]]
    (tmp_path / "ks" / "notes.txt").write_text("no keystore")
    (tmp_path / "ks" / "sub").mkdir()
    found = keys.list_keystores(tmp_path / "ks")
    assert found == {keys.address_of(s): p for s, p in zip(keys.DEV_SECRETS, paths, strict=False)}
    assert all(mode(path) == 0o600 for path in paths)
    assert all(path.name.startswith("UTC--") for path in paths)
    assert "has 0xf39F" in refused(keys.add_keystore, tmp_path / "ks", keys.DEV_SECRETS[0], b"w", N)
    assert keys.read_keystore(paths[0], b"word") == keys.DEV_SECRETS[0]
    paths[0].chmod(0o644)
    refused(keys.read_keystore, paths[0], b"word")
