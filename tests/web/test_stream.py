"""GET /topics/{topic}/stream."""

import asyncio
import json
import sqlite3
from pathlib import Path

import httpx
import pytest

from tests.event_stream import stream
from tests.harness import ServerProcess, http_client, start_server


async def publish(http: httpx.AsyncClient, topic: str, *bodies: str | bytes, **options: str) -> list[str]:
    """Publish in this order; the ids."""
    ids = []
    for body in bodies:
        answer = await http.post(f"/topics/{topic}/messages", content=body, params=options)
        answer.raise_for_status()
        ids.append(answer.json()["id"])
    return ids


async def test_headers_and_a_first_comment_come_at_once(server: ServerProcess, topic: str) -> None:
    async with stream(server, f"/topics/{topic}/stream") as events:
        assert events.status == 200
        assert events.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert events.headers["cache-control"] == "no-store"
        assert events.headers["x-accel-buffering"] == "no"
        await events.feed()
        assert events.parser.comments
        assert events.parser.retry in range(1_000, 30_001)


async def test_retry_differs_between_connections(server: ServerProcess, topic: str) -> None:
    delays = set()
    for _ in range(8):
        async with stream(server, f"/topics/{topic}/stream") as events:
            await events.feed()
            delays.add(events.parser.retry)
    assert len(delays) > 1


async def test_what_is_published_after_the_headers_is_not_missed(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    for n in range(20):
        async with stream(server, f"/topics/{topic}/stream") as events:
            (id,) = await publish(http, topic, f"message {n}")
            event = await events.next()
            assert event
            assert (event.type, event.data, event.last_event_id) == ("message", f"message {n}", id)


async def test_an_event_name_is_handed_on(server: ServerProcess, http: httpx.AsyncClient, topic: str) -> None:
    async with stream(server, f"/topics/{topic}/stream") as events:
        await publish(http, topic, "x", event="order placed")
        event = await events.next()
        assert event
        assert event.type == "order placed"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "  two spaces",
        "data: x",
        ":comment",
        "id: 9",
        "a\nb",
        "\n",
        "\n\n",
        "a\n",
        "NUL\0",
        "\ufeffBOM",
        "\u2028\u2029\x85\x0b\x0c",
        "emoji 🙂 ü",
    ],
)
async def test_text_reads_back_byte_for_byte(
    server: ServerProcess, http: httpx.AsyncClient, topic: str, text: str
) -> None:
    async with (
        stream(server, f"/topics/{topic}/stream") as raw,
        stream(server, f"/topics/{topic}/stream?format=json") as record,
    ):
        await publish(http, topic, text, "sentinel")
        assert await raw.data(2) == [text, "sentinel"]
        assert json.loads((await record.data(1))[0])["data"] == text


@pytest.mark.parametrize("body", [b"\xff\xfe", b"a\rb", b"a\r\nb", b"\xed\xa0\x80", bytes(range(256))])
async def test_a_body_that_lines_of_text_cannot_carry_comes_as_a_data_url(
    server: ServerProcess, http: httpx.AsyncClient, topic: str, body: bytes
) -> None:
    async with stream(server, f"/topics/{topic}/stream") as events:
        await http.post(f"/topics/{topic}/messages", content=body, headers={"Content-Type": "image/x"})
        (url,) = await events.data(1)
    import base64

    assert url == "data:image/x;base64," + base64.b64encode(body).decode()


async def test_the_json_form_holds_the_whole_record(server: ServerProcess, http: httpx.AsyncClient, topic: str) -> None:
    async with stream(server, f"/topics/{topic}/stream?format=json") as events:
        (first,) = await publish(http, topic, "text", event="e")
        await publish(http, topic, b"\xff")
        text, binary = map(json.loads, await events.data(2))
    assert text.pop("time").endswith("Z")
    assert text == {
        "id": first,
        "topic": topic,
        "index": 0,
        "event": "e",
        "content_type": "text/plain; charset=utf-8",
        "data": "text",
    }
    assert binary["data_base64"] == "/w=="
    assert "data" not in binary


