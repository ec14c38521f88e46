"""The two expected failures, and the table of every refusal.

``Invalid`` is the fault of a peer or a caller: refuse the input, lower the peer's score, answer
with a code. ``Corrupt`` is the fault of our disk: stop signing, say what to do, exit. Any other
exception is a bug and ends the process (docs/design.md "Rules", rule 4).
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row of the table: JSON-RPC error number, text (Ethereum's where Ethereum has the error),
    and what the caller can do.

    ``offence`` is the ``PeerOffence`` (p2p/scores.py) of a peer whose message or item is refused
    so. It is empty where the refusal says nothing of the peer: ``vote_old`` and ``block_old``,
    because a delegate repeats its last vote, and may be late; ``vote_limit`` and ``block_limit``,
    because the offender is the delegate and not the peer that relays.
    """

    rpc: int
    text: str
    remedy: str
    offence: str = ""


# JSON-RPC 2.0 numbers: -32700 parse, -32600 request, -32601 method, -32602 parameters.
# EIP-1474: -32000 invalid input, -32001 not found, -32005 limit exceeded.
REFUSALS: Final[dict[str, Refusal]] = {
    # --- bytes (codec, tx, block, vertex, wire)
    "record": Refusal(
        -32000, "malformed record", "encode as a canonical bounded record", offence="malformed"
    ),
    "rlp": Refusal(-32000, "rlp: invalid encoding", "encode as canonical RLP", offence="malformed"),
    "oversized": Refusal(-32000, "oversized data", "send fewer bytes", offence="malformed"),
    # --- transactions (texts of go-ethereum)
    "tx_type": Refusal(
        -32000, "transaction type not supported", "sign type 0, 1 or 2", offence="invalid_item"
    ),
    "tx_form": Refusal(
        -32000,
        "invalid transaction",
        "check every field of the transaction",
        offence="invalid_item",
    ),
    "chain_id": Refusal(
        -32000, "invalid chain id for signer", "sign for this chain's id", offence="invalid_item"
    ),
    "unprotected": Refusal(
        -32000,
        "only replay-protected (EIP-155) transactions allowed over RPC",
        "sign with a chain id",
        offence="invalid_item",
    ),
    "sender": Refusal(
        -32000, "invalid sender", "sign again; s must be in the lower half", offence="bad_signature"
    ),
    "sender_code": Refusal(-32000, "sender not an eoa", "send from an account without code"),
    "nonce_low": Refusal(-32000, "nonce too low", "use the account's next nonce"),
    "nonce_high": Refusal(-32000, "nonce too high", "send the missing nonces first"),
    "nonce_max": Refusal(-32000, "nonce has max value", "use another account"),
    "funds": Refusal(
        -32000, "insufficient funds for gas * price + value", "fund the account or send less"
    ),
    "intrinsic_gas": Refusal(
        -32000, "intrinsic gas too low", "raise the gas limit", offence="invalid_item"
    ),
    "floor_gas": Refusal(
        -32000, "insufficient gas for floor data gas cost", "raise the gas limit (EIP-7623)"
    ),
    "block_gas": Refusal(-32000, "exceeds block gas limit", "lower the gas limit"),
    "gas_cap": Refusal(-32000, "transaction gas limit too high", "lower the gas limit (EIP-7825)"),
    "fee_cap_low": Refusal(
        -32000,
        "max fee per gas less than block base fee",
        "raise maxFeePerGas above the base fee",
    ),
    "tip_above_cap": Refusal(
        -32000,
        "max priority fee per gas higher than max fee per gas",
        "lower maxPriorityFeePerGas",
    ),
    "underpriced": Refusal(-32000, "transaction underpriced", "raise the fee"),
    "replacement": Refusal(
        -32000, "replacement transaction underpriced", "raise both fees by at least 10 %"
    ),
    "known": Refusal(-32000, "already known", "wait for its receipt"),
    "pool_full": Refusal(-32005, "txpool is full", "wait, or pay a higher fee"),
    "account_full": Refusal(
        -32005, "account limit exceeded", "wait until pending transactions are in a block"
    ),
    "no_vm": Refusal(
        -32000,
        "contract creation is not supported yet",
        "this version takes payments and calls of system contracts only",
    ),
    "initcode": Refusal(-32000, "max initcode size exceeded", "send a smaller contract"),
    # --- genesis and configuration
    "genesis": Refusal(-32000, "invalid genesis", "correct the named field of genesis.json"),
    "config": Refusal(-32000, "invalid configuration", "correct the named option"),
    # --- blocks
    "block_form": Refusal(
        -32000, "invalid block", "see docs/spec/bytes.md for the header", offence="invalid_block"
    ),
    "block_parent": Refusal(-32001, "unknown parent", "send its ancestors first"),
    "block_epoch": Refusal(
        -32000, "block of another epoch", "follow the boundaries of the chain", offence="untimely"
    ),
    "block_seed": Refusal(
        -32000,
        "the reveal does not open the commitment",
        "use the seed key of the delegate",
        offence="invalid_block",
    ),
    "unfinal": Refusal(
        -32005,
        "finality is far behind",
        "wait: only system transactions are taken until it is back",
    ),
    "report": Refusal(-32000, "report punishes nobody", "leave it out, or pay its fee"),
    "report_gas": Refusal(
        -32000, "report runs out of gas", "give it all gas that the block has left"
    ),
    "rules_unknown": Refusal(-32000, "rules unknown to this version", "update dipnetd"),
    "block_slot": Refusal(
        -32000, "block slot out of order", "use a later slot", offence="invalid_block"
    ),
    "block_future": Refusal(-32000, "block from the future", "check the clock", offence="untimely"),
    "block_leader": Refusal(
        -32000, "block from the wrong proposer", "wait for your slot", offence="invalid_block"
    ),
    "block_signature": Refusal(
        -32000,
        "invalid proposer signature",
        "sign with the delegate's key",
        offence="bad_signature",
    ),
    "block_limit": Refusal(-32005, "too many blocks of one slot", "propose once in a slot"),
    "block_tx": Refusal(
        -32000, "invalid transaction in block", "leave the transaction out", offence="invalid_block"
    ),
    "block_root": Refusal(
        -32000, "block root mismatch", "recompute the roots", offence="invalid_block"
    ),
    "block_old": Refusal(
        -32000, "block beside or below the final block", "synchronise from another peer"
    ),
    # --- votes and certificates
    "vote_form": Refusal(
        -32000, "malformed vote", "sign a prevote or a commit", offence="malformed"
    ),
    "vote_epoch": Refusal(
        -32001, "vote of an unknown epoch", "vote after its boundary is known", offence="untimely"
    ),
    "vote_slot": Refusal(
        -32000, "vote slot ahead of the clock", "check the clock, vote in time", offence="untimely"
    ),
    "vote_old": Refusal(-32000, "vote on what is settled", "vote above the final block"),
    "vote_member": Refusal(
        -32000,
        "vote of no delegate",
        "use the index of a member of the epoch's set",
        offence="bad_signature",
    ),
    "vote_signature": Refusal(
        -32000, "invalid vote signature", "sign with the delegate's key", offence="bad_signature"
    ),
    "vote_limit": Refusal(-32005, "too many votes of one delegate", "vote once in a slot"),
    "certificate_form": Refusal(
        -32000,
        "malformed certificate",
        "give one bit of the set and one signature for each vote",
        offence="bad_certificate",
    ),
    "certificate_quorum": Refusal(
        -32000,
        "certificate below quorum",
        "collect more than two thirds of the set",
        offence="bad_certificate",
    ),
    "certificate_signature": Refusal(
        -32000,
        "invalid signature in certificate",
        "leave out the signatures that do not verify",
        offence="bad_certificate",
    ),
    "certificate_block": Refusal(
        -32000,
        "certificate does not fit its block",
        "certify the ballot that the header of the block allows",
        offence="untimely",
    ),
    "certificate_section": Refusal(
        -32000,
        "certificates in the wrong place",
        "carry only certificates that raise justify or final",
        offence="invalid_block",
    ),
    # --- IDpos (reasons of reverts)
    "dpos_call": Refusal(-32000, "malformed call of IDpos", "encode the call by the ABI"),
    "dpos_profile": Refusal(-32000, "invalid profile of a delegate", "correct the named argument"),
    "dpos_key": Refusal(-32000, "unusable signing key", "sign with a key that no delegate has"),
    "dpos_candidates": Refusal(-32005, "too many candidates", "wait until a candidate resigns"),
    "dpos_registered": Refusal(-32000, "no delegate any more", "register another account"),
    "dpos_stake": Refusal(-32000, "not enough stake", "stake more, or unstake less"),
    "dpos_unbonding": Refusal(-32000, "stake is being released already", "claim that stake first"),
    "dpos_unknown": Refusal(-32000, "unknown delegate", "name a registered delegate"),
    "dpos_votes": Refusal(-32000, "invalid list of delegates", "name fewer, each once"),
    "dpos_voted": Refusal(-32000, "voted in this epoch already", "vote again in the next epoch"),
    "dpos_claim": Refusal(-32000, "nothing to claim", "wait for rewards or for the release"),
    "dpos_offence": Refusal(
        -32000, "not an offence", "send two records that contradict each other"
    ),
    "dpos_old": Refusal(-32000, "evidence is too old", "report within evidence_epochs"),
    "dpos_tombstoned": Refusal(-32000, "delegate is punished already", "nothing is left to do"),
    "dpos_member": Refusal(
        -32000, "not of the current set", "send it from a member of the current set"
    ),
    "dpos_parameter": Refusal(-32000, "invalid parameter", "correct its name or value"),
    "dpos_proposal": Refusal(
        -32000, "proposal cannot be made or voted for", "see dipnet delegate parameters"
    ),
    # --- light clients
    "light_chain": Refusal(
        -32000, "header of another chain", "ask a node of the chain that you trust a header of"
    ),
    "light_epoch": Refusal(-32000, "wrong epoch", "follow the boundaries from a lower epoch first"),
    "light_border": Refusal(-32000, "not an epoch boundary", "ask another node"),
    "light_set": Refusal(
        -32000, "set of delegates does not match its boundary", "ask another node"
    ),
    "light_path": Refusal(-32000, "headers do not link", "ask another node"),
    "light_certificate": Refusal(
        -32000, "certificate does not prove this header", "ask another node"
    ),
    "light_age": Refusal(
        -32000,
        "trusted header too old",
        "get a newer one from somebody you trust, or --force if you know that no retired "
        "delegate has lost its key",
    ),
    "light_conflict": Refusal(
        -32000,
        "final headers contradict each other",
        "trust neither: ask several operators and report both headers",
    ),
    # --- signing with a delegate's key
    "votes_missing": Refusal(
        -32000, "no vote state for this key", "dipnetd votes recover, see docs/signing.md"
    ),
    "votes_damaged": Refusal(
        -32000, "damaged vote state", "dipnetd votes recover, see docs/signing.md"
    ),
    "votes_older": Refusal(
        -32000,
        "vote state older than what was signed",
        "dipnetd votes recover, see docs/signing.md",
    ),
    "votes_foreign": Refusal(
        -32000,
        "vote state of another key or chain",
        "name the file that was made with this key, and this chain's genesis.json",
    ),
    "locked": Refusal(-32000, "in use by another process", "stop the other process"),
    "signer": Refusal(
        -32005, "no answer from the signer", "start dipnetd signer, or correct --signer"
    ),
    # --- vertices
    "vertex_form": Refusal(
        -32000, "malformed vertex", 'see docs/spec/dag.md "Vertex"', offence="malformed"
    ),
    "vertex_chain": Refusal(
        -32000, "vertex of another chain", "use this chain's id", offence="invalid_item"
    ),
    "vertex_parents": Refusal(
        -32000,
        "vertex parents unsorted or repeated",
        "sort parents by id, each once",
        offence="invalid_item",
    ),
    "vertex_age": Refusal(
        -32000,
        "vertex parent too old or newer than its reference",
        "take a new template",
        offence="invalid_item",
    ),
    "vertex_ref": Refusal(
        -32000, "vertex reference block is not on this chain", "take a new template"
    ),
    "vertex_signature": Refusal(
        -32000,
        "invalid vertex signature",
        "sign the id with the issuer's key, low s",
        offence="bad_signature",
    ),
    "vertex_payload": Refusal(
        -32000,
        "vertex payload does not match its hash",
        "hash the payload you send",
        offence="invalid_item",
    ),
    "senml": Refusal(-32000, "malformed SenML pack", "encode readings as RFC 8428 in CBOR"),
    "vertex_orphan": Refusal(
        -32005, "too many vertices waiting for parents", "send the parents first"
    ),
    # --- peers
    "peer_message": Refusal(
        -32000, "malformed peer message", "update the peer", offence="malformed"
    ),
    "peer_network": Refusal(
        -32000, "peer of another network", "use this network's genesis.json", offence="network"
    ),
    "peer_limit": Refusal(-32005, "peer limit exceeded", "slow down", offence="rate"),
    # --- JSON-RPC
    "parse": Refusal(-32700, "parse error", "send one JSON object or a batch"),
    "request": Refusal(-32600, "invalid request", "send jsonrpc, id, method, params"),
    "method": Refusal(-32601, "the method does not exist/is not available", "see docs/rpc.md"),
    "params": Refusal(-32602, "invalid params", "see docs/rpc.md"),
    "host": Refusal(-32600, "invalid host specified", "name it in the node's rpc_hosts"),
    "origin": Refusal(-32600, "invalid origin specified", "name it in the node's rpc_origins"),
    "http": Refusal(-32600, "invalid HTTP request", "POST / with Content-Type: application/json"),
    "subscription": Refusal(-32001, "notifications not supported", "subscribe over a WebSocket"),
    "no_state": Refusal(
        -32000, "missing trie node", "ask at latest; this node does not keep older state"
    ),
    "not_canonical": Refusal(
        -32000, "hash is not currently canonical", "ask by height, or leave out requireCanonical"
    ),
    "allowance": Refusal(
        -32000, "gas required exceeds allowance", "fund the account or lower the fee"
    ),
    "out_of_gas": Refusal(-32000, "out of gas", "raise the gas limit"),
    "reverted": Refusal(
        3, "execution reverted", "mend what the reason names; see docs/delegates.md"
    ),
    "internal": Refusal(-32603, "internal error", "report it with the node's log"),
    "not_found": Refusal(-32001, "not found", "check the hash or number"),
    "limit": Refusal(-32005, "limit exceeded", "ask for less or slow down"),
    "busy": Refusal(-32005, "node is busy", "retry in a moment"),
    "disk": Refusal(-32005, "disk is nearly full", "free space where the data directory lies"),
    "stopping": Refusal(-32005, "node is stopping", "retry after it is back"),
    "syncing": Refusal(-32005, "node is syncing", "wait until dipnet_status says ready"),
    # --- programs (not sent to peers or clients)
    "key": Refusal(-32000, "unusable key", "check the key file, its password and its rights"),
    "unreachable": Refusal(-32005, "no answer from the node", "start it, or correct --url"),
    "remote": Refusal(-32000, "the node answered", "see docs/rpc.md"),
    "outbox": Refusal(-32000, "unusable outbox", "choose another --state"),
    "series": Refusal(-32000, "unusable time series", "correct the file or the named option"),
}


class Invalid(Exception):
    """A refusal of foreign input. ``code`` is a key of ``REFUSALS``, ``detail`` names the wrong
    value."""

    def __init__(self, code: str, detail: str = "") -> None:
        row = REFUSALS[code]
        super().__init__(f"{row.text}: {detail}" if detail else row.text)
        self.code = code
        self.detail = detail
        self.refusal = row


class Corrupt(Exception):
    """Our disk returned other bytes than were written, or a write failed. The process stops."""


RECORD_REMEDY: Final = (
    "restore the data directory from a backup, or move it away and let the node synchronise again"
)
"""The remedy for a damaged record, for the operator that reads the text of ``Corrupt``."""
