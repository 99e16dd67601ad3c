"""A publish answered without a request object. It is the same publish: whatever is not plain about a request (an
option, a key, a batch, an encoding, an unlawful name, a token that is not known yet or may not publish here) makes it
none of ours, and web/publish answers it.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import msgspec
from starlette.responses import Response

from ..doorkeeper import Doorkeeper
from ..errors import PlainmqError
from ..message import TEXT, Draft, Receipt
from ..topic import parse_topic
from .guard import Rules
from .publish import MAX_CONTENT_TYPE, Accepted, is_batch, read_content_type

_URL: Final = re.compile(rb"/topics/([A-Za-z0-9._~\-]+(?:/[A-Za-z0-9._~\-]+)*)/messages")
_LONGEST_URL: Final = 1_100  # bytes: of a topic and what is around it; beyond it nothing is remembered
_IMMATERIAL: Final = frozenset({b"user-agent", b"accept", b"accept-encoding", b"accept-language", b"connection"})


class Shortcut(msgspec.Struct, frozen=True, gc=False):
    """What a plain publish needs: where to, what kind of body, and how many bytes of it are announced."""

    topic: str
    content_type: str
    length: int

    def draft(self, body: bytes) -> Draft:
        return Draft(self.topic, body, self.content_type)


def find(
    method: bytes, url: bytes, headers: Iterable[tuple[bytes, bytes]], *, limit: int, rules: Rules, keeper: Doorkeeper
) -> Shortcut | None:
    """The shortcut for a request's head; None when there is none, also for a body of more than `limit` bytes."""
    if method != b"POST" or len(url) > _LONGEST_URL or (topic := _topic_in(url)) is None:
        return None
    content_type: str | None = TEXT
    length, hosts = -1, 0
    shown: bytes | None = None
    for name, value in headers:
        if name == b"content-length":
            length = int(value)
        elif name == b"host":
            hosts += 1 if _is_ours(value, rules) else 2
        elif name == b"content-type":
            content_type = _plain_content_type(value) if len(value) <= MAX_CONTENT_TYPE else None
        elif name == b"authorization" and shown is None:
            shown = value
        elif name not in _IMMATERIAL:
            return None
    if keeper.publisher(shown, topic) is None:
        return None
    plain = content_type is not None and 0 <= length <= limit and hosts == 1
    return Shortcut(topic, content_type, length) if plain and content_type is not None else None


@lru_cache(maxsize=4_096)
def _topic_in(url: bytes) -> str | None:
    match = _URL.fullmatch(url)
    try:
        return None if match is None else parse_topic(match[1].decode())
    except PlainmqError:
        return None


@lru_cache(maxsize=256)
def _is_ours(host: bytes, rules: Rules) -> bool:
    return rules.knows(host.decode("latin-1"))


@lru_cache(maxsize=256)
def _plain_content_type(value: bytes) -> str | None:
    try:
        content_type = read_content_type(value.decode("latin-1"))
    except PlainmqError:
        return None
    return None if is_batch(content_type) else content_type


def accepted(receipt: Receipt, durability: str) -> tuple[bytes, bytes]:
    """The 201's own headers and its body."""
    body = msgspec.json.encode(Accepted(receipt.id, receipt.topic, receipt.index, receipt.subscribers, durability))
    head = b"location: /topics/%b/messages/%b\r\ncontent-length: %d\r\ncontent-type: application/json\r\n" % (
        receipt.topic.encode(),
        receipt.id.encode(),
        len(body) + 1,
    )
    return head, body + b"\n"


def refused(response: Response) -> tuple[bytes, bytes]:
    """A response's own headers and its body."""
    return b"".join(b"%b: %b\r\n" % header for header in response.raw_headers), bytes(response.body)
