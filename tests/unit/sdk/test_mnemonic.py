"""Mnemonics against eth-account."""

import pytest
from eth_account import Account
from eth_account.hdaccount import Mnemonic
from hypothesis import given, settings
from hypothesis import strategies as st

from dipnet.primitives.errors import Invalid
from dipnet.sdk import keys
from dipnet.sdk.mnemonic import is_phrase, secret_of

Account.enable_unaudited_hdwallet_features()


def test_the_dev_accounts() -> None:
    assert tuple(secret_of(keys.DEV_MNEMONIC, n) for n in range(10)) == keys.DEV_SECRETS


@settings(max_examples=15)
@given(
    st.sampled_from([16, 20, 24, 28, 32]).flatmap(lambda n: st.binary(min_size=n, max_size=n)),
    st.integers(0, 2**31 - 1),
    st.text("aé ", max_size=4),
)
def test_any_mnemonic_as_eth_account(entropy: bytes, index: int, passphrase: str) -> None:
    phrase = Mnemonic().to_mnemonic(entropy)
    path = f"m/44'/60'/0'/0/{index}"
    expected = Account.from_mnemonic(phrase, passphrase=passphrase, account_path=path)
    assert secret_of(phrase, index, passphrase) == bytes(expected.key)
    assert is_phrase(phrase)


@pytest.mark.parametrize(
    "phrase",
    [
        "",
        "test",
        keys.DEV_MNEMONIC + " test",
        keys.DEV_MNEMONIC.replace("junk", "test"),
        keys.DEV_MNEMONIC.replace("junk", "jumk"),
        "junk " + keys.DEV_MNEMONIC.removesuffix(" junk"),
    ],
)
def test_a_mistyped_phrase_is_refused_without_showing_it(phrase: str) -> None:
    with pytest.raises(Invalid) as error:
        secret_of(phrase)
    assert error.value.code == "key"
    assert "jumk" not in str(error.value)


@pytest.mark.parametrize("index", [-1, 2**31])
def test_impossible_accounts(index: int) -> None:
    with pytest.raises(Invalid):
        secret_of(keys.DEV_MNEMONIC, index)


def test_what_is_no_phrase() -> None:
    for text in ("", "word", "ab12 cd", "0x12", '{"version": 3}'):
        assert not is_phrase(text)
