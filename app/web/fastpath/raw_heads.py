"""Heads of responses that are written without ASGI, as bytes."""

from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from ..middleware.security_headers import secured
from ..sse import STREAM_HEADERS

_STREAM: Final = STREAM_HEADERS | {"Transfer-Encoding": "chunked", "Connection": "close"}  # no response can follow
_STREAM_OWN: Final = b"".join(
    b"%b: %b\r\n" % header
    for header in secured((name.lower().encode(), value.encode()) for name, value in _STREAM.items())
)


def common(state: ServerState) -> bytes:
    """The headers of all responses; uvicorn renews them every second."""
    global _common  # noqa: PLW0603
    if state.default_headers is not _common[0]:
        _common = state.default_headers, b"".join([b"%b: %b\r\n" % header for header in state.default_headers])
    return _common[1]


_common: tuple[list[tuple[bytes, bytes]], bytes] = [], b""


def stream(state: ServerState) -> bytes:
    """The head of a stream, without its last, empty line."""
    return b"%b%b%b" % (STATUS_LINE[200], common(state), _STREAM_OWN)
