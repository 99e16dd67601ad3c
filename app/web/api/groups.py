"""The groups of a topic: their state and settings, and how to make and delete one."""

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...access.grant import Right, authorise
from ...broker.broker import Broker
from ...broker.directory import GroupInfo
from ...errors import NotFound
from ...log.directory import GROUP_SORTS, ListQuery
from ...log.groups.state import GroupState
from ...messages.lease import MAX_LEASE_SECONDS
from ...messages.message import rfc3339
from ...messages.position import parse_start
from ...messages.topic import dead_letter_of, parse_topic
from ...messages.units import format_duration
from ..authentication import grant_of
from ..body import changes, read_json
from ..permissions import names_of, topic_itself
from ..query import Parser, duration, read_options
from ..responses import json_answer, list_answer
from .lists import USUAL, list_options, read_list_options

Deliveries = Annotated[float, msgspec.Meta(ge=1, le=1_000, multiple_of=1)]  # JSON's 2.0 is a whole number too

_LIST_OPTIONS: dict[str, Parser] = list_options(GROUP_SORTS)
_EXAMPLE = 'settings such as {"ack_timeout":"1m","max_deliveries":3}'
_READ: dict[str, Callable[[Any], Any]] = {
    "start": lambda word: (word, parse_start(word)),
    "ack_timeout": duration("ack_timeout", MAX_LEASE_SECONDS, least=1.0),
    "max_deliveries": int,
    "dead_letter": parse_topic,
}


class Change(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a PUT; fields that are left out keep their value."""

    start: str | None = None
    ack_timeout: str | None = None
    max_deliveries: Deliveries | None = None
    dead_letter: str | None = None


class Seek(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a seek."""

    to: str


async def list_groups(request: Request) -> Response:
    """A page of the groups of all topics that match."""
    broker: Broker = request.app.state.broker
    page = await broker.directory.groups(ListQuery(**{"limit": USUAL} | read_list_options(request, _LIST_OPTIONS)))
    return await list_answer("groups", page.items, _record, page.next, page.total)


async def get_group(request: Request) -> Response:
    broker: Broker = request.app.state.broker
    return json_answer(_record(await broker.directory.group(*_group(request))))


async def put_group(request: Request) -> Response:
    """Make the topic and the group if need be, and change the group's settings."""
    broker: Broker = request.app.state.broker
    topic, group = _group(request)
    settings = changes(await read_json(request, Change, _EXAMPLE), _READ)
    grant, dead_letter = grant_of(request), settings.get("dead_letter")
    if dead_letter:
        authorise(grant, Right.ADMIN, dead_letter)
    start, make = settings.pop("start", None), grant.may_make_group(topic, dead_letter)
    try:
        await broker.changes.configure_group(topic, group, settings, start, make=make)
    except NotFound:
        authorise(grant, Right.ADMIN, dead_letter_of(topic))
        raise
    return json_answer(_record(await broker.directory.group(topic, group)))


async def delete_group(request: Request) -> Response:
    broker: Broker = request.app.state.broker
    await broker.changes.drop_group(*_group(request))
    return Response(status_code=204)


async def pause_group(request: Request) -> Response:
    return await _pause(request, paused=True)


async def resume_group(request: Request) -> Response:
    return await _pause(request, paused=False)


async def _pause(request: Request, paused: bool) -> Response:
    broker: Broker = request.app.state.broker
    read_options(request, {})
    names = names_of(request)
    await broker.changes.pause_group(*names, paused)
    return json_answer(_record(await broker.directory.group(*names)))


async def seek_group(request: Request) -> Response:
    """Hand out exactly the messages after a position."""
    broker: Broker = request.app.state.broker
    read_options(request, {})
    names = names_of(request)
    word = (await read_json(request, Seek, 'a position such as {"to":"earliest"}')).to
    await broker.changes.seek(*names, (word, parse_start(word)))
    return json_answer(_record(await broker.directory.group(*names)))


def _group(request: Request) -> tuple[str, str]:
    """The topic and the group of the path; not of a path below a topic `x/groups`."""
    read_options(request, {})
    return topic_itself(request), names_of(request)[1]


def _record(info: GroupInfo) -> dict[str, Any]:
    state = info.state
    settings = state.settings
    return {
        "topic": state.topic,
        "group": state.group,
        "lag": state.lag,
        "ready": state.ready,
        "leased": state.leased,
        "delayed": state.delayed,
        "acked": state.acked,
        "dead": state.dead,
        "dead_total": state.dead_total,
        "skipped": state.skipped,
        "position": state.position,
        "paused": state.paused,
        "oldest": _oldest(state),
        "gap": state.gap,
        "rate": state.rate,
        "workers": info.workers,
        "start": settings.start,
        "ack_timeout": format_duration(settings.ack_timeout),
        "max_deliveries": settings.max_deliveries,
        "dead_letter": settings.dead_letter,
        "dead_letters": state.dead_letters,
    }


def _oldest(state: GroupState) -> dict[str, str] | None:
    return None if state.oldest is None else {"id": state.oldest, "time": rfc3339(state.oldest_time or 0.0)}
