"""Whether the delegate of a node may propose and prevote now, as far as peers and clocks tell.

Rules that bind this file (docs/spec/consensus.md "Goals", goal 9): a delegate makes no block while
its head may be old, or while its clock differs from those of its peers by half a slot. A network
whose quorum is this one delegate waits for no peer.
"""

import logging
from typing import Final

from dipnet.consensus.chain.chain import Chain
from dipnet.node.peers import Peers
from dipnet.node.voting import Voting

log = logging.getLogger("dipnet.node")

CLOCK_SHARE: Final = 2  # a clock that is off by more than 1/CLOCK_SHARE of a slot makes no blocks


class Readiness:
    """The readiness of one node; ``voting.idle`` has the reason why nothing is proposed."""

    def __init__(self, chain: Chain, peers: Peers, voting: Voting) -> None:
        self._chain = chain
        self._peers = peers
        self._voting = voting

    def on_slot(self, steady_ms: int) -> None:
        """Set ``voting.idle`` anew, and log when its reason changes."""
        idle, before = self._idle(steady_ms), self._voting.idle
        if self._voting.voter is not None and _without_numbers(idle) != _without_numbers(before):
            log.warning("proposes %s", f"nothing: {idle}" if idle else "again")
        self._voting.idle = idle

    def vouched_ms(self, now_ms: int) -> int:
        """The latest Unix time at which the slot of a prevoted block may begin.

        It is half a slot after our clock, corrected by the clocks of our peers. It is 0 while too
        few of the needed peers have told their clocks: no slot is vouched for.
        """
        off_ms = self._peers.clock_offset_ms()
        if off_ms is None and self._needs_others and not self._peers.alone:
            return 0
        return now_ms + (off_ms or 0) + self._chain.parameters.slot_ms // CLOCK_SHARE

    def _idle(self, steady_ms: int) -> str | None:
        if self._voting.elsewhere:
            return self._voting.elsewhere
        if self._voting.paused:
            return "paused"
        if self._peers.alone and self._needs_others:
            return "no peer has said hello"  # our head may be old
        if syncing := self._peers.syncing(steady_ms):
            return f"at block {syncing[0]} of {syncing[1]}"
        bound_ms = self._chain.parameters.slot_ms // CLOCK_SHARE
        return self._peers.clock_fault(bound_ms, self._needs_others)

    @property
    def _needs_others(self) -> bool:
        """Whether a quorum takes more than our own vote."""
        return self._chain.epoch.members.quorum > 1


def _without_numbers(complaint: str | None) -> str:
    """A complaint without its numbers, which change all the time."""
    return "".join(char for char in complaint or "" if not char.isdigit())
