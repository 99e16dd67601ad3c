"""curl with a Last-Event-ID: what a shell script does."""

import asyncio
import shutil

import pytest

from tests.clients.proxy import CUTS, EXPECTED, proxy, publish_numbers, resumed
from tests.event_stream import SseEvent, SseParser
from tests.harness import DEADLINE, ServerProcess

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed (Debian package curl)")


async def curl(url: str, last_event_id: str) -> tuple[int, bytes]:
    """curl's exit status and output, when the connection has ended."""
    header = ["-H", f"Last-Event-ID: {last_event_id}"] if last_event_id else []
    process = await asyncio.create_subprocess_exec("curl", "-sN", *header, url, stdout=asyncio.subprocess.PIPE)
    try:
        output, _ = await asyncio.wait_for(process.communicate(), DEADLINE)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return process.returncode, output


async def test_curl_resumes_without_hole_or_duplicate(server: ServerProcess, topic: str) -> None:
    async with proxy(server.port, *CUTS) as middle:
        publishing = asyncio.create_task(publish_numbers(server.url, topic))
        events: list[SseEvent] = []
        broken = 0
        while len(events) < len(EXPECTED):
            limit = len(EXPECTED) - len(events)
            place = events[-1].last_event_id if events else ""
            status, output = await curl(f"{middle.url}/topics/{topic}/stream?since=earliest&limit={limit}", place)
            events += [event for event in SseParser().feed(output) if event.type != "place"]
            broken += bool(status)
        assert [event.data for event in events] == EXPECTED
        assert broken == len(CUTS)
        assert resumed(middle)
        await publishing
