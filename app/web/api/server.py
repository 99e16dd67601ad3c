"""GET /server: what runs, its settings, and how full its limits are."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...broker.broker import Broker
from ...messages.message import rfc3339
from ...version import __version__
from ..query import read_options
from ..responses import json_answer


class SettingInForce(msgspec.Struct, frozen=True):
    """`value`: as it may be shown. `source`: `default`, `.env`, `environment` or `flag`."""

    name: str
    value: str
    source: str
    help: str


class LimitInUse(msgspec.Struct, frozen=True):
    """`setting`: the one that raises the limit; None if none does."""

    name: str
    used: int
    limit: int
    unit: Literal["bytes", "count"]
    setting: str | None


async def _no_limits(_broker: Broker) -> Sequence[LimitInUse]:
    return ()


class ServerInfo(msgspec.Struct, frozen=True):
    """`engine`: the kind of engine. `limits` returns them as they are now."""

    engine: str = "memory"
    settings: Sequence[SettingInForce] = ()
    limits: Callable[[Broker], Awaitable[Sequence[LimitInUse]]] = _no_limits


async def get_server(request: Request) -> Response:
    read_options(request, {})
    broker: Broker = request.app.state.broker
    info: ServerInfo = request.app.state.info
    record: dict[str, Any] = {
        "version": __version__,
        "engine": info.engine,
        "durability": broker.engine.durability,
        "epoch": broker.epoch,
        "started": rfc3339(broker.started),
        "draining": broker.draining,
        "unready": broker.unready or None,
        "limits": await info.limits(broker),
        "settings": info.settings,
    }
    return json_answer(record, headers={"Cache-Control": "no-store"})
