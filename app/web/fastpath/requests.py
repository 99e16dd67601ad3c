"""Plain requests: publishes and streams that need no ASGI request object. The result is the same as with one. Anything
unusual in a request (an option of a publish, an idempotency key, an encoding, an invalid name, a token that is not
cached or lacks the right) leaves it to web/api.

A client repeats its head with another Content-Length. The route of a plain head is cached by the bytes of the head
without that number, so that it is not parsed again. The token is checked each time.
"""

import re
from collections.abc import Callable, Mapping, Sequence, Set
from functools import lru_cache
from typing import Any, ClassVar, Final

import msgspec
from msgspec.structs import replace
from starlette.datastructures import QueryParams

from ...access.authenticator import SCHEME, Authenticator
from ...access.grant import Grant, Right, authorise
from ...errors import PlainmqError
from ...messages.headers import is_message_header, parse_headers
from ...messages.message import BYTES, TEXT, Draft, Envelope, guess_content_type
from ...messages.topic import TopicFilter, parse_topic
from ..authentication import TICKET
from ..middleware.forwarded import NAMES, SIGNS
from ..middleware.origin import OUR_SITES, SITE, Rules
from ..publish_request import LINE, PublishLimits, declared_content_type, is_batch, lines_of
from ..streaming.stream_request import StreamRequest, parse_stream_request

_MESSAGES: Final = re.compile(rb"/topics/([A-Za-z0-9._~\-]+(?:/[A-Za-z0-9._~\-]+)*)/messages")
_STREAM: Final = re.compile(rb"/topics/([A-Za-z0-9._~\-*]+(?:/[A-Za-z0-9._~\-*]+)*)/stream(?:\?([!-~]*))?")
_OTHER_ROUTE: Final = re.compile(rb"/(?:groups/[^/]+|messages)$")  # paths that another route matches first
_MAX_URL: Final = 1_100  # bytes: the longest topic and the rest of the path
_MAX_HEAD: Final = 1_024  # bytes: longer heads are not cached
_MAX_ROUTES: Final = 4_096  # cached heads: some megabytes at most; when it is full, the cache is cleared
_END: Final = b"\r\n\r\n"
_LENGTHS: Final = (b"\r\nContent-Length: ", b"\r\ncontent-length: ")  # the spellings that clients use
_DEFAULT_LENGTH: Final = {
    b"POST": -1,
    b"GET": 0,
}  # bytes of a body without Content-Length; -1: chunked


