"""The connection below an ASGI request: a stream can take it over, or cut it off."""

from asyncio import Future, Transport
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar, cast

import msgspec
from starlette.types import Message, Receive, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from ...fanout.sink import Sink
from ..middleware.access_log import AccessRecord, access_record

REQUEST: Final = "plainmq.request"  # the ASGI extension under which a request finds its Request


class Subscription(Protocol):
    """The source of a sink's bytes: a Subscriber or a PushConsumer."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def end(self, reason: str) -> None: ...

    def detach(self) -> None: ...


S = TypeVar("S", bound=Sink)

Begin = Callable[[], "Future[Any] | None"]
"""Starts a subscription. The response begins once the future is done; at once without a future."""


class Host(Protocol[S]):
    """The connection of plainmq's own protocol."""

    def sink(self) -> S: ...

    def take_over(self, sink: S, record: AccessRecord | None, subscription: Subscription, begin: Begin) -> None: ...


class Request(msgspec.Struct, frozen=True):
    """In the scope of a request: its connection, and its own cycle there, whatever is pipelined behind it."""

    connection: Host[Any]
    cycle: RequestResponseCycle

    @property
    def gone(self) -> bool:
        """True if the client has disconnected."""
        return self.cycle.disconnected

    def take_over(self, sink: Sink, subscription: Subscription, begin: Begin) -> None:
        """The response is a stream: give the connection to its sink."""
        self.cycle.response_started = self.cycle.response_complete = True  # for uvicorn, the response is complete
        scope = cast(dict[str, Any], self.cycle.scope)
        del scope["extensions"]  # it refers to the connection
        self.connection.take_over(sink, access_record(scope), subscription, begin)


def connection_of(receive: Receive) -> Transport | None:
    """The connection of a request under any of uvicorn's protocols; None under another server. A client that does not
    read can only be cut off: close() would wait for ever for what was written."""
    transport: Transport | None = getattr(getattr(receive, "__self__", None), "transport", None)
    return transport if hasattr(transport, "abort") else None  # uvloop's transport is not an asyncio.Transport


def until_closed(receive: Receive, send: Send) -> Send:
    """`send` for a response that ends with its connection. uvicorn's httptools protocol would send chunks, which
    HTTP/1.0 does not have (RFC 9112, section 6.1): here it sends each part as it is. uvicorn's h11 protocol and other
    servers need no help."""
    cycle = getattr(receive, "__self__", None)
    if not isinstance(cycle, RequestResponseCycle):
        return send
    cycle.chunked_encoding = cycle.keep_alive = False

    async def send_part(message: Message) -> None:
        cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    return send_part
