"""Scheduled publishes, which have a delay or a time: the list, one of them, and how to cancel it or publish it now."""

from itertools import islice
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from ...access.grant import Grant, Right
from ...broker.broker import Broker
from ...log.schedule import ScheduledPublish, missing
from ...messages.message import rfc3339
from ...messages.record import MAX_SHOWN, shown_body, shown_headers
from ...messages.scheduled_id import parse_scheduled_id
from ...messages.units import format_duration
from ..authentication import grant_of
from ..permissions import SCHEDULE, SCHEDULED, RightOnFound
from ..query import Parser, integer, read_options
from ..responses import NEVER_STORED, json_answer, list_answer
from .lists import PAGE_LIMIT, USUAL, read_list_options
from .publish import accepted

_OPTIONS: Final[dict[str, Parser]] = {
    "after": str,
    "limit": PAGE_LIMIT,
}

PAGE_BYTES: Final = 1 << 20  # of bodies that a page of a publish's messages shows
_MESSAGE_OPTIONS: Final[dict[str, Parser]] = {"after": integer("after", 0, 10**18), "limit": PAGE_LIMIT}


async def list_scheduled(request: Request) -> Response:
    """A page, by the time when they are due."""
    broker: Broker = request.app.state.broker
    options, grant = read_list_options(request, _OPTIONS), grant_of(request)
    page = await broker.log.schedule(options.get("match"), options.get("after"), options.get("limit", USUAL))
    return await list_answer("scheduled", page.publishes, lambda publish: _record(publish, grant), page.next)


async def get_scheduled(request: Request) -> Response:
    """With a page of its messages, in their order."""
    options, grant = read_options(request, _MESSAGE_OPTIONS), grant_of(request)
    publish = await _found(request, SCHEDULED)
    shows_bodies = grant.allows(Right.SUBSCRIBE, publish.first.envelope.topic)
    page = _messages(publish, options.get("after", 0), options.get("limit", USUAL), shows_bodies)
    return json_answer(_record(publish, grant) | page, headers=NEVER_STORED)


def _messages(publish: ScheduledPublish, after: int, limit: int, shows_bodies: bool) -> dict[str, Any]:
    """Messages with a greater number than `after`, at most `limit` and about PAGE_BYTES of what is shown of them."""
    records: list[dict[str, Any]] = []
    left = PAGE_BYTES
    bodies = (body for draft in publish.drafts for body in draft.bodies)
    for number, body in islice(enumerate(bodies, 1), after, after + limit):
        records.append({"number": number, "size": len(body)} | (shown_body(body) if shows_bodies else {}))
        left -= min(len(body), MAX_SHOWN) if shows_bodies else 0
        if left <= 0:
            break
    last = after + len(records)
    return {"messages": records, "next": last if last < publish.count else None}


async def delete_scheduled(request: Request) -> Response:
    broker: Broker = request.app.state.broker
    read_options(request, {})
    await broker.changes.cancel_scheduled((await _found(request, SCHEDULE)).id)
    return Response(status_code=204)


async def publish_scheduled(request: Request) -> Response:
    broker: Broker = request.app.state.broker
    read_options(request, {})
    publish = await _found(request, SCHEDULE)
    receipt = await broker.changes.publish_scheduled(publish.id)
    return accepted(receipt, publish.count > 1, broker.log.durability, 200)


async def _found(request: Request, required: RightOnFound) -> ScheduledPublish:
    """The publish of the path. Raises NotFound, also for a client without the right on its topic."""
    broker: Broker = request.app.state.broker
    publish = await broker.log.scheduled(parse_scheduled_id(request.path_params["id"]))
    if not required.allows(request, publish.first.envelope.topic):
        raise missing(publish.id)
    return publish


def _record(publish: ScheduledPublish, grant: Grant) -> dict[str, Any]:
    """Without the body and the headers for a client that may not read them. Of several messages, it is the first one's
    body."""
    envelope, bodies = publish.first.envelope, publish.first.bodies
    record: dict[str, Any] = {
        "id": str(publish.id),
        "topic": envelope.topic,
        "due": rfc3339(publish.due),
        "scheduled": publish.count,
        "size": publish.size,
        "event": envelope.event,
        "content_type": envelope.content_type,
        "delivery": envelope.delivery,
        "ttl": None if envelope.ttl is None else format_duration(envelope.ttl),
    }
    if envelope.ordering is not None:
        record |= envelope.ordering.shown
    if grant.allows(Right.SUBSCRIBE, envelope.topic):
        record |= shown_headers(envelope.headers) | shown_body(bodies[0])
    return record
