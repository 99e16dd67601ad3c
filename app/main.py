"""`uvicorn plainmq.main:app`, in a checkout `app.main:app`: the same under a server of your choice.

Settings come from the environment and `.env`.

Which address that server listens on is not known here. So without tokens, whoever comes to a loopback address of this
machine is let in, and nobody else.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette

from .access.startup import BindScope
from .server.build import bounds, network, rules, running
from .server.lifespan import Lifespan
from .settings import SettingInvalid, load
from .telemetry.accesslog import AccessLog
from .telemetry.log import LOG_WRITER, on_loop_error
from .web.app import create_app

try:
    _settings = load()
    _surroundings = network(_settings)
except SettingInvalid as error:
    raise SystemExit(f"Error: {error}") from None
LOG_WRITER.open(_settings.log_format, _settings.log_level)


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    asyncio.get_running_loop().set_exception_handler(on_loop_error)
    async with running(_settings, BindScope.UNKNOWN, LOG_WRITER.show) as run:
        app.state.broker, app.state.authenticator = run.broker, run.authenticator
        with suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, run.reloads.run)
        yield


app = create_app(None, None, bounds(_settings), rules(_settings), _lifespan, network=_surroundings)
app.add_middleware(Lifespan)
app.state.access = AccessLog(_settings.access_log)
