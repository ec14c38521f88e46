"""Accounts of web3.py that stake and vote through the ABI that ``dipnet delegate abi`` prints."""

import json
import subprocess
import sys
from typing import Any

import requests
from web3 import Web3

from dipnet.consensus.chain.schedule import commitment, seed_key, seed_secret
from dipnet.consensus.staking.candidates import registration_digest
from dipnet.consensus.staking.idpos import DPOS_ADDRESS
from dipnet.primitives.crypto import public_key, sign
from tests import ROOT
from tests.fixtures.processes import environment

ETHER = 10**18
GAS = 1_000_000
"""Not estimated: a vote is sent before the stake that it needs is in a block."""


def shipped_abi() -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "dipnet.cli.main", "delegate", "abi"]
    told = subprocess.run(command, env=environment(), cwd=ROOT, capture_output=True, check=True)
    return list(json.loads(told.stdout))


class Account:
    """One account at one node; ``sends`` returns the receipt."""

    def __init__(
        self, url: str, session: requests.Session, secret: bytes, abi: list[dict[str, Any]]
    ) -> None:
        self._web3 = Web3(Web3.HTTPProvider(url, session=session))
        self._signer = self._web3.eth.account.from_key(secret)
        self._contract = self._web3.eth.contract(Web3.to_checksum_address(DPOS_ADDRESS), abi=abi)
        self._nonce = int(self._web3.eth.get_transaction_count(self._signer.address))
        self.address = bytes.fromhex(self._signer.address[2:])

    def sends(self, method: str, *arguments: Any, value: int = 0) -> Any:
        """Sends a transaction of IDpos without waiting for it; its hash."""
        function = getattr(self._contract.functions, method)(*arguments)
        tx = function.build_transaction(
            {"from": self._signer.address, "value": value, "nonce": self._nonce, "gas": GAS}
        )
        self._nonce += 1
        signed = self._signer.sign_transaction(tx)
        return self._web3.eth.send_raw_transaction(signed.raw_transaction)

    def receipt(self, sent: Any) -> Any:
        """Waits for the receipt of a transaction, which is to succeed."""
        receipt = self._web3.eth.wait_for_transaction_receipt(sent, timeout=60, poll_latency=0.1)
        assert receipt["status"] == 1, receipt
        return receipt

    def reads(self, method: str, *arguments: Any) -> Any:
        return getattr(self._contract.functions, method)(*arguments).call()

    def registers(self, name: str, signing_secret: bytes) -> Any:
        """Makes the account a candidate that signs with that key, and commits to its first seed."""
        chain_id = self._web3.eth.chain_id
        proof = sign(registration_digest(chain_id, self.address), signing_secret)
        first = commitment(seed_secret(seed_key(signing_secret), 0))
        return self.sends(
            "register", name, "", 500, public_key(signing_secret), first, bytes(32), proof
        )
