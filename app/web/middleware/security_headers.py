"""Security headers: a browser must not treat a response as a page, as a script, or as part of another site.

Anybody may publish messages, and a browser can request each from this origin, with the content type that its publisher
chose. A response keeps stricter headers of its own.
"""

from collections.abc import Iterable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
# Nothing of a response runs, loads or is framed. A browser's developer console may subscribe: docs/streams.md.
_POLICY = b"default-src 'none'; connect-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_ALWAYS: Final = (
    NOSNIFF,
    (b"content-security-policy", _POLICY),
    (b"cross-origin-resource-policy", b"same-origin"),  # no page of another site loads it as an image or a script
    (b"referrer-policy", b"no-referrer"),  # topics do not leak to other sites
)
_HSTS: Final = (b"strict-transport-security", b"max-age=31536000")  # a year


def secured(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """These headers, and those of the security headers that are missing. Names are in lower case."""
    given = [*headers]
    names = {name for name, _ in given}
    return given + [header for header in _ALWAYS if header[0] not in names]


class SecurityHeaders:
    """Adds them to every response. `public_host`: the name under which clients reach the server by https, if any.

    HSTS holds for all ports of a name, for a year. So it is sent for that name only, never for localhost or for a name
    that other services may share.
    """

    def __init__(self, app: ASGIApp, public_host: str) -> None:
        self._app = app
        self._public_host = public_host.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        extra = [_HSTS] if self._is_public(scope) else []

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = secured([*message.get("headers", ()), *extra])
            await send(message)

        await self._app(scope, receive, send_secured)

    def _is_public(self, scope: Scope) -> bool:
        if not self._public_host or scope["scheme"] != "https":
            return False
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        return any(host.partition(b":")[0].lower() == self._public_host for host in hosts)
