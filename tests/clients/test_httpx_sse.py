"""httpx-sse, used as its own documentation shows."""

import asyncio

import httpx
from httpx_sse import aconnect_sse

from tests.clients.proxy import CUTS, EXPECTED, proxy, publish_numbers, resumed
from tests.harness import DEADLINE, ServerProcess, http_client


async def test_httpx_sse_resumes_without_hole_or_duplicate(server: ServerProcess, topic: str) -> None:
    async with proxy(server.port, *CUTS) as middle, http_client() as http:
        publishing = asyncio.create_task(publish_numbers(server.url, topic))
        url = f"{middle.url}/topics/{topic}/stream?since=earliest"
        received: list[str] = []
        place = ""
        broken = 0
        while len(received) < len(EXPECTED):
            headers = {"Last-Event-ID": place} if place else {}
            try:
                async with asyncio.timeout(DEADLINE), aconnect_sse(http, "GET", url, headers=headers) as source:
                    async for event in source.aiter_sse():
                        if event.data:
                            received.append(event.data)
                            place = event.id
                        if len(received) == len(EXPECTED):
                            break
            except httpx.RemoteProtocolError:
                broken += 1
        assert received == EXPECTED
        assert broken == len(CUTS)
        assert resumed(middle)
        await publishing
