"""Connections of HTTP/1.0 that stay open. RFC 9112, section 9.3: the client asks for it, and is told that it is so."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .takeover import REQUEST, Request

_KEEP_ALIVE: Final = (b"connection", b"keep-alive")


class Persistence:
    """Tells them. Whether it is so is decided by our own protocol; under other servers they say what they do."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request: Request | None = scope.get("extensions", {}).get(REQUEST)
        if request is None or scope["http_version"] != "1.0":
            await self._app(scope, receive, send)
            return
        cycle = request.cycle

        async def give(message: Message) -> None:
            if message["type"] == "http.response.start" and cycle.keep_alive:
                message["headers"] = [*message.get("headers", ()), _KEEP_ALIVE]
            await send(message)

        await self._app(scope, receive, give)
