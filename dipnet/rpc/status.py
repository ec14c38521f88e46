"""The ``dipnet_`` methods and the gauges: what an operator or a wallet asks about this node."""

import platform
from collections.abc import Iterator
from typing import Final

import dipnet
from dipnet.codec import to_hex
from dipnet.consensus.header import Header
from dipnet.consensus.schedule import epoch_of, slot_at
from dipnet.crypto import checksum
from dipnet.metrics import Reading
from dipnet.rpc import lookup
from dipnet.rpc.backend import Backend
from dipnet.rpc.method import Method, Param
from dipnet.rpc.params import ADDRESS, BLOCK, BlockRef
from dipnet.rpc.views import View, quantity


def client_version() -> str:
    """As ``web3_clientVersion``: name/version/platform/language."""
    system = f"{platform.system().lower()}-{platform.machine()}"
    return f"dipnet/v{dipnet.__version__}/{system}/python{platform.python_version()}"


def _place(header: Header) -> View:
    return {"height": header.height, "hash": to_hex(header.hash), "slot": header.slot}


def status(backend: Backend) -> View:
    genesis, chain, now_ms = backend.genesis, backend.chain, backend.now_ms()
    slot = slot_at(genesis, now_ms)
    pending, queued = backend.pool.counts()
    health = backend.health()
    return {
        "version": dipnet.__version__,
        "native": True,  # the doors are no option: without them nothing here imports
        "chainId": genesis.chain_id,
        "genesisHash": to_hex(chain.genesis_hash),
        "head": _place(chain.head) | {"timestampMs": chain.head.timestamp_ms},
        "finalized": _place(chain.final) | {"advisory": True},
        "slot": slot,
        "slotMs": genesis.slot_ms,
        "epoch": epoch_of(genesis, slot),
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


def account(backend: Backend, address: bytes, ref: BlockRef) -> View:
    found = lookup.account(backend, address, ref)
    return {
        "address": checksum(address),
        "kind": "common",  # paradigms and instances come with the VM
        "balance": quantity(found.balance),
        "nonce": found.nonce,
        "pendingNonce": backend.pool.pending_nonce(address, found.nonce),
    }


def readings(backend: Backend) -> Iterator[Reading]:
    """The gauges of ``/metrics``, read at scrape time."""
    chain = backend.chain
    pending, queued = backend.pool.counts()
    behind_ms = max(backend.now_ms() - chain.head.timestamp_ms, 0)
    for name, text, value in (
        ("head_height", "Height of the head", chain.head.height),
        ("head_slot", "Slot of the head", chain.head.slot),
        ("head_age_seconds", "Age of the head's slot", behind_ms / 1000),
        ("head_gas_used", "Gas used in the head", chain.head.gas_used),
        ("head_base_fee_wei", "Base fee of the head", chain.head.base_fee),
        ("finalized_height", "Height of the finalized block (advisory)", chain.final.height),
        ("peers", "Connected peers", len(backend.peers())),
        ("syncing", "1 while catching up", int(backend.syncing() is not None)),
        ("uptime_seconds", "Since start", (backend.now_ms() - backend.started_ms()) / 1000),
    ):
        yield Reading(name, text, value)
    pool = "Waiting transactions"
    yield Reading("pool_txs", pool, pending, (("state", "pending"),))
    yield Reading("pool_txs", pool, queued, (("state", "queued"),))
    for name, count in backend.dag.stats().items():
        yield Reading("dag", "Counts of the DAG", count, (("of", name),))
    for component, complaint in backend.health().items():
        text = "1 while the component is fine"
        yield Reading("healthy", text, int(complaint is None), (("component", component),))


METHODS: Final = (
    Method(
        "dipnet_status",
        (),
        status,
        "object of version, native, chainId, genesisHash, head, finalized (with `advisory`), slot, "
        "slotMs, epoch, peerId, listen, peers, syncing, pool, dag, ready, components, uptimeMs",
        "The node at a glance. `components` names each with its complaint, null when it is fine.",
    ),
    Method(
        "dipnet_account",
        (Param("address", ADDRESS), Param("block", BLOCK, "latest")),
        account,
        "object of address, kind, balance (quantity, wei), nonce, pendingNonce",
        "An account as this chain sees it.",
        ("not_found", "not_canonical", "no_state"),
    ),
)
