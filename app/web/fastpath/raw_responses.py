"""Responses that are written without ASGI, as bytes."""

from functools import lru_cache
from typing import Final

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from ...messages.message import Receipt
from ..middleware.security_headers import NOSNIFF, secured
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


# Answers to publishes. Of the security headers a 201 needs one only: it answers a POST, so no page can load it as a
# script, an image or a frame; as a document it is JSON, and has no links.

_HEAD: Final = (
    b"location: /topics/%b/messages/%b-%%d\r\ncontent-length: %%d\r\ncontent-type: application/json\r\n"
    + b"%b: %b\r\n" % NOSNIFF
)
_BODY: Final = b'{"id":"%b-%%d","topic":"%b","index":%%d,"subscribers":%%d,"durability":"%b"%%b}\n'
_LAST: Final = b',"last":"%b-%%d","count":%%d'


def accepted(receipt: Receipt, start: int, durability: str, count: int | None) -> tuple[bytes, bytes]:
    """The own headers and the body of a 201, as web/api/publish.py writes them, for the message at index `start` of the
    receipt; or for a batch of `count` messages from there on."""
    global _last_receipt  # noqa: PLW0603
    if receipt is not _last_receipt[0]:
        epoch, _, begin = receipt.id.rpartition("-")
        _last_receipt = receipt, int(begin), *_templates(receipt.topic, epoch, durability)
    _, first, head, body, last = _last_receipt
    seq = first + start
    batch = b"" if count is None else last % (seq + count - 1, count)
    content = body % (seq, receipt.index + start, receipt.subscribers, batch)
    return head % (seq, len(content)), content


_last_receipt: tuple[Receipt | None, int, bytes, bytes, bytes] = None, 0, b"", b"", b""
"""The receipt of the last call, the seq of its first message, and the templates of its responses. All publishes of one
batch have one receipt, so its id is parsed and its topic is looked up once. Global: one event loop calls accepted()."""


@lru_cache(maxsize=4_096)
def _templates(topic: str, epoch: str, durability: str) -> tuple[bytes, bytes, bytes]:
    """The constant parts of all responses for a topic. A topic of the fast path needs no escape and has no `%`."""
    name, life = topic.encode(), epoch.encode()
    return _HEAD % (name, life), _BODY % (life, name, durability.encode()), _LAST % life


def refused(response: Response) -> tuple[bytes, bytes]:
    """The own headers and the body of a response."""
    return b"".join(b"%b: %b\r\n" % header for header in secured(response.raw_headers)), bytes(response.body)
