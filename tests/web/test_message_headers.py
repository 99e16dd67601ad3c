"""Headers of messages: kept with the message, shown in JSON and with a single message, and never in a raw stream."""

import json

import httpx
import pytest

from tests.event_stream import stream
from tests.harness import ServerProcess

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def publish(http: httpx.AsyncClient, topic: str, *headers: tuple[str, str | bytes], **options: str) -> str:
    fields = [(name.encode(), value.encode() if isinstance(value, str) else value) for name, value in headers]
    answer = await http.post(f"/topics/{topic}/messages", content=b"x", headers=fields, params=options)
    assert answer.status_code == 201, answer.text
    id: str = answer.json()["id"]
    return id


async def test_headers_come_back_in_json_and_with_a_single_message(http: httpx.AsyncClient, topic: str) -> None:
    given = [("X-Plainmq-Title", "Größe"), ("TraceParent", TRACE), ("tracestate", "a=1"), ("ce-Type", "made")]
    for _ in range(3):  # the third time the head is known
        id = await publish(http, topic, *given, ("X-Other", "y"))
    page = (await http.get(f"/topics/{topic}/messages")).json()
    kept = {"title": "Größe", "traceparent": TRACE, "tracestate": "a=1", "ce-type": "made"}
    assert [message["headers"] for message in page["messages"]] == [kept] * 3
    one = await http.get(f"/topics/{topic}/messages/{id}")
    own = (b"x-plainmq", b"trace", b"ce-", b"x-other")
    assert {name: value for name, value in one.headers.raw if name.startswith(own)} == {
        b"x-plainmq-title": "Größe".encode(),
        b"traceparent": TRACE.encode(),
        b"tracestate": b"a=1",
        b"ce-type": b"made",
    }
    assert one.content == b"x"


async def test_a_message_without_headers_has_none(http: httpx.AsyncClient, topic: str) -> None:
    await publish(http, topic, ("X-Other", "y"))
    (message,) = (await http.get(f"/topics/{topic}/messages")).json()["messages"]
    assert "headers" not in message


async def test_a_stream_shows_headers_in_json_only(server: ServerProcess, http: httpx.AsyncClient, topic: str) -> None:
    await publish(http, topic, ("X-Plainmq-Title", "one"))
    path = f"/topics/{topic}/stream?since=earliest&limit=1"
    async with stream(server, f"{path}&format=json") as events:
        assert json.loads((await events.data(1))[0])["headers"] == {"title": "one"}
    async with stream(server, path) as events:
        assert await events.data(1) == ["x"]


async def test_a_worker_gets_headers_and_a_dead_message_keeps_them(http: httpx.AsyncClient, topic: str) -> None:
    await publish(http, topic, ("X-Plainmq-Title", "one"))
    group = f"/topics/{topic}/groups/g"
    await http.put(group, json={"max_deliveries": 1})
    (job,) = (await http.post(f"{group}/pull")).json()["messages"]
    assert job["headers"] == {"title": "one"}
    await http.post(f"{group}/nack", json={"ids": [job["lease"]]})
    (dead,) = (await http.get(f"/topics/{topic}.dead/messages")).json()["messages"]
    assert (dead["headers"], dead["dead"]["id"]) == ({"title": "one"}, job["id"])


async def test_every_line_of_a_batch_has_the_headers_of_its_request(http: httpx.AsyncClient, topic: str) -> None:
    headers = {"Content-Type": "application/x-ndjson", "X-Plainmq-Run": "7"}
    answer = await http.post(f"/topics/{topic}/messages", content=b"1\n2\n", headers=headers)
    assert answer.json()["count"] == 2
    messages = (await http.get(f"/topics/{topic}/messages")).json()["messages"]
    assert [(message["data"], message["headers"]) for message in messages] == [("1", {"run": "7"}), ("2", {"run": "7"})]


async def test_a_header_that_comes_twice_is_joined_and_one_name_has_one_value(
    http: httpx.AsyncClient, topic: str
) -> None:
    """Whether by its own name or behind X-Plainmq-."""
    await publish(http, topic, ("tracestate", "a=1"), ("tracestate", "b=2"), ("X-Plainmq-Tracestate", "c=3"))
    (message,) = (await http.get(f"/topics/{topic}/messages")).json()["messages"]
    assert message["headers"] == {"tracestate": "a=1, b=2, c=3"}


@pytest.mark.parametrize(
    "headers",
    [
        [("X-Plainmq-", "x")],
        [("X-Plainmq-a!", "x")],
        [("X-Plainmq-.a", "x")],
        [("X-Plainmq-" + "a" * 65, "x")],
        [("ce-!", "x")],
        [("X-Plainmq-A", b"\xff")],
        [("X-Plainmq-A", "\u202ex")],
        [("X-Plainmq-A", "\u009b31m")],
        [("X-Plainmq-A", "x" * 4_096)],
        [(f"X-Plainmq-A{number}", "x") for number in range(33)],
    ],
)
async def test_headers_that_cannot_be_kept_are_refused_and_nothing_is_stored(
    http: httpx.AsyncClient, topic: str, headers: list[tuple[str, str | bytes]]
) -> None:
    fields = [(name.encode(), value.encode() if isinstance(value, str) else value) for name, value in headers]
    answer = await http.post(f"/topics/{topic}/messages", content=b"x", headers=fields)
    assert answer.status_code == 400
    assert answer.json()["code"] == "option_invalid"
    assert (await http.get(f"/topics/{topic}")).status_code == 404


async def test_as_many_headers_as_there_may_be_are_kept(http: httpx.AsyncClient, topic: str) -> None:
    given = {f"a{number:02}": "x" * 125 for number in range(32)}
    await publish(http, topic, *((f"X-Plainmq-{name}", value) for name, value in given.items()))
    (message,) = (await http.get(f"/topics/{topic}/messages")).json()["messages"]
    assert message["headers"] == given
