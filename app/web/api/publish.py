"""POST /topics/{topic}/messages: the body is the message, byte for byte; as NDJSON, each line is one."""

from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...broker.broker import Broker
from ...messages.message import Receipt, Scheduled, rfc3339
from ..authentication import client
from ..body import read_body
from ..publish_request import PublishLimits, parse_publish_request
from ..responses import json_answer


class Accepted(msgspec.Struct, omit_defaults=True):
    """The body of a 201. Only a batch has `last` and `count`."""

    id: str
    topic: str
    index: int
    subscribers: int
    durability: str
    last: str | None = None
    count: int | None = None
    duplicate: bool = False


class Postponed(msgspec.Struct, omit_defaults=True):
    """The body of a 202: the id of the publish, the number of messages, and when they are published."""

    id: str
    scheduled: int
    due: str
    topic: str
    durability: str
    duplicate: bool = False


async def publish(request: Request) -> Response:
    broker: Broker = request.app.state.broker
    limits: PublishLimits = request.app.state.bounds
    said = parse_publish_request(request)
    draft = said.draft(await read_body(request, said.max_body(limits)), limits)
    broker.quotas.count_publishes(client(request), len(draft.bodies))
    answer = await broker.publish([draft])
    if isinstance(answer, Receipt):
        return accepted(answer, said.batch, broker.log.durability, 200 if answer.duplicate else 201)
    return _postponed(answer, said.topic, broker.log.durability)


def accepted(receipt: Receipt, batch: bool, durability: str, status: int) -> Response:
    body = Accepted(receipt.id, receipt.topic, receipt.index, receipt.subscribers, durability)
    if batch:
        body.last, body.count = receipt.last, receipt.count
    body.duplicate = receipt.duplicate
    location = f"/topics/{quote(receipt.topic)}/messages/{receipt.id}"
    return json_answer(body, status, {"Location": location})


def _postponed(answer: Scheduled, topic: str, durability: str) -> Response:
    body = Postponed(answer.id, answer.count, rfc3339(answer.due), topic, durability, answer.duplicate)
    return json_answer(body, 202, {"Location": f"/scheduled/{answer.id}"})
