"""Payments per second from a client's socket to a block, against bare recovery of their senders.

A development chain runs in a process of its own, with slots of 200 ms. Transfers of many accounts,
signed before the clock runs, arrive as JSON batches over a few connections. A slice sends 10,000 of
them; its clock starts with a new block and stops when the last payment is in a block that
``eth_getBlockByNumber`` shows, so that the figure moves in steps of a slot. The client shares the
machine: its JSON and its sockets are part of the figure. The limit recovers on two threads of the
client's process, while the node has no payments.
"""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import network
from benchmarks.harness import Figure, Row, Run, Scale, Slices, clocked, measure, two_threads
from benchmarks.network import Client, Process
from dipnet.ledger.tx import sign_tx
from dipnet.primitives.crypto import address, public_key, recover_batch, sha256, sign

ACCOUNTS: Final = {"full": 200, "quick": 100, "tiny": 4}
PAYMENTS: Final = {"full": 10_000, "quick": 4_000, "tiny": 8}  # of a slice
SESSION_SLICES: Final = {"full": 5, "quick": 4, "tiny": 1}
RECOVERIES: Final = {"full": 3_000, "quick": 1_000, "tiny": 8}
BATCH: Final = 100
CONNECTIONS: Final = 4
SLOT_MS: Final = 200
GAS: Final = 21_000
MAX_FEE: Final = 10**12
TIP: Final = 10**9
INCLUDED_S: Final = 120
POLL_S: Final = 0.02


def run(scale: Scale, say: Callable[[str], None]) -> list[Figure]:
    """Payments per second until the last is in a block; the rate of acceptance is in the notes."""
    secrets = [network.secret(f"payer {index}") for index in range(ACCOUNTS[scale.name])]
    payers = [address(public_key(secret)) for secret in secrets]
    count, slices = PAYMENTS[scale.name], SESSION_SLICES[scale.name]
    say(f"  signing {count * slices:,} payments of {len(payers)} accounts")
    raws = _payments(secrets, count * slices)
    bodies = [_bodies(raws[at : at + count]) for at in range(0, len(raws), count)]
    row = Row(
        f"payments to a block, batches of {BATCH}", "payments/s",
        partial(_sessions, payers, bodies, count),
        partial(two_threads, _recoveries(secrets[0], RECOVERIES[scale.name])),
        "raw recover, 2 threads", ">= 1,000/s",
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


def _sessions(payers: Sequence[bytes], slices: Sequence[Sequence[bytes]], count: int) -> Slices:
    with tempfile.TemporaryDirectory() as name:
        network.write_genesis(Path(name), payers, SLOT_MS)
        with network.process(Path(name)) as node, closing(Client(node.port)) as client:
            for bodies in slices:
                yield partial(_pay, node, client, bodies, count)


def _pay(node: Process, client: Client, bodies: Sequence[bytes], count: int) -> Run:
    height = _next_block(client)
    cpu = node.cpu_s()
    with clocked() as ours:
        start = time.perf_counter()
        accepted_s = _send_all(node, client, bodies, count, height) - start
    cpu = node.cpu_s() - cpu
    notes = {
        "accepted_per_s": count / accepted_s,
        "node_cpu_us": cpu / count * 1e6,
        "client_cpu_us": ours.cpu_s / count * 1e6,
    }
    return Run(count / ours.wall_s, cpu / count * 1e6, notes)


def _next_block(client: Client) -> int:
    """Waits for a new block; its height."""
    before = height = int(client.call("eth_blockNumber"), 16)
    until = time.monotonic() + INCLUDED_S
    while height == before:
        if time.monotonic() > until:
            raise RuntimeError(f"no block in {INCLUDED_S} s")
        time.sleep(POLL_S)
        height = int(client.call("eth_blockNumber"), 16)
    return height


def _send_all(
    node: Process, client: Client, bodies: Sequence[bytes], count: int, height: int
) -> float:
    """Sends all and waits until they are in blocks above ``height``; when the last was answered."""
    # Nonces of an account go up from batch to batch; a payment that comes early waits in the pool.
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        jobs = [
            pool.submit(_send, node.port, bodies[first::CONNECTIONS])
            for first in range(CONNECTIONS)
        ]
        _watch(client, count, height, jobs)
        return max(job.result() for job in jobs)


def _send(port: int, bodies: Sequence[bytes]) -> float:
    """Sends one body after another; when the last was answered, by ``time.perf_counter``."""
    with closing(Client(port)) as client:
        for body in bodies:
            for answer in client.post(body):
                if "error" in answer:
                    raise RuntimeError(f"a good payment was refused: {answer['error']['message']}")
    return time.perf_counter()


def _watch(client: Client, count: int, height: int, jobs: Sequence["Future[float]"]) -> None:
    """Returns when so many payments are in blocks above ``height``; fails when a sender has."""
    seen, until = 0, time.monotonic() + INCLUDED_S
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
