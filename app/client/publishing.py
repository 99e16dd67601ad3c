"""Publishing. A message is stored once, though its answer may be lost and the request repeated."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, TypedDict
from uuid import uuid4

from .answers.messages import Published
from .answers.scheduled import Scheduled
from .connection import Connection, decoded
from .wire import Duration, Time, durations, given, topic_path

BATCH: Final = "application/x-ndjson"


class Options(TypedDict, total=False):
    """The options of a publish. None is the default.

    `event`: the event name that an EventSource sees. `delivery`: to all subscribers, or to exactly one. `retain`:
    False delivers the message to live subscribers, and does not store it. `ttl`: after this time nobody gets it.
    `idempotency_key`: the same key on the same topic within two minutes stores nothing; by default a new one is made.
    `content_type`: by default `text/plain` if the message is UTF-8, else `application/octet-stream`.
    `headers`: short texts that are kept with the message, by name. `priority`: from 0, the default, to 9; a group hands
    out higher ones first. `order_key`: of the messages with the same key a group hands out one at a time, in order.
    """

    event: str | None
    delivery: Literal["all", "one"] | None
    retain: bool | None
    ttl: Duration | None
    idempotency_key: str | None
    content_type: str | None
    headers: Mapping[str, str] | None
    priority: int | None
    order_key: str | None


class When(NamedTuple):
    """When to publish: at once, after a delay, or at a time."""

    delay: Duration | None = None
    at: Time | None = None

    @property
    def query(self) -> dict[str, str]:
        at = self.at.isoformat() if isinstance(self.at, datetime) else self.at
        return {**durations(delay=self.delay), **given(at=at)}


async def publish(
    connection: Connection, topic: str, data: bytes | str, when: When, options: Options
) -> Published | Scheduled:
    if unknown := options.keys() - Options.__annotations__.keys():
        raise TypeError(f"publish has no option {min(unknown)!r}")
    query: dict[str, Any] = given(event=options.get("event"), delivery=options.get("delivery"))
    query |= given(priority=options.get("priority"), key=options.get("order_key"))
    query |= durations(ttl=options.get("ttl")) | when.query
    query |= {"retain": "false"} if options.get("retain") is False else {}
    headers = {"Idempotency-Key": (options.get("idempotency_key") or uuid4().hex).encode()}
    if content_type := options.get("content_type"):
        headers["Content-Type"] = content_type.encode()
    headers |= {f"X-Plainmq-{name}": value.encode() for name, value in (options.get("headers") or {}).items()}
    content = data.encode() if isinstance(data, str) else data
    answer = await connection.insist(
        "POST", topic_path(topic, "messages"), params=query, headers=headers, content=content
    )
    return decoded(answer.body, Scheduled) if when.query else decoded(answer.body, Published)


async def copy(connection: Connection, topic: str, id: str, to: str) -> Published:
    path, headers = topic_path(topic, "messages", id, "copy"), {"Idempotency-Key": uuid4().hex.encode()}
    answer = await connection.insist("POST", path, params={"to": to}, headers=headers)
    return decoded(answer.body, Published)


async def publish_batch(
    connection: Connection, topic: str, messages: Iterable[bytes | str], when: When, options: Options
) -> Published | Scheduled:
    lines = [message.encode() if isinstance(message, str) else message for message in messages]
    if any(not line or b"\n" in line or line.endswith(b"\r") for line in lines):
        raise ValueError("a line of a batch cannot be empty, hold a line feed or end in a carriage return")
    return await publish(connection, topic, b"\n".join(lines), when, {**options, "content_type": BATCH})
