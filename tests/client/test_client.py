"""The client over HTTP, against a real server, a proxy that breaks connections, and servers that misbehave."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.client import (
    AsyncClient,
    ClientError,
    Gap,
    Message,
    NotFound,
    OutcomeUnknown,
    Published,
    RequestRefused,
    Scheduled,
    Unreachable,
)
from app.client.waits import Waits
from tests.clients.proxy import CUTS, EXPECTED, proxy, publish_numbers, resumed
from tests.harness import DEADLINE, ServerProcess, free_port, start_server


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.url) as client:
        yield client


async def take(client: AsyncClient, count: int, *topics: str, **options: Any) -> list[Message | Gap]:
    """The first items of a subscription, gaps at their places."""
    items: list[Message | Gap] = []
    async with asyncio.timeout(DEADLINE), client.subscribe(topics, on_gap=items.append, **options) as stream:
        async for item in stream:
            items.append(item)
            if len(items) == count:
                break
    return items


# Publishing


async def test_publish_answers_what_the_server_says(client: AsyncClient, topic: str) -> None:
    first = await client.publish(topic, b"one")
    second = await client.publish(topic, b"two")
    assert isinstance(first, Published)
    assert (first.topic, first.index, second.index, first.durability, first.duplicate) == (topic, 0, 1, "memory", False)
    assert first.id != second.id


async def test_every_option_reaches_the_message(client: AsyncClient, topic: str) -> None:
    await client.publish(
        topic, b"\xff\0", event="e f", content_type="image/x", ttl="1h", delivery="all", headers={"Title": "größer"},
        priority=7, order_key="a b",
    )  # fmt: skip
    (record,) = await take(client, 1, topic, since="earliest")
    assert isinstance(record, Message)
    assert (record.data, record.text, record.event, record.content_type) == (b"\xff\0", None, "e f", "image/x")
    assert record.headers == {"title": "größer"}
    assert (record.priority, record.key) == (7, "a b")


async def test_what_is_not_retained_is_not_there_later(client: AsyncClient, topic: str) -> None:
    await client.publish(topic, b"passing", retain=False)
    await client.publish(topic, b"kept")
    (record,) = await take(client, 1, topic, since="earliest")
    assert isinstance(record, Message)
    assert record.data == b"kept"


async def test_a_key_stores_once(client: AsyncClient, topic: str) -> None:
    first = await client.publish(topic, b"x", idempotency_key="k")
    again = await client.publish(topic, b"x", idempotency_key="k")
    assert (again.id, again.duplicate) == (first.id, True)


async def test_a_delayed_publish_answers_when_it_is_due(client: AsyncClient, topic: str) -> None:
    answer = await client.publish(topic, b"x", delay="1h")
    assert isinstance(answer, Scheduled)
    assert (answer.scheduled, answer.topic) == (1, topic)


async def test_a_batch_is_one_publish(client: AsyncClient, topic: str) -> None:
    answer = await client.publish_batch(topic, [b"1", b" 2", b"3"])
    assert (answer.index, answer.count) == (0, 3)
    records = await take(client, 3, topic, since="earliest")
    assert [record.data for record in records if isinstance(record, Message)] == [b"1", b" 2", b"3"]


@pytest.mark.parametrize("line", [b"", b"a\nb", b"a\r"])
async def test_a_line_that_a_batch_would_change_is_refused(client: AsyncClient, topic: str, line: bytes) -> None:
    with pytest.raises(ValueError, match="line of a batch"):
        await client.publish_batch(topic, [b"good", line])


@pytest.mark.parametrize("name", ["", ".", "..", "a..b", "a/../b", "a/./b", "a b", "ü", "\udcff", "a*"])
async def test_an_unlawful_topic_is_refused_and_no_other_topic_gets_it(client: AsyncClient, name: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        await client.publish(name, b"x")
    assert (caught.value.code, caught.value.status) == ("topic_invalid", 400)


async def test_a_topic_with_the_signs_of_a_url_is_a_topic(client: AsyncClient, topic: str) -> None:
    name = f"{topic}/a?b#c%25d&e"
    assert (await client.publish(name, b"x")).topic == name
    (record,) = await take(client, 1, name, since="earliest")
    assert isinstance(record, Message)
    assert record.topic == name


@pytest.mark.parametrize(
    ("options", "code"),
    [({"ttl": "soon"}, "option_invalid"), ({"idempotency_key": "ü"}, "option_invalid"),
     ({"idempotency_key": "a\nb"}, "option_invalid"),
     ({"event": "x" * 129}, "option_invalid"), ({"content_type": "a\r\nX: y"}, "option_invalid")],
)  # fmt: skip
async def test_a_refusal_carries_its_code_and_the_sentence(
    client: AsyncClient, topic: str, options: dict[str, Any], code: str
) -> None:
    with pytest.raises(RequestRefused) as caught:
        await client.publish(topic, b"x", **options)
    assert (caught.value.code, caught.value.status) == (code, 400)
    assert " " in str(caught.value)


@pytest.mark.parametrize("url", ["", "ftp://host", "http://", "http://host:port", "http://[::1"])
async def test_what_is_no_url_of_a_server_is_said_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        AsyncClient(url)


async def test_a_url_may_leave_out_the_scheme(server: ServerProcess, topic: str) -> None:
    async with AsyncClient(server.url.removeprefix("http://")) as client:
        assert (await client.publish(topic, b"x")).topic == topic


# Servers that misbehave


@asynccontextmanager
async def scripted(*answers: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives each connection the next answer, the last one for ever, and hangs up. Its URL and the
    requests it got."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        requests.append(head + await reader.readexactly(int(length[0].split(b":")[1]) if length else 0))
        writer.write(answers[min(len(requests), len(answers)) - 1])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield "http://{}:{}".format(*server.sockets[0].getsockname()), requests
    finally:
        server.close()
        await server.wait_closed()


def reply(status: str, content_type: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nConnection: close\r\n\r\n".encode() + body


def events(*fields: str) -> bytes:
    return reply("200 OK", "text/event-stream", "".join(f"{field}\n\n" for field in fields).encode())


def record(number: int) -> str:
    data = {
        "id": f"e-{number}",
        "topic": "foo",
        "index": number,
        "time": "",
        "event": None,
        "content_type": "",
        "data": "",
    }
    return f"id: e-{number}\ndata: {json.dumps(data)}"


ANSWER = b'{"id":"e-1","topic":"foo","index":0,"subscribers":0,"durability":"memory"}'
CREATED = reply("201 Created", "application/json", ANSWER)
HUNG_UP = b""
DRAINING = reply("503 Service Unavailable", "application/problem+json", b'{"code":"draining","detail":"it stops"}')


class Naps:
    """Takes the place of sleep: nobody waits, and it is known how long it would have been."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> Naps:
    naps = Naps()
    monkeypatch.setattr("app.client.waits.sleep", naps)
    return naps