async def test_resume_gives_exactly_what_follows_the_id_then_live(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    ids = await publish(http, topic, *map(str, range(10)))
    for place in range(10):
        async with stream(server, f"/topics/{topic}/stream", Last_Event_ID=ids[place]) as events:
            (live,) = await publish(http, topic, f"live {place}")
            got = await events.take(9 - place + place + 1)
            assert [event.last_event_id for event in got][: 9 - place] == ids[place + 1 : 10]
            assert got[-1].last_event_id == live


async def test_the_header_goes_before_the_query(server: ServerProcess, http: httpx.AsyncClient, topic: str) -> None:
    first, second, _ = await publish(http, topic, "1", "2", "3")
    async with stream(server, f"/topics/{topic}/stream?last_event_id={first}", Last_Event_ID=second) as events:
        assert await events.data(1) == ["3"]


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("earliest", ["1", "2", "3"]),
        ("last:2", ["2", "3"]),
        ("last:99", ["1", "2", "3"]),
        ("1h", ["1", "2", "3"]),
        ("latest", []),
        ("2000-01-01T00:00:00Z", ["1", "2", "3"]),
        ("2999-01-01T00:00:00%2B01:00", []),
        ("2999-01-01T00:00:00+01:00", []),
        ("2000-01-01t00:00:00z", ["1", "2", "3"]),
        ("2016-12-31T23:59:60Z", ["1", "2", "3"]),
        ("0000-01-01T00:00:00Z", ["1", "2", "3"]),
    ],
)
async def test_since_names_a_place_in_words(
    server: ServerProcess, http: httpx.AsyncClient, topic: str, since: str, expected: list[str]
) -> None:
    await publish(http, topic, "1", "2", "3")
    async with stream(server, f"/topics/{topic}/stream?since={since}") as events:
        await publish(http, topic, "live")
        assert await events.data(len(expected) + 1) == [*expected, "live"]


@pytest.mark.parametrize(
    "id", ["x", "-1", "a-", "a--1", "A-1", "a-01", "a-1-1", "a-1 ", "ü-1", "a-" + "9" * 19, "1" * 5_000]
)
async def test_a_malformed_id_is_an_error_not_a_scan(server: ServerProcess, topic: str, id: str) -> None:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(f"GET /topics/{topic}/stream HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {id}\r\n\r\n".encode())
    async with asyncio.timeout(10):
        answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    # white space around a header's value is not part of it (RFC 9110, section 5.5)
    assert answer.startswith(b"HTTP/1.1 400" if id.strip() == id else b"HTTP/1.1 200")


async def test_a_trimmed_place_is_a_gap_then_the_oldest_retained() -> None:
    with start_server("--max-messages", "3", tcp_port=0) as small:
        async with http_client(small.url) as client:
            ids = await publish(client, "foo", *map(str, range(6)))
            async with stream(small, "/topics/foo/stream", Last_Event_ID=ids[0]) as events:
                gap, *rest = await events.take(4)
                assert (gap.type, gap.last_event_id) == ("gap", "")
                assert json.loads(gap.data) == {
                    "requested": ids[0], "reason": "trimmed", "missed": None, "resumes_at": ids[3],
                }  # fmt: skip
                assert [event.last_event_id for event in rest] == ids[3:]
            before = ids[0].replace("-1", "-0")
            async with stream(small, "/topics/foo/stream", Last_Event_ID=before) as events:
                (gap,) = await events.take(1)
                assert json.loads(gap.data)["missed"] == 3
            async with stream(small, "/topics/foo/stream", Last_Event_ID=ids[2]) as events:
                assert await events.data(3) == ["3", "4", "5"]


