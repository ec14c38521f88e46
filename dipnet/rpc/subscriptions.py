"""``eth_subscribe``, ``eth_unsubscribe``, and what each stream sends to its subscribers."""

from collections.abc import Callable, Iterable
from typing import Final

from dipnet.consensus.chain.block import Block
from dipnet.consensus.finality.header import Header
from dipnet.dag.vertex import Vertex
from dipnet.ledger.tx import Tx
from dipnet.node.effects import StreamName
from dipnet.primitives.codec import to_hex
from dipnet.primitives.errors import Invalid
from dipnet.rpc.backend import Backend
from dipnet.rpc.block_json import header_json
from dipnet.rpc.dag import vertex_json
from dipnet.rpc.filters import ANY_STREAM, STREAM_FILTER, LogFilter, StreamFilter
from dipnet.rpc.jsonrpc import Session, Show
from dipnet.rpc.logs import LogStream
from dipnet.rpc.method import Param, RpcMethod
from dipnet.rpc.params import STREAM, SUBSCRIPTION

MakeShow = Callable[[Backend, StreamFilter], Show]


def subscribe(session: Session, stream: str, wanted: StreamFilter) -> str:
    if stream not in STREAMS:
        raise Invalid("params", f"no {stream!r} subscription; there are {', '.join(STREAMS)}")
    published, made = STREAMS[stream]
    return session.open(published, made(session.backend, wanted))


def unsubscribe(session: Session, subscription: str) -> bool:
    return session.close(subscription)


def _plain(show: Show) -> MakeShow:
    """A stream that takes no filter."""

    def made(backend: Backend, wanted: StreamFilter) -> Show:
        if wanted != ANY_STREAM:
            raise Invalid("params", "this stream takes no filter")
        return show

    return made


def _head(item: object) -> Iterable[object]:
    header = item.header if isinstance(item, Block) else item
    assert isinstance(header, Header)
    return (header_json(header),)


def _tx(item: object) -> Iterable[object]:
    assert isinstance(item, Tx)
    return (to_hex(item.hash),)


def _logs(backend: Backend, wanted: StreamFilter) -> Show:
    if wanted.issuer or wanted.topic:
        raise Invalid("params", "logs take address and topics")
    return LogStream(backend, wanted.logs).show


def _vertices(backend: Backend, wanted: StreamFilter) -> Show:
    if wanted.logs != LogFilter():
        raise Invalid("params", "dagVertices take issuer and topic")

    def show(item: object) -> Iterable[object]:
        assert isinstance(item, Vertex)
        if wanted.issuer in (b"", item.issuer) and wanted.topic in (b"", item.topic):
            yield vertex_json(item, "accepted")

    return show


STREAMS: Final[dict[str, tuple[StreamName, MakeShow]]] = {
    "newHeads": ("newHeads", _plain(_head)),
    "finalizedHeads": ("finalizedHeads", _plain(_head)),
    "newPendingTransactions": ("newPendingTransactions", _plain(_tx)),
    "logs": ("newHeads", _logs),
    "dagVertices": ("dagVertices", _vertices),
}

METHODS: Final = (
    RpcMethod(
        "eth_subscribe",
        (Param("stream", STREAM), Param("filter", STREAM_FILTER, ANY_STREAM)),
        subscribe,
        "id of the subscription",
        "Subscribe to a stream; WebSocket only. Notifications are `eth_subscription`. `newHeads` "
        "sends the header of each new head, `finalizedHeads` the header of each block as it "
        "becomes final, lowest first, `newPendingTransactions` a hash, `logs` a log (again with "
        "`removed` when its block leaves the chain), `dagVertices` a vertex as in `dag_get`. A "
        "subscriber that leaves too many notifications unread is cut with close code 1013.",
        ("subscription", "limit"),
        way="session",
    ),
    RpcMethod(
        "eth_unsubscribe",
        (Param("subscription", SUBSCRIPTION),),
        unsubscribe,
        "true",
        "End a subscription of this WebSocket.",
        ("subscription", "not_found"),
        way="session",
    ),
)
