"""A client of the HTTP door: publishes without doubling, subscribes without losing its place.

    async with Client("http://127.0.0.1:8000") as client:
        await client.publish("foo", b"hello")
        async with aclosing(client.subscribe("foo", "bar.*", since="10m")) as items:
            async for item in items:
                match item:
                    case Record():
                        print(item.topic, item.data)
                    case Gap():
                        print(item.sentence)  # these are gone: read your state anew

It knows the wire and nothing of the server's code, so it also serves those who talk to an older or newer server.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from ipaddress import ip_address
from os import PathLike, fspath
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, Self, TypedDict, TypeVar, Unpack, overload
from urllib.parse import quote
from uuid import uuid4

import httpx
import msgspec

from .answers import ClientError, Gap, Line, Published, Record, RequestRefused, Scheduled, Unreachable, Untrusted
from .bodies import PLAIN, body_of, plain
from .events import TooLong, events
from .waits import Waits

__all__ = [
    "Client",
    "ClientError",
    "Gap",
    "Line",
    "Options",
    "Published",
    "Record",
    "RequestRefused",
    "Scheduled",
    "Unreachable",
    "Untrusted",
]

NOT_NOW: Final = frozenset({502, 503, 504})  # the server stops, or a proxy does not reach it: later it may work
LIMIT: Final = 1_000_000  # the most messages that may be asked for in one stream
PAGE: Final = 1_000  # messages: as many as a server puts in one
BATCH: Final = "application/x-ndjson"
STREAM: Final = "text/event-stream"
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

T = TypeVar("T")

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1


class Options(TypedDict, total=False):
    """How to publish. `ttl` is a duration such as `30s`; `key` the Idempotency-Key, made up when there is none."""

    event: str | None
    delivery: Literal["all", "one"] | None
    retain: bool
    ttl: str | None
    key: str | None
    content_type: str | None


def server_url(text: str) -> httpx.URL:
    """The URL; `http` where it says no scheme, as in curl. Raises ValueError."""
    try:
        url = httpx.URL(text if "://" in text else f"http://{text}")
    except httpx.InvalidURL as error:
        raise ValueError(f"{text!r} is not a URL: {error}") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError(f"{text!r} is not the URL of a server: expected one such as http://127.0.0.1:8000")
    return url


def checked_token(token: str) -> str:
    """Itself, if it can be sent. Raises ValueError, which does not show it."""
    if not _TOKEN.fullmatch(token):
        raise ValueError("the token has other characters than a token can have: was something else copied with it?")
    return token


class _Answer(NamedTuple):
    head: httpx.Response
    body: bytes


class Client:
    """`async with Client(url)`. A publish that gets no answer is sent again for `retry_for` seconds, always with the
    same Idempotency-Key; keep that below the two minutes for which the server remembers keys. A stream that is silent
    for `stall` seconds counts as broken: more than the server's keep-alive, please. `tell` gets a sentence when the
    server cannot be reached and will be tried again. `ca`: a file of certificates (PEM) that may vouch for the server's
    instead of those that the system trusts (SSL_CERT_FILE can name them, too). Raises ValueError when the URL is none,
    the token cannot be one, or the file holds no certificate."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        token: str | None = None,
        ca: str | PathLike[str] | None = None,
        retry_for: float = 10.0,
        stall: float = 60.0,
        tell: Callable[[str], None] = lambda _: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        parsed = server_url(url)
        self.url = str(parsed)
        self._retry_for = retry_for
        self._tell = tell
        self._sleep = sleep
        headers = {"Accept-Encoding": PLAIN}
        headers |= {} if token is None else {"Authorization": f"Bearer {checked_token(token)}"}
        try:
            self._http = httpx.AsyncClient(
                base_url=parsed,
                headers=headers,
                verify=trusted(ca),
                timeout=httpx.Timeout(10.0, read=stall),
                limits=httpx.Limits(max_connections=None),
                trust_env=not is_loopback(parsed.host),  # no proxy shall see what stays on this machine
            )
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            raise ValueError(f"the proxy that the environment names (HTTP_PROXY) cannot be used: {error}") from None

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    @overload
    async def publish(
        self, topic: str, data: bytes, *, delay: None = None, **options: Unpack[Options]
    ) -> Published: ...
    @overload
    async def publish(self, topic: str, data: bytes, *, delay: str, **options: Unpack[Options]) -> Scheduled: ...
    async def publish(
        self, topic: str, data: bytes, *, delay: str | None = None, **options: Unpack[Options]
    ) -> Published | Scheduled:
        """Publish the bytes as one message; it is accepted when this returns. Raises RequestRefused, Unreachable."""
        return await self._publish(topic, data, delay, options)

    @overload
    async def publish_batch(
        self, topic: str, lines: Iterable[bytes], *, delay: None = None, **options: Unpack[Options]
    ) -> Published: ...
    @overload
    async def publish_batch(
        self, topic: str, lines: Iterable[bytes], *, delay: str, **options: Unpack[Options]
    ) -> Scheduled: ...
    async def publish_batch(
        self, topic: str, lines: Iterable[bytes], *, delay: str | None = None, **options: Unpack[Options]
    ) -> Published | Scheduled:
        """Publish each line as a message, all or none; they are stored as `application/json`, so `content_type` is not
        for a batch. Raises RequestRefused, Unreachable; ValueError when a line could not come back as it is."""
        lines = list(lines)
        if any(not line or b"\n" in line or line.endswith(b"\r") for line in lines):
            raise ValueError("a line of a batch cannot be empty, hold a line feed or end in a carriage return")
        return await self._publish(topic, b"\n".join(lines), delay, {**options, "content_type": BATCH})

    async def _publish(self, topic: str, data: bytes, delay: str | None, options: Options) -> Published | Scheduled:
        names = {"event", "delivery", "ttl"}
        query: dict[str, Any] = {name: value for name, value in options.items() if name in names and value is not None}
        query |= {} if options.get("retain", True) else {"retain": "false"}
        query |= {} if delay is None else {"delay": delay}
        headers = {"Idempotency-Key": (options.get("key") or uuid4().hex).encode()}
        if content_type := options.get("content_type"):
            headers["Content-Type"] = content_type.encode()
        answer = await self._insist("POST", _messages(topic), params=query, headers=headers, content=data)
        return _read(answer.body, Published) if delay is None else _read(answer.body, Scheduled)

    async def export(self, topic: str = "**", since: str = "earliest") -> AsyncGenerator[Line | Gap, None]:
        """What a topic or pattern retains, oldest first, up to the newest message at this moment, and each gap at its
        place. It takes nothing away from anybody: what waits for one subscriber is not shown. Raises RequestRefused,
        Unreachable."""
        _, newest = await self._page("**", "latest")
        end = number(newest)
        while True:
            items, place = await self._page(topic, since)
            for item in items:
                if isinstance(item, Gap) or number(item.id) <= end:
                    yield item
            if place == since or number(place) >= end:
                return
            since = place

    async def _page(self, topic: str, since: str) -> tuple[list[Line | Gap], str]:
        """A page, and the place where the next one starts."""
        query = {"since": since, "limit": PAGE}
        answer = await self._insist("GET", _messages(topic), params=query, headers={"Accept": BATCH})
        try:
            place = httpx.URL(answer.head.links["next"]["url"]).params["since"]
        except (KeyError, httpx.InvalidURL):
            raise RequestRefused("not_plainmq", 200, f"{self.url} does not answer with a page of messages") from None
        return [_item(line) for line in answer.body.splitlines()], place

    async def subscribe(
        self,
        topic: str,
        *topics: str,
        since: str = "latest",
        limit: int | None = None,
        retry_for: float | None = None,
    ) -> AsyncGenerator[Record | Gap, None]:
        """The messages of all these topics and patterns, in the order of the log, and each gap at its place.

        It starts at `since`: an id, `latest`, `earliest`, a duration such as `10m`, an RFC 3339 time or `last:N`; ends
        after `limit` messages. When the connection breaks or the server restarts it comes back to the place it had
        reached, for `retry_for` seconds without contact (None: for ever); a stream says its place as it begins.
        Raises RequestRefused, Unreachable. Close it (`aclosing`) when you stop early.
        """
        waits = self._waits(retry_for)
        place: str | None = None
        left = limit
        while left is None or left > 0:
            try:
                async with aclosing(self._stream((topic, *topics), since, place, left, waits)) as stream:
                    async for reached, item in stream:
                        place = reached
                        if isinstance(item, Record) and left is not None:
                            left -= 1
                        if item is not None:
                            yield item
                        if left == 0:
                            return
            except ClientError as error:
                self._fail(waits, error)
            await self._sleep(waits.next())

    async def _stream(
        self, topics: Iterable[str], since: str, place: str | None, left: int | None, waits: Waits
    ) -> AsyncGenerator[tuple[str | None, Record | Gap | None], None]:
        """One connection: what comes, each with the place it leads to. It ends with Unreachable or RequestRefused."""
        query: dict[str, Any] = {"topic": list(topics), "format": "json"}
        query |= {} if left is None else {"limit": min(left, LIMIT)}
        query |= {} if place else {"since": since}
        headers = {"Last-Event-ID": place} if place else {}
        headers["Accept"] = STREAM
        try:
            async with self._http.stream("GET", "stream", params=query, headers=headers) as answer:
                if answer.status_code != 200:
                    raise _refusal(answer, await body_of(answer))
                if not answer.headers.get("content-type", "").lower().startswith(STREAM):
                    raise RequestRefused("not_plainmq", 200, f"{self.url} does not answer with an event stream")
                async for event in events(plain(answer)):
                    if event.retry is not None:
                        waits.ask(event.retry)
                    if event.event in {"busy", "bye"}:
                        reason = _read(event.data, _Farewell).reason
                        raise RequestRefused(reason, 503, f"{self.url} takes no subscriber now ({reason})")
                    item: Record | Gap | None = None
                    if event.data and event.event != "place":
                        kind: type[Gap | Record] = Gap if event.event == "gap" else Record
                        item = _read(event.data, kind)
                    place = event.id or place
                    waits.heard()
                    yield place, item
        except TooLong:
            raise RequestRefused("not_plainmq", 200, f"{self.url} sends an event that is too long for one") from None
        except (httpx.LocalProtocolError, UnicodeError) as error:
            raise _unsendable(error) from None
        except httpx.RequestError as error:
            raise self._unreachable(error) from error
        raise Unreachable(f"{self.url} ended the stream")

    async def _insist(self, method: str, path: str, **request: Any) -> _Answer:
        """Ask until there is an answer, for `retry_for` seconds."""
        waits = self._waits(self._retry_for)
        while True:
            try:
                return await self._ask(method, path, **request)
            except ClientError as error:
                self._fail(waits, error)
            await self._sleep(waits.next())

    async def _ask(self, method: str, path: str, **request: Any) -> _Answer:
        try:
            async with self._http.stream(method, path, **request) as answer:
                body = await body_of(answer)
        except (httpx.LocalProtocolError, UnicodeError) as error:
            raise _unsendable(error) from None
        except httpx.RequestError as error:
            raise self._unreachable(error) from error
        if not answer.is_success:
            raise _refusal(answer, body)
        return _Answer(answer, body)

    def _waits(self, patience: float | None) -> Waits:
        return Waits(patience, asyncio.get_running_loop().time)

    def _fail(self, waits: Waits, error: ClientError) -> None:
        """Raises the error unless another attempt may help."""
        if isinstance(error, Untrusted) or (isinstance(error, RequestRefused) and error.status not in NOT_NOW):
            raise error
        if waits.failed(error):
            self._tell(f"{error}; trying again")

    def _unreachable(self, error: Exception) -> Unreachable | Untrusted:
        if (distrust := _distrust(error)) is not None:
            hint = "name who vouches for it with --ca or PLAINMQ_CA"
            return Untrusted(f"{self.url} is not trusted: {distrust.verify_message}; {hint}")
        return Unreachable(f"{self.url} cannot be reached: {str(error) or type(error).__name__}")