UNKNOWN = reply(
    "504 Gateway Timeout", "application/problem+json", b'{"code":"outcome_unknown","detail":"nobody knows"}'
)


@pytest.mark.parametrize("failure", [HUNG_UP, DRAINING, UNKNOWN, reply("502 Bad Gateway", "text/html", b"<p>")])
@pytest.mark.usefixtures("naps")
async def test_a_publish_without_an_answer_is_sent_again_with_the_same_key(failure: bytes) -> None:
    told: list[str] = []
    async with (
        scripted(failure, failure, CREATED) as (url, requests),
        AsyncClient(url, tell=told.append) as client,
    ):
        assert (await client.publish("foo", b"body")).id == "e-1"
    keys = [line for request in requests for line in request.lower().split(b"\r\n") if b"idempotency-key" in line]
    assert len(requests) == len(keys) == 3
    assert len(set(keys)) == 1
    assert all(request.endswith(b"body") for request in requests)
    assert len(told) == 1


async def test_a_change_without_a_key_is_not_repeated_when_its_outcome_is_unknown() -> None:
    async with scripted(UNKNOWN) as (url, requests), AsyncClient(url) as client:
        with pytest.raises(OutcomeUnknown, match="nobody knows"):
            await client.delete_topic("foo")
    assert len(requests) == 1


