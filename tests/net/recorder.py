"""A server in this process that keeps who asked it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from app.access.authenticator import AnonymousAccess, Authenticator
from app.broker.broker import Broker, Timing
from app.log.topic_log import Limits
from app.storage.clock import Clock
from app.storage.memory import MemoryEngine
from app.web.app import Network, create_app
from app.web.fastpath.context import ServerContext
from app.web.fastpath.limits import RequestLimits
from app.web.fastpath.protocol import Connection
from app.web.fastpath.requests import FastPath, Match
from app.web.middleware.forwarded import Caller, Proxies
from app.web.middleware.origin import Rules
from app.web.publish_request import PublishLimits


class Recorder(Connection):
    """Our connection, which keeps who published by the fast path."""

    callers: list[Caller] = []  # noqa: RUF012

    def rate_limit_key(self, match: Match) -> str | None:
        self.callers.append(self.caller(match.route))
        return super().rate_limit_key(match)


class Server(uvicorn.Server):
    """Leaves the signals to the tests."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def recording(proxies: Proxies) -> AsyncIterator[tuple[int, list[Caller], list[Caller]]]:
    """A server's port, who came by the fast path, and who did not."""
    Recorder.callers.clear()
    others: list[Caller] = []
    async with Broker(MemoryEngine(Limits(), Clock()), Timing(), 100) as broker:
        authenticator = Authenticator(AnonymousAccess.ANONYMOUS)
        app = create_app(broker, authenticator, PublishLimits(), Rules(), network=Network(proxies))
        fast_path = FastPath(PublishLimits(), Rules(), authenticator)
        context = ServerContext(broker, authenticator, fast_path, RequestLimits(), proxies, app.state.access)

        class ListeningMiddleware:
            def __init__(self, app: ASGIApp) -> None:
                self._app = app

            async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
                host, port = scope["client"]
                others.append(Caller(host, port, scope["scheme"]))
                await self._app(scope, receive, send)

        app.add_middleware(ListeningMiddleware)
        app.user_middleware.append(app.user_middleware.pop(0))  # innermost
        config = uvicorn.Config(
            app,
            http=partial(Recorder, context=context),  # type: ignore[arg-type]
            lifespan="off",
            port=0,
            log_level="warning",
            proxy_headers=False,
        )
        server = Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        try:
            yield server.servers[0].sockets[0].getsockname()[1], Recorder.callers, others
        finally:
            server.should_exit = True
            await task
