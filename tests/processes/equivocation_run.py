"""``make equivocator``: a delegate that signs twice is punished on the chain, by real processes.

For each offence a network of its own: honest ``dipnetd`` of the release, and one
``tests/processes/equivocator.py``. It is measured over RPC, on every honest node: the blocks after
the offence, up to the one whose receipt has ``Slashed``, are ``BLOCKS_MAX`` at most. The reporter
is the proposer of that block; no delegate has an account with money.
"""

import argparse
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dipnet.consensus.staking.actions import SLASHED
from dipnet.consensus.staking.idpos import DPOS_ADDRESS
from dipnet.daemon import networks
from dipnet.primitives.crypto import checksum
from dipnet.sdk import keys
from tests.fixtures.processes import ask, until
from tests.processes import real_network
from tests.processes.equivocator import OFFENCES
from tests.processes.real_network import Member

BLOCKS_MAX = 2


@dataclass(frozen=True)
class Punished:
    """The punishment on an honest node's chain; slots and heights."""

    offence: str
    slot: int
    slashed_slot: int
    blocks: int


def run_offence(root: Path, which: str, honest: int, slot_ms: int) -> list[Punished]:
    """Runs a network up to the punishment; its record on each honest node."""
    names = ["equivocator", *(f"honest{n}" for n in range(honest))]
    members = real_network.members(root, names)
    secrets = {one.name: keys.new_secret() for one in members}
    genesis = networks.dev_genesis(
        [networks.delegate(name, secret) for name, secret in secrets.items()],
        time.time_ns() // 1_000_000,
        slot_ms,
    )
    for one in members:
        real_network.write_delegate(one, members, genesis, secrets[one.name])
    offender = keys.address_of(secrets["equivocator"])
    with ExitStack() as stack:
        lives = {one.name: one.start() for one in members[1:]}
        stack.callback(lambda: [life.stop() for life in lives.values()])
        hostile = lives["equivocator"] = members[0].start(f"tests.processes.equivocator {which}")
        slot = int(hostile.says(f"offence {which} in slot").split()[-1])
        told = [_punished(one, offender, slot) for one in members[1:]]
        for one in members[1:]:  # finality goes on without the offender
            until(partial(one.is_final_above, "slot", told[0].slashed_slot), "final block")
    return told


def _punished(member: Member, offender: bytes, slot: int) -> Punished:
    log = until(lambda: _slashed(member.url, offender), "Slashed")
    block = ask(member.url, "eth_getBlockByHash", log["blockHash"], False)
    assert int(log["topics"][2], 16) == int(block["miner"], 16), "the reporter is the proposer"
    (listed,) = [
        one for one in ask(member.url, "dpos_delegates") if one["address"] == checksum(offender)
    ]
    assert listed["tombstoned"], listed
    assert int(listed["stake"], 16) < networks.DELEGATE_STAKE_WEI, listed
    slashed_slot = _slot(block)
    blocks = 0
    while _slot(block) > slot:
        blocks += 1
        block = ask(member.url, "eth_getBlockByHash", block["parentHash"], False)
    return Punished(bytes.fromhex(log["data"][2:])[128:130].decode(), slot, slashed_slot, blocks)


def _slashed(url: str, offender: bytes) -> Any:
    topics = ["0x" + SLASHED.topic.hex(), "0x" + offender.rjust(32, b"\0").hex()]
    wanted = {"fromBlock": "0x0", "address": "0x" + DPOS_ADDRESS.hex(), "topics": topics}
    logs = ask(url, "eth_getLogs", wanted)
    return logs[0] if logs else None


def _slot(block: dict[str, Any]) -> int:
    return int(block["slot"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--honest", type=int, default=4, help="delegates beside the equivocator")
    parser.add_argument("--slot-ms", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    late = 0
    for number in range(given.rounds * len(OFFENCES)):
        which = OFFENCES[number % len(OFFENCES)]
        with tempfile.TemporaryDirectory() as name:
            told = run_offence(Path(name), which, given.honest, given.slot_ms)
        blocks = [one.blocks for one in told]
        late += max(blocks) > BLOCKS_MAX or any(one.offence != which for one in told)
        print(
            f"{which} in slot {told[0].slot}: {told[0].offence} slashed in slot "
            f"{told[0].slashed_slot}, blocks from offence to slash on each honest node: {blocks}",
            flush=True,
        )
    print(f"later than {BLOCKS_MAX} blocks or not as committed: {late}")
    if late:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
