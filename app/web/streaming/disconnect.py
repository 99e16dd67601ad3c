"""A client that waits for an answer may leave, or be sent away because its token is good no more. What was done for it
then ends too, and its place is free.
"""

from asyncio import FIRST_COMPLETED, Future, Task, create_task, get_running_loop, wait
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from ...access.authenticator import Authenticator
from ...errors import Unauthorised
from ..authentication import grant_of

T = TypeVar("T")


async def cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What comes of the work. Raises ClientDisconnect when the client leaves before, and as client_leaves()."""
    task = create_task(work)
    if await client_leaves(request, task):
        raise ClientDisconnect
    return task.result()


async def client_leaves(request: Request, work: "Task[Any]") -> bool:
    """Whether the client does before the work is done, which then ends. Raises Unauthorised when it is sent away."""
    authenticator: Authenticator = request.app.state.authenticator
    guest = _Guest()
    authenticator.register(guest, grant_of(request))
    leaving = create_task(_until_gone(request))
    try:
        await wait([work, leaving, guest.dismissed], return_when=FIRST_COMPLETED)
        if guest.dismissed.done() and not work.done():
            raise Unauthorised("the token is not good any more")
        return leaving.done()
    finally:
        authenticator.unregister(guest)
        leaving.cancel()
        work.cancel()


class _Guest:
    def __init__(self) -> None:
        self.dismissed: Future[None] = get_running_loop().create_future()

    def revoke(self) -> None:
        self.dismissed.set_result(None)


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
