"""What a request that goes through ASGI can do with the connection below it: make it a stream's, or cut it off."""

from asyncio import Transport
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar, cast

import msgspec
from starlette.types import Message, Receive, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from ...fanout.sink import Sink
from ..middleware.access_log import AccessRecord, exchange

REQUEST: Final = "plainmq.request"  # the ASGI extension under which a request finds its Request


class Subscription(Protocol):
    """Whose bytes a sink takes: a Subscriber's or a PushConsumer's."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def end(self, reason: str) -> None: ...

    def detach(self) -> None: ...


S = TypeVar("S", bound=Sink)


class Host(Protocol[S]):
    """The connection."""

    def sink(self) -> S: ...

    def take_over(
        self, sink: S, seen: AccessRecord | None, subscription: Subscription, begin: Callable[[], object]
    ) -> None: ...


class Request(msgspec.Struct, frozen=True):
    """What a request finds in its scope: its connection, and its own place there, whatever is pipelined behind it."""

    connection: Host[Any]
    cycle: RequestResponseCycle

    @property
    def gone(self) -> bool:
        """The client has left."""
        return self.cycle.disconnected

    def take_over(self, sink: Sink, subscription: Subscription, begin: Callable[[], object]) -> None:
        """Its answer is a stream: the connection becomes its sink."""
        self.cycle.response_started = self.cycle.response_complete = True  # uvicorn: nothing is owed any more
        scope = cast(dict[str, Any], self.cycle.scope)
        del scope["extensions"]  # which holds the connection
        self.connection.take_over(sink, exchange(scope), subscription, begin)


def connection_of(receive: Receive) -> Transport | None:
    """The connection of a request, under any of uvicorn's protocols; None under another server. A client that takes
    nothing cannot be closed, only cut off: what was written waits for it for ever."""
    transport: Transport | None = getattr(getattr(receive, "__self__", None), "transport", None)
    return transport if hasattr(transport, "abort") else None  # uvloop's is no asyncio.Transport


def until_closed(receive: Receive, send: Send) -> Send:
    """`send` for an answer that ends with its connection. uvicorn would send it in chunks, which HTTP/1.0 does not know
    (RFC 9112, section 6.1): its httptools protocol is told that each part is as long as was announced. Its h11 protocol
    and other servers see to it themselves."""
    cycle = getattr(receive, "__self__", None)
    if not isinstance(cycle, RequestResponseCycle):
        return send
    cycle.chunked_encoding = cycle.keep_alive = False

    async def send_part(message: Message) -> None:
        cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    return send_part
