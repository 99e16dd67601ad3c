"""What the parser stops at: bytes that are no HTTP/1.1, and heads with `Upgrade`."""

from asyncio import AbstractEventLoop
from collections.abc import Sequence
from typing import Final

import httptools

from ...errors import NotHttp, PlainmqError, Refused, UpgradeUnsupported, VersionUnsupported
from ..middleware.origin import WRONG_VERSION

_NOT_HTTP: Final = "this is not a request of HTTP/1.1"
_INVALID_VERSION: Final = "Invalid HTTP version"  # what the parser says
_NOT_ASCII: Final = "a URL is written in ASCII, and others by their bytes in UTF-8: %C3%A9 for \u00e9"
_UPGRADE: Final = b"upgrade"
_CONNECT: Final = b"CONNECT"
_NO_TUNNEL: Final = "this server is no proxy: it opens no tunnels"


def explain(error: httptools.HttpParserError, data: bytes, loop: AbstractEventLoop) -> PlainmqError:
    """What to answer: what a callback of the parser has raised, or else that this is not HTTP. A fault of the server is
    reported to the loop."""
    cause = error.__context__
    if isinstance(cause, Refused):
        return cause
    if cause is not None and not isinstance(cause, httptools.HttpParserError):
        loop.call_exception_handler({"message": "a request was not read", "exception": cause})
        return PlainmqError("this is a fault of the server; it was logged")
    if str(error) == _INVALID_VERSION:
        return VersionUnsupported(WRONG_VERSION)
    ascii_only = data.partition(b"\r\n")[0].isascii()
    return NotHttp(_NOT_HTTP if ascii_only else _NOT_ASCII)


def head_without_upgrade(
    parser: httptools.HttpRequestParser, target: bytes, headers: Sequence[tuple[bytes, bytes]]
) -> bytes:
    """The head at which the parser has stopped, without `Upgrade`. Raises UpgradeUnsupported."""
    method, version = parser.get_method(), parser.get_http_version().encode()
    if method == _CONNECT:  # what follows is not HTTP, whatever the answer
        raise UpgradeUnsupported(_NO_TUNNEL)
    fields = b"".join([b"%b: %b\r\n" % field for field in headers if field[0] != _UPGRADE])
    return b"%b %b HTTP/%b\r\n%b\r\n" % (method, target, version, fields)
