"""Persistent connections of HTTP/1.0. RFC 9112, section 9.3: the client asks for one, and the response confirms it."""

from collections.abc import Sequence
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

_KEEP_ALIVE: Final = (b"connection", b"keep-alive")


_WITHOUT_BODY: Final = frozenset({b"GET", b"HEAD", b"DELETE", b"OPTIONS"})


def may_persist(method: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """True if the client asks for a persistent connection and does not say `close` too; httptools overlooks that. Not
    after a body whose end is uncertain: HTTP/1.0 has no chunks (section 6.1), and needs a length (RFC 1945, section
    7.2.2)."""
    said = b",".join([value.lower() for name, value in headers if name == b"connection"])
    options = [option.strip(b" \t") for option in said.split(b",")]
    names = {name for name, _ in headers}
    certain = b"transfer-encoding" not in names and (method in _WITHOUT_BODY or b"content-length" in names)
    return b"keep-alive" in options and b"close" not in options and certain


class Persistence:
    """The app for one request of HTTP/1.0: adds the confirmation. plainmq's own protocol decides whether the connection
    persists; other servers add a header of their own."""

    def __init__(self, app: ASGIApp, cycle: RequestResponseCycle) -> None:
        self._app = app
        self._cycle = cycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_confirmed(message: Message) -> None:
            if message["type"] == "http.response.start" and self._cycle.keep_alive:
                message["headers"] = [*message.get("headers", ()), _KEEP_ALIVE]
            await send(message)

        await self._app(scope, receive, send_confirmed)