class FastRoute(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a head says. `path`: without the query. `names`: the topics and patterns on which `right` is required.
    `authorization`: the whole header. `limit`: bytes of a body. `forwarded`: the headers with the client's address."""

    method: ClassVar[str]
    right: ClassVar[Right]
    path: bytes
    names: tuple[str, ...]
    authorization: bytes | None
    limit: int = 0
    forwarded: tuple[tuple[bytes, bytes], ...] = ()


class FastPublish(FastRoute, frozen=True, gc=False, kw_only=True):
    method: ClassVar[str] = "POST"
    right: ClassVar[Right] = Right.PUBLISH
    batch: ClassVar[bool] = False
    envelope: Envelope

    def read(self, body: bytes) -> Draft:
        """Parse the body. Raises Refused."""
        return Draft(self.envelope, (body,))


class FastUntypedPublish(FastPublish, frozen=True, gc=False, kw_only=True):
    """A publish without a content type: text, as the envelope says, or else `binary`."""

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


Route = FastPublish | FastStream


class Match(msgspec.Struct, frozen=True, gc=False):
    """The route of one request, its grant, and the length of its body in bytes."""

    route: Route
    grant: Grant
    length: int


class FastPath:
    """Finds the routes of plain requests, and caches them by their heads."""

    def __init__(self, bounds: PublishLimits, rules: Rules, authenticator: Authenticator) -> None:
        self._bounds = bounds
        self._rules = rules
        self._authenticator = authenticator
        self._routes: dict[bytes, Route] = {}  # by head, without the length

    def lookup(self, data: bytes) -> tuple[Match, bytes] | None:
        """The match and the body, if these bytes are exactly one request with a cached head."""
        end = data.find(_END, 0, _MAX_HEAD) + len(_END)
        head, length = _split_length(data[:end])
        route = self._routes.get(head)
        if route is None or len(data) != end + length or length > route.limit:
            return None
        grant = self._authenticator.cached_grant(route.authorization, route.right, route.names)
        return None if grant is None else (Match(route, grant, length), data[end:])

    def cache(self, data: bytes, match: Match) -> None:
        """Cache what the parser found in these bytes. A head is cached only if its length, as read here, is the
        parser's and the bytes hold nothing else: names and numbers have many spellings."""
        end = data.find(_END, 0, _MAX_HEAD) + len(_END)
        head, length = _split_length(data[:end])
        if length == match.length and len(data) == end + length:
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
            self._routes[head] = match.route

    def match(self, method: bytes, url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Match | None:
        """The match of a parsed head; None if the request is not plain."""
        word, find = _FINDERS.get(method, _NO_FINDER)
        if word not in url or len(url) > _MAX_URL:
            return None
        by_name = dict(headers)
        once = len(by_name) == len(headers) and b"host" in by_name
        if not once or not _is_known_host(by_name[b"host"], self._rules):
            return None
        if by_name.get(SITE, OUR_SITES[0]) not in OUR_SITES or (
            self._authenticator.refuses_forwarded and SIGNS & by_name.keys()
        ):
            return None
        known = _HEADERS_OF[method]
        others: frozenset[bytes] = frozenset()
        if not by_name.keys() <= known:  # rare; and a difference would look at each header that is known
            others = frozenset(by_name.keys() - known)
            if method != b"POST" or not all(map(is_message_header, others)):
                return None
        route = find(url, by_name, others, self._bounds)
        length = int(by_name.get(b"content-length", _DEFAULT_LENGTH[method]))
        if route is None or not 0 <= length <= route.limit:
            return None
        grant = self._authenticator.cached_grant(route.authorization, route.right, route.names)
        return None if grant is None else Match(route, grant, length)

    def is_still_granted(self, match: Match) -> bool:
        return self._authenticator.is_current(match.route.authorization, match.grant)

    def authorise_again(self, match: Match, address: str) -> Match:
        """The match with the grant that holds now. Raises the errors of authentication and authorisation."""
        route = match.route
        grant = self._authenticator.authenticate((route.authorization or b"")[len(SCHEME) :].decode("latin-1"), address)
        for name in route.names:
            authorise(grant, route.right, name)
        return Match(route, grant, match.length)


@lru_cache(maxsize=1_024)  # clients repeat lengths: this halves the cost of a cached head
def _split_length(head: bytes) -> tuple[bytes, int]:
    """The head without the number of its Content-Length, and the number; -1 if it is invalid."""
    for name in _LENGTHS:
        if (found := head.find(name)) >= 0:
            begin = found + len(name)
            end = head.find(b"\r\n", begin)
            digits = head[begin:end]
            return head[:begin] + head[end:], int(digits) if digits.isdigit() else -1
    return head, 0


# Which requests are plain


def _find_publish(
    url: bytes, headers: Mapping[bytes, bytes], others: Set[bytes], bounds: PublishLimits
) -> FastPublish | None:
    """`others`: the names of the message's own headers."""
    if b"?" in url:
        return None
    topic, (lawful, content_type) = _topic_in(url), _content_type(headers.get(b"content-type", b""))
    if topic is None or not lawful:
        return None
    try:
        own = parse_headers((name, headers[name]) for name in headers if name in others) if others else None
        envelope = Envelope(topic, content_type or TEXT, headers=own)
    except PlainmqError:
        return None
    common = {"path": url, "names": (topic,)} | _sender_fields(headers)
    if is_batch(content_type):
        envelope = replace(envelope, content_type=LINE)
        return FastBatch(envelope=envelope, limit=bounds.batch, bounds=bounds, **common)
    common["limit"] = bounds.message
    if content_type is None:
        return FastUntypedPublish(envelope=envelope, binary=replace(envelope, content_type=BYTES), **common)
    return FastPublish(envelope=envelope, **common)


def _find_stream(
    url: bytes, headers: Mapping[bytes, bytes], _others: Set[bytes], _bounds: PublishLimits
) -> FastStream | None:
    match = _STREAM.fullmatch(url)
    if match is None or _OTHER_ROUTE.search(match[1]):
        return None
    query = QueryParams((match[2] or b"").decode())
    try:
        topic_filter = TopicFilter([match[1].decode()])
        stream_request = parse_stream_request(topic_filter, query, headers.get(b"last-event-id", b"").decode("latin-1"))
    except PlainmqError:
        return None
    if TICKET in query:  # the ids of its stream have a mark
        return None
    names, as_event = (
        (*topic_filter.topics, *topic_filter.patterns),
        b"text/event-stream" in headers.get(b"accept", b""),
    )
    return FastStream(
        path=url.partition(b"?")[0],
        names=names,
        stream_request=stream_request,
        as_event=as_event,
        **_sender_fields(headers),
    )


def _sender_fields(headers: Mapping[bytes, bytes]) -> dict[str, Any]:
    forwarded = tuple((name, headers[name]) for name in NAMES & headers.keys())
    return {"authorization": headers.get(b"authorization"), "forwarded": forwarded}


_Finder = Callable[[bytes, Mapping[bytes, bytes], Set[bytes], PublishLimits], FastPublish | FastStream | None]
_FINDERS: Final[Mapping[bytes, tuple[bytes, _Finder]]] = {  # by method, with a word of their paths
    b"POST": (b"/messages", _find_publish),
    b"GET": (b"/stream", _find_stream),
}
_NO_FINDER: Final = b" ", _find_publish  # no path has a blank
# Headers that change nothing.
_IGNORED_HEADERS: Final = frozenset(
    b"user-agent accept accept-encoding accept-language connection referer cache-control pragma dnt priority sec-gpc "
    b"sec-fetch-site sec-fetch-mode sec-fetch-dest sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform x-forwarded-host "
    b"x-forwarded-port x-real-ip forwarded".split()
)
_HEADERS: Final = _IGNORED_HEADERS | NAMES | {b"host", b"authorization"}
_HEADERS_OF: Final = {  # those that change nothing, or are read here
    b"POST": _HEADERS | {b"content-type", b"content-length"},
    b"GET": _HEADERS | {b"last-event-id"},
}


@lru_cache(maxsize=4_096)
def _topic_in(url: bytes) -> str | None:
    match = _MESSAGES.fullmatch(url)
    try:
        return None if match is None else parse_topic(match[1].decode())
    except PlainmqError:
        return None


@lru_cache(maxsize=256)
def _is_known_host(host: bytes, rules: Rules) -> bool:
    return rules.knows(host.decode("latin-1"))


@lru_cache(maxsize=256)
def _content_type(value: bytes) -> tuple[bool, str | None]:
    """Whether the content type is valid; and the type, if one is declared."""
    try:
        return True, declared_content_type(value.decode("latin-1"))
    except PlainmqError:
        return False, None
