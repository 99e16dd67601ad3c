"""What a server does, seen through the Python clients."""

import signal

import pytest

from app import AsyncClient, AsyncStream, Client, RequestRefused, Unreachable
from app.client.answers.server import Sample
from tests.harness import ServerProcess, free_port, start_server


async def read_to_the_end(samples: AsyncStream[Sample]) -> None:
    async for _ in samples:
        pass


def test_figures_of_now_and_of_the_last_minutes(server: ServerProcess, topic: str) -> None:
    with Client(server.url) as client, client.watch_stats() as samples:
        client.publish(topic, "x")
        first, second = next(samples), next(samples)
        assert first.time < second.time
        assert second.messages >= 1
        stats = client.stats(history=True)
        assert stats.now is not None
        assert stats.now.topics >= 1
        assert stats.history[-1].time >= second.time
        assert client.stats().history == []
        assert stats.server.started < first.time


async def test_figures_go_on_after_a_restart_and_end_when_the_client_closes() -> None:
    port = free_port()
    with start_server(port=port, tcp_port=0) as server:
        told: list[str] = []
        client = AsyncClient(server.url, tell=told.append)
        samples = client.watch_stats()
        before = await anext(samples)
        server.stop()
    with start_server(port=port, tcp_port=0):
        while (after := await anext(samples)).time <= before.time:
            pass
        assert after.published == 0
        await client.aclose()
        await read_to_the_end(samples)


async def test_figures_end_when_the_server_stays_away() -> None:
    with start_server(tcp_port=0) as server:
        async with AsyncClient(server.url, tell=lambda _: None) as client, client.watch_stats(retry_for=0) as samples:
            await anext(samples)
            server.stop(signal.SIGKILL)
            with pytest.raises((Unreachable, RequestRefused)):
                await read_to_the_end(samples)
