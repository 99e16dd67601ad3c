"""Fixtures of all tests: a real server in a process of its own, and an HTTP client of it."""

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from tempfile import mkdtemp
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.harness import ServerProcess, http_client, start_server, start_uvicorn

# Bytecode is written, whatever the environment says: compiling the app doubles the time of a server's start.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shell without job control ignores SIGINT for what it starts in the background, and children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Servers store their tokens here, and do not find those in the user's home.
os.environ["PLAINMQ_DATA_DIR"] = mkdtemp(prefix="plainmq-tests-")


def pytest_xdist_auto_num_workers() -> int:
    """Two per core: tests spend about half of their time waiting for a timeout, a start or a browser."""
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
    """A server with the default settings, shared by all tests: use the fixture `topic`. Tests run once per kind."""
    with SERVERS[request.param]() as process:
        yield process


@pytest.fixture
def topic() -> str:
    """A topic that no other test uses."""
    return f"test.{uuid4().hex}"


@pytest.fixture
async def http(server: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with http_client(server.url) as client:
        yield client
