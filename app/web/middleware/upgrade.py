"""Offers to go on in another protocol (`Upgrade`), such as curl's and Java's of HTTP/2. RFC 9110, section 7.8: a server
may ignore them. Our own protocol does, and requests come here without them.

Some parsers (httptools, under uvicorn) end at such a head: the body is lost, or read as the next request. So under any
other server the connection is closed behind the answer, and a request whose body did not come is refused.
"""

from collections.abc import Mapping
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...errors import UpgradeUnsupported

_CLOSE: Final = (b"connection", b"close")


class Upgrades:
    """Ignores them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        if scope["type"] != "http" or b"upgrade" not in headers:
            await self._app(scope, receive, send)
            return
        missing = _announced(headers)

        async def take() -> Message:
            nonlocal missing
            message = await receive()
            missing -= len(message.get("body", b""))
            if missing > 0 and message["type"] == "http.request" and not message.get("more_body"):
                raise UpgradeUnsupported("the body was lost at the Upgrade: send the request without (curl: --http1.1)")
            return message

        async def give(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), _CLOSE]
            await send(message)

        await self._app(scope, take, give)


def _announced(headers: Mapping[bytes, bytes]) -> int:
    """Bytes of the body, as far as they are known; one at least in chunks."""
    return int(headers.get(b"content-length", b"transfer-encoding" in headers))
