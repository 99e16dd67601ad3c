"""A publish, or a reader who comes, without a request object. It is the same as with one: whatever is not plain about a
request (an option of a publish, a key, an encoding, an unlawful name, a token that is not known yet or has not
the right) makes it none of ours, and api/publish or api/stream answers it.

A client sends the same head again and again, with another Content-Length. One that was read and found plain is
remembered, byte for byte but that number, so that it need not be read again; whether its token still holds is asked
each time.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final, Protocol

import msgspec
from starlette.datastructures import QueryParams
from starlette.responses import Response

from ...access.authenticator import SCHEME, Authenticator
from ...access.grant import Grant, Right, authorise
from ...errors import PlainmqError
from ...messages.message import BYTES, TEXT, Draft, Envelope, Receipt, guess_content_type
from ...messages.topic import TopicFilter, parse_topic
from ..api.publish import LINE, PublishLimits, is_batch, lines_of, said_content_type
from ..authentication import TICKET
from ..middleware.forwarded import NAMES, SIGNS
from ..middleware.origin import OUR_SITES, SITE, Rules
from ..middleware.security_headers import NOSNIFF, secured
from ..streaming.stream_request import StreamRequest, parse_stream_request

_MESSAGES: Final = re.compile(rb"/topics/([A-Za-z0-9._~\-]+(?:/[A-Za-z0-9._~\-]+)*)/messages")
_STREAM: Final = re.compile(rb"/topics/([A-Za-z0-9._~\-*]+(?:/[A-Za-z0-9._~\-*]+)*)/stream(?:\?([!-~]*))?")
_OTHER_ROUTE: Final = re.compile(rb"/(?:groups/[^/]+|messages)$")  # what a path may be read as before it is a stream's
_LONGEST_URL: Final = 1_100  # bytes: of a topic and what is around it
_LONGEST_HEAD: Final = 1_024  # bytes of a head that is remembered
_REMEMBERED: Final = 4_096  # heads: some megabytes at most; when they are too many, all are forgotten
_END: Final = b"\r\n\r\n"
_LENGTHS: Final = (b"\r\nContent-Length: ", b"\r\ncontent-length: ")  # as clients write it
_UNSAID: Final = {b"POST": -1, b"GET": 0}  # bytes of a body where there is no Content-Length; -1: it comes in chunks


class Target(Protocol):
    """The connection on which the request came."""

    def publish(self, shortcut: "FastPublish", body: bytes, found: "Match") -> None: ...

    def stream(self, stream_request: StreamRequest, as_event: bool, found: "Match") -> None:
        """`as_event`: the client takes a refusal as an event."""


class FastRoute(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What is needed to do without the head: its target (but not the query); whose request it is (the `Authorization`
    that is shown), what right to which topics and patterns that takes, how many bytes a body may have, and the headers
    that may say who sent it."""

    method: ClassVar[str]
    right: ClassVar[Right]
    path: bytes
    names: tuple[str, ...]
    shown: bytes | None
    limit: int = 0
    forwarded: tuple[tuple[bytes, bytes], ...] = ()

    def take(self, target: Target, found: "Match", body: bytes) -> None:
        """Do it."""
        raise NotImplementedError


class FastPublish(FastRoute, frozen=True, gc=False, kw_only=True):
    method: ClassVar[str] = "POST"
    right: ClassVar[Right] = Right.PUBLISH
    batch: ClassVar[bool] = False
    envelope: Envelope

    def take(self, target: Target, found: "Match", body: bytes) -> None:
        target.publish(self, body, found)

    def read(self, body: bytes) -> Draft:
        """What the body is. Raises Refused."""
        return Draft(self.envelope, (body,))


class UnsaidShortcut(FastPublish, frozen=True, gc=False, kw_only=True):
    """Nobody has said what the body is: text, as the envelope says, or bytes."""

    binary: Envelope

    def read(self, body: bytes) -> Draft:
        return Draft(self.envelope if guess_content_type(body) is TEXT else self.binary, (body,))


class FastBatch(FastPublish, frozen=True, gc=False, kw_only=True):
    batch: ClassVar[bool] = True
    bounds: PublishLimits

    def read(self, body: bytes) -> Draft:
        return Draft(self.envelope, lines_of(body, self.bounds))


class FastStream(FastRoute, frozen=True, gc=False, kw_only=True):
    method: ClassVar[str] = "GET"
    right: ClassVar[Right] = Right.SUBSCRIBE
    stream_request: StreamRequest
    as_event: bool

    def take(self, target: Target, found: "Match", body: bytes) -> None:  # noqa: ARG002
        target.stream(self.stream_request, self.as_event, found)


