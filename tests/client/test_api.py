"""What a program imports: two clients that do the same, lazily, with types."""

import asyncio
import inspect
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest

import app
from app import AsyncClient, AsyncStream, AsyncWorker, Client, Closed, NotFound, Stream, Worker
from app.client.wire import duration
from tests.client.generate_sync import made
from tests.harness import DEADLINE, ROOT, ServerProcess, free_port


def modules(statement: str) -> set[str]:
    """What is loaded when this is run."""
    source = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_the_server_does_not_load_the_client_nor_the_client_the_server() -> None:
    assert not {"httpx", "app.client"} & modules("import app.main\nfrom app import settings")
    assert not {"starlette", "uvicorn", "app.server", "app.web"} & modules("from app import Client")
    assert not {"asyncio", "msgspec"} & modules("import app")


def test_there_is_what_is_announced_and_nothing_else() -> None:
    from app import client

    assert {name for name in client.__all__ if getattr(app, name) is getattr(client, name)} == set(client.__all__)
    with pytest.raises(AttributeError, match="Nonsense"):
        app.Nonsense  # type: ignore[attr-defined] # noqa: B018
    assert not hasattr(app, "Connection")
    assert set(client.__all__) < set(dir(app))


def test_the_client_for_threads_is_made_from_the_one_for_asyncio() -> None:
    for path, content in made().items():
        assert path.read_text() == content, "make it anew: python -m tests.client.generate_sync"


@pytest.mark.parametrize(("ours", "theirs"), [(AsyncClient, Client), (AsyncStream, Stream), (AsyncWorker, Worker)])
def test_both_clients_have_the_same_methods_with_the_same_options(ours: Any, theirs: Any) -> None:
    def methods(kind: Any) -> dict[str, str]:
        public = [name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name))]
        signatures = {name: str(inspect.signature(getattr(kind, name))) for name in public}
        return {
            name.replace("aclose", "close"): signature.replace(".aio.", ".sync.").replace(".Async", ".")
            for name, signature in signatures.items()
        }

    assert methods(ours) == methods(theirs)
    assert all(inspect.getdoc(getattr(theirs, name)) for name in methods(theirs))
    assert not any(word in (inspect.getdoc(theirs) or "") for word in ("async", "await"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("10m", "10m"),
        (0, "0s"),
        (90, "90s"),
        (1.5, "1.5s"),
        (0.0000001, "0s"),
        (timedelta(days=1), "86400s"),
        (-1, "-1s"),
    ],
)
def test_a_duration_is_written_as_the_server_reads_it(value: Any, text: str) -> None:
    assert duration(value) == text


async def test_closing_ends_what_waits_in_other_tasks(server: ServerProcess, topic: str) -> None:
    client = AsyncClient(server.url)

    async def read() -> list[bytes]:
        return [message.data async for message in client.subscribe(topic)]

    reader = asyncio.create_task(read())
    poll = asyncio.create_task(client.messages(f"{topic}.none", wait="1m"))
    async with asyncio.timeout(DEADLINE):
        async with AsyncClient(server.url) as other:
            while not (await other.publish(topic, "x")).subscribers:
                pass
        await client.aclose()
        assert set(await reader) <= {b"x"}
        with pytest.raises(Closed):
            await poll
    with pytest.raises(Closed):
        await client.publish(topic, "x")
    await client.aclose()


async def test_a_stream_is_closed_by_another_task_and_the_client_stays(server: ServerProcess, topic: str) -> None:
    async with asyncio.timeout(DEADLINE), AsyncClient(server.url) as client:
        stream = client.subscribe(topic)
        waiting = asyncio.create_task(anext(stream, None))
        while not await _subscribed(client, topic):
            await client.publish(topic, "x", retain=False)
        await stream.aclose()
        await waiting
        while await _subscribed(client, topic):
            pass
        assert await anext(stream, None) is None


async def _subscribed(client: AsyncClient, topic: str) -> bool:
    try:
        return (await client.topic(topic)).subscribers > 0
    except NotFound:
        return False


async def test_a_task_that_is_cancelled_is_cancelled_and_not_closed(server: ServerProcess, topic: str) -> None:
    async with AsyncClient(server.url) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.messages(topic, wait="1m")
        assert (await client.publish(topic, "x")).index == 0


async def test_it_is_reported_as_a_warning_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with AsyncClient(f"http://127.0.0.1:{free_port()}", retry_for=0.01) as client:
        with pytest.raises(app.Unreachable):
            await client.topics()
    assert [(record.name, record.levelname) for record in caplog.records] == [("plainmq.client", "WARNING")]
    assert "trying again" in caplog.text
