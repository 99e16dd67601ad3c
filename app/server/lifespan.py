"""The start of the app under another ASGI server. If it fails, Starlette reports a traceback; this middleware logs the
record that `plainmq serve` would log."""

from logging import ERROR

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import PlainmqError
from ..telemetry.log import LOG_WRITER, log_event


class Lifespan:
    """If the start fails with one of our errors, logs its sentence and sends the server a failure without text."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        failed: list[Message] = []

        async def hold(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                failed.append(message)  # sent when the exception is known
            else:
                await send(message)

        try:
            await self._app(scope, receive, hold)
        except PlainmqError as error:
            if not failed:
                raise
            log_event("not started", ERROR, code=error.code, detail=str(error))
            LOG_WRITER.flush()  # the server may end this process as soon as it knows
            await send({"type": "lifespan.startup.failed", "message": ""})
        except BaseException:
            LOG_WRITER.flush()
            for message in failed:
                await send(message)
            raise
