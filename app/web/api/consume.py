"""Work: a topic shared out among the workers of a group. They pull it or have it pushed, and settle each lease."""

from asyncio import CancelledError, create_task
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, NamedTuple

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ...broker.broker import Broker, Pulled
from ...consumers.push import PushConsumer
from ...errors import LeaseExpired, OptionInvalid, PlainmqError
from ...fanout.encoder import LeaseEncoder
from ...fanout.sink import Sink
from ...messages.lease import (
    MAX_LEASE_SECONDS,
    MAX_LEASES,
    MAX_NACK_DELAY,
    Action,
    Lease,
    LeaseId,
    Outcome,
    lease_id,
    parse_lease_id,
)
from ...messages.record import as_lease_record
from ..authentication import TICKET, client, grant_of, mark_of, place_of
from ..body import given, read_json
from ..permissions import names_of
from ..problem import STATUS, problem
from ..query import Parser, duration, integer, read_options, read_stream_options
from ..responses import json_answer, lines_answer, wants_lines
from ..sse import CHUNKED_LEASE, SSE_LEASE, Encoders, SseEncoder, marked
from ..streaming import stream_request
from ..streaming.disconnect import client_leaves
from ..streaming.lifetime import StreamLifetime, at_most
from ..streaming.response import EventStream
from . import read

_FORMS: Encoders[SseEncoder[Lease]] = Encoders(SSE_LEASE, CHUNKED_LEASE)
_LEASE = duration("lease", MAX_LEASE_SECONDS)

_PULL_OPTIONS: dict[str, Parser] = {
    "max": integer("max", 1, MAX_LEASES),
    "wait": duration("wait", read.LONGEST),
    "lease": _LEASE,
}
_STREAM_OPTIONS: dict[str, Parser] = {
    "credit": integer("credit", 1, MAX_LEASES),
    "lease": _LEASE,
    "timeout": duration("timeout", stream_request.LONGEST),
    "last_event_id": str,  # the group keeps the place; a client that comes back may say it all the same
    TICKET: str,
}
_NACK_OPTIONS: dict[str, Parser] = {"delay": duration("delay", MAX_NACK_DELAY)}
_EXTEND_OPTIONS: dict[str, Parser] = {"lease": _LEASE}


class Ack(msgspec.Struct, forbid_unknown_fields=True):
    """Ids of messages or of leases."""

    ids: Annotated[list[str], msgspec.Meta(min_length=1, max_length=1_000)]


class Nack(Ack):
    delay: str | None = None


class Extend(Ack):
    lease: str | None = None


class Settling(NamedTuple):
    """What a request that settles leases may have: its body; and what of that may stand in the query instead."""

    body: type[Ack]
    options: dict[str, Parser]


_SETTLINGS: dict[Action, Settling] = {
    Action.ACK: Settling(Ack, {}),
    Action.NACK: Settling(Nack, _NACK_OPTIONS),
    Action.EXTEND: Settling(Extend, _EXTEND_OPTIONS),
}


# Getting work


async def pull(request: Request) -> Response:
    """What there is, or comes within `wait`. For a client that leaves nothing stays leased."""
    broker: Broker = request.app.state.broker
    topic, group = names_of(request)
    options = read_options(request, _PULL_OPTIONS)
    count, seconds, lease = options.get("max", 10), at_most(request, options.get("wait", 0.0)), options.get("lease")
    make = grant_of(request).may_make_group(topic)
    pulling = create_task(
        broker.pull(topic, group, make=make, count=count, wait=seconds, lease=lease, client=client(request))
    )
    if await client_leaves(request, pulling):
        with suppress(CancelledError, PlainmqError):  # then it took nothing
            await broker.settle(topic, group, Action.RETURN, [lease_id(taken) for taken in (await pulling).leases])
        raise ClientDisconnect
    return _handed_out(request, pulling.result())


def _handed_out(request: Request, pulled: Pulled) -> Response:
    records = [as_lease_record(lease) for lease in pulled.leases]
    gap: dict[str, Any] = {} if pulled.gap is None else {"gap": pulled.gap}
    if wants_lines(request):
        return lines_answer([gap, *records] if gap else records)
    return json_answer(gap | {"messages": records})


async def stream_work(request: Request) -> Response:
    """The same pushed. The group must be there, for a GET makes nothing: a refusal has its status."""
    broker: Broker = request.app.state.broker
    topic, group = names_of(request)
    options = read_stream_options(request, _STREAM_OPTIONS)
    credit, lease = options.get("credit", 10), options.get("lease")
    gap = await broker.join(topic, group, make=False)

    def work(form: LeaseEncoder, sink: Sink) -> PushConsumer:
        return broker.push(topic, group, form, sink, credit=credit, lease=lease, aging=True, client=client(request))

    stay = StreamLifetime(request.app.state.authenticator, grant_of(request), options.get("timeout"))
    mark = mark_of(request)
    forms = marked(_FORMS, mark) if mark else _FORMS
    return EventStream(broker, forms, work, lambda worker: worker.start(gap), stay, place=place_of(request))


# Settling it


async def ack(request: Request) -> Response:
    return await _settle(request, Action.ACK)


async def nack(request: Request) -> Response:
    return await _settle(request, Action.NACK)


async def extend(request: Request) -> Response:
    return await _settle(request, Action.EXTEND)


async def _settle(request: Request, action: Action) -> Response:
    """What became of each id; 409 when every lease was over."""
    broker: Broker = request.app.state.broker
    topic, group = names_of(request)
    kind, parsers = _SETTLINGS[action]
    options = read_options(request, parsers)
    body = await read_json(request, kind, 'ids such as {"ids":["k3f9a2-42"]}')
    ids = {id: parse_lease_id(id) for id in body.ids}
    seconds = _seconds(options, given(body), parsers)
    outcomes = await broker.settle(topic, group, action, [*ids.values()], seconds)
    return _answer(broker, ids, outcomes)


def _seconds(options: Mapping[str, float], body: Mapping[str, Any], parsers: Mapping[str, Parser]) -> float | None:
    """The delay or the lease, from the query or the body."""
    written = {name: parse(body[name]) for name, parse in parsers.items() if name in body}
    for name in options.keys() & written.keys():
        raise OptionInvalid(f"option {name!r} is given twice: in the query and in the body")
    return next(iter({**options, **written}.values()), None)


def _answer(broker: Broker, ids: Mapping[str, LeaseId], outcomes: list[Outcome]) -> Response:
    results = dict(zip(ids, outcomes, strict=True))
    if any(outcome is not Outcome.EXPIRED for outcome in outcomes):
        return json_answer({"results": results})
    detail = "every one of these leases is over: another worker has the message, or will have it, or it is done or dead"
    broker.counters.refusals[LeaseExpired.code] += 1
    return problem(STATUS[LeaseExpired], LeaseExpired.code, detail, results=results)
