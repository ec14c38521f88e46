"""The ``dipnet_`` methods: status of the node, and accounts."""

import platform
from typing import Final

import dipnet
from dipnet.consensus.finality.header import Header
from dipnet.primitives.codec import to_hex
from dipnet.primitives.crypto import checksum
from dipnet.rpc import lookup
from dipnet.rpc.backend import Backend
from dipnet.rpc.block_json import JsonObject, quantity
from dipnet.rpc.dpos import slot_now
from dipnet.rpc.method import Param, RpcMethod
from dipnet.rpc.params import ADDRESS, BLOCK, BlockRef


def client_version() -> str:
    """The text of ``web3_clientVersion``: name/version/platform/language."""
    system = f"{platform.system().lower()}-{platform.machine()}"
    return f"dipnet/v{dipnet.__version__}/{system}/python{platform.python_version()}"


def _place(header: Header) -> JsonObject:
    return {"height": header.height, "hash": to_hex(header.hash), "slot": header.slot}


def status(backend: Backend) -> JsonObject:
    genesis, chain, now_ms = backend.genesis, backend.chain, backend.now_ms()
    pending, queued = backend.pool.counts()
    health = backend.health()
    return {
        "version": dipnet.__version__,
        "native": True,  # always: without the native code the package does not import
        "chainId": genesis.chain_id,
        "genesisHash": to_hex(chain.genesis_hash),
        "head": _place(chain.head) | {"timestampMs": chain.head.timestamp_ms},
        "safe": _place(chain.safe),
        "finalized": _place(chain.final),
        "slot": slot_now(backend),
        "slotMs": chain.parameters.slot_ms,
        "epoch": chain.epoch.number,
        "peerId": backend.peer_id,
        "listen": list(backend.listen_addresses()),
        "peers": list(backend.peers()),
        "syncing": backend.syncing() is not None,
        "pool": {"pending": pending, "queued": queued},
        "dag": backend.dag.stats(),
        "ready": not any(health.values()),
        "components": health,
        "uptimeMs": now_ms - backend.started_ms(),
    }


def account(backend: Backend, address: bytes, ref: BlockRef) -> JsonObject:
    found = lookup.account(backend, address, ref)
    return {
        "address": checksum(address),
        "kind": "common",  # the VM will add paradigms and instances
        "balance": quantity(found.balance),
        "nonce": found.nonce,
        "pendingNonce": backend.pool.pending_nonce(address, found.nonce),
    }


METHODS: Final = (
    RpcMethod(
        "dipnet_status",
        (),
        status,
        "object of version, native, chainId, genesisHash, head, safe, finalized, slot, "
        "slotMs, epoch, peerId, listen, peers, syncing, pool, dag, ready, components, uptimeMs",
        "The node at a glance. `components` has the complaint of each component, or null.",
    ),
    RpcMethod(
        "dipnet_account",
        (Param("address", ADDRESS), Param("block", BLOCK, "latest")),
        account,
        "object of address, kind, balance (quantity, wei), nonce, pendingNonce",
        "Kind, balance and nonces of an account.",
        ("not_found", "not_canonical", "no_state"),
    ),
)
