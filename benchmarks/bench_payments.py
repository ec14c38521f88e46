"""Payments per second from a client's socket to a block, against bare recovery of their senders.

``dipnetd dev`` in a process of its own, with slots of a second. Transfers of many accounts, signed
before the clock runs, arrive as JSON batches over a few connections; the clock stops when the last
of them is in a block that ``eth_getBlockByNumber`` shows. The client shares the machine: its JSON
and its sockets are part of the figure.
"""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import network
from benchmarks.harness import Figure, Row, Run, Scale, clocked, measure, two_threads
from benchmarks.network import Client, Process
from dipnet.ledger.tx import sign_tx
from dipnet.primitives.crypto import address, public_key, recover_batch, sha256, sign

ACCOUNTS: Final = {"full": 200, "quick": 100, "tiny": 4}
PAYMENTS: Final = {"full": 20_000, "quick": 4_000, "tiny": 8}
RECOVERIES: Final = {"full": 3_000, "quick": 1_000, "tiny": 8}
BATCH: Final = 100
CONNECTIONS: Final = 4
GAS: Final = 21_000
MAX_FEE: Final = 10**12
TIP: Final = 10**9
INCLUDED_S: Final = 120
POLL_S: Final = 0.02


def run(scale: Scale, say: Callable[[str], None]) -> list[Figure]:
    """From the first byte sent to the last payment in a block; acceptance is in the notes."""
    secrets = [network.secret(f"payer {index}") for index in range(ACCOUNTS[scale.name])]
    payers = [address(public_key(one)) for one in secrets]
    say(f"  signing {PAYMENTS[scale.name]:,} payments of {len(payers)} accounts")
    bodies = _bodies(_payments(secrets, PAYMENTS[scale.name]))
    limit = partial(two_threads, _recoveries(secrets[0], RECOVERIES[scale.name]))
    row = Row(
        f"payments to a block, batches of {BATCH}", "payments/s",
        partial(_pay, payers, bodies, PAYMENTS[scale.name]),
        limit, "raw recover, 2 threads", ">= 1,000/s",
    )  # fmt: skip
    return measure([row], scale, say)


def _payments(secrets: Sequence[bytes], count: int) -> list[bytes]:
    """Raw transfers, account after account, nonces from 0."""
    to = [address(public_key(network.secret(f"shop {index}"))) for index in range(50)]
    return [
        sign_tx(
            secrets[number % len(secrets)],
            chain_id=network.CHAIN_ID,
            nonce=number // len(secrets),
            gas=GAS,
            max_fee=MAX_FEE,
            max_priority_fee=TIP,
            to=to[number % len(to)],
            value=1 + number,
        )
        for number in range(count)
    ]


def _bodies(raws: Sequence[bytes]) -> list[bytes]:
    """JSON batches of ``eth_sendRawTransaction``."""
    calls = [
        {
            "jsonrpc": "2.0",
            "id": id,
            "method": "eth_sendRawTransaction",
            "params": ["0x" + raw.hex()],
        }
        for id, raw in enumerate(raws)
    ]
    return [json.dumps(calls[at : at + BATCH]).encode() for at in range(0, len(calls), BATCH)]


def _recoveries(secret: bytes, count: int) -> Callable[[int], int]:
    digests = [sha256(number.to_bytes(8)) for number in range(count)]
    signatures = b"".join(sign(digest, secret) for digest in digests)
    joined = b"".join(digests)

    def recover(threads: int) -> int:
        recover_batch(joined, signatures, threads)
        return count

    return recover


@dataclass(frozen=True, slots=True)
class _Sent:
    """When the last answer came and when the last payment was seen in a block, s from the start."""

    accepted_s: float
    included_s: float


def _pay(payers: Sequence[bytes], bodies: Sequence[bytes], count: int) -> Run:
    with tempfile.TemporaryDirectory() as name:
        network.write_genesis(Path(name), payers)
        with network.process(Path(name)) as node:
            cpu = node.cpu_s()
            with clocked() as client:
                sent = _send_all(node, bodies, count)
            cpu = node.cpu_s() - cpu
    notes = {
        "accepted_per_s": count / sent.accepted_s,
        "node_cpu_us": cpu / count * 1e6,
        "client_cpu_us": client.cpu_s / count * 1e6,
    }
    return Run(count / sent.included_s, cpu / count * 1e6, notes)


def _send_all(node: Process, bodies: Sequence[bytes], count: int) -> _Sent:
    start = time.perf_counter()
    # Nonces of an account go up from batch to batch; what overtakes another waits in the pool.
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        jobs = [
            pool.submit(_send, node.port, bodies[first::CONNECTIONS])
            for first in range(CONNECTIONS)
        ]
        _watch(node.port, count, jobs)
        included_s = time.perf_counter() - start
        return _Sent(max(job.result() for job in jobs) - start, included_s)


def _send(port: int, bodies: Sequence[bytes]) -> float:
    """Sends one after another; when the last was answered."""
    client = Client(port)
    for body in bodies:
        for answer in client.post(body):
            if "error" in answer:
                raise RuntimeError(f"a good payment was refused: {answer['error']['message']}")
    client.close()
    return time.perf_counter()


def _watch(port: int, count: int, jobs: Sequence["Future[float]"]) -> None:
    """Returns when so many payments are in blocks; fails when a sender has."""
    client = Client(port)
    height, seen, until = 0, 0, time.monotonic() + INCLUDED_S
    while seen < count:
        if time.monotonic() > until:
            raise RuntimeError(f"{seen} of {count} payments were included in {INCLUDED_S} s")
        for job in jobs:
            if job.done():
                job.result()
        block = client.call("eth_getBlockByNumber", hex(height + 1), False)
        if block is None:
            time.sleep(POLL_S)
        else:
            height += 1
            seen += len(block["transactions"])
    client.close()
