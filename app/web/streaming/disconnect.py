"""Cancels the work for a waiting request when its client disconnects or its token is revoked."""

from asyncio import FIRST_COMPLETED, Future, Task, create_task, get_running_loop, wait
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from ...access.authenticator import Authenticator
from ...errors import Unauthorised
from ..authentication import grant_of

T = TypeVar("T")


async def cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work. Raises ClientDisconnect if the client disconnects first, and as client_leaves()."""
    task = create_task(work)
    if await client_leaves(request, task):
        raise ClientDisconnect
    return task.result()


async def client_leaves(request: Request, work: "Task[Any]") -> bool:
    """True if the client disconnects before the work is done; the work is cancelled then. Raises Unauthorised if the
    token is revoked."""
    authenticator: Authenticator = request.app.state.authenticator
    session = _Session()
    authenticator.register(session, grant_of(request))
    disconnect = create_task(_until_disconnected(request))
    try:
        await wait([work, disconnect, session.revoked], return_when=FIRST_COMPLETED)
        if session.revoked.done() and not work.done():
            raise Unauthorised("the token is not good any more")
        return disconnect.done()
    finally:
        authenticator.unregister(session)
        disconnect.cancel()
        work.cancel()


class _Session:
    def __init__(self) -> None:
        self.revoked: Future[None] = get_running_loop().create_future()

    def revoke(self) -> None:
        self.revoked.set_result(None)


async def _until_disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