async def test_an_id_of_another_epoch_or_of_the_future_is_a_gap(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    (id,) = await publish(http, topic, "only")
    epoch = id.split("-")[0]
    for requested, reason in (("other-5", "epoch"), (f"{epoch}-999999999", "ahead")):
        async with stream(server, f"/topics/{topic}/stream", Last_Event_ID=requested) as events:
            gap, message = await events.take(2)
            assert gap.type == "gap"
            assert json.loads(gap.data) == {"requested": requested, "reason": reason, "missed": None, "resumes_at": id}
            assert (message.data, message.last_event_id) == ("only", id)


async def test_a_message_for_one_goes_to_exactly_one_of_several(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    async with stream(server, f"/topics/{topic}/stream") as one, stream(server, f"/topics/{topic}/stream") as two:
        for n in range(20):
            await publish(http, topic, str(n), delivery="one")
        await publish(http, topic, "end")
        got = []
        for events in (one, two):
            while (event := await events.next()) and event.data != "end":
                got.append(int(event.data))
    assert sorted(got) == list(range(20))


async def test_a_message_for_one_waits_for_the_first_subscriber(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    answer = await http.post(f"/topics/{topic}/messages?delivery=one", content="work")
    assert answer.json()["subscribers"] == 0
    async with stream(server, f"/topics/{topic}/stream") as first:
        assert await first.data(1) == ["work"]
        async with stream(server, f"/topics/{topic}/stream?since=earliest") as second:
            await publish(http, topic, "all")
            assert await second.data(1) == ["all"]


async def test_a_message_for_one_waits_for_the_first_whose_pattern_matches(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    await http.post(f"/topics/{topic}.jobs/messages?delivery=one", content="work")
    async with stream(server, f"/topics/{topic}.*/stream?format=raw") as first:
        assert await first.data(1) == ["work"]


async def test_messages_that_are_not_retained_reach_live_subscribers_only(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    async with stream(server, f"/topics/{topic}/stream") as live:
        await publish(http, topic, "passing", retain="false")
        await publish(http, topic, "kept")
        assert await live.data(2) == ["passing", "kept"]
    async with stream(server, f"/topics/{topic}/stream?since=earliest") as later:
        assert await later.data(1) == ["kept"]


async def test_a_misspelt_option_is_refused(http: httpx.AsyncClient, topic: str) -> None:
    answer = await http.get(f"/topics/{topic}/stream?sinse=1h")
    assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")
    assert "did you mean 'since'" in answer.json()["detail"]


async def test_head_answers_without_a_stream(http: httpx.AsyncClient, topic: str) -> None:
    answer = await http.head(f"/topics/{topic}/stream")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


async def test_keep_alives_come_while_nothing_else_does() -> None:
    with start_server("--keep-alive", "50ms", tcp_port=0) as quick:
        async with stream(quick, "/topics/foo/stream") as events:
            while len(events.parser.comments) < 3:
                assert events.waiting(await events.chunk()) == []
            assert events.parser.comments == ["plainmq", "", ""]


async def test_an_old_stream_ends_in_good_order() -> None:
    with start_server("--keep-alive", "50ms", "--stream-age", "100ms", tcp_port=0) as quick:
        async with stream(quick, "/topics/foo/stream") as events:
            (bye,) = await events.take(1)
            assert (bye.type, json.loads(bye.data)) == ("bye", {"reason": "age"})
            assert await events.next() is None
            assert events.ended_in_order


async def test_one_subscriber_too_many_is_asked_to_come_back() -> None:
    with start_server("--max-subscribers", "1", tcp_port=0) as small:
        async with stream(small, "/topics/foo/stream"):
            async with stream(small, "/topics/foo/stream", Accept="text/event-stream") as refused:
                (busy,) = await refused.take(1)
                assert (refused.status, busy.type, busy.last_event_id) == (200, "busy", "")
                assert refused.parser.retry
            async with http_client(small.url) as client:
                answer = await client.get("/topics/foo/stream")
                assert (answer.status_code, answer.json()["code"]) == (503, "subscriber_limit")


async def test_a_subscriber_that_left_is_not_counted(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    async with stream(server, f"/topics/{topic}/stream"):
        pass
    async with asyncio.timeout(10):
        while (await http.post(f"/topics/{topic}/messages", content="x")).json()["subscribers"]:
            pass


async def test_a_limited_stream_ends_after_so_many_messages(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    await publish(http, topic, "1", "2")
    for since, expected in (("earliest", ["1", "2", "3"]), ("last:1", ["2", "3", "4"])):
        async with stream(server, f"/topics/{topic}/stream?since={since}&limit=3") as events:
            await publish(http, topic, "3", "4", "5")
            assert await events.data(3) == expected
            assert await events.next() is None
            assert events.ended_in_order
        await http.delete(f"/topics/{topic}")
        await publish(http, topic, "1", "2")


async def test_a_limited_stream_takes_no_message_for_one_beyond_its_limit(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    await publish(http, topic, *map(str, range(5)), delivery="one")
    for n in range(5):
        async with stream(server, f"/topics/{topic}/stream?limit=1") as events:
            assert await events.data(1) == [str(n)]
            assert await events.next() is None


async def test_a_stream_with_a_timeout_ends_without_a_word(server: ServerProcess, topic: str) -> None:
    async with stream(server, f"/topics/{topic}/stream?timeout=50ms") as events:
        assert await events.next() is None
        assert events.ended_in_order


async def test_several_topics_come_in_the_order_of_the_log(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    a, b, c = f"{topic}.a", f"{topic}.b.x", f"{topic}.c"
    await publish(http, a, "1")
    await publish(http, b, "2")
    async with stream(server, f"/stream?topic={a}&topic={topic}.b.*&since=earliest&format=raw") as events:
        for name, body in ((b, "3"), (c, "not selected"), (a, "4"), (f"{topic}.b.born-later", "5"), (a, "6")):
            await publish(http, name, body)
        assert await events.data(6) == ["1", "2", "3", "4", "5", "6"]


async def test_a_topic_selected_twice_comes_once_and_says_its_topic(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    async with stream(server, f"/stream?topic={topic}.a&topic={topic}.*&topic={topic}.**") as events:
        await publish(http, f"{topic}.a", "1", "2")
        assert [(json.loads(data)["topic"], json.loads(data)["data"]) for data in await events.data(2)] == [
            (f"{topic}.a", "1"),
            (f"{topic}.a", "2"),
        ]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "topic=",
        "topic=a..b",
        "topic=*.*.*.*.*",
        f"topic=a{15 * '.a'}.**",
        "&".join(f"topic=t{n}" for n in range(65)),
    ],
)
async def test_no_topics_unlawful_ones_and_too_many_are_refused(http: httpx.AsyncClient, query: str) -> None:
    answer = await http.get(f"/stream?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "topic_invalid")


@pytest.mark.parametrize("start", ["", "?since=latest", "?since=1s", "?since=last:0"])
async def test_a_subscriber_that_is_cut_off_before_its_first_message_has_a_position_to_resume_from(
    server: ServerProcess, http: httpx.AsyncClient, topic: str, start: str
) -> None:
    await publish(http, topic, "before", ttl="0")
    async with stream(server, f"/topics/{topic}/stream{start}") as events:
        while not events.place:
            assert events.waiting(await events.chunk()) == []
        place = events.place
    await publish(http, topic, "missed")
    async with stream(server, f"/topics/{topic}/stream{start}", Last_Event_ID=place) as events:
        assert await events.data(1) == ["missed"]


RESERVED = ["place", "gap", "busy", "bye", "open", "error"]


@pytest.mark.parametrize("name", [*RESERVED, "Gap", "BYE", " gap", "bye "])
@pytest.mark.parametrize("options", [{}, {"delay": "1h"}, {"delivery": "one"}, {"retain": "false"}])
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-ndjson"])
async def test_no_client_publishes_under_a_name_of_the_servers_own_events(
    http: httpx.AsyncClient, topic: str, name: str, options: dict[str, str], content_type: str
) -> None:
    answer = await http.post(
        f"/topics/{topic}/messages",
        content=b'{"reason":"draining"}',
        params={"event": name, **options},
        headers={"Content-Type": content_type},
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")
    assert "reserved" in answer.json()["detail"]
    assert (await http.get(f"/topics/{topic}")).status_code == 404


async def test_names_that_only_contain_one_of_the_server_s_are_anybody_s(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    names = ["message", "gaps", "good bye", "placed"]
    async with stream(server, f"/topics/{topic}/stream") as events:
        for name in names:
            await publish(http, topic, "x", event=name)
        assert [event.type for event in await events.take(len(names))] == names


async def test_what_was_stored_under_such_a_name_comes_without_it(tmp_path: Path) -> None:
    """As in a file of an earlier version."""
    flags = ["--engine", f"sqlite://{tmp_path / 'log.db'}"]
    with start_server(*flags, tcp_port=0) as before:
        async with http_client(before.url) as http:
            for body in RESERVED:
                await publish(http, "foo", body, event="some")
        before.stop()
    with sqlite3.connect(tmp_path / "log.db") as db:
        for name in RESERVED:
            assert db.execute("UPDATE message SET event = ? WHERE data = ?", (name, name.encode())).rowcount == 1
    db.close()
    with start_server(*flags, tcp_port=0) as after:
        for form in ("raw", "json"):
            async with stream(after, f"/topics/foo/stream?since=earliest&format={form}") as events:
                assert [event.type for event in await events.take(len(RESERVED))] == ["message"] * len(RESERVED)
        async with http_client(after.url) as http:
            (await http.put("/topics/foo/groups/g")).raise_for_status()
            async with stream(after, "/topics/foo/groups/g/stream") as work:
                assert [event.type for event in await work.take(len(RESERVED))] == ["message"] * len(RESERVED)
            page = (await http.get("/topics/foo/messages")).json()["messages"]
            assert [(record["event"], record["data"]) for record in page] == [(None, name) for name in RESERVED]


async def test_nothing_but_an_event_with_data_ends_in_a_blank_line(topic: str) -> None:
    """Many clients take a blank line for the end of a message, whatever stands before it."""
    with start_server("--keep-alive", "50ms", tcp_port=0) as quick:
        async with http_client(quick.url) as http:
            await http.put(f"/topics/{topic}/groups/g")
            for path in (f"/topics/{topic}/stream", f"/topics/{topic}/groups/g/stream"):
                async with stream(quick, path) as events:
                    seen = b""
                    while seen.count(b"\n:\n") + seen.count(b"\n\n:\n") < 3:
                        seen += await events.chunk()
                    await publish(http, topic, "x")
                    while b"data: {" not in seen and b"data: x" not in seen:
                        seen += await events.chunk()
                assert all(b"\ndata: " in b"\n" + block for block in seen.split(b"\n\n")[:-1])


# As polyfills and libraries write it that can set no header
COME_BACK = ["lastEventId", "lastEventID", "last-event-id", "Last-Event-ID", "evs_last_event_id"]
PLAIN = {"own": {}, "through ASGI": {"X-Not-Plain": "1"}}


@pytest.mark.parametrize("headers", PLAIN.values(), ids=PLAIN)
@pytest.mark.parametrize("name", COME_BACK)
async def test_a_polyfill_comes_back_to_its_place(
    server: ServerProcess, http: httpx.AsyncClient, topic: str, name: str, headers: dict[str, str]
) -> None:
    first, second, _ = await publish(http, topic, "1", "2", "3")
    queries = [
        f"{name}={second}",
        f"{name}={second}&r=8123098123",  # against caches
        f"since=earliest&{name}={second}",
        f"last_event_id={first}&{name}={second}",  # the page's, and what came since
        f"{name}={first}&{name}={second}",
        f"last_event_id={second}&{name}=",
        f"last_event_id={second}&{name}={second}",
        f"{name}={second}&last_event_id={second}",
        f"{name}={second}&last_event_id=",
        f"last_event_id={second}&last_event_id={second}",
        f"last_event_id=&last_event_id={second}&{name}=",
        f"evs_preamble=2056&evs_buffer_size_limit=262144&{name}={second}&_=1732300000",
    ]
    for query in queries * 2:  # a head that was seen before, too
        async with stream(server, f"/topics/{topic}/stream?{query}", **headers) as events:
            assert await events.data(1) == ["3"]
    async with stream(server, f"/stream?topic={topic}&format=raw&{name}={second}", **headers) as events:
        assert await events.data(1) == ["3"]
    async with stream(server, f"/topics/{topic}/stream?{name}={first}", Last_Event_ID=second, **headers) as events:
        assert await events.data(1) == ["3"]


@pytest.mark.parametrize("name", COME_BACK)
async def test_a_polyfill_that_has_no_id_yet_begins_at_since(
    server: ServerProcess, http: httpx.AsyncClient, topic: str, name: str
) -> None:
    await publish(http, topic, "1")
    async with stream(server, f"/topics/{topic}/stream?since=earliest&{name}=&r=1") as events:
        assert await events.data(1) == ["1"]
    async with stream(server, f"/topics/{topic}/stream?since=earliest&{name}=&last_event_id=") as events:
        assert await events.data(1) == ["1"]


async def test_two_different_ids_under_the_standard_name_are_refused(http: httpx.AsyncClient, topic: str) -> None:
    first, second = await publish(http, topic, "1", "2")
    answer = await http.get(f"/topics/{topic}/stream?last_event_id={first}&last_event_id={second}")
    assert (answer.status_code, answer.json()["detail"]) == (400, "option 'last_event_id' is given twice")


@pytest.mark.parametrize("name", [*COME_BACK, "last_event_id"])
async def test_a_worker_may_come_back_with_an_id(
    server: ServerProcess, http: httpx.AsyncClient, topic: str, name: str
) -> None:
    (await http.put(f"/topics/{topic}/groups/g")).raise_for_status()
    (id,) = await publish(http, topic, "job")
    async with stream(server, f"/topics/{topic}/groups/g/stream?{name}={id}") as events:
        assert [json.loads(data)["data"] for data in await events.data(1)] == ["job"]


async def test_an_id_that_is_none_is_refused_under_any_name(http: httpx.AsyncClient, topic: str) -> None:
    for name in COME_BACK:
        answer = await http.get(f"/topics/{topic}/stream", params={name: "no id"})
        assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")
