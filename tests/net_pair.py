"""A Net alone in a process, for tests: prints its address, echoes frames. Or a pair, measured.

``python -m tests.net_pair SECRET_BYTE [deaf|sink]``: the key is that byte 32 times; ``deaf`` hands
over no event once a peer is there, ``sink`` echoes only frames that begin with ``?``. Ends when its
standard input does. ``python -m tests.net_pair measure`` prints the figures of ADR 20.
"""

import asyncio
import statistics
import subprocess
import sys
import time

from dipnet.effects import Connected, Received
from dipnet.mailbox import Event
from dipnet.net import Net

LOOPBACK = "/ip4/127.0.0.1/tcp/0"


async def run(secret: bytes, mode: str) -> None:
    def on_event(event: Event) -> None:
        if isinstance(event, Received):
            if mode != "sink" or event.data.startswith(b"?"):
                net.send(event.peer, event.protocol, event.data)
        elif isinstance(event, Connected) and mode == "deaf":
            net.pause()

    net = Net(secret=secret, listen=LOOPBACK, on_event=on_event, on_failure=sys.exit)
    _, addresses = net.start()
    print(addresses[0], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    net.stop()


async def measure() -> None:
    """Both ends on this machine; seconds through the whole seam, main thread to main thread."""
    events: asyncio.Queue[Event] = asyncio.Queue()
    net = Net(
        secret=bytes([1]) * 32, listen=LOOPBACK, on_event=events.put_nowait, on_failure=sys.exit
    )
    net.start()
    command = [sys.executable, "-m", "tests.net_pair", "2", "sink"]
    with subprocess.Popen(  # noqa: ASYNC220
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as sink:
        assert sink.stdin is not None
        assert sink.stdout is not None
        address = sink.stdout.readline().strip()
        start = time.perf_counter()
        net.dial(address)
        connected = await events.get()
        print(f"connect {(time.perf_counter() - start) * 1e3:.1f} ms")
        assert isinstance(connected, Connected)

        async def send(data: bytes, count: int) -> None:
            for sent in range(count):
                while not net.send(connected.peer, "gossip", data):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                if sent % 64 == 63:
                    await asyncio.sleep(0)

        async def timed(data: bytes, count: int) -> float:
            start = time.perf_counter()
            await send(data, count)
            await send(b"?", 1)
            await events.get()
            return time.perf_counter() - start

        trips = [await timed(b"", 0) for _ in range(1000)]
        print(f"round trip p50 {statistics.median(trips) * 1e6:.0f} us")
        for size, count in ((256, 100_000), (64 << 10, 4000), (1 << 20, 200)):
            rate = count / await timed(bytes(size), count)
            print(f"{size} B frames: {rate:.0f}/s, {rate * size / 1e6:.0f} MB/s")
        net.stop()
        sink.stdin.close()


if __name__ == "__main__":
    if sys.argv[1] == "measure":
        asyncio.run(measure())
    else:
        asyncio.run(run(bytes([int(sys.argv[1])]) * 32, "".join(sys.argv[2:])))
