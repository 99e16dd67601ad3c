"""A plain request, once its body is complete: a publish goes to the batcher, and a stream takes over its connection."""

from functools import partial
from typing import Any, Protocol

from ...errors import PlainmqError
from ..authentication import who_is
from ..middleware.access_log import AccessRecord, named
from ..streaming.lifetime import StreamLifetime
from ..streaming.takeover import Host
from .replies import PublishReply, ReplyConnection
from .requests import FastPublish, FastStream, Match
from .stream_sink import StreamSink


class ServedConnection(ReplyConnection, Host[Any], Protocol):
    """The connection, as its plain requests see it."""

    def rate_limit_key(self, match: Match) -> str | None: ...

    def reply_to(self, match: Match) -> PublishReply: ...


def serve(connection: ServedConnection, match: Match, body: bytes) -> None:
    if isinstance(match.route, FastPublish):
        _publish(connection, match.route, match, body)
    else:
        _stream(connection, match.route, match)


def serve_late(connection: ServedConnection, match: Match, body: bytes) -> None:
    """The body came after the head. The request is authorised again: its head may be hours old."""
    fast_path = connection.context.fast_path
    if not fast_path.is_still_granted(match):
        reply = connection.reply_to(match)
        try:
            match = reply.match = fast_path.authorise_again(match, connection.caller(match.route).host)
        except PlainmqError as error:
            reply.refuse(error)
            return
    serve(connection, match, body)


def _publish(connection: ServedConnection, route: FastPublish, match: Match, body: bytes) -> None:
    reply, broker = connection.reply_to(match), connection.broker
    try:
        draft = route.read(body)
        reply.drafts, reply.messages, reply.batch = (draft,), len(draft.bodies), route.batch
        broker.quotas.count_publishes(connection.rate_limit_key(match), reply.messages)
    except PlainmqError as error:
        reply.refuse(error)
    else:
        broker.batcher.add(reply)


def _stream(connection: ServedConnection, route: FastStream, match: Match) -> None:
    if connection.transport.is_closing():
        return
    stream_request = route.stream_request
    sink: StreamSink = connection.sink()
    caller = connection.caller(match.route)
    try:
        subscriber = stream_request.subscribe(
            connection.broker,
            connection.rate_limit_key(match),
            who_is(match.grant, caller.host or None),
            stream_request.encoders.chunked,
            sink,
        )
    except PlainmqError as error:
        connection.reply_to(match).refuse(error, route.as_event)
        return
    record = AccessRecord(route.method, route.path, caller.address, None, named(match.grant))
    StreamLifetime(connection.context.authenticator, match.grant, stream_request.timeout).begin(sink, subscriber)
    connection.take_over(sink, record, subscriber, partial(subscriber.start, stream_request.start))
