"""POST /topics/{topic}/messages/{id}/copy: the message is published to another topic too."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from ...access.grant import Right, authorise
from ...broker.broker import Broker
from ...errors import OptionInvalid
from ...messages.message import Draft, Receipt, parse_id, republished
from ...messages.topic import parse_topic
from ..authentication import client, grant_of
from ..permissions import topic_of
from ..publish_request import idempotency_key
from ..query import Parser, read_options
from .publish import accepted

_OPTIONS: Final[dict[str, Parser]] = {"to": parse_topic}


async def copy_message(request: Request) -> Response:
    """The copy has the body, content type, event, headers, priority and key of the message, and is for all
    subscribers."""
    broker: Broker = request.app.state.broker
    options, key = read_options(request, _OPTIONS), idempotency_key(request)
    if "to" not in options:
        raise OptionInvalid("option 'to' is missing: expected ?to=TOPIC, the topic to copy the message to")
    authorise(grant_of(request), Right.PUBLISH, options["to"])
    message = await broker.retained.get(topic_of(request), parse_id(request.path_params["id"]))
    broker.quotas.count_publishes(client(request), 1)
    receipt = await broker.publish([Draft(republished(message, options["to"]), [message.data], idempotency_key=key)])
    assert isinstance(receipt, Receipt)  # a publish without a delay
    return accepted(receipt, False, broker.log.durability, 200 if receipt.duplicate else 201)
