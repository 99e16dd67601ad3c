"""A simple server with sse-starlette, as one writes it in an afternoon: a queue for each reader.

python -m benchmarks.servers.by_hand PORT
"""

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator

import uvicorn
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

numbers = itertools.count(1)
readers: dict[str, set[asyncio.Queue[ServerSentEvent]]] = {}


async def publish(request: Request) -> JSONResponse:
    text = (await request.body()).decode()
    number = next(numbers)
    for queue in readers.get(request.path_params["topic"], ()):
        queue.put_nowait(ServerSentEvent(text, id=str(number)))
    return JSONResponse({"id": number}, 201)


async def stream(request: Request) -> EventSourceResponse:
    queue: asyncio.Queue[ServerSentEvent] = asyncio.Queue()
    queues = readers.setdefault(request.path_params["topic"], set())
    queues.add(queue)

    async def events() -> AsyncIterator[ServerSentEvent]:
        try:
            while True:
                yield await queue.get()
        finally:
            queues.discard(queue)

    return EventSourceResponse(events())


app = Starlette(
    routes=[Route("/topics/{topic}/messages", publish, methods=["POST"]), Route("/topics/{topic}/stream", stream)]
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False, backlog=4096)
