"""Client libraries of which some hand on blocks without data as empty messages, or guess at a charset that nobody says:
what reaches their users is what was published, and the server's own events, which have a name and data.
"""

import json
from pathlib import Path

import pytest

from tests.clients.packages import Program, folder_of, install, missing, running
from tests.clients.proxy import CUTS, EXPECTED, proxy, publish_numbers
from tests.event_stream import stream
from tests.harness import ServerProcess, http_client, start_server

_FETCH_EVENT_SOURCE = """
globalThis.window = globalThis  // it is made for a page
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} }
const { fetchEventSource } = await import('@microsoft/fetch-event-source')
await fetchEventSource(process.argv[2], {
    onmessage: ({ event, data, id }) => console.log(JSON.stringify([event || 'message', data, id])),
})
"""
_EVENT_SOURCE = """
const source = new EventSource(process.argv[2])
for (const type of ['place', 'message', 'gap'])
    source.addEventListener(type, ({ data, lastEventId }) => console.log(JSON.stringify([type, data, lastEventId])))
"""
PROGRAMS = {
    "httpx-sse": Program(
        "httpx-sse==0.4.3",
        """
import json, sys, httpx, httpx_sse
with httpx.Client() as http, httpx_sse.connect_sse(http, "GET", sys.argv[1]) as source:
    for event in source.iter_sse():
        print(json.dumps([event.event, event.data, event.id]))
""",
    ),
    "sseclient": Program(
        "sseclient==0.0.27",
        """
import json, sys, sseclient
for event in sseclient.SSEClient(sys.argv[1]):
    print(json.dumps([event.event, event.data, event.id]))
""",
    ),
    "sseclient-py": Program(
        "sseclient-py==1.9.0",
        """
import json, sys, httpx, sseclient
with httpx.stream("GET", sys.argv[1]) as response:
    for event in sseclient.SSEClient(response.iter_bytes()).events():
        print(json.dumps([event.event, event.data, event.id]))
""",
    ),
    "requests": Program(
        "requests-sse==0.5.3",
        """
import json, sys, requests_sse
with requests_sse.EventSource(sys.argv[1]) as source:
    for event in source:
        print(json.dumps([event.type, event.data, event.last_event_id]))
""",
    ),
    "aiosseclient": Program(
        "aiosseclient==0.1.8",
        """
import asyncio, json, sys, aiosseclient
async def main():
    async for event in aiosseclient.aiosseclient(sys.argv[1]):
        print(json.dumps([event.event, event.data, event.id]))
asyncio.run(main())
""",
    ),
    "launchdarkly-eventsource": Program(
        "launchdarkly-eventsource==1.7.4",
        """
import json, sys, ld_eventsource
for event in ld_eventsource.SSEClient(sys.argv[1]).events:
    print(json.dumps([event.event, event.data, event.id]))
""",
    ),
    "@microsoft/fetch-event-source": Program("@microsoft/fetch-event-source@2.0.1", _FETCH_EVENT_SOURCE),
    "eventsource, of node's http": Program(
        "eventsource@2.0.2", "import EventSource from 'eventsource'" + _EVENT_SOURCE
    ),
    "eventsource, of fetch": Program("eventsource@4.0.0", "import { EventSource } from 'eventsource'" + _EVENT_SOURCE),
    "event-source-polyfill": Program(
        "event-source-polyfill@1.0.31",
        "import polyfill from 'event-source-polyfill'\nconst EventSource = polyfill.EventSourcePolyfill"
        + _EVENT_SOURCE,
    ),
    "reconnecting-eventsource": Program(
        "reconnecting-eventsource@1.6.4 eventsource@4.0.0",
        """
import { EventSource as Fetched } from 'eventsource'
import Reconnecting from 'reconnecting-eventsource'
const options = { eventSourceClass: Fetched, max_retry_time: 50 }
const EventSource = class { constructor(url) { return new Reconnecting(url, options) } }
"""
        + _EVENT_SOURCE,
    ),
}
TEXTS = ["plain", "Grüße 🙂", "two\nlines", "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"]


@pytest.mark.parametrize("name", PROGRAMS)
async def test_a_library_hands_on_what_was_published_and_no_empty_message(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, topic: str, name: str
) -> None:
    program = PROGRAMS[name]
    if lacks := missing(program):
        pytest.skip(f"{lacks} is not installed")
    path: Path = install(program, folder_of(request, tmp_path_factory, program.package))
    with start_server("--keep-alive", "50ms", tcp_port=0) as server:
        base = f"/topics/{topic}"
        async with (
            http_client(server.url) as http,
            running(program, path, f"{server.url}{base}/stream?format=json") as said,
        ):
            kind, data, place = await said.next()
            assert (kind, json.loads(data)) == ("place", {"place": place})
            for text in TEXTS:
                async with stream(server, f"{base}/stream") as beside:  # who has had as many comments by then
                    while len(beside.parser.comments) < 3:
                        assert beside.waiting(await beside.chunk()) == []
                receipt = (await http.post(f"{base}/messages", content=text.encode())).json()
                kind, data, id = await said.next()
                assert (kind, json.loads(data)["data"], id) == ("message", text, receipt["id"])


async def test_a_polyfill_that_says_its_place_in_the_query_misses_nothing(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, topic: str, server: ServerProcess
) -> None:
    program = PROGRAMS["event-source-polyfill"]
    if lacks := missing(program):
        pytest.skip(f"{lacks} is not installed")
    path = install(program, folder_of(request, tmp_path_factory, program.package))
    async with (
        proxy(server.port, *CUTS) as middle,
        running(program, path, f"{middle.url}/topics/{topic}/stream?since=earliest") as said,
    ):
        await publish_numbers(server.url, topic)
        numbers: list[str] = []
        while len(numbers) < len(EXPECTED):
            kind, data, _ = await said.next()
            numbers += [data] if kind == "message" else []
        assert numbers == EXPECTED
        assert not middle.cuts_left
        assert b"lasteventid=" in middle.requests[-1].lower()
