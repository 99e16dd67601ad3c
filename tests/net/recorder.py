"""A server in this process that keeps who asked it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from app.access.doorkeeper import Doorkeeper, Openness
from app.broker import Broker, Timing
from app.clock import Clock
from app.core.topiclog import Limits
from app.engines.memory import MemoryEngine
from app.web.app import Network, create_app
from app.web.forwarded import Caller, Proxies
from app.web.guard import Rules
from app.web.intake import Intake
from app.web.protocol import Connection
from app.web.publish import Bounds
from app.web.shortcut import Found, PublishShortcut, Shortcuts
from app.web.staff import Staff


class Recorder(Connection):
    """Our connection, which keeps who published by the short cut."""

    callers: list[Caller] = []  # noqa: RUF012

    def publish(self, short: PublishShortcut, body: bytes, found: Found) -> None:
        self.callers.append(self.caller(found.shortcut))
        super().publish(short, body, found)


@asynccontextmanager
async def recording(proxies: Proxies) -> AsyncIterator[tuple[int, list[Caller], list[Caller]]]:
    """A server's port, who came by the short cut, and who did not."""
    Recorder.callers.clear()
    others: list[Caller] = []
    async with Broker(MemoryEngine(Limits(), Clock()), Timing(), 100) as broker:
        keeper = Doorkeeper(Openness.ANYBODY)
        app = create_app(broker, keeper, Bounds(), Rules(), network=Network(proxies))
        shortcuts = Shortcuts(Bounds(), Rules(), keeper)
        staff = Staff(broker, keeper, shortcuts, Intake(), proxies, app.state.access)

        class Ear:
            def __init__(self, app: ASGIApp) -> None:
                self._app = app

            async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
                host, port = scope["client"]
                others.append(Caller(host, port, scope["scheme"]))
                await self._app(scope, receive, send)

        app.add_middleware(Ear)
        app.user_middleware.append(app.user_middleware.pop(0))  # innermost
        config = uvicorn.Config(
            app,
            http=partial(Recorder, staff=staff),  # type: ignore[arg-type]
            lifespan="off",
            port=0,
            log_level="warning",
            proxy_headers=False,
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server._serve())  # without signal handlers
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1], Recorder.callers, others
        server.should_exit = True
        await task
