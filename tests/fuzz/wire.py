"""The HTTP port and the line port without sockets: a connection's protocol with a transport that records its writes.

One broker serves many inputs, so that they meet each other's state. Its limits are small, so that they are reached. An
input must not raise, reach the loop's exception handler, be answered 500, or leave a task or a subscriber behind.
"""

import asyncio
import atexit
import logging
import re
from asyncio import AbstractEventLoop, transports
from collections.abc import Callable
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.access.authenticator import Authenticator
from app.access.grant import EVERYTHING
from app.broker.broker import Broker
from app.log.topic_log import Limits, Retention
from app.messages.message import Message
from app.messages.position import EARLIEST
from app.messages.topic import TopicFilter
from app.storage.clock import Clock
from app.storage.memory import MemoryEngine
from app.tcp.connection import Connection as LineConnection
from app.tcp.session import LineSession
from app.web.app import create_app
from app.web.fastpath.context import ServerContext
from app.web.fastpath.limits import RequestLimits
from app.web.fastpath.protocol import Connection
from app.web.fastpath.requests import FastPath
from app.web.middleware.forwarded import Proxies
from app.web.middleware.origin import Rules
from app.web.middleware.upgrade import Upgrades
from app.web.publish_request import PublishLimits
from tests.fuzz.keys import KEYS
from tests.harness import OPEN

MAX_INPUTS: Final = 500  # of one broker
MAX_TURNS: Final = 200  # of the loop, after which everything that an input started must have ended
_STATUS: Final = re.compile(
    rb"^HTTP/1\.1 ([1-5][0-9]{2}) ", re.MULTILINE
)  # bodies end in a line feed, or the answers do
LIMITS: Final = Limits(Retention(20, 20_000, 3_600.0), total_bytes=200_000, topics=20, groups=3)


class Transport(transports.Transport):
    def __init__(self, protocol: asyncio.Protocol, loop: AbstractEventLoop) -> None:
        super().__init__({"sockname": ("127.0.0.1", 8_000), "peername": ("127.0.0.1", 50_000)})
        self.written = b""
        self.reading = True
        self.ended = False
        self.protocol = protocol
        self._loop = loop
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended
        if not self._closing:
            self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self.protocol.connection_lost, None)

    abort = close


class Endpoints:
    """A broker with its HTTP port and its line port, and this authenticator."""

    def __init__(self, authenticator: Authenticator) -> None:
        self.loop = asyncio.new_event_loop()
        self.faults: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.faults.append(context))
        self.broker = Broker(MemoryEngine(LIMITS, Clock()), max_subscribers=10)
        self.loop.run_until_complete(self.broker.__aenter__())
        self._broker_tasks = asyncio.all_tasks(self.loop)
        self._authenticator = authenticator
        app = create_app(self.broker, authenticator, PublishLimits(2_000, 4_000, 20), Rules())
        app.add_middleware(Upgrades)
        fast_path = FastPath(PublishLimits(2_000, 4_000, 20), Rules(), authenticator)
        self._context = ServerContext(
            self.broker, authenticator, fast_path, RequestLimits(1 << 14), Proxies(), app.state.access
        )
        self._config = uvicorn.Config(
            app, http=Connection, lifespan="off", ws="none", access_log=False, log_config=None, server_header=False,
            date_header=False, proxy_headers=False,
        )  # fmt: skip
        self._config.load()
        logging.getLogger("uvicorn.error").disabled = True  # it would log every invalid request
        self._state = ServerState()
        self.inputs = 0

    def close(self) -> None:
        self.loop.run_until_complete(self.broker.__aexit__())
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    def http(self) -> asyncio.Protocol:
        return Connection(self._config, self._state, {}, self.loop, context=self._context)

    def asgi(self) -> asyncio.Protocol:
        """uvicorn's own protocol with the same app: no fast path."""
        return HttpToolsProtocol(self._config, self._state, {}, self.loop)

    def lines(self) -> asyncio.Protocol:
        return LineConnection(LineSession(self.broker, 1_000, self._authenticator, auth_timeout=10.0), 2_000)

    def log(self) -> list[Message]:
        """The retained messages, in the order of the log."""
        page = self.loop.run_until_complete(self.broker.retained.page(TopicFilter([EVERYTHING]), EARLIEST, 1_000))
        return [*page.messages]

    def exchange(self, make: Callable[["Endpoints"], asyncio.Protocol], pieces: list[bytes]) -> bytes:
        """Send the pieces, one after the other, and disconnect. Returns what was received."""
        self.inputs += 1
        return self.loop.run_until_complete(self._exchange(make(self), pieces))

    async def _exchange(self, protocol: asyncio.Protocol, pieces: list[bytes]) -> bytes:
        transport = Transport(protocol, self.loop)
        protocol.connection_made(transport)
        for piece in pieces:
            for _ in range(10):
                if transport.reading:
                    break
                await asyncio.sleep(0)
            if transport.is_closing() or not transport.reading:
                break
            transport.protocol.data_received(piece)
        for _ in range(20):
            await asyncio.sleep(0)
        if not transport.is_closing():
            transport.protocol.eof_received()
            transport.close()
        await self._wait_until_idle()
        assert not self.faults, self.faults
        return transport.written

    async def _wait_until_idle(self) -> None:
        """Return when everything has ended that was started for the client. Raises AssertionError after MAX_TURNS."""
        for _ in range(MAX_TURNS):
            await asyncio.sleep(0)
            if not self._left() and not any(self.broker.subscribers().values()):
                return
        raise AssertionError(f"{self._left()} and {self.broker.subscribers()} are left")

    def _left(self) -> list[str]:
        """Tasks other than this one, the broker's, and the one that sse-starlette has for each loop."""
        others = asyncio.all_tasks() - self._broker_tasks - {asyncio.current_task()}
        return [str(task) for task in others if "_shutdown_watcher" not in str(task.get_coro())]


_AUTHENTICATORS: Final = (OPEN, Authenticator(keys=KEYS))
_endpoints: dict[bool, Endpoints] = {}


@atexit.register
def _close() -> None:
    while _endpoints:
        _endpoints.popitem()[1].close()


def _exchange(make: Callable[[Endpoints], asyncio.Protocol], data: bytes) -> bytes:
    """Returns what was received. If the first byte is above 127, the server requires a token."""
    protected = data[:1] >= b"\x80"
    if protected in _endpoints and _endpoints[protected].inputs >= MAX_INPUTS:
        _endpoints.pop(protected).close()
    if protected not in _endpoints:
        _endpoints[protected] = Endpoints(_AUTHENTICATORS[protected])
    return _endpoints[protected].exchange(make, _pieces(data))


def _pieces(data: bytes) -> list[bytes]:
    """Divide the input after its first byte, which gives the number of pieces."""
    count, rest = (data[0] % 8 + 1 if data else 1), data[1:]
    step = max(-(-len(rest) // count), 1)
    return [rest[start : start + step] for start in range(0, len(rest), step)]


def requests(data: bytes) -> None:
    """Any bytes to the HTTP port: the answers are HTTP, and never 500."""
    answers = _exchange(Endpoints.http, data)
    assert not answers or _STATUS.match(answers)
    assert b"500" not in _STATUS.findall(answers)


def session(data: bytes) -> None:
    """Any bytes to the line port: the answers are lines of text."""
    answers = _exchange(Endpoints.lines, data)
    assert b"Traceback" not in answers
    answers.decode()
    assert not answers or answers.endswith(b"\n")