@pytest.mark.usefixtures("naps")
async def test_a_refusal_after_an_unknown_outcome_does_not_hide_it() -> None:
    refused = reply("507 Insufficient Storage", "application/problem+json", b'{"code":"log_full","detail":"full"}')
    async with scripted(UNKNOWN, refused) as (url, requests), AsyncClient(url, tell=lambda _: None) as client:
        with pytest.raises(OutcomeUnknown, match="nobody knows"):
            await client.publish("foo", b"body")
    assert len(requests) == 2


async def test_two_publishes_have_different_keys() -> None:
    async with scripted(CREATED) as (url, requests), AsyncClient(url) as client:
        await client.publish("foo", b"")
        await client.publish("foo", b"")
    keys = {line for request in requests for line in request.lower().split(b"\r\n") if b"idempotency-key" in line}
    assert len(keys) == 2


async def test_patience_ends_with_what_was_seen_last() -> None:
    async with scripted(HUNG_UP) as (url, _), AsyncClient(url, retry_for=0) as client:
        with pytest.raises(Unreachable, match=url):
            await client.publish("foo", b"")
    async with scripted(DRAINING) as (url, _), AsyncClient(url, retry_for=0) as client:
        with pytest.raises(RequestRefused, match="it stops") as caught:
            await client.publish("foo", b"")
        assert caught.value.code == "draining"


@pytest.mark.parametrize(
    "answer",
    [
        reply("404 Not Match", "text/html", b"<p>"),
        reply("301 Moved Permanently", "text/html", b""),
        reply("200 OK", "text/html", b"<p>"),
        reply("500 Internal Server Error", "application/problem+json", b'{"code":7}'),
    ],
)
async def test_another_server_is_an_error_and_not_tried_again(answer: bytes) -> None:
    async with scripted(answer) as (url, requests), AsyncClient(url) as client:
        with pytest.raises(RequestRefused):
            await client.publish("foo", b"")
        with pytest.raises(RequestRefused):
            await take(client, 1, "foo", since="earliest")
    assert len(requests) == 2


async def test_the_servers_retry_is_the_least_wait(naps: Naps) -> None:
    answers = [events("retry: 7000", record(number)) for number in (1, 2)]
    async with scripted(*answers) as (url, _), AsyncClient(url) as client:
        await take(client, 2, "foo", since="earliest")
    assert len(naps.seconds) == 1
    assert 7.0 <= naps.seconds[0] <= 8.75


@pytest.mark.parametrize("word", ["busy", "bye"])
async def test_a_soft_refusal_is_tried_again_and_its_retry_is_kept(word: str, naps: Naps) -> None:
    refusal = events(f'retry: 3000\nevent: {word}\ndata: {{"reason":"subscriber_limit"}}')
    async with scripted(refusal, refusal, events(record(1))) as (url, _), AsyncClient(url) as client:
        (item,) = await take(client, 1, "foo", since="earliest")
    assert isinstance(item, Message)
    assert [least <= nap for least, nap in zip((3, 6), naps.seconds, strict=True)] == [True, True]


@pytest.mark.parametrize("word", ["busy", "bye"])
async def test_a_soft_refusal_is_a_refusal_when_patience_ends(word: str) -> None:
    refusal = events(f'event: {word}\ndata: {{"reason":"subscriber_limit"}}')
    async with scripted(refusal) as (url, _), AsyncClient(url) as client:
        with pytest.raises(RequestRefused) as caught:
            await take(client, 1, "foo", since="earliest", retry_for=0)
    assert (caught.value.code, caught.value.status) == ("subscriber_limit", 503)


@pytest.mark.usefixtures("naps")
async def test_events_without_data_are_skipped_and_one_with_an_id_moves_the_place() -> None:
    answers = events("id: e-5", ":", ": comment", "data:"), events(record(6))
    async with scripted(*answers) as (url, requests), AsyncClient(url) as client:
        (item,) = await take(client, 1, "foo", since="earliest")
    assert isinstance(item, Message)
    assert b"last-event-id: e-5\r\n" in requests[1].lower()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_waits_grow_to_a_bound_and_never_fall_below_what_was_asked_for() -> None:
    waits = Waits(None, Clock())
    seconds = []
    for _ in range(20):
        waits.failed(Unreachable())
        seconds.append(waits.next())
    assert 1.0 <= seconds[0] <= 1.25
    assert all(1.0 <= second <= 12.5 for second in seconds)
    assert all(second >= 10.0 for second in seconds[-5:])
    assert len(set(seconds)) > 10
    waits.ask(30_000)
    assert 30.0 <= waits.next() <= 37.5
    waits.ask(10**12)
    assert waits.next() <= 75.0
    waits.ask(0)
    waits.heard()
    assert waits.next() == 0.0


