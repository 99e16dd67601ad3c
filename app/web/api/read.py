"""Reading without a stream: pages of messages for scripts, and one message by its id."""

from typing import Any, Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from ...broker.broker import Broker
from ...errors import UseForbidden
from ...log.reading import Page
from ...messages.headers import response_fields
from ...messages.message import parse_id
from ...messages.position import EARLIEST, After, parse_start
from ...messages.record import as_record
from ..authentication import client, holder
from ..permissions import selection_of, topic_of
from ..query import Parser, duration, integer, read_options
from ..responses import json_answer, lines_answer, wants_lines
from ..streaming.disconnect import cancel_on_disconnect
from ..streaming.lifetime import limited_to_token

MOST: Final = 1_000  # messages in a page
LONGEST: Final = 60.0  # seconds of waiting in one request: less than most proxies allow

_OPTIONS: dict[str, Parser] = {
    "since": parse_start,
    "limit": integer("limit", 1, MOST),
    "wait": duration("wait", LONGEST),
}

# Anybody may have published a stored body, so a browser must neither guess its type nor run it under this server's
# origin. As a document it is sandboxed, with an origin of its own. A page of this origin could still load it as a
# script: browsers say what they load a resource for (Sec-Fetch-Dest, W3C Fetch Metadata), and pages cannot change that.
_HARMLESS = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox; default-src 'none'"}
_RUN: Final = frozenset({
    "audioworklet", "embed", "object", "paintworklet", "script", "serviceworker", "sharedworker", "style", "worker",
    "xslt",
})  # fmt: skip


async def read_messages(request: Request) -> Response:
    """A page of a topic or a pattern. `next` is the position at which the following page starts."""
    broker: Broker = request.app.state.broker
    options = read_options(request, _OPTIONS)
    topic, selection = request.path_params["topic"], selection_of(request)
    start = options.get("since", EARLIEST)
    limit, wait = options.get("limit", 100), limited_to_token(request, options.get("wait", 0.0))
    reading = broker.retained.page(selection, start, limit, wait, client=client(request), who=holder(request))
    page = await (cancel_on_disconnect(request, reading) if wait else reading)
    if not (page.messages or page.gap or wait or isinstance(start, After) or selection.patterns):
        await broker.directory.topic(topic)  # 404: an empty page of a topic that does not exist would hide a mistake
    position = f"{broker.log.epoch}-{page.cursor.seq}"
    headers = {
        "Link": f'</topics/{quote(topic)}/messages?since={position}>; rel="next"',
        "Cache-Control": "no-store",
    }
    if wants_lines(request):
        return lines_answer(_lines(page), headers)
    return json_answer(_record(page, position), headers=headers)


def _record(page: Page, position: str) -> dict[str, Any]:
    record = {"messages": [as_record(message) for message in page.messages], "next": position}
    return record if page.gap is None else {"gap": page.gap, **record}


def _lines(page: Page) -> list[dict[str, Any]]:
    gap = [] if page.gap is None else [{"gap": page.gap}]
    return [*gap, *map(as_record, page.messages)]


async def read_message(request: Request) -> Response:
    """The body as it was published, with its own content type."""
    broker: Broker = request.app.state.broker
    read_options(request, {})
    if (use := request.headers.get("sec-fetch-dest")) in _RUN:
        raise UseForbidden(f"a message is not a {use} of this server's: anybody may have published it")
    message = await broker.retained.get(topic_of(request), parse_id(request.path_params["id"]))
    headers = {**_HARMLESS, "Content-Type": message.content_type, "Cache-Control": "no-store"}
    if message.headers is not None:
        headers |= response_fields(message.headers)
    return Response(message.data, headers=headers)
