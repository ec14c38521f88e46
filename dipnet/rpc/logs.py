"""``eth_getLogs`` and the ``logs`` stream: events from receipts, found by the blooms of headers.

A range is walked from its last block to its first by parents, so that all logs are of one branch
even if the head changes meanwhile. The walk is a ``method.Steps``: the node does other work between
its steps (ADR 90). It is bounded in blocks, logs and time.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from dipnet.consensus.chain.block import Block
from dipnet.consensus.finality.header import Header
from dipnet.primitives.codec import to_hex
from dipnet.primitives.errors import Invalid
from dipnet.rpc import lookup
from dipnet.rpc.backend import Backend
from dipnet.rpc.block_json import JsonObject, logs_json
from dipnet.rpc.filters import LOGS, LogFilter, LogQuery, may_hold
from dipnet.rpc.method import Param, RpcMethod, Steps
from dipnet.rpc.params import ByHash

LOG_BLOCKS_MAX: Final = 10_000
LOGS_MAX: Final = 10_000


def block_logs(
    backend: Backend, header: Header, wanted: LogFilter, removed: bool
) -> list[JsonObject]:
    """The logs of a block that the filter takes, in the order of the block."""
    block = lookup.block(backend, header)
    found: list[JsonObject] = []
    index = 0
    for at, receipt in enumerate(lookup.receipts(backend, header)):
        shown = logs_json(block, at, receipt, index, removed)
        found += [
            entry for entry, log in zip(shown, receipt.logs, strict=True) if wanted.takes(log)
        ]
        index += len(receipt.logs)
    return found


def _range(backend: Backend, query: LogQuery) -> tuple[Header, int] | None:
    """The last block of a range and the height of its first; None for a range above the head."""
    if query.block_hash:
        only = lookup.need(backend, ByHash(query.block_hash, False))
        return only, only.height
    first, head = query.first, backend.chain.head
    low = first if isinstance(first, int) else lookup.need(backend, first).height
    last = query.last
    high = last if isinstance(last, int) else lookup.need(backend, last).height
    if (
        isinstance(last, str) and low > head.height
    ):  # a client that polls asks from the next block on
        return None
    if low > high:
        raise Invalid("params", f"invalid block range: from {low} to {high}")
    if low > head.height:
        return None
    high = min(high, head.height)
    if high - low >= LOG_BLOCKS_MAX:
        raise Invalid("limit", f"range of {high - low + 1} blocks, at most {LOG_BLOCKS_MAX}")
    return lookup.need(backend, high), low


def get_logs(backend: Backend, query: LogQuery) -> Steps[list[JsonObject]]:
    found = _range(backend, query)
    if found is None:
        return []
    header, low = found
    masks = query.wanted.masks()
    blocks: list[list[JsonObject]] = []
    count = 0
    while True:
        if may_hold(header.logs_bloom, masks):
            matching = block_logs(backend, header, query.wanted, removed=False)
            blocks.append(matching)
            count += len(matching)
            if count > LOGS_MAX:
                raise Invalid("limit", f"more than {LOGS_MAX} logs; ask for fewer blocks")
        if header.height <= low:
            return [entry for matching in reversed(blocks) for entry in matching]
        yield
        above, parent = header, backend.chain.header(header.parent)
        if parent is None:  # a dead branch was pruned while we walked it
            raise Invalid("not_found", f"block {to_hex(above.parent)}")
        header = parent


class LogStream:
    """The ``logs`` subscription of one client: logs that each new head adds or removes.

    Heads come in the order in which the chain applied them. If a head is not a child of the last
    head, the blocks from the fork to the last head have left the chain: their logs are sent again
    with ``removed``.
    """

    __slots__ = ("_backend", "_last", "_wanted")

    def __init__(self, backend: Backend, wanted: LogFilter) -> None:
        self._backend = backend
        self._wanted = wanted
        self._last = lookup.need(backend, 0)  # nothing was sent yet, so nothing can be removed

    def show(self, item: object) -> Iterable[JsonObject]:
        """The notifications for a block that became the head."""
        assert isinstance(item, Block)
        for header in self._left(item.header):
            yield from reversed(block_logs(self._backend, header, self._wanted, removed=True))
        self._last = item.header
        if may_hold(item.header.logs_bloom, self._wanted.masks()):
            yield from block_logs(self._backend, item.header, self._wanted, removed=False)

    def _left(self, head: Header) -> Iterator[Header]:
        """The blocks that left the chain when ``head`` joined it, newest first."""
        at: Header | None = self._last
        while at is not None and at.height >= head.height:
            yield at
            at = self._backend.chain.header(at.parent)


METHODS: Final = (
    RpcMethod(
        "eth_getLogs",
        (Param("filter", LOGS),),
        get_logs,
        "array of logs",
        f"The logs of one block, or of a range of up to {LOG_BLOCKS_MAX:,} blocks and "
        f"{LOGS_MAX:,} logs, in the order of the chain. A range beyond the head ends at the head.",
        ("not_found", "limit", "busy"),
        way="steps",
    ),
)
