"""Fixtures of all tests: a real server in a process of its own, and an HTTP client of it."""

import gc
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final
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


# Longest first, by the time that they take: a long file that starts last is waited for by idle processes.
LONG_FILES: Final = (
    "docs/test_contract.py",
    "log/test_memory.py",
    "cli/test_closed_streams.py",
    "limits/test_announced_memory.py",
    "engines/test_state_machine.py",
    "console/test_accessibility.py",
    "console/test_screens.py",
    "cli/test_untrusted_servers.py",
    "clients/test_libraries.py",
    "docs/test_pages.py",
    "log/test_store.py",
    "storage/test_live_subscribers.py",
    "tcp/test_many_connections.py",
    "clients/test_generators.py",
    "console/test_safety.py",
    "storage/test_changed_files.py",
    "storage/test_file_lock.py",
    "console/test_actions.py",
    "access/test_grant_cache.py",
    "console/test_window.py",
    "abuse/test_memory_limits.py",
    "server/test_processes.py",
    "cluster/test_redis_servers.py",
    "test_package.py",
    "storage/test_backup.py",
    "telemetry/test_log.py",
    "cli/test_export.py",
    "client/test_errors.py",
    "bench/test_benchmarks.py",
)


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # pytest-xdist would start the files with the most tests first


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files first, and then those with the most tests."""
    folder = Path(__file__).parent
    ranks = {folder / name: rank for rank, name in enumerate(LONG_FILES)}
    sizes = Counter(item.path for item in items)
    items.sort(key=lambda item: (ranks.get(item.path, len(ranks)), -sizes[item.path]))


def pytest_collection_finish() -> None:
    """What was collected stays until the end, and is not searched for garbage again and again."""
    gc.collect()
    gc.freeze()


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
