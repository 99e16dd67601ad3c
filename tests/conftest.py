"""A real server, started as a user starts it, and the ways to talk to it."""

import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from tempfile import mkdtemp
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.harness import ServerProcess, http_client, start_server, start_uvicorn

# Bytecode is kept, whatever the environment says: a server that has to compile the app starts half as fast.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Servers that are started here keep their tokens there, and see none of those that whoever runs the tests has at home.
os.environ["PLAINMQ_DATA_DIR"] = mkdtemp(prefix="plainmq-tests-")


def pytest_xdist_auto_num_workers() -> int:
    """Two for each core: about half of the time a test waits for a timeout, a start or a browser."""
    return 2 * len(os.sched_getaffinity(0))


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


SERVERS: dict[str, Callable[[], AbstractContextManager[ServerProcess]]] = {
    "own protocol": start_server,
    "plain ASGI": start_uvicorn,
}


@pytest.fixture(scope="session", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """A server with the default settings, shared: use a topic of your own. Everything runs both ways."""
    with SERVERS[request.param]() as process:
        yield process


@pytest.fixture
def topic() -> str:
    """A topic nobody else uses."""
    return f"test.{uuid4().hex}"


@pytest.fixture
async def http(server: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with http_client(server.url) as client:
        yield client
