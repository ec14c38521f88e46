"""The promises of every moment of a run, checked by a watch that looks into all honest nodes.

``Watch`` is told after each step of a node. No two conflicting blocks are ever final, on any
honest node at any time, across restarts and lost disks; no node's final block goes back but by what
its disk lost; nothing is final without the commits of a quorum of the set whose turn it was; no
head is ahead of the clock. What counts as a quorum, and whose turn it is, is said here once more in
other words than the shipping code's, so that both have to be wrong. ``Watch`` also takes the times
from which the figures of finality are made.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations

from dipnet.consensus.chain.block import Block
from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.chain.schedule import slot_start_ms
from dipnet.consensus.finality.header import Header
from dipnet.consensus.finality.members import Members
from dipnet.consensus.finality.votes import Ballot, BallotKind, offence
from dipnet.p2p.blocksync import OWED_MAX, PEERS_ASKED_MAX, SLOW_MS
from tests.sim.world import Host, World

AHEAD_MS = 500  # a block may be ahead of a clock by this


def unanswered_ms(hosts: Iterable[Host]) -> int:
    """How long, at most, a node may have to wait until it asks again for blocks that were lost."""
    waits = [0]
    for node in [host.node for host in hosts if host.node is not None]:
        peers = node.peers._blocks._peers.values()
        owing = [peer for peer in peers if peer.request]
        prompt = [peer for peer in owing if not peer.late(node.steady_ms)]
        if owing and len(owing) == min(len(peers), OWED_MAX):  # all hosts that it may ask
            waits.append(min(peer.busy_until_ms for peer in owing) - node.steady_ms)
        elif len(prompt) == PEERS_ASKED_MAX:
            waits.append(min(peer.asked_ms for peer in prompt) + SLOW_MS - node.steady_ms)
    return max(waits)


@dataclass
class Settled:
    """A final block, as the world came to know it."""

    header: Header
    seen_ms: dict[int, int] = field(default_factory=dict)
    """Host -> when its node first took the block for final."""


class Watch:
    """The honest hosts of a world; install with ``world.watch = watch.look``."""

    def __init__(self, world: World, honest: list[Host]) -> None:
        self.violations: list[str] = []
        self.settled: dict[int, Settled] = {}
        """By height: all that any honest node has ever taken for final."""
        self._world = world
        self._honest = {host.index: host for host in honest}
        self.seen: Counter[str] = Counter()
        """How often a run had each kind of event that it should have."""
        self._last: dict[int, tuple[int, Header]] = {}  # host -> life, its final block
        self._heads: dict[int, Header] = {}
        self._skews_ms: dict[int, int] = {}  # host -> the most that its clock was ahead
        self._told: dict[int, int] = {}  # host -> final height that subscribers were told of

    def look(self, host: Host) -> None:
        """A step of the host's node is done."""
        if host.index not in self._honest or host.node is None:
            return
        self._look_at_head(host, host.node.chain)
        final = host.node.chain.final
        life, last = self._last.get(host.index, (0, final))
        if final is last and life == host.life:
            return
        if life == host.life and not self._above(host.node.chain, last, final):
            self.violations.append(
                f"node {host.index}: final block {last.height} gave way to {final.height}"
            )
        elif final.height < self._told.get(host.index, 0):
            self.violations.append(f"node {host.index}: a restart takes back a final block")
        self._last[host.index] = (host.life, final)
        self._settle(host, host.node.chain, final)

    def _look_at_head(self, host: Host, chain: Chain) -> None:
        """No head is of a slot that its node's clock has never shown."""
        skew_ms = max(host.skew_ms, self._skews_ms.get(host.index, host.skew_ms))
        self._skews_ms[host.index] = skew_ms
        head, last = chain.head, self._heads.get(host.index)
        if head is last:
            return
        self._heads[host.index] = head
        ahead_ms = (
            slot_start_ms(self._world.genesis.parameters, head.slot) - self._world.now_ms - skew_ms
        )
        if ahead_ms > AHEAD_MS and head.height:
            self.violations.append(f"node {host.index}: its head is {ahead_ms} ms ahead")
        if last is not None and last.height and not self._above(chain, last, head):
            self.seen["reorganisations"] += 1

    def wiped(self, host: Host) -> None:
        """The host's disk is gone, and with it the final blocks that it knew."""
        self._told.pop(host.index, None)

    def published(self, host: Host, stream: str, values: tuple[object, ...]) -> None:
        """Subscribers of the host's node were told: these blocks stay final over a restart."""
        if stream == "finalizedHeads" and host.index in self._honest:
            block = values[-1]
            assert isinstance(block, Block)
            self._told[host.index] = max(block.header.height, self._told.get(host.index, 0))

    def _above(self, chain: Chain, last: Header, final: Header) -> bool:
        at: Header | None = final
        while at is not None and at.height > last.height:
            at = chain.header(at.parent)
        return at is not None and at.hash == last.hash

    def _settle(self, host: Host, chain: Chain, final: Header) -> None:
        """Enter the block and its ancestors down to what the host has entered before."""
        header: Header | None = final
        if final.height not in self.settled and final.height > 0:
            self._check_quorum(chain, final)
        while header is not None and header.height > 0:
            known = self.settled.setdefault(header.height, Settled(header))
            if known.header.hash != header.hash:
                self.violations.append(
                    f"two final blocks at height {header.height}: node {host.index} has slot "
                    f"{header.slot}, another had slot {known.header.slot}"
                )
                return
            if host.index in known.seen_ms:
                return
            known.seen_ms[host.index] = self._world.now_ms
            header = chain.header(header.parent)

    def _check_quorum(self, chain: Chain, final: Header) -> None:
        """A quorum has committed to the block, or an old set to one above the boundary that it
        is."""
        if not any(
            self._committed(chain, block_id, epoch, final)
            for block_id, epoch in list(self._world.ballots.commits)
        ):
            self.violations.append(f"block {final.height} is final without the commits of a quorum")

    def _committed(self, chain: Chain, block_id: bytes, epoch: int, final: Header) -> bool:
        """Whether the commits to a block in an epoch make ``final`` final."""
        header = chain.header(block_id)
        if header is None or not 0 <= header.epoch - epoch <= 1 or header.height == 0:
            return False
        boundary = chain.epoch_of(header).boundary
        ours = header.final[1] >= boundary.slot  # the boundary is final: its set votes
        made = header.hash if ours else boundary.block_id
        if made != final.hash or (epoch == header.epoch) != ours:
            return False
        members = chain.sets.get(epoch)
        return (
            members is not None
            and _is_announced(chain, boundary.block_id, members, epoch, ours)
            and _is_quorum(members, self._world.ballots.commits[block_id, epoch])
        )

    # --- figures

    def lowest(self) -> int:
        """The lowest final slot of the honest nodes that are up."""
        return min(
            (host.node.chain.final.slot for host in self._honest.values() if host.node), default=0
        )

    def latencies_ms(self, from_ms: int, to_ms: int) -> Iterator[int]:
        """From the start of a slot in this time to when each honest node knew its block final."""
        for one in self.settled.values():
            start_ms = slot_start_ms(self._world.genesis.parameters, one.header.slot)
            if from_ms <= start_ms < to_ms:
                yield from (seen_ms - start_ms for seen_ms in one.seen_ms.values())


def _is_quorum(members: Members, signers: dict[bytes, None]) -> bool:
    """More than two thirds of them have signed."""
    return 3 * sum(signer in signers for signer in members.signers) > 2 * len(members)


def _is_announced(chain: Chain, boundary: bytes, members: Members, epoch: int, ours: bool) -> bool:
    """Whether the boundary that opens the epoch has named this set; genesis names its own."""
    opens = chain.header(boundary)
    if opens is None or not ours or opens.height == 0:
        return True
    return opens.next_set_hash == members.digest(epoch)


def offences(world: World, honest: list[bytes]) -> Iterator[str]:
    """Every pair of ballots of an honest key that is an offence, as any node has seen them."""
    for signer in honest:
        by_epoch: dict[int, list[Ballot]] = {}
        for ballot in world.ballots.signed.get(signer, []):
            by_epoch.setdefault(ballot.epoch, []).append(ballot)
        proposals = [
            b for b in world.ballots.signed.get(signer, []) if b.kind is BallotKind.PROPOSAL
        ]
        for ballots in (proposals, *by_epoch.values()):
            for one, other in combinations(ballots, 2):
                if name := offence(one, other):
                    yield f"{name} by the honest key {signer.hex()}: {one} and {other}"
