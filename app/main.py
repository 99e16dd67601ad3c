"""`uvicorn app.main:app`: the same under a server of your choice. Settings come from the environment and `.env`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette

from .server import bounds, rules, running
from .settings import load
from .web.app import create_app

_settings = load()


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    async with running(_settings) as run:
        app.state.broker = run.broker
        yield


app = create_app(None, bounds(_settings), rules(_settings), _lifespan)
