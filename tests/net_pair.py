"""A Net alone in a process, for tests and measurements: prints its address, echoes frames.

``python -m tests.net_pair SECRET_BYTE [deaf|sink]``: the key is that byte 32 times; ``deaf`` hands
over no event once a peer is there, ``sink`` echoes only frames that begin with ``?``. Ends when its
standard input does.
"""

import asyncio
import sys

from dipnet.effects import Connected, Received
from dipnet.mailbox import Event
from dipnet.net import Net


async def run(secret: bytes, mode: str) -> None:
    def on_event(event: Event) -> None:
        if isinstance(event, Received):
            if mode != "sink" or event.data.startswith(b"?"):
                net.send(event.peer, event.protocol, event.data)
        elif isinstance(event, Connected) and mode == "deaf":
            net.pause()

    net = Net(secret=secret, listen="/ip4/127.0.0.1/tcp/0", on_event=on_event, on_failure=sys.exit)
    _, addresses = net.start()
    print(addresses[0], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    net.stop()


if __name__ == "__main__":
    asyncio.run(run(bytes([int(sys.argv[1])]) * 32, "".join(sys.argv[2:])))
