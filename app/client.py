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
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from random import uniform
from types import TracebackType
from typing import Any, Final, Literal, Self, TypedDict, Unpack, overload
from urllib.parse import quote
from uuid import uuid4

import httpx
import msgspec
from httpx_sse import ServerSentEvent, SSEError, aconnect_sse

NOT_NOW: Final = frozenset({502, 503, 504})  # the server, or a proxy before it, did nothing; later it may
FIRST_WAIT: Final = 1.0  # seconds before coming back, until the server says `retry:`
LONGEST_WAIT: Final = 10.0  # seconds between two attempts, unless the server asks for more
LONGEST_RETRY: Final = 60.0  # seconds: the most that a server may ask for
LIMIT: Final = 1_000_000  # the most messages that may be asked for in one stream
BATCH: Final = "application/x-ndjson"


class ClientError(Exception):
    """The text is a sentence for people."""


class Unreachable(ClientError):
    """No answer: no connection, or it broke. After a publish the message may have been stored or not."""


class RequestRefused(ClientError):
    """The server said no, and stored nothing. `code` is for programs and stable; `status` is HTTP's."""

    def __init__(self, code: str, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.status = status


class Published(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a publish: the message's id, its place in its topic, how many live subscribers were handed it, and
    how durable it is. `last` and `count` are a batch's; `duplicate`: its key was known, and nothing was stored now."""

    id: str
    topic: str
    index: int
    subscribers: int
    durability: str
    last: str | None = None
    count: int | None = None
    duplicate: bool = False


class Scheduled(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a delayed publish: how many messages get their place in the log at `due` (RFC 3339)."""

    scheduled: int
    due: str
    topic: str
    durability: str
    duplicate: bool = False


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message as it was received. `time` is RFC 3339; `data` the body's bytes, `text` the same when it is UTF-8."""

    id: str
    topic: str
    index: int
    time: str
    event: str | None
    content_type: str
    text: str | None = msgspec.field(default=None, name="data")
    binary: bytes | None = msgspec.field(default=None, name="data_base64")

    @property
    def data(self) -> bytes:
        return self.text.encode() if self.text is not None else self.binary or b""


class Gap(msgspec.Struct, frozen=True):
    """Messages after `requested` are gone: `trimmed`, another `epoch` of the log, or an id `ahead` of it. `missed` of
    them (None: not known); it goes on at `resumes_at` (None: nothing older is retained)."""

    requested: str
    reason: str
    missed: int | None
    resumes_at: str | None

    @property
    def sentence(self) -> str:
        many = "messages" if self.missed is None else f"{self.missed} messages"
        goes_on = f"it goes on at {self.resumes_at}" if self.resumes_at else "nothing older is retained"
        return f"{many} after {self.requested} are gone ({self.reason}); {goes_on}"


class Options(TypedDict, total=False):
    """How to publish. `ttl` is a duration such as `30s`; `key` the Idempotency-Key, made up when there is none."""

    event: str | None
    delivery: Literal["all", "one"] | None
    retain: bool
    ttl: str | None
    key: str | None
    content_type: str | None


class Waits:
    """How long to wait before the next attempt, and when to give up (`patience` seconds; None: never)."""

    def __init__(self, patience: float | None, clock: Callable[[], float]) -> None:
        self.base = FIRST_WAIT
        self._patience = patience
        self._clock = clock
        self._failures = 0
        self._since: float | None = None  # the start of the outage
        self._healthy = False

    def ask(self, milliseconds: int) -> None:
        """The server's `retry:`."""
        self.base = min(max(milliseconds / 1000, 0.0), LONGEST_RETRY)

    def heard(self) -> None:
        """The server answered as it should: an outage is over."""
        self._failures, self._since, self._healthy = 0, None, True

    def failed(self, error: ClientError) -> None:
        """Raises the error when patience is at its end. A stream that breaks is no failure yet; that it cannot be had
        anew is one."""
        if self._since is None:
            self._since = self._clock()
        if not self._healthy:
            self._failures += 1
            if self._patience is not None and self._clock() + self._least() - self._since > self._patience:
                raise error
        self._healthy = False

    def next(self) -> float:
        """Seconds: never less than the server asked for, longer after each failure, and different for each client."""
        return self._least() * uniform(1.0, 1.25)

    def _least(self) -> float:
        return max(self.base, min(self.base * 2 ** min(self._failures, 10), LONGEST_WAIT))


class Client:
    """`async with Client(url)`. A publish that gets no answer is sent again for `retry_for` seconds, always with the
    same Idempotency-Key; keep that below the two minutes for which the server remembers keys. A stream that is silent
    for `stall` seconds counts as broken: more than the server's keep-alive, please. `tell` gets a sentence when the
    server cannot be reached and will be tried again. Raises ValueError when the URL is none."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        retry_for: float = 10.0,
        stall: float = 60.0,
        tell: Callable[[str], None] = lambda _: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.url = url if "://" in url else f"http://{url}"
        try:
            parsed = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise ValueError(f"{url!r} is not a URL: {error}") from None
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise ValueError(f"{url!r} is not the URL of a server: expected one such as http://127.0.0.1:8000")
        self._retry_for = retry_for
        self._tell = tell
        self._sleep = sleep
        self._http = httpx.AsyncClient(
            base_url=parsed, timeout=httpx.Timeout(10.0, read=stall), limits=httpx.Limits(max_connections=None)
        )

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
        waits = self._waits(self._retry_for)
        while True:
            try:
                answer = await self._ask("POST", _messages(topic), params=query, headers=headers, content=data)
            except ClientError as error:
                self._fail(waits, error)
            else:
                return _read(answer.content, Scheduled if answer.status_code == 202 else Published)
            await self._sleep(waits.next())

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
        reached, for `retry_for` seconds without contact (None: for ever). Until the first message has come, that place
        is what `since` means then. Raises RequestRefused, Unreachable. Close it (`aclosing`) when you stop early.
        """
        waits = self._waits(retry_for)
        place: str | None = None
        left = limit
        while left is None or left > 0:
            try:
                if place is None and since == "latest":
                    place = await self._head(topic)  # or what comes while the first connection breaks would be lost
                async with aclosing(self._stream((topic, *topics), since, place, left, waits)) as stream:
                    async for place, item in stream:  # noqa: B020
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
        """One connection: what comes, each with the place it leads to. Ends without an error when the server ends it in
        good order; raises Unreachable when it breaks, and RequestRefused."""
        query: dict[str, Any] = {"topic": list(topics), "format": "json"}
        query |= {} if left is None else {"limit": min(left, LIMIT)}
        query |= {} if place else {"since": since}
        headers = {"Last-Event-ID": place} if place else {}
        id = ""
        try:
            async with aconnect_sse(self._http, "GET", "stream", params=query, headers=headers) as source:
                if source.response.status_code != 200:
                    await source.response.aread()
                    raise _refusal(source.response)
                async for event in source.aiter_sse():
                    if event.retry is not None:
                        waits.ask(event.retry)
                    item: Record | Gap | None = None
                    if event.id != id:  # only a message brings an id; a word of the server's own never does
                        place = id = event.id
                        item = _read(event.data.encode(), Record) if event.data else None
                    elif event.event in _WORDS:
                        item = _WORDS[event.event](event)
                        if item is None:
                            return
                    waits.heard()
                    yield place, item
        except SSEError:
            raise RequestRefused("not_plainmq", 200, f"{self.url} does not answer with an event stream") from None
        except (httpx.LocalProtocolError, UnicodeError) as error:
            raise _unsendable(error) from None
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    async def _head(self, topic: str) -> str:
        """The newest place of the log."""
        answer = await self._ask("GET", _messages(topic), params={"since": "latest", "limit": 1})
        return _read(answer.content, _Page).next

    async def _ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            answer = await self._http.request(method, path, **request)
        except (httpx.LocalProtocolError, UnicodeError) as error:
            raise _unsendable(error) from None
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if not answer.is_success:
            raise _refusal(answer)
        return answer

    def _waits(self, patience: float | None) -> Waits:
        return Waits(patience, asyncio.get_running_loop().time)

    def _fail(self, waits: Waits, error: ClientError) -> None:
        """Raises the error unless another attempt may help."""
        if isinstance(error, RequestRefused) and error.status not in NOT_NOW:
            raise error
        waits.failed(error)
        if waits.first_failure:
            self._tell(f"{error}; trying again")

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(f"{self.url} cannot be reached: {str(error) or type(error).__name__}")
