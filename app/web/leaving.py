"""A client that is waiting for an answer may leave; what was done for it then ends too, and its place is free."""

from asyncio import FIRST_COMPLETED, Task, create_task, wait
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

T = TypeVar("T")


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What comes of the work. Raises ClientDisconnect when the client leaves before."""
    task = create_task(work)
    if await client_leaves(request, task):
        raise ClientDisconnect
    return task.result()


async def client_leaves(request: Request, work: "Task[Any]") -> bool:
    """Whether the client does before the work is done, which then ends."""
    leaving = create_task(_until_gone(request))
    try:
        await wait([work, leaving], return_when=FIRST_COMPLETED)
        return leaving.done()
    finally:
        leaving.cancel()
        work.cancel()


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
