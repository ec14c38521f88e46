"""A real ``dipnetd dev`` in a process of its own, and clients that remember what it told them."""

import contextlib
import http.client
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dipnet.dag.vertex import VertexDraft, sign_vertex
from dipnet.ledger.tx import sign_tx
from dipnet.primitives import crypto
from dipnet.sdk.keys import DEV_SECRETS
from tests import ROOT

SLOT_MS = 200
PATIENCE_S = 30
"""Until something that must happen is given up: only a failing test waits for it."""

READY = re.compile(r"JSON-RPC +http://127\.0\.0\.1:(\d+)")
PEERS = re.compile(r"peers +(/ip4/\S+)")
Gone = (OSError, http.client.HTTPException)


class Program:
    """Started at once; ``ready`` waits for its interface, ``ended`` for its end."""

    def __init__(self, data: Path, *flags: str, file_bytes_max: int | None = None) -> None:
        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if file_bytes_max is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))

        flags = (f"--slot-ms={SLOT_MS}", *flags)
        if not any(flag.startswith("--rpc-port") for flag in flags):
            flags = ("--rpc-port=0", *flags)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dipnet.dipnetd.main", "dev", f"--data={data}", *flags],
            env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "300", "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=limit,  # nothing else runs between fork and exec
        )
        self.lines: list[str] = []
        self._clients: list[Client] = []
        self._read = threading.Event()
        self._reader = threading.Thread(target=self._keep, daemon=True)
        self._reader.start()

    def _keep(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if READY.search(line):
                self._read.set()
        self._read.set()

    def ready(self) -> "Program":
        assert self._read.wait(PATIENCE_S)
        assert READY.search(self.said), self.said
        return self

    @property
    def said(self) -> str:
        return "".join(self.lines)

    @property
    def port(self) -> int:
        found = READY.search(self.said)
        assert found, self.said
        return int(found[1])

    @property
    def address(self) -> str:
        found = PEERS.search(self.said)
        assert found, self.said
        return found[1]

    def kill(self, number: int = signal.SIGKILL) -> int:
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """The exit code; all that it said is in ``said``."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def client(self) -> "Client":
        """A connection of its own, closed with the program."""
        self._clients.append(Client(self.port))
        return self._clients[-1]

    def rss_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (kib,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
        return int(kib) * 1024

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.ended()
        for client in self._clients:
            client.close()


class Refused(Exception):
    """The error that the node answered."""


class Client:
    """JSON-RPC over a connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)

    def __call__(self, method: str, *params: object) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        self._connection.request("POST", "/", body, {"content-type": "application/json"})
        answer = json.loads(self._connection.getresponse().read())
        if "error" in answer:
            raise Refused(answer["error"]["message"])
        return answer["result"]

    def close(self) -> None:
        self._connection.close()

    def until(self, what: Callable[["Client"], Any]) -> Any:
        """Asks until the answer is true; the node's blocks are the clock."""
        while not (answer := what(self)):
            threading.Event().wait(0.01)
        return answer

    def height(self) -> int:
        return int(self("eth_blockNumber"), 16)


class Memory:
    """Facts that clients were told, and must find again after any crash."""

    def __init__(self) -> None:
        self.vertices: list[str] = []
        self.receipts: dict[str, str] = {}  # transaction -> block hash
        self.head = (0, "")
        self.count = 0

    def check(self, ask: Client) -> None:
        for vertex_id in self.vertices:
            assert ask("dag_status", vertex_id) == "accepted"
        for tx_hash, block_hash in self.receipts.items():
            receipt = ask("eth_getTransactionReceipt", tx_hash)
            assert receipt is not None
            assert receipt["blockHash"] == block_hash
        number, block_hash = self.head
        if block_hash:
            assert ask("eth_getBlockByNumber", hex(number), False)["hash"] == block_hash


class Devices:
    """Signs readings; ``submit`` notes those that the node has taken."""

    def __init__(self, memory: Memory, ask: Client, payload_bytes: int = 12) -> None:
        self._memory, self._ask, self._size = memory, ask, payload_bytes
        self._key = crypto.keccak256(os.urandom(8))
        self._issuer = "0x" + crypto.address(crypto.public_key(self._key)).hex()
        self._prev, self._seq = bytes(32), 0

    def submit(self, count: int) -> None:
        template = self._ask("dag_template", self._issuer, 4)
        wires = []
        for _ in range(count):
            self._seq += 1
            draft = VertexDraft(
                chain_id=template["chainId"],
                ref_height=template["refHeight"],
                ref_hash=bytes.fromhex(template["refHash"][2:]),
                seq=self._seq,
                prev=self._prev,
                timestamp_ms=template["timestampMs"],
                topic=bytes(16),
                payload=os.urandom(self._size),
                parents=tuple(bytes.fromhex(parent[2:]) for parent in template["parents"]),
            )
            wires.append(sign_vertex(self._key, draft))
        results = self._ask("dag_submit", ["0x" + wire.hex() for wire in wires])
        assert all(result.get("status") == "accepted" for result in results), results
        self._memory.vertices += [result["id"] for result in results]
        self._memory.count += len(results)
        self._prev = bytes.fromhex(results[-1]["id"][2:])


def pay(ask: Client, payer: int, nonce: int) -> str:
    """Sends a wei to an unused address; the transaction's hash."""
    raw = sign_tx(
        DEV_SECRETS[payer],
        type=2,
        chain_id=2018,
        nonce=nonce,
        max_priority_fee=10**9,
        max_fee=10**11,
        gas=21_000,
        to=bytes(20),
        value=1,
    )
    sent: str = ask("eth_sendRawTransaction", "0x" + raw.hex())
    return sent


class Load(threading.Thread):
    """Payments and readings without a pause, until the node is gone."""

    def __init__(self, ask: Client, memory: Memory, payer: int) -> None:
        super().__init__(daemon=True)
        self._ask, self._memory, self._payer = ask, memory, payer
        self.bug: BaseException | None = None

    def run(self) -> None:
        try:
            self._run(self._ask)
        except Gone:
            pass
        except BaseException as error:
            self.bug = error

    def _run(self, ask: Client) -> None:
        memory = self._memory
        devices = Devices(memory, ask)
        account = "0x" + crypto.address(crypto.public_key(DEV_SECRETS[self._payer])).hex()
        nonce = int(ask("eth_getTransactionCount", account, "latest"), 16)
        waiting: list[str] = []
        while True:
            devices.submit(10)
            if len(waiting) < 50:
                waiting.append(pay(ask, self._payer, nonce))
                nonce += 1
            receipt = ask("eth_getTransactionReceipt", waiting[0])
            if receipt:
                memory.receipts[waiting.pop(0)] = receipt["blockHash"]
                memory.count += 1
            block = ask("eth_getBlockByNumber", "latest", False)
            memory.head = (int(block["number"], 16), block["hash"])
