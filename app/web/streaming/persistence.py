"""Persistent connections of HTTP/1.0. RFC 9112, section 9.3: the client asks for one, and the response confirms it."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .takeover import REQUEST, Request

_KEEP_ALIVE: Final = (b"connection", b"keep-alive")


class Persistence:
    """Adds the confirmation. plainmq's own protocol decides whether the connection persists; other servers add a
    header of their own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request: Request | None = scope.get("extensions", {}).get(REQUEST)
        if request is None or scope["http_version"] != "1.0":
            await self._app(scope, receive, send)
            return
        cycle = request.cycle

        async def send_confirmed(message: Message) -> None:
            if message["type"] == "http.response.start" and cycle.keep_alive:
                message["headers"] = [*message.get("headers", ()), _KEEP_ALIVE]
            await send(message)

        await self._app(scope, receive, send_confirmed)
