"""Topics: the list, the state and retention of each, and how to change and delete one."""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...broker.broker import Broker
from ...broker.records import topic_record
from ...errors import NotFound, OptionInvalid
from ...log.directory import TOPIC_SORTS, ListQuery
from ...messages.position import After, Ago, Since, Start, parse_start
from ...messages.units import parse_duration
from ..body import changes, read_json
from ..permissions import topic_itself, topic_of
from ..problem import meant_by
from ..query import Parser, read_options
from ..responses import json_answer, list_answer
from .lists import list_options, read_list_options

_OPTIONS: dict[str, Parser] = list_options(TOPIC_SORTS)
Amount = Annotated[float, msgspec.Meta(ge=1, le=10**12, multiple_of=1)]  # JSON's 2.0 is a whole number too
_GROUPS = re.compile(rb"/topics/.+/groups/?$")
_EXAMPLE = 'settings such as {"max_messages":100,"max_age":"1h"}'

_READ: dict[str, Callable[[Any], float]] = {"max_messages": int, "max_bytes": int, "max_age": parse_duration}


class Change(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a PUT; fields that are left out keep their value."""

    max_messages: Amount | None = None
    max_bytes: Amount | None = None
    max_age: str | None = None


def _before(text: str) -> tuple[str, Start]:
    with suppress(OptionInvalid):
        start = parse_start(text)
        if isinstance(start, (After, Since, Ago)):
            return text, start
    raise OptionInvalid(
        f"before={text[:60]!a}: expected an id such as k3f9a2-42, a duration such as 10m "
        "or a time such as 2026-01-31T12:00:00Z"
    )


_PURGE_OPTIONS: dict[str, Parser] = {"before": _before}


async def list_topics(request: Request) -> Response:
    """All of them, unless the request says how many."""
    broker: Broker = request.app.state.broker
    page = await broker.directory.topics(ListQuery(**read_list_options(request, _OPTIONS)))
    return await list_answer("topics", page.items, topic_record, page.next, page.total)


async def get_topic(request: Request) -> Response:
    broker: Broker = request.app.state.broker
    return json_answer(topic_record(await broker.directory.topic(_topic(request))))


async def put_topic(request: Request) -> Response:
    """Make the topic if need be, and change its retention."""
    broker: Broker = request.app.state.broker
    name = _topic(request)
    if _GROUPS.search(request.scope.get("raw_path", b"")) or meant_by(request):
        await _check_exists(broker, name)
    await broker.changes.configure(name, changes(await read_json(request, Change, _EXAMPLE), _READ))
    return json_answer(topic_record(await broker.directory.topic(name)))


async def _check_exists(broker: Broker, name: str) -> None:
    """A slip in the path of a group makes no topic. Raises NotFound."""
    try:
        await broker.directory.topic(name)
    except NotFound:
        raise NotFound(
            f"there is no topic {name!r}, and a PUT to what looks like the path of a group makes none; "
            "to make one, write its slashes as %2F"
        ) from None


async def delete_topic(request: Request) -> Response:
    broker: Broker = request.app.state.broker
    await broker.changes.drop(_topic(request))
    return Response(status_code=204)


async def pause_topic(request: Request) -> Response:
    return await _pause(request, paused=True)


async def resume_topic(request: Request) -> Response:
    return await _pause(request, paused=False)


async def _pause(request: Request, *, paused: bool) -> Response:
    """Refuse publishes to the topic, or accept them again; the answer is its state."""
    broker: Broker = request.app.state.broker
    read_options(request, {})
    name = topic_of(request)
    await broker.changes.pause(name, paused)
    return json_answer(topic_record(await broker.directory.topic(name)))


async def purge_topic(request: Request) -> Response:
    """Delete messages, also those that groups hold; the settings and the groups stay."""
    broker: Broker = request.app.state.broker
    before = read_options(request, _PURGE_OPTIONS).get("before")
    return json_answer({"purged": await broker.changes.purge(topic_of(request), before)})


def _topic(request: Request) -> str:
    read_options(request, {})
    return topic_itself(request)