async def test_patience_counts_from_the_start_of_an_outage_and_anew_after_it() -> None:
    clock = Clock()
    waits = Waits(10.0, clock)
    for clock.now in (0.0, 5.0, 9.9):
        waits.failed(Unreachable())
    assert waits.next() <= 0.11
    waits.heard()
    for clock.now in (20.0, 25.0, 29.9):
        waits.failed(Unreachable())
    clock.now = 30.0
    with pytest.raises(Unreachable):
        waits.failed(Unreachable())


def test_a_request_that_had_all_its_time_has_used_up_that_much_patience() -> None:
    clock = Clock()
    waits = Waits(10.0, clock)
    clock.now = 60.0
    waits.failed(Unreachable("reset"))  # however long it took: what broke may be whole again in a moment
    waits = Waits(10.0, clock)
    waits.failed(Unreachable("no answer", waited=4.0))
    assert waits.next() <= 6.0
    waits.heard()
    assert waits.failed(Unreachable("no answer", waited=10.0)) is False  # that a stream ends is no failure
    with pytest.raises(Unreachable):
        waits.failed(Unreachable("no answer", waited=10.0))


# Subscribing


@pytest.mark.parametrize("pattern", ["{}.a", "{}.*", "{}.**"])
async def test_latest_begins_with_what_is_published_from_then_on(client: AsyncClient, topic: str, pattern: str) -> None:
    await client.publish(f"{topic}.a", b"before")
    stream = client.subscribe(pattern.format(topic))
    first = asyncio.create_task(anext(stream))
    async with asyncio.timeout(DEADLINE):
        while not (await client.publish(f"{topic}.a", b"after")).subscribers:
            pass
        item = await first
    await stream.aclose()
    assert isinstance(item, Message)
    assert item.data == b"after"


async def test_several_topics_and_patterns_come_in_the_order_of_the_log(client: AsyncClient, topic: str) -> None:
    names = [f"{topic}.a", f"{topic}.b.x", f"{topic}.a", f"{topic}.b.y"]
    for name in names:
        await client.publish(name, b"")
    items = await take(client, 4, f"{topic}.a", f"{topic}.b.*", since="earliest")
    assert [item.topic for item in items if isinstance(item, Message)] == names


async def test_a_limit_takes_no_more_from_the_server_than_it_hands_on(client: AsyncClient, topic: str) -> None:
    for number in EXPECTED[:5]:
        await client.publish(topic, number.encode(), delivery="one")
    for number in EXPECTED[:5]:
        async with asyncio.timeout(DEADLINE), client.subscribe(topic, limit=1) as stream:
            assert [item.data async for item in stream] == [number.encode()]


async def test_it_resumes_without_hole_or_duplicate_however_often_it_is_cut(server: ServerProcess, topic: str) -> None:
    async with proxy(server.port, *CUTS) as middle, AsyncClient(middle.url) as client:
        publishing = asyncio.create_task(publish_numbers(server.url, topic))
        items = await take(client, len(EXPECTED), topic, since="earliest")
        await publishing
    assert [item.data.decode() for item in items if isinstance(item, Message)] == EXPECTED
    assert resumed(middle)


async def test_what_comes_while_the_first_connection_breaks_is_not_lost(server: ServerProcess, topic: str) -> None:
    """Even from `latest`, before any message has come: the stream tells the place as it begins."""
    async with (
        proxy(server.port, rb"\nevent: place\ndata: .*\n\n") as middle,
        AsyncClient(middle.url) as client,
        AsyncClient(server.url) as direct,
    ):
        stream = client.subscribe(topic)
        first = asyncio.create_task(anext(stream))
        async with asyncio.timeout(DEADLINE):
            await middle.broken.wait()
            await direct.publish(topic, b"in between")
            item = await first
        await stream.aclose()
    assert isinstance(item, Message)
    assert item.data == b"in between"


