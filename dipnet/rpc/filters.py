"""Log filters: read from JSON, and matched against blooms and logs (execution-apis, "Filter").

A filter has the addresses that it takes (empty: any) and, for each topic position, the words that
it takes there (empty: any). A log with fewer topics than the filter has positions does not match.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dipnet.primitives.errors import Invalid
from dipnet.rpc.method import ParameterKind
from dipnet.rpc.params import BlockRef, members_of, read_block_number, read_data
from dipnet.vm.receipt import Log, bloom

TOPICS_MAX: Final = 4
ALTERNATIVES_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class LogFilter:
    """``addresses`` of 20 bytes; ``topics`` by position, each the words (32 bytes) taken there."""

    addresses: tuple[bytes, ...] = ()
    topics: tuple[tuple[bytes, ...], ...] = ()

    def takes(self, log: Log) -> bool:
        """Whether the log matches."""
        if self.addresses and log.address not in self.addresses:
            return False
        if len(self.topics) > len(log.topics):
            return False
        return all(
            not words or topic in words
            for words, topic in zip(self.topics, log.topics, strict=False)
        )

    def masks(self) -> tuple[tuple[int, ...], ...]:
        """Bloom bits: a block may hold a match if its bloom has a whole mask of each group."""
        groups = [self.addresses, *self.topics]
        return tuple(tuple(map(_bits, group)) for group in groups if group)


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Logs of one block by its hash (``first`` and ``last`` are then empty), or of a range."""

    wanted: LogFilter
    block_hash: bytes
    first: BlockRef
    last: BlockRef


@dataclass(frozen=True, slots=True)
class StreamFilter:
    """The filter of a subscription: ``issuer`` and ``topic`` for vertices, ``logs`` for logs."""

    issuer: bytes
    topic: bytes
    logs: LogFilter


ANY_STREAM: Final = StreamFilter(b"", b"", LogFilter())


def _bits(entry: bytes) -> int:
    return int.from_bytes(bloom([Log(entry, (), b"")]), "big")


def may_hold(logs_bloom: bytes, masks: Sequence[Sequence[int]]) -> bool:
    """Whether a block with this bloom may hold a log of ``masks``; False is certain."""
    bits = int.from_bytes(logs_bloom, "big")
    return bool(bits) and all(any(bits & mask == mask for mask in group) for group in masks)


def _alternatives(value: object, size: int) -> tuple[bytes, ...]:
    """The alternatives in one value or an array of values; null means any."""
    if value is None:
        return ()
    if not isinstance(value, list):
        return (read_data(value, size),)
    if len(value) > ALTERNATIVES_MAX:
        raise Invalid("params", f"more than {ALTERNATIVES_MAX} alternatives")
    return tuple(read_data(item, size) for item in value)


def _log_filter(got: dict[str, object]) -> LogFilter:
    topics = got.get("topics")
    if topics is None:
        topics = []
    if not isinstance(topics, list) or len(topics) > TOPICS_MAX:
        raise Invalid("params", f"topics: want an array of at most {TOPICS_MAX}")
    return LogFilter(
        _alternatives(got.get("address"), 20), tuple(_alternatives(word, 32) for word in topics)
    )


def _query(value: object) -> LogQuery:
    got = members_of(value, ("fromBlock", "toBlock", "blockHash", "address", "topics"))
    wanted = _log_filter(got)
    if got.get("blockHash") is not None:
        if got.get("fromBlock") is not None or got.get("toBlock") is not None:
            raise Invalid("params", "cannot specify both blockHash and fromBlock/toBlock")
        return LogQuery(wanted, read_data(got["blockHash"], 32), "", "")
    first, last = got.get("fromBlock"), got.get("toBlock")
    return LogQuery(
        wanted,
        b"",
        "latest" if first is None else read_block_number(first),
        "latest" if last is None else read_block_number(last),
    )


def _stream(value: object) -> StreamFilter:
    # fromBlock and toBlock mean nothing for a stream, but ethers sends them.
    known = ("issuer", "topic", "address", "topics", "fromBlock", "toBlock")
    got = members_of(value, known)
    issuer, topic = got.get("issuer"), got.get("topic")
    return StreamFilter(
        b"" if issuer is None else read_data(issuer, 20),
        b"" if topic is None else read_data(topic, 16),
        _log_filter(got),
    )


LOGS: Final = ParameterKind(
    "LOGS",
    f"object of address (ADDRESS, or array of them), topics (array of at most {TOPICS_MAX}, each "
    "null, HASH or array of them), and either fromBlock and toBlock (NUMBER, `latest` by default) "
    "or blockHash",
    _query,
)
STREAM_FILTER: Final = ParameterKind(
    "FILTER",
    "object: for `dagVertices` of issuer (ADDRESS) and topic (TOPIC), for `logs` of address and "
    "topics as in LOGS; all optional",
    _stream,
)
