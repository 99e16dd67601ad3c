"""Headers that tell a browser what our answers are not: a page of ours, a script, a part of another site.

Messages are anybody's, and each can be asked for under our name with the content type that its publisher chose. An
answer may have stricter headers than these; it keeps them.
"""

from collections.abc import Iterable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
# Nothing of an answer runs, loads or is framed. A user of a browser's console may subscribe: docs/streams.md.
_POLICY = b"default-src 'none'; connect-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_ALWAYS: Final = (
    NOSNIFF,
    (b"content-security-policy", _POLICY),
    (b"cross-origin-resource-policy", b"same-origin"),  # no image or script of another site's page
    (b"referrer-policy", b"no-referrer"),  # a topic is nobody else's business
)
_HSTS: Final = (b"strict-transport-security", b"max-age=31536000")  # a year


def secured(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """These headers, and ours that are not among them. Names are in lower case."""
    given = [*headers]
    names = {name for name, _ in given}
    return given + [header for header in _ALWAYS if header[0] not in names]


class SecurityHeaders:
    """Adds them to what the app answers. `public_host`: the name under which users reach us by https, if they do.

    HSTS holds for a name with all its ports, for a year: so it is said of that name only, never of localhost or a name
    that somebody else's services may have too.
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