async def test_a_restart_of_the_server_is_a_gap_even_before_the_first_message(topic: str) -> None:
    port = free_port()
    gaps: list[Gap] = []
    async with proxy(port) as middle, AsyncClient(middle.url) as client:
        with start_server(port=port, tcp_port=0) as server:
            stream = client.subscribe(topic, on_gap=gaps.append)
            first = asyncio.create_task(anext(stream))
            async with asyncio.timeout(DEADLINE):
                await middle.opened.wait()
            server.stop()
        async with asyncio.timeout(DEADLINE), AsyncClient(f"http://127.0.0.1:{port}") as direct:
            with start_server(port=port, tcp_port=0):
                after = await direct.publish(topic, b"after")
                item = await first
                await stream.aclose()
    (gap,) = gaps
    assert (gap.reason, gap.resumes_at) == ("epoch", after.id)
    assert "(epoch)" in gap.sentence
    assert item.id == after.id


async def test_a_trimmed_place_is_a_gap_in_its_place(topic: str) -> None:
    with start_server("--max-messages", "2", tcp_port=0) as server:
        async with AsyncClient(server.url) as client:
            ids = [(await client.publish(topic, number.encode())).id for number in EXPECTED[:5]]
            gap, *items = await take(client, 3, topic, since=ids[0])
    assert gap == Gap(ids[0], "trimmed", None, ids[3])
    assert [item.id for item in items if isinstance(item, Message)] == ids[3:]


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    async with AsyncClient(f"http://127.0.0.1:{free_port()}", retry_for=0) as client:
        with pytest.raises(Unreachable):
            await client.publish("foo", b"")
        with pytest.raises(ClientError):
            await take(client, 1, "foo", retry_for=0)


async def test_a_place_that_cannot_be_read_is_refused(client: AsyncClient, topic: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        await take(client, 1, topic, since="yesterday")
    assert (caught.value.code, caught.value.status) == ("option_invalid", 400)


# What an operator does


async def test_lists_come_in_pages(client: AsyncClient, topic: str) -> None:
    for name in "abc":
        await client.publish(f"{topic}.{name}", b"x")
        await client.set_group(f"{topic}.{name}", "g")
    first = await client.topic_page(f"{topic}.*", limit=2)
    rest = await client.topic_page(f"{topic}.*", limit=2, after=first.next)
    assert [state.topic[-1] for state in [*first, *rest]] == ["a", "b", "c"]
    groups = await client.group_page(f"{topic}.*", sort="-lag", limit=2)
    assert (len(groups), groups.next is not None) == (2, True)
    assert all(state.lag == 1 and not state.paused for state in groups)


async def test_what_is_scheduled_can_be_published_now_and_cancelled(client: AsyncClient, topic: str) -> None:
    first = await client.publish(topic, b"first", delay="2h")
    second = await client.publish(topic, b"second", at=datetime.now(UTC) + timedelta(hours=1))
    third = await client.publish_batch(topic, [b"1", b"2"], at="2001-01-01T00:00:00Z")
    assert (first.scheduled, second.scheduled, third.scheduled) == (1, 1, 2)
    listed = await client.scheduled_page(topic)
    assert [one.text for one in listed if one.id in {first.id, second.id}] == ["second", "first"]
    await client.cancel_scheduled(first.id)
    with pytest.raises(NotFound):
        await client.scheduled(first.id)
    assert (await client.publish_scheduled(second.id)).topic == topic


async def test_a_topic_can_be_paused_and_a_message_copied(client: AsyncClient, topic: str) -> None:
    published = await client.publish(topic, b"x", headers={"title": "tea"})
    copied = await client.copy(topic, published.id, f"{topic}.copy")
    (message,) = await client.messages(f"{topic}.copy")
    assert (message.id, message.headers) == (copied.id, {"title": "tea"})
    assert (await client.pause_topic(topic)).paused
    assert not (await client.resume_topic(topic)).paused


async def test_subscribers_and_the_own_session(client: AsyncClient, topic: str) -> None:
    assert len(await client.subscribers(topic)) == 0
    session = await client.session()
    assert (session.anonymous, session.rights["view"]) == (True, ["**"])
