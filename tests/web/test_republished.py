"""What a publisher gave a message is in each record of it: scheduled, published, as a dead letter, returned to its
group, and as a copy. A new field of the envelope needs an entry here."""

from typing import Any, Final

import httpx
import msgspec
import pytest

from app.client import Message, ScheduledPublish
from app.messages.message import Envelope
from tests.web.groups import Group

# How a request sets the fields of an envelope that belong to the message wherever it goes.
REQUESTS: Final[dict[str, dict[str, Any]]] = {
    "content_type": {"headers": {"Content-Type": "image/png"}},
    "event": {"params": {"event": "resize"}},
    "ordering": {"params": {"priority": "7", "key": "cat"}},
    "headers": {"headers": {"X-Plainmq-Title": "tea", "Traceparent": "00-1-2-01"}},
}
# Fields of one publish only: where the message goes and for how long, and what the server adds.
NOT_REPEATED: Final = {"topic", "delivery", "retain", "ttl", "line", "death", "redrive"}

# What differs between the records of one message in several places.
_OF_THE_PLACE: Final = {
    "id", "topic", "index", "time", "due", "dead", "original", "attempt", "lease", "lease_expires",
}  # fmt: skip


def own(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in _OF_THE_PLACE}


async def only_message(http: httpx.AsyncClient, topic: str) -> dict[str, Any]:
    (record,) = (await http.get(f"/topics/{topic}/messages")).json()["messages"]
    return own(record)


def names(answer: type[msgspec.Struct]) -> set[str]:
    """The JSON fields that the Python client reads."""
    return {field.encode_name for field in msgspec.structs.fields(answer)}


each_field = pytest.mark.parametrize("field", sorted({*Envelope.__struct_fields__} - NOT_REPEATED))


@each_field
async def test_a_dead_letter_its_return_and_a_copy_have_what_the_message_had(
    http: httpx.AsyncClient, topic: str, field: str
) -> None:
    group, copy, plain = Group(http, topic), f"{topic}.copy", f"{topic}.plain"
    await http.post(f"/topics/{plain}/messages", content="tea")
    await http.put(group.path, json={"max_deliveries": 1})
    answer = await http.post(f"/topics/{topic}/messages", content="tea", **REQUESTS[field])
    id = answer.raise_for_status().json()["id"]
    original = await only_message(http, topic)
    assert original != await only_message(http, plain)
    assert original.keys() <= names(Message)
    (await http.post(f"/topics/{topic}/messages/{id}/copy", params={"to": copy})).raise_for_status()
    assert await only_message(http, copy) == original
    await group.pull()
    await group.settle("nack", id)
    assert await only_message(http, f"{topic}.dead") == original
    (await http.post(f"{group.path}/redrive", json={"all": True})).raise_for_status()
    (returned,) = await group.pull(wait="10s")
    assert own(returned) == original


@each_field
async def test_what_is_scheduled_shows_what_the_message_will_have(
    http: httpx.AsyncClient, topic: str, field: str
) -> None:
    for request in ({}, REQUESTS[field]):
        params = {"delay": "1h", **request.get("params", {})}
        await http.post(f"/topics/{topic}/messages", content="tea", params=params, headers=request.get("headers"))
    plain, scheduled = (await http.get("/scheduled", params={"match": topic})).json()["scheduled"]
    assert scheduled.keys() <= names(ScheduledPublish)
    assert own(scheduled) != own(plain)
