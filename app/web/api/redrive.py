"""POST .../redrive: dead messages return to the group that gave them up."""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from ...access.grant import Right, authorise
from ...broker.broker import Broker
from ...errors import OptionInvalid
from ...log.groups.redrive import RedriveTarget
from ...messages.message import Id, parse_id
from ..authentication import grant_of
from ..body import read_json
from ..permissions import names_of
from ..query import Parser, integer, read_options
from ..responses import json_answer

MAX_RATE: Final = 1_000  # messages a second: what is faster is as good as all at once
MAX_IDS: Final = 1_000
_OPTIONS: Final[dict[str, Parser]] = {"rate": integer("rate", 1, MAX_RATE)}
_EXAMPLE: Final = 'ids such as {"ids":["k3f9a2-42"]}, or {"all":true}'


class Redrive(msgspec.Struct, forbid_unknown_fields=True):
    """Either `ids`, which are those of dead letters or of the messages that died, or `all`."""

    ids: Annotated[list[str], msgspec.Meta(min_length=1, max_length=MAX_IDS)] | UnsetType = UNSET
    all: Literal[True] | UnsetType = UNSET


async def redrive(request: Request) -> Response:
    """Answer how many have returned, how many are left, and what became of each id."""
    broker: Broker = request.app.state.broker
    rate = read_options(request, _OPTIONS).get("rate")
    topic, group = names_of(request)
    body = await read_json(request, Redrive, _EXAMPLE)
    if (body.ids is UNSET) == (body.all is UNSET):
        raise OptionInvalid(f"expected {_EXAMPLE}")
    ids: dict[str, Id] | None = None if body.ids is UNSET else {text: parse_id(text) for text in body.ids}
    place = (await broker.directory.group(topic, group)).state.settings.dead_letter
    authorise(grant_of(request), (Right.ADMIN,), place)  # its messages are removed
    target = RedriveTarget(topic, group, place, rate)
    result = await broker.changes.redrive(target, None if ids is None else [*ids.values()])
    answer: dict[str, Any] = {"redriven": len(result.seqs), "left": result.left}
    if ids is not None:
        moved = {*result.seqs}
        answer["results"] = {
            text: "done" if id.seq in moved or str(id) in result.sources else "unknown" for text, id in ids.items()
        }
    return json_answer(answer)
