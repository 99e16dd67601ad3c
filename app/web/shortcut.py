"""A publish answered without a request object. It is the same publish: whatever is not plain about a request (an
option, a key, a batch, an encoding, an unlawful name, a token that is not known yet or may not publish here) makes it
none of ours, and web/publish answers it.

A client sends the same head again and again. One that was read and found plain is remembered, byte for byte, so that it
need not be read again; whether its token still holds is asked each time.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import msgspec
from starlette.responses import Response

from ..access import ANYBODY, Grant
from ..doorkeeper import Doorkeeper
from ..errors import PlainmqError
from ..message import TEXT, Draft, Receipt
from ..quotas import client_of
from ..topic import parse_topic
from .guard import Rules
from .publish import MAX_CONTENT_TYPE, is_batch, read_content_type

_URL: Final = re.compile(rb"/topics/([A-Za-z0-9._~\-]+(?:/[A-Za-z0-9._~\-]+)*)/messages")
_LONGEST_URL: Final = 1_100  # bytes: of a topic and what is around it; beyond it nothing is remembered
_LONGEST_HEAD: Final = 1_024  # bytes of a head that is remembered
_REMEMBERED: Final = 4_096  # heads: some megabytes at most; when they are too many, all are forgotten
_END: Final = b"\r\n\r\n"
_IMMATERIAL: Final = frozenset({b"user-agent", b"accept", b"accept-encoding", b"accept-language", b"connection"})


class Shortcut(msgspec.Struct, frozen=True, gc=False):
    """What a plain publish needs: where to, what kind of body, how many bytes of it are announced, and the
    `Authorization` that is shown."""

    topic: str
    content_type: str
    length: int
    shown: bytes | None

    def draft(self, body: bytes) -> Draft:
        return Draft(self.topic, body, self.content_type)


class Shortcuts:
    """The plain publishes of one server: bodies of at most `limit` bytes, for a Host that the rules know."""

    def __init__(self, limit: int, rules: Rules, keeper: Doorkeeper) -> None:
        self._limit = limit
        self._rules = rules
        self._keeper = keeper
        self._known: dict[bytes, Shortcut] = {}  # by the whole head

    def recall(self, data: bytes) -> tuple[Shortcut, bytes] | None:
        """The shortcut and the body, if these bytes are one whole request whose head is known."""
        end = data.find(_END, 0, _LONGEST_HEAD) + len(_END)
        shortcut = self._known.get(data[:end])
        if shortcut is None or len(data) != end + shortcut.length or self._publisher(shortcut) is None:
            return None
        return shortcut, data[end:]

    def remember(self, data: bytes, shortcut: Shortcut) -> None:
        """The parser has found this shortcut in what began with these bytes."""
        end = data.find(_END, 0, _LONGEST_HEAD) + len(_END)
        if len(data) == end + shortcut.length:  # so nothing but this request was there
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[data[:end]] = shortcut

    def find(self, method: bytes, url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Shortcut | None:
        """The shortcut for a request's head; None when there is none, also for a body that is too long."""
        if method != b"POST" or len(url) > _LONGEST_URL or (topic := _topic_in(url)) is None:
            return None
        content_type: str | None = TEXT
        length, hosts = -1, 0
        shown: bytes | None = None
        for name, value in headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"host":
                hosts += 1 if _is_ours(value, self._rules) else 2
            elif name == b"content-type":
                content_type = _plain_content_type(value) if len(value) <= MAX_CONTENT_TYPE else None
            elif name == b"authorization" and shown is None:
                shown = value
            elif name not in _IMMATERIAL:
                return None
        if content_type is None or not 0 <= length <= self._limit or hosts != 1:
            return None
        shortcut = Shortcut(topic, content_type, length, shown)
        return None if self._publisher(shortcut) is None else shortcut

    def client(self, shortcut: Shortcut, anonymous: str | None) -> str | None:
        """Who publishes, as quotas know it."""
        grant = None if shortcut.shown is None else self._publisher(shortcut)
        return anonymous if grant is None or grant is ANYBODY else client_of(grant.name, None)

    def _publisher(self, shortcut: Shortcut) -> Grant | None:
        return self._keeper.publisher(shortcut.shown, shortcut.topic)


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


# Answers

_HEAD: Final = b"location: /topics/%b/messages/%%b\r\ncontent-length: %%d\r\ncontent-type: application/json\r\n"
_BODY: Final = b'{"id":"%%b","topic":"%b","index":%%d,"subscribers":%%d,"durability":"%b"}\n'


def accepted(receipt: Receipt, place: int, durability: str) -> tuple[bytes, bytes]:
    """The 201's own headers and its body, as web/publish would write them, for the message at that place of the
    receipt."""
    head, body = _templates(receipt.topic, durability)
    epoch, _, seq = receipt.id.rpartition("-")
    id = b"%b-%d" % (epoch.encode(), int(seq) + place)
    told = body % (id, receipt.index + place, receipt.subscribers)
    return head % (id, len(told)), told


@lru_cache(maxsize=4_096)
def _templates(topic: str, durability: str) -> tuple[bytes, bytes]:
    """What is the same in every answer is put together once. A topic of _URL needs no escape, and has no `%`."""
    return _HEAD % topic.encode(), _BODY % (topic.encode(), durability.encode())


def refused(response: Response) -> tuple[bytes, bytes]:
    """A response's own headers and its body."""
    return b"".join(b"%b: %b\r\n" % header for header in response.raw_headers), bytes(response.body)