class _Farewell(msgspec.Struct):
    reason: str


class _Item(msgspec.Struct):
    """A line of a page: a message, or a gap."""

    id: str = ""
    gap: Gap | None = None


class _Problem(msgspec.Struct):
    """RFC 9457, and our own `code`."""

    code: str
    detail: str


def number(id: str) -> int:
    """`k3f9a2xq-42` → 42, its place in the log. Raises RequestRefused."""
    place = id.rpartition("-")[2]
    if not (place.isascii() and place.isdecimal() and len(place) < 20):
        raise RequestRefused("not_plainmq", 200, f"{id[:80]!a} is not an id of plainmq")
    return int(place)


def _item(line: bytes) -> Line | Gap:
    item = _read(line, _Item)
    return item.gap or Line(item.id, line)


def _messages(topic: str) -> str:
    # A segment that is a dot or two would be resolved away on the way, and name another topic.
    return f"topics/{quote(topic, errors='surrogateescape')}/messages".replace("/.", "/%2E")


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except UNREADABLE:
        raise RequestRefused("not_plainmq", 200, f"this is not an answer of plainmq: {body[:80]!a}") from None


def _refusal(answer: httpx.Response, body: bytes) -> RequestRefused:
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except UNREADABLE:
        said = f"{answer.request.url} answered {answer.status_code} {answer.reason_phrase}".rstrip()
        return RequestRefused(f"http_{answer.status_code}", answer.status_code, said)
    if problem.code == "unauthorised" and "Authorization" not in answer.request.headers:
        return RequestRefused(
            problem.code, answer.status_code, f"{answer.request.url.copy_with(path='/', query=None)} asks for a token"
        )
    return RequestRefused(problem.code, answer.status_code, problem.detail)


def is_loopback(host: str) -> bool:
    """Whether it is this machine, in any of the forms that a resolver takes (RFC 6761; `127.1`)."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return socket.inet_aton(name)[0] in {0, 127}
    except OSError:
        pass
    try:
        address = ip_address(name.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


def trusted(ca: str | PathLike[str] | None) -> ssl.SSLContext | bool:
    """Those of the file; or else whom the system trusts, as curl does; or else, where there is none, httpx's list."""
    if ca is None:
        system = ssl.get_default_verify_paths()
        return ssl.create_default_context() if system.cafile or system.capath else True
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # also when it holds none
        raise ValueError(f"{fspath(ca)} holds no certificates that can be read: {error.strerror or error}") from None


def _distrust(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Why the certificate was refused, if that is what lies below the error."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


def _unsendable(error: Exception) -> RequestRefused:
    return RequestRefused("option_invalid", 400, f"the request cannot be sent: {error}")