class Match(msgspec.Struct, frozen=True, gc=False):
    """A shortcut; whose request it is this time, and how many bytes its body has."""

    shortcut: FastRoute
    grant: Grant
    length: int


class FastPath:
    """The plain requests of one server, for a Host that the rules know."""

    def __init__(self, bounds: PublishLimits, rules: Rules, authenticator: Authenticator) -> None:
        self._bounds = bounds
        self._rules = rules
        self._keeper = authenticator
        self._known: dict[bytes, FastRoute] = {}  # by the whole head

    def recall(self, data: bytes) -> tuple[Match, bytes] | None:
        """What is found and the body, if these bytes are one whole request whose head is known."""
        end = data.find(_END, 0, _LONGEST_HEAD) + len(_END)
        head, length = _measured(data[:end])
        shortcut = self._known.get(head)
        if shortcut is None or len(data) != end + length or length > shortcut.limit:
            return None
        grant = self._keeper.cached_grant(shortcut.shown, shortcut.right, shortcut.names)
        return None if grant is None else (Match(shortcut, grant, length), data[end:])

    def remember(self, data: bytes, found: Match) -> None:
        """The parser has found this in what began with these bytes. Only a head whose length is read here as the parser
        has read it is remembered: names and numbers may be written in many ways."""
        end = data.find(_END, 0, _LONGEST_HEAD) + len(_END)
        head, length = _measured(data[:end])
        if length == found.length and len(data) == end + length:  # so nothing but this request was there
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[head] = found.shortcut

    def find(self, method: bytes, url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Match | None:
        """The shortcut for a request's head; None when there is none."""
        find, by_name = _FINDERS.get(method), dict(headers)
        once = len(by_name) == len(headers) and b"host" in by_name
        if find is None or len(url) > _LONGEST_URL or not once or not _is_ours(by_name[b"host"], self._rules):
            return None
        if by_name.get(SITE, OUR_SITES[0]) not in OUR_SITES or (
            self._keeper.refuses_forwarded and SIGNS & by_name.keys()
        ):
            return None
        shortcut, length = find(url, by_name, self._bounds), int(by_name.get(b"content-length", _UNSAID[method]))
        if shortcut is None or not 0 <= length <= shortcut.limit or not by_name.keys() <= _KNOWN_TO[shortcut.right]:
            return None
        grant = self._holder(shortcut)
        return None if grant is None else Match(shortcut, grant, length)

    def still_holds(self, found: Match) -> bool:
        return self._holder(found.shortcut) is found.grant

    def again(self, found: Match, address: str) -> Match:
        """With whose request it is now. Raises what a request without a right to it gets."""
        shortcut = found.shortcut
        grant = self._keeper.authenticate((shortcut.shown or b"")[len(SCHEME) :].decode("latin-1"), address)
        for name in shortcut.names:
            authorise(grant, shortcut.right, name)
        return Match(shortcut, grant, found.length)

    def _holder(self, shortcut: FastRoute) -> Grant | None:
        return self._keeper.cached_grant(shortcut.shown, shortcut.right, shortcut.names)


@lru_cache(maxsize=1_024)  # of the same length again and again: half of what a known head costs otherwise
def _measured(head: bytes) -> tuple[bytes, int]:
    """The head without the number of its Content-Length, and that; -1 when it is none."""
    for name in _LENGTHS:
        if (place := head.find(name)) >= 0:
            begin = place + len(name)
            end = head.find(b"\r\n", begin)
            digits = head[begin:end]
            return head[:begin] + head[end:], int(digits) if digits.isdigit() else -1
    return head, 0


# What is plain


def _find_publish(url: bytes, headers: Mapping[bytes, bytes], bounds: PublishLimits) -> FastRoute | None:
    if b"?" in url:
        return None
    topic, (lawful, content_type) = _topic_in(url), _content_type(headers.get(b"content-type", b""))
    if topic is None or not lawful:
        return None
    common = {"path": url, "names": (topic,)} | _sender(headers)
    if is_batch(content_type):
        return FastBatch(envelope=Envelope(topic, LINE), limit=bounds.batch, bounds=bounds, **common)
    common["limit"] = bounds.message
    if content_type is None:
        return UnsaidShortcut(envelope=Envelope(topic, TEXT), binary=Envelope(topic, BYTES), **common)
    return FastPublish(envelope=Envelope(topic, content_type), **common)


def _find_stream(url: bytes, headers: Mapping[bytes, bytes], _bounds: PublishLimits) -> FastRoute | None:
    match = _STREAM.fullmatch(url)
    if match is None or _OTHER_ROUTE.search(match[1]):
        return None
    query = QueryParams((match[2] or b"").decode())
    try:
        topic_filter = TopicFilter([match[1].decode()])
        wish = parse_stream_request(topic_filter, query, headers.get(b"last-event-id", b"").decode("latin-1"))
    except PlainmqError:
        return None
    if TICKET in query:  # its ids are marked
        return None
    names, as_event = (
        (*topic_filter.topics, *topic_filter.patterns),
        b"text/event-stream" in headers.get(b"accept", b""),
    )
    return FastStream(
        path=url.partition(b"?")[0], names=names, stream_request=wish, as_event=as_event, **_sender(headers)
    )


def _sender(headers: Mapping[bytes, bytes]) -> dict[str, Any]:
    forwarded = tuple((name, headers[name]) for name in NAMES & headers.keys())
    return {"shown": headers.get(b"authorization"), "forwarded": forwarded}


_FINDERS: Final[dict[bytes, Callable[[bytes, Mapping[bytes, bytes], PublishLimits], FastRoute | None]]] = {
    b"POST": _find_publish,
    b"GET": _find_stream,
}
# What else a client or its browser says changes nothing.
_IMMATERIAL: Final = frozenset(
    b"user-agent accept accept-encoding accept-language connection referer cache-control pragma dnt priority sec-gpc "
    b"sec-fetch-site sec-fetch-mode sec-fetch-dest sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform x-forwarded-host "
    b"x-forwarded-port x-real-ip forwarded".split()
)
_KNOWN: Final = _IMMATERIAL | NAMES | {b"host", b"authorization"}
_KNOWN_TO: Final = {
    Right.PUBLISH: _KNOWN | {b"content-type", b"content-length"},
    Right.SUBSCRIBE: _KNOWN | {b"last-event-id"},
}


@lru_cache(maxsize=4_096)
def _topic_in(url: bytes) -> str | None:
    match = _MESSAGES.fullmatch(url)
    try:
        return None if match is None else parse_topic(match[1].decode())
    except PlainmqError:
        return None


@lru_cache(maxsize=256)
def _is_ours(host: bytes, rules: Rules) -> bool:
    return rules.knows(host.decode("latin-1"))


@lru_cache(maxsize=256)
def _content_type(value: bytes) -> tuple[bool, str | None]:
    """Whether it is lawful, and what it says, if anything."""
    try:
        return True, said_content_type(value.decode("latin-1"))
    except PlainmqError:
        return False, None


# Answers. Of the headers against misuse by a browser (web/headers.py) a 201 needs one only: it answers a POST, so no
# page can load it as its script, image or frame; as a document it is JSON, and has no links.

_HEAD: Final = (
    b"location: /topics/%b/messages/%b-%%d\r\ncontent-length: %%d\r\ncontent-type: application/json\r\n"
    + b"%b: %b\r\n" % NOSNIFF
)
_BODY: Final = b'{"id":"%b-%%d","topic":"%b","index":%%d,"subscribers":%%d,"durability":"%b"%%b}\n'
_LAST: Final = b',"last":"%b-%%d","count":%%d'


def accepted(receipt: Receipt, place: int, durability: str, count: int | None) -> tuple[bytes, bytes]:
    """The 201's own headers and its body, as api/publish would write them, for the message at that place of the
    receipt; or for a batch of so many from there on."""
    global _turn  # noqa: PLW0603
    if receipt is not _turn[0]:
        epoch, _, begin = receipt.id.rpartition("-")
        _turn = receipt, int(begin), *_templates(receipt.topic, epoch, durability)
    _, first, head, body, last = _turn
    seq = first + place
    batch = b"" if count is None else last % (seq + count - 1, count)
    told = body % (seq, receipt.index + place, receipt.subscribers, batch)
    return head % (seq, len(told)), told


_turn: tuple[Receipt | None, int, bytes, bytes, bytes] = None, 0, b"", b"", b""  # those of one turn share a receipt


@lru_cache(maxsize=4_096)
def _templates(topic: str, epoch: str, durability: str) -> tuple[bytes, bytes, bytes]:
    """What is the same in every answer is put together once. A topic of _MESSAGES needs no escape, and has no `%`."""
    name, life = topic.encode(), epoch.encode()
    return _HEAD % (name, life), _BODY % (life, name, durability.encode()), _LAST % life


def refused(response: Response) -> tuple[bytes, bytes]:
    """A response's own headers and its body."""
    return b"".join(b"%b: %b\r\n" % header for header in secured(response.raw_headers)), bytes(response.body)
