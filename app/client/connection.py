"""The connection to a server: requests that are repeated until they are answered, and answers of limited size."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from os import PathLike
from typing import Any, Final, NamedTuple, Protocol, TypeVar
from weakref import WeakSet

import httpx
import msgspec

from ..errors.wording import cause, quoted
from .address import (
    certificate_error,
    checked_token,
    has_proxies,
    is_loopback,
    is_this_machine,
    no_tls,
    server_url,
    trusted,
)
from .bodies import MAX_BODY, MAX_REFUSAL, PLAIN, body_of
from .errors import (
    UNREADABLE,
    ClientError,
    OutcomeUnknown,
    RequestRefused,
    Unreachable,
    Untrusted,
    not_plainmq,
    refusal,
)
from .lifetime import Lifetime
from .waits import Waits

TEMPORARY: Final = frozenset({502, 503, 504})  # the server stops, or a proxy cannot reach it
CONNECT_TIMEOUT: Final = 10.0  # seconds for each step of connecting, and to send each part of a request
MAX_LONG_POLL: Final = 60.0  # seconds, from the server
EVENT_STREAM: Final = "text/event-stream"

UNSENDABLE: Final = "the request cannot be sent: a key or a content type has characters that no header can have"

_ON_THE_WAY: Final = (httpx.ConnectTimeout, httpx.WriteTimeout)
_ENDED: Final = re.compile(r"disconnected|closed connection")

T = TypeVar("T")


class Answer(NamedTuple):
    head: httpx.Response
    body: bytearray


class Closable(Protocol):
    async def close(self) -> None: ...


class Connection:
    """A connection to one server. Raises ValueError for an invalid URL or token, or a file without certificates."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None,
        ca: str | PathLike[str] | None,
        retry_for: float,
        timeout: float,
        tell: Callable[[str], None],
    ) -> None:
        parsed = server_url(url)
        self.url = str(parsed)
        self.tell = tell
        self.lifetime = Lifetime()
        self.feeds: WeakSet[Closable] = WeakSet()  # closed before the connection
        self.retry_for = retry_for
        self._timeout = timeout
        headers = {"Accept-Encoding": PLAIN}
        headers |= {} if token is None else {"Authorization": f"Bearer {checked_token(token)}"}
        self._host = parsed.host
        self._may_use_proxies = not is_loopback(parsed.host) and has_proxies()
        self._client: httpx.AsyncClient | None = None
        self._new_client = partial(
            httpx.AsyncClient,
            base_url=parsed,
            headers=headers,
            verify=trusted(ca) if ca or parsed.scheme == "https" else no_tls(),
            timeout=httpx.Timeout(CONNECT_TIMEOUT, read=timeout),
            limits=httpx.Limits(max_connections=None),
        )

    async def close(self) -> None:
        """Calls that wait for an answer raise Closed, and iterators end."""
        self.lifetime.end()
        for feed in tuple(self.feeds):
            await feed.close()
        if self._client is not None:
            await self._client.aclose()

    async def read(self, kind: type[T], method: str, path: str, **request: Any) -> T:
        """Send a request as `insist` does, and decode its answer."""
        return decoded((await self.insist(method, path, **request)).body, kind)

    async def insist(
        self, method: str, path: str, *, waits: Waits | None = None, long_poll: bool = False, **request: Any
    ) -> Answer:
        """Send a request until it is answered, for `retry_for` seconds or as `waits` says."""
        waits = waits or self.waits(self.retry_for)
        may_repeat = method == "GET" or "Idempotency-Key" in request.get("headers", ())
        unknown: OutcomeUnknown | None = None
        async with self.lifetime.waiting():
            while True:
                try:
                    return await self._ask(method, path, self._timeout + MAX_LONG_POLL * long_poll, request)
                except OutcomeUnknown as error:
                    if not may_repeat:
                        raise
                    unknown = error
                    self.fail(waits, error)
                except ClientError as error:
                    self.fail(waits, error, unknown)
                await waits.pause()

    async def _ask(self, method: str, path: str, seconds: float, request: dict[str, Any]) -> Answer:
        async with self._within(seconds), self._sent(method, path, seconds, request) as answer:
            if answer.headers.get("content-type", "").startswith(EVENT_STREAM):
                raise not_plainmq(f"{answer.request.url} answers with an event stream", answer.status_code)
            body = await body_of(answer, MAX_BODY if answer.is_success else MAX_REFUSAL)
        if not answer.is_success:
            raise refusal(answer, body)
        return Answer(answer, body)

    @asynccontextmanager
    async def stream(self, path: str, query: dict[str, Any], headers: dict[str, str]) -> AsyncGenerator[httpx.Response]:
        """An open event stream. Raises RequestRefused, Unreachable."""
        request = {"params": query, "headers": {**headers, "Accept": EVENT_STREAM}}
        async with AsyncExitStack() as stack:
            async with self._within(self._timeout):
                answer = await stack.enter_async_context(self._sent("GET", path, self._timeout, request))
                if answer.status_code != 200:
                    raise refusal(answer, await body_of(answer, MAX_REFUSAL))
            if not answer.headers.get("content-type", "").lower().startswith(EVENT_STREAM):
                raise not_plainmq(f"{self.url} does not answer with an event stream")
            yield answer

    @asynccontextmanager
    async def _within(self, seconds: float) -> AsyncGenerator[None]:
        """Bounds the whole answer: if a server sends it slowly, no single part of it is late."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            raise Unreachable(f"{self.url} has not answered within {seconds:g} seconds", waited=seconds) from None

    @asynccontextmanager
    async def _sent(
        self, method: str, path: str, silence: float, request: dict[str, Any]
    ) -> AsyncGenerator[httpx.Response]:
        timeout = httpx.Timeout(CONNECT_TIMEOUT, read=silence)
        http = await self._http()
        try:
            async with http.stream(method, path, timeout=timeout, **request) as answer:
                yield answer
        except (httpx.LocalProtocolError, UnicodeError) as error:
            raise RequestRefused("option_invalid", 400, UNSENDABLE) from error
        except httpx.RequestError as error:
            raise self._unreachable(error) from error

    async def _http(self) -> httpx.AsyncClient:
        """Requests to this machine must go through no proxy; only with a proxy must the name be looked up for that."""
        if self._client is None:
            proxied = self._may_use_proxies and not await is_this_machine(self._host)
            self._client = self._client or self._new_client(trust_env=proxied)
        return self._client

    def waits(self, retry_for: float | None) -> Waits:
        return Waits(retry_for, asyncio.get_running_loop().time)

    def fail(self, waits: Waits, error: ClientError, unknown: OutcomeUnknown | None = None) -> None:
        """Raises the error unless another attempt may succeed. `unknown`: the answer to an earlier attempt. It is
        raised instead: a later refusal does not say what became of that one."""
        if not _temporary(error):
            raise unknown or error
        if isinstance(error, RequestRefused) and error.retry_after is not None:
            waits.ask(round(error.retry_after * 1000))
        if waits.failed(unknown or error):
            self.tell(f"{error}; trying again")

    def _unreachable(self, error: Exception) -> ClientError:
        if (refused := certificate_error(error)) is not None:
            return Untrusted(f"{self.url} is not trusted: {refused.verify_message}")
        if isinstance(error, httpx.RemoteProtocolError) and not _ENDED.search(str(error)):
            return not_plainmq(f"{self.url} does not answer in HTTP: is that the port of another protocol?")
        waited = CONNECT_TIMEOUT if isinstance(error, _ON_THE_WAY) else 0.0
        return Unreachable(f"{self.url} cannot be reached: {_why_not(error)}", waited=waited)


def _why_not(error: Exception) -> str:
    if isinstance(error, httpx.RemoteProtocolError):
        return "it closed the connection before its answer was complete"
    return "it does not answer in time" if isinstance(error, httpx.TimeoutException) else cause(error)


def _temporary(error: ClientError) -> bool:
    """True if the same request may succeed later. Of all limits, only the rate has a time for that (`Retry-After`)."""
    if isinstance(error, RequestRefused):
        return error.status in TEMPORARY or (error.status == 429 and error.retry_after is not None)
    return isinstance(error, Unreachable)


def decoded(body: bytes | bytearray, kind: type[T]) -> T:
    """Raises RequestRefused."""
    try:
        return msgspec.json.decode(body, type=kind)
    except UNREADABLE:
        raise not_plainmq(f"this is not an answer of plainmq: {quoted(body, 80)}") from None
