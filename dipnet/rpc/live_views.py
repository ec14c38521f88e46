"""``eth_subscribe`` and what each topic shows its subscribers."""

from typing import Final

from dipnet.codec import to_hex
from dipnet.consensus.block import Block
from dipnet.dag.vertex import Vertex
from dipnet.errors import Invalid
from dipnet.rpc.dag import vertex_view
from dipnet.rpc.feed import Topic
from dipnet.rpc.jsonrpc import Session
from dipnet.rpc.live import View
from dipnet.rpc.method import Method, Param
from dipnet.rpc.params import STREAM, SUBSCRIPTION, VERTEX_FILTER, VertexFilter
from dipnet.rpc.views import header_view
from dipnet.tx import Tx

_ALL: Final = VertexFilter(b"", b"")


def subscribe(session: Session, topic: str, option: VertexFilter) -> str:
    if option != _ALL and topic != "dagVertices":
        raise Invalid("params", f"{topic} takes no filter")
    return session.open(topic, option)


def unsubscribe(session: Session, subscription: str) -> bool:
    return session.close(subscription)


def _head(item: object, option: object) -> object:
    assert isinstance(item, Block)
    return header_view(item.header)


def _tx(item: object, option: object) -> object:
    assert isinstance(item, Tx)
    return to_hex(item.hash)


def _vertex(item: object, option: object) -> object:
    assert isinstance(item, Vertex)
    assert isinstance(option, VertexFilter)
    wanted = option.issuer in (b"", item.issuer) and option.topic in (b"", item.topic)
    return vertex_view(item, "accepted") if wanted else None


VIEWS: Final[dict[Topic, View]] = {
    "newHeads": _head,
    "newPendingTransactions": _tx,
    "dagVertices": _vertex,
}

METHODS: Final = (
    Method(
        "eth_subscribe",
        (Param("stream", STREAM), Param("filter", VERTEX_FILTER, _ALL)),
        subscribe,
        "id of the subscription",
        "WebSocket only. `eth_subscription` notifications carry a header (`newHeads`), a hash "
        "(`newPendingTransactions`), or a vertex as of `dag_get` (`dagVertices`, which takes the "
        "filter). A subscriber who leaves too much unread is cut with close code 1013.",
        ("subscription", "limit"),
        way="session",
    ),
    Method(
        "eth_unsubscribe",
        (Param("subscription", SUBSCRIPTION),),
        unsubscribe,
        "true",
        "End a subscription of this WebSocket.",
        ("subscription", "not_found"),
        way="session",
    ),
)
