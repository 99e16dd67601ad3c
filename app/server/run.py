"""A server from its start to its end: one process, or several workers and the process that keeps them."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable
from logging import ERROR
from time import monotonic
from typing import Any

import uvloop

from .. import __version__
from ..errors import PlainmqError
from ..net.sockets import Names, listen
from ..settings import OPTIONS, Loaded, Settings
from ..tcp.echo import serve_echo
from ..telemetry import redact
from ..telemetry.log import LOG_WRITER, log_event, on_loop_error
from .build import bind, check_workers, network, socket_options
from .role import Role
from .serving import FAILED, GC_THRESHOLD, serve_on
from .workers.supervisor import Supervisor


def serve(loaded: Loaded) -> None:
    """Serve until a signal. If the start fails, raises PlainmqError or, with a log for programs,
    logs the error and exits."""
    settings = loaded.settings
    with LOG_WRITER.writing(settings.log_format, settings.log_level):
        begun = monotonic()
        gc.set_threshold(GC_THRESHOLD)
        log_event("starting", version=__version__, pid=os.getpid(), settings=changed_settings(settings) or None)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                status = runner.run(_serve(loaded))
        except PlainmqError as error:
            if LOG_WRITER.human:
                raise
            log_event("not started", ERROR, code=error.code, detail=str(error))
            sys.exit(FAILED)
        except Exception as error:
            log_event("crashed", ERROR, error, code="internal_error")
            sys.exit(FAILED)
        log_event("stopped", seconds=monotonic() - begun)
    if status:
        sys.exit(status)


def changed_settings(settings: Settings) -> dict[str, Any]:
    """The settings that are not the default, without secrets."""
    values = {option.name: (getattr(settings, option.name), option.default) for option in OPTIONS}
    return redact.settings({name: value for name, (value, default) in values.items() if value != default})


async def _serve(loaded: Loaded) -> int:
    """Returns the exit status."""
    settings = loaded.settings
    asyncio.get_running_loop().set_exception_handler(on_loop_error)
    network(settings)  # its errors come before a token is made
    check_workers(settings)
    sockets = bind(settings)
    if settings.workers == 1:
        return await serve_on(loaded, sockets, Role())
    return await Supervisor(loaded, sockets).run()


def echo(host: str, port: int, announce: Callable[[str], None]) -> None:
    """Send every line back until a signal. Raises PlainmqError."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_echo(host, port, announce))


async def _echo(host: str, port: int, announce: Callable[[str], None]) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    defaults = Settings()
    sock = listen(host, port, *socket_options(defaults), Names("--host", "PORT"))
    host, port = sock.getsockname()[:2]
    announce(f"plainmq echo: telnet {host} {port}")
    await serve_echo(sock, defaults.max_line, stopped)
