"""Requests that offer another protocol (`Upgrade`), such as HTTP/2 by curl and Java. RFC 9110, section 7.8: a server
may ignore the offer. plainmq's own protocol does, and its requests do not pass here.

Some parsers (httptools, under uvicorn) stop at such a head: the body is lost, or read as the next request. So under
another server the connection is closed behind the response, and a request whose body is missing is refused.
"""

from collections.abc import Mapping
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...errors import UpgradeUnsupported

_CLOSE: Final = (b"connection", b"close")


class Upgrades:
    """Ignores the offers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        if scope["type"] != "http" or b"upgrade" not in headers:
            await self._app(scope, receive, send)
            return
        missing = _expected_length(headers)

        async def receive_checked() -> Message:
            nonlocal missing
            message = await receive()
            missing -= len(message.get("body", b""))
            if missing > 0 and message["type"] == "http.request" and not message.get("more_body"):
                raise UpgradeUnsupported("the body was lost at the Upgrade: send the request without (curl: --http1.1)")
            return message

        async def send_closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), _CLOSE]
            await send(message)

        await self._app(scope, receive_checked, send_closing)


def _expected_length(headers: Mapping[bytes, bytes]) -> int:
    """The length of the body in bytes; 1 stands for chunks of unknown length."""
    return int(headers.get(b"content-length", b"transfer-encoding" in headers))
