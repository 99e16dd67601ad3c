"""GET /subscribers: who listens and works at this server."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from ...broker.audience import Attendee, AudienceQuery
from ...broker.broker import Broker
from ...messages.message import rfc3339
from ..permissions import matched_by
from ..query import Parser, integer
from ..responses import list_answer
from .lists import PAGE_LIMIT, USUAL, read_list_options, search

_OPTIONS: Final[dict[str, Parser]] = {
    "search": search,
    "after": integer("after", 0, 10**18),
    "limit": PAGE_LIMIT,
}


async def list_subscribers(request: Request) -> Response:
    """A page, in the order in which they came."""
    broker: Broker = request.app.state.broker
    options = read_list_options(request, _OPTIONS)
    query = AudienceQuery(
        matched_by(request).names, options.get("search", ""), options.get("after", 0), options.get("limit", USUAL)
    )
    page = await broker.audience.page_of_all(query, broker.siblings)
    epoch = broker.log.epoch
    return await list_answer("subscribers", page.attendees, lambda one: _record(one, epoch), page.next, page.total)


def _record(attendee: Attendee, epoch: str) -> dict[str, Any]:
    presence, seq = attendee.presence, attendee.seq
    record: dict[str, Any] = {
        "id": presence.number,
        "kind": attendee.kind,
        "who": presence.who,
        "since": rfc3339(presence.since),
        "topics": attendee.names,
    }
    if attendee.group is not None:
        return record | {"group": attendee.group, "leased": attendee.leased}
    state = "live" if attendee.live else "catching_up"
    return record | {"state": state, "position": None if seq is None else f"{epoch}-{seq}"}
