"""Consuming: the consumers of a group pull messages or have them pushed, and settle each lease."""

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
    parse_reason,
)
from ...messages.record import as_lease_record
from ..authentication import TICKET, client, grant_of, holder, mark_of
from ..body import given, read_json
from ..permissions import names_of
from ..problem import STATUS, problem
from ..query import Parser, duration, integer, read_options, read_stream_options
from ..responses import json_answer, lines_answer, wants_lines
from ..sse import CHUNKED_LEASE, SSE_LEASE, Encoders, SseEncoder, marked
from ..streaming import stream_request
from ..streaming.disconnect import client_leaves
from ..streaming.lifetime import lifetime_of, limited_to_token
from ..streaming.response import EventStream
from . import read

_ENCODERS: Encoders[SseEncoder[Lease]] = Encoders(SSE_LEASE, CHUNKED_LEASE)
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
    "last_event_id": str,  # ignored: the group keeps the position, but a reconnecting client sends it
    TICKET: str,
}
_NACK_OPTIONS: dict[str, Parser] = {"delay": duration("delay", MAX_NACK_DELAY)}
_EXTEND_OPTIONS: dict[str, Parser] = {"lease": _LEASE}


class Ack(msgspec.Struct, forbid_unknown_fields=True):
    """Ids of messages or of leases."""

    ids: Annotated[list[str], msgspec.Meta(min_length=1, max_length=1_000)]


class Nack(Ack):
    delay: str | None = None
    reason: str | None = None


class Extend(Ack):
    lease: str | None = None


class SettleRequest(NamedTuple):
    """A request that settles leases: the type of its body, and the fields that may be options of the query instead."""

    body: type[Ack]
    options: dict[str, Parser]


_SETTLE_REQUESTS: dict[Action, SettleRequest] = {
    Action.ACK: SettleRequest(Ack, {}),
    Action.NACK: SettleRequest(Nack, _NACK_OPTIONS),
    Action.EXTEND: SettleRequest(Extend, _EXTEND_OPTIONS),
    Action.RELEASE: SettleRequest(Ack, {}),
    Action.SKIP: SettleRequest(Ack, {}),
}


# Leasing messages


async def pull(request: Request) -> Response:
    """Lease what is ready, or what becomes ready within `wait`. If the client disconnects, nothing stays leased."""
    broker: Broker = request.app.state.broker
    topic, group = names_of(request)
    options = read_options(request, _PULL_OPTIONS)
    count, seconds, lease = (
        options.get("max", 10),
        limited_to_token(request, options.get("wait", 0.0)),
        options.get("lease"),
    )
    make = grant_of(request).may_make_group(topic)
    pulling = create_task(
        broker.pull(
            topic, group, make=make, count=count, wait=seconds, lease=lease, client=client(request),
            holder=holder(request),
        )
    )  # fmt: skip
    if await client_leaves(request, pulling):
        with suppress(CancelledError, PlainmqError):  # then nothing was leased
            await broker.settle(topic, group, Action.RETURN, [lease_id(taken) for taken in (await pulling).leases])
        raise ClientDisconnect
    return _pulled(request, pulling.result())


def _pulled(request: Request, pulled: Pulled) -> Response:
    records = [as_lease_record(lease) for lease in pulled.leases]
    gap: dict[str, Any] = {} if pulled.gap is None else {"gap": pulled.gap}
    if wants_lines(request):
        return lines_answer([gap, *records] if gap else records)
    return json_answer(gap | {"messages": records})


async def stream_work(request: Request) -> Response:
    """Stream leases. The group must exist: a GET request makes nothing."""
    broker: Broker = request.app.state.broker
    topic, group = names_of(request)
    options = read_stream_options(request, _STREAM_OPTIONS)
    credit, lease = options.get("credit", 10), options.get("lease")
    gap = await broker.changes.join(topic, group, make=False)

    def subscribe(encoder: LeaseEncoder, sink: Sink) -> PushConsumer:
        return broker.push(
            topic, group, encoder, sink, credit=credit, lease=lease, aging=True, client=client(request),
            holder=holder(request),
        )  # fmt: skip

    lifetime = lifetime_of(request, options.get("timeout"))
    mark = mark_of(request)
    encoders = marked(_ENCODERS, mark) if mark else _ENCODERS
    return EventStream(broker, encoders, subscribe, lambda consumer: consumer.start(gap), lifetime)


# Settling leases


async def ack(request: Request) -> Response:
    return await _settle(request, Action.ACK)


async def nack(request: Request) -> Response:
    return await _settle(request, Action.NACK)


async def extend(request: Request) -> Response:
    return await _settle(request, Action.EXTEND)


async def release(request: Request) -> Response:
    return await _settle(request, Action.RELEASE)


async def skip(request: Request) -> Response:
    return await _settle(request, Action.SKIP)


async def _settle(request: Request, action: Action) -> Response:
    """Answer the outcome of each id; 409 if every lease was over."""
    broker: Broker = request.app.state.broker
    topic, group = names_of(request)
    kind, parsers = _SETTLE_REQUESTS[action]
    options = read_options(request, parsers)
    body = await read_json(request, kind, 'ids such as {"ids":["k3f9a2-42"]}')
    ids = {id: parse_lease_id(id) for id in body.ids}
    said = given(body)
    reason = parse_reason(said["reason"]) if "reason" in said else None
    outcomes = await broker.settle(
        topic, group, action, [*ids.values()], _seconds(options, said, parsers), reason=reason
    )
    return _answer(broker, ids, outcomes)


def _seconds(options: Mapping[str, float], body: Mapping[str, Any], parsers: Mapping[str, Parser]) -> float | None:
    """The delay or the lease in seconds, from the query or the body."""
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
