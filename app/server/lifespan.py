"""A start that fails under another server: Starlette tells it with a traceback; here it is a record, as under ours."""

from logging import ERROR

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import PlainmqError
from ..telemetry.log import log_event


class Lifespan:
    """Says in a sentence why the app did not start, where one of our errors does; the server is told that it failed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        failed: list[Message] = []

        async def hold(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                failed.append(message)  # until it is known why
            else:
                await send(message)

        try:
            await self._app(scope, receive, hold)
        except PlainmqError as error:
            if not failed:
                raise
            log_event("not started", ERROR, code=error.code, detail=str(error))
            await send({"type": "lifespan.startup.failed", "message": ""})
        except BaseException:
            for message in failed:
                await send(message)
            raise
