"""GET /server: what runs, its settings, and how full its limits are."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ... import __version__
from ...broker.broker import Broker
from ...messages.message import rfc3339
from ...telemetry.journal import JournalState
from ..query import read_options
from ..responses import NEVER_STORED, json_answer

Unit = Literal["bytes", "count"]


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
    unit: Unit
    setting: str | None


async def _no_limits(_broker: Broker) -> Sequence[LimitInUse]:
    return ()


class ServerInfo(msgspec.Struct, frozen=True):
    """`engine`: the kind of engine. `limits` returns them as they are now."""

    engine: str = "memory"
    settings: Sequence[SettingInForce] = ()
    limits: Callable[[Broker], Awaitable[Sequence[LimitInUse]]] = _no_limits


def state_of(broker: Broker) -> dict[str, Any]:
    """What runs, since when, and whether it accepts messages."""
    return {
        "version": __version__,
        "epoch": broker.log.epoch,
        "durability": broker.log.durability,
        "started": rfc3339(broker.started),
        "draining": broker.admission.draining,
        "unready": broker.log.unready or None,
    }


def _journal(state: JournalState | None) -> dict[str, Any] | None:
    """Without what only the metrics show."""
    if state is None:
        return None
    return {name: value for name, value in msgspec.structs.asdict(state).items() if name != "appends"}


async def get_server(request: Request) -> Response:
    read_options(request, {})
    broker: Broker = request.app.state.broker
    info: ServerInfo = request.app.state.info
    record = state_of(broker) | {
        "engine": info.engine,
        "journal": _journal(broker.log.journal),
        "limits": await info.limits(broker),
        "settings": info.settings,
    }
    return json_answer(record, headers=NEVER_STORED)
