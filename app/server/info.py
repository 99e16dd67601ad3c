"""What GET /server shows: the settings in force, and the limits with how full they are."""

import os
from asyncio import to_thread
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final, cast

from ..broker.activity import Levels
from ..broker.broker import Broker
from ..limits import budget
from ..log.totals import Totals
from ..settings import OPTIONS, Loaded, Settings
from ..storage.replicated.nats import address as nats
from ..storage.replicated.redis import address as redis
from ..telemetry import redact
from ..web.api.server import LimitInUse, ServerInfo, SettingInForce, Unit
from .places import store_path

_FAMILIES: Final = {**dict.fromkeys(redis.SCHEMES, "redis"), **dict.fromkeys(nats.SCHEMES, "nats")}


def server_info(loaded: Loaded, counts_connections: bool) -> ServerInfo:
    """`counts_connections`: HTTP connections are counted, and bounded, by our own protocol."""
    settings = loaded.settings
    shown = redact.settings({option.name: getattr(settings, option.name) for option in OPTIONS})
    rows = [
        SettingInForce(
            option.name,
            shown[option.name] if str(getattr(settings, option.name)) else "",
            loaded.sources[option.name],
            option.metadata["help"],
        )
        for option in OPTIONS
    ]
    return ServerInfo(_engine(settings), rows, partial(_limits, settings, counts_connections))


def _engine(settings: Settings) -> str:
    """`rediss+sentinel://...` → `redis`"""
    return _FAMILIES.get(kind := settings.engine.partition(":")[0], kind)


async def _limits(settings: Settings, counts_connections: bool, broker: Broker) -> list[LimitInUse]:
    totals = await broker.totals()
    limits = [] if totals is None else [*_of_log(settings, totals)]
    now = (await broker.stats.activity()).levels
    limits += [*_of_clients(settings, counts_connections, now)]
    return limits + await to_thread(lambda: [*_of_machine(settings, now)])  # a disk may be slow


def _of_log(settings: Settings, totals: Totals) -> Iterator[LimitInUse]:
    log = "max_disk_bytes" if settings.engine.startswith("sqlite:") else "max_total_bytes"
    yield LimitInUse("log", totals.cost, totals.cost_limit, "bytes", log)
    yield LimitInUse("held in memory", totals.held, totals.held_limit, "bytes", "max_total_bytes")
    yield LimitInUse("topics", totals.topics, totals.topics_limit, "count", "max_topics")


def _of_clients(settings: Settings, counts_connections: bool, now: Levels) -> Iterator[LimitInUse]:
    """Each worker has these limits for itself."""
    for name, used, limit, unit, setting, has_it in (
        ("subscribers", now.slots, settings.max_subscribers, "count", "max_subscribers", True),
        ("HTTP connections", now.http, settings.max_http_clients, "count", "max_http_clients", counts_connections),
        ("line connections", now.line, settings.max_tcp_clients, "count", "max_tcp_clients", settings.tcp_port),
        ("unfinished input", now.inbound, int(settings.max_unfinished), "bytes", "max_unfinished", True),
        ("unread output", now.outbound, int(settings.max_unsent), "bytes", "max_unsent", True),
    ):
        if has_it:
            yield LimitInUse(name, used, limit * settings.workers, cast("Unit", unit), setting)


def _of_machine(settings: Settings, now: Levels) -> Iterator[LimitInUse]:
    if now.resident:
        yield LimitInUse("memory of the process", now.resident, budget.available(), "bytes", None)
    if settings.engine.startswith("sqlite:"):
        yield from _of_disk(store_path(settings.engine), int(settings.min_free_disk))


def _of_disk(path: Path, kept_free: int) -> Iterator[LimitInUse]:
    try:
        disk = os.statvfs(path)
    except OSError:  # the log says what is wrong with the file
        return
    total, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
    yield LimitInUse("disk", total - free, total - kept_free, "bytes", "min_free_disk")
