"""`uvicorn plainmq.main:app`, in a checkout `app.main:app`: the same under a server of your choice.

Settings come from the environment and `.env`.

Which address that server listens on is not known here. So without tokens, whoever comes to a loopback address of this
machine is let in, and nobody else.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from logging import ERROR
from typing import Final

from starlette.applications import Starlette

from .access.startup import BindScope
from .server.build import line_sockets, network, origin_rules, publish_limits, running
from .server.info import server_info
from .server.lifespan import Lifespan
from .server.one_process import only_process
from .server.role import Role
from .settings import SettingInvalid, Settings, load_with_sources, named
from .telemetry.accesslog import AccessLog
from .telemetry.log import LOG_WRITER, log_event, on_loop_error
from .web.app import create_app
from .web.middleware.upgrade import Upgrades

NOT_STARTED: Final = 3  # uvicorn and gunicorn start a worker again that ends with another status, and for ever

try:
    _loaded = load_with_sources()
    _settings = _loaded.settings
    _network = network(_settings)
    if _settings.workers != Settings.workers:
        raise SettingInvalid(f"{named('workers')} is {_settings.workers}: only `plainmq serve` starts workers")
except SettingInvalid as error:
    LOG_WRITER.open("human", "info")
    log_event("not started", ERROR, code=error.code, detail=str(error))
    LOG_WRITER.flush()
    raise SystemExit(NOT_STARTED) from None
LOG_WRITER.open(_settings.log_format, _settings.log_level)


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    asyncio.get_running_loop().set_exception_handler(on_loop_error)
    with only_process():
        async with running(_settings, line_sockets(_settings), Role(), BindScope.UNKNOWN) as run:
            app.state.broker, app.state.authenticator = run.broker, run.authenticator
            with suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, run.reloads.run)
            yield


app = create_app(
    None,
    None,
    publish_limits(_settings),
    origin_rules(_settings),
    _lifespan,
    network=_network,
    info=server_info(_loaded, counts_connections=False),
)
app.add_middleware(Upgrades)
app.add_middleware(Lifespan)
app.state.access = AccessLog(_settings.access_log)
