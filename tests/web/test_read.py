"""Reading without a stream: GET /topics/{topic}/messages, and one message by its id."""

import asyncio
import json

import httpx
import pytest

from tests.abuse.subscribers import metric
from tests.event_stream import stream
from tests.harness import DEADLINE, ServerProcess, http_client, start_server


async def publish(http: httpx.AsyncClient, topic: str, *bodies: str | bytes) -> list[str]:
    return [(await http.post(f"/topics/{topic}/messages", content=body)).json()["id"] for body in bodies]


async def test_next_leads_from_page_to_page_without_hole_or_duplicate(http: httpx.AsyncClient, topic: str) -> None:
    await publish(http, topic, *map(str, range(10)))
    seen: list[str] = []
    since = "earliest"
    while page := (await http.get(f"/topics/{topic}/messages", params={"since": since, "limit": 3})).json():
        if not page["messages"]:
            break
        seen += [message["data"] for message in page["messages"]]
        since = page["next"]
    assert seen == list(map(str, range(10)))
    await publish(http, topic, "later")
    page = (await http.get(f"/topics/{topic}/messages?since={since}")).json()
    assert [message["data"] for message in page["messages"]] == ["later"]


async def test_the_link_header_is_the_next_page(http: httpx.AsyncClient, topic: str) -> None:
    await publish(http, topic, "1", "2")
    first = await http.get(f"/topics/{topic}/messages?limit=1")
    second = await http.get(first.links["next"]["url"])
    assert [message["data"] for message in second.json()["messages"]] == ["2"]


async def test_a_record_is_the_one_that_a_stream_gives(http: httpx.AsyncClient, topic: str) -> None:
    await publish(http, topic, "text", b"\xff", "a\u2028b\u2029c\x85d\x1ee")
    page = (await http.get(f"/topics/{topic}/messages")).json()
    lines = await http.get(f"/topics/{topic}/messages", headers={"Accept": "application/x-ndjson"})
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in lines.text.splitlines()] == page["messages"]
    assert page["messages"][0]["data"] == "text"
    assert page["messages"][1]["data_base64"] == "/w=="
    assert page["messages"][2]["data"] == "a\u2028b\u2029c\x85d\x1ee"


async def test_a_long_poll_answers_as_soon_as_there_is_a_message(http: httpx.AsyncClient, topic: str) -> None:
    poll = asyncio.create_task(http.get(f"/topics/{topic}.*/messages?since=latest&wait=10s"))
    while not poll.done():
        await publish(http, f"{topic}.x", "news")
        await asyncio.wait([poll], timeout=0.01)
    assert (await poll).json()["messages"][0]["data"] == "news"


async def test_a_long_poll_whose_client_left_holds_no_place(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    await leave_after(server, http, topic)


async def test_nor_does_one_whose_client_talked_nonsense_before_it_left(topic: str) -> None:
    with start_server(tcp_port=0) as server:
        async with http_client(server.url) as http:
            await leave_after(server, http, topic, behind=b"\0\0\0")


async def leave_after(server: ServerProcess, http: httpx.AsyncClient, topic: str, behind: bytes = b"") -> None:
    """Ask for a page that does not come, and leave; the place must be free then."""
    request = f"GET /topics/{topic}/messages?wait=60s HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    connections = [await asyncio.open_connection(server.host, server.port) for _ in range(20)]
    for _, writer in connections:
        writer.write(request + behind)
    async with asyncio.timeout(DEADLINE):
        while await metric(http, r'plainmq_subscribers\{kind="read"\}') < 20:
            pass
        for _, writer in connections:
            writer.close()
        while await metric(http, r'plainmq_subscribers\{kind="read"\}'):
            pass


async def test_a_long_poll_without_news_answers_with_nothing_and_the_same_place(
    http: httpx.AsyncClient, topic: str
) -> None:
    (id,) = await publish(http, topic, "old")
    page = (await http.get(f"/topics/{topic}/messages?since={id}&wait=50ms")).json()
    assert page["messages"] == []
    assert (await http.get(f"/topics/{topic}/messages?since={page['next']}")).json()["messages"] == []


async def test_a_poll_is_no_subscriber(http: httpx.AsyncClient, topic: str) -> None:
    poll = asyncio.create_task(http.get(f"/topics/{topic}/messages?since=latest&wait=10s"))
    answer = await http.post(f"/topics/{topic}/messages?delivery=one", content="work")
    assert answer.json()["subscribers"] == 0
    while not poll.done():
        await publish(http, topic, "news")
        await asyncio.wait([poll], timeout=0.01)
    assert "work" not in [message["data"] for message in (await poll).json()["messages"]]


async def test_a_page_whose_start_is_gone_says_so() -> None:
    with start_server("--max-messages", "2", tcp_port=0) as server:
        async with http_client(server.url) as http:
            ids = await publish(http, "foo", *map(str, range(5)))
            page = (await http.get(f"/topics/foo/messages?since={ids[0]}")).json()
            gap = {"requested": ids[0], "reason": "trimmed", "missed": None, "resumes_at": ids[3]}
            assert page["gap"] == gap
            assert [message["data"] for message in page["messages"]] == ["3", "4"]
            lines = await http.get(f"/topics/foo/messages?since={ids[0]}", headers={"Accept": "application/x-ndjson"})
            assert json.loads(lines.text.splitlines()[0]) == {"gap": gap}
            assert "gap" not in (await http.get(f"/topics/foo/messages?since={ids[2]}")).json()


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=-1", "wait=61s", "wait=5", "since=soon"])
async def test_an_option_that_cannot_be_read_is_refused(http: httpx.AsyncClient, topic: str, query: str) -> None:
    answer = await http.get(f"/topics/{topic}/messages?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")


async def test_a_page_of_a_topic_that_is_not_there_is_no_success(http: httpx.AsyncClient, topic: str) -> None:
    id = (await http.post(f"/topics/{topic}/messages", content="x")).json()["id"]
    for slip in ("x", "/messages", "/below", "/groups/g"):  # of a name, and of a path
        for query in ("", "?since=earliest", "?since=10m", "?since=latest&limit=1"):
            for accept in ("application/json", "application/x-ndjson"):
                answer = await http.get(f"/topics/{topic}{slip}/messages{query}", headers={"Accept": accept})
                assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
                assert f"{topic}{slip}" in answer.json()["detail"]
    empty = await http.get(f"/topics/{topic}/messages?since=latest")
    assert (empty.status_code, empty.json()) == (200, {"messages": [], "next": id})


async def test_a_topic_that_is_there_may_be_empty(http: httpx.AsyncClient, topic: str) -> None:
    await http.put(f"/topics/{topic}.made")
    await http.post(f"/topics/{topic}.later/messages?delay=1h", content="x")
    for name in ("made", "later", "*", "**"):  # nor is a pattern a slip that matches nothing else
        answer = await http.get(f"/topics/{topic}.{name}/messages")
        assert (answer.status_code, answer.json()["messages"]) == (200, [])
    assert (await http.get(f"/topics/no-{topic}.*/messages")).json()["messages"] == []


async def test_a_client_with_a_position_may_read_on_when_its_topic_is_gone(http: httpx.AsyncClient, topic: str) -> None:
    """It goes when it is empty for long, and a script that passes `next` back shall not stop."""
    id = (await http.post(f"/topics/{topic}/messages", content="x")).json()["id"]
    await http.delete(f"/topics/{topic}")
    after = await http.get(f"/topics/{topic}/messages?since={id}")
    assert (after.status_code, after.json()) == (200, {"messages": [], "next": id})
    epoch, number = id.split("-")
    before = await http.get(f"/topics/{topic}/messages?since={epoch}-{int(number) - 1}")
    assert (before.status_code, before.json()["gap"]["reason"]) == (200, "trimmed")


async def test_a_long_poll_may_wait_for_a_topic_that_does_not_exist(http: httpx.AsyncClient, topic: str) -> None:
    waited = await http.get(f"/topics/{topic}/messages?wait=1ms")
    assert (waited.status_code, waited.json()["messages"]) == (200, [])
    waiting = asyncio.create_task(http.get(f"/topics/{topic}/messages?wait=20s"))
    while not waiting.done():
        await http.post(f"/topics/{topic}/messages?retain=false", content="x")
        await http.post(f"/topics/{topic}/messages", content="first")
    assert (await waiting).json()["messages"][0]["data"] == "first"


async def test_reading_creates_no_topic(http: httpx.AsyncClient, topic: str) -> None:
    for query in ("", "?wait=1ms", "?since=k3f9a2-1"):
        await http.get(f"/topics/{topic}/messages{query}")
        assert (await http.get(f"/topics/{topic}")).status_code == 404


async def test_one_message_comes_back_with_its_own_content_type_and_can_do_no_harm(
    http: httpx.AsyncClient, topic: str
) -> None:
    body = b"<script>alert(1)</script>\xff\r\n"
    sent = await http.post(f"/topics/{topic}/messages", content=body, headers={"Content-Type": "text/html"})
    got = await http.get(sent.headers["location"])
    assert (got.content, got.headers["content-type"]) == (body, "text/html")
    assert got.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in got.headers["content-security-policy"]


async def test_a_message_of_another_topic_or_none_is_not_found(http: httpx.AsyncClient, topic: str) -> None:
    (id,) = await publish(http, topic, "x")
    epoch = id.split("-")[0]
    for path in (f"{topic}.other/messages/{id}", f"{topic}/messages/{epoch}-99999999", f"{topic}/messages/other-1"):
        answer = await http.get(f"/topics/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await http.get(f"/topics/{topic}/messages/nonsense")).status_code == 400


async def test_an_expired_message_is_not_found(http: httpx.AsyncClient, topic: str) -> None:
    sent = await http.post(f"/topics/{topic}/messages?ttl=0", content="x")
    assert (await http.get(sent.headers["location"])).status_code == 404


async def test_topics_are_listed_with_their_messages_and_subscribers(http: httpx.AsyncClient, topic: str) -> None:
    ids = await publish(http, f"{topic}.a", "12", "345")
    await publish(http, f"{topic}.b", "x")
    answer = (await http.get("/topics", params={"match": f"{topic}.*"})).json()["topics"]
    assert [entry["topic"] for entry in answer] == [f"{topic}.a", f"{topic}.b"]
    one = (await http.get(f"/topics/{topic}.a")).json()
    assert min(entry.pop("rate") for entry in (answer[0], one)) > 0  # it falls while time passes
    assert answer[0] == one
    assert one == {
        "topic": f"{topic}.a", "messages": 2, "bytes": 5, "delayed": 0, "first": ids[0], "last": ids[1],
        "subscribers": 0, "groups": [], "paused": False,
        "retention": {"max_messages": 1000, "max_bytes": 8 << 20, "max_age": "1d"},
    }  # fmt: skip
    assert (await http.get("/topics?match=a..b")).status_code == 400


async def test_subscribers_of_a_pattern_count_for_its_topics(
    http: httpx.AsyncClient, topic: str, server: object
) -> None:
    await publish(http, f"{topic}.a", "x")
    async with stream(server, f"/topics/{topic}.*/stream"), stream(server, f"/topics/{topic}.a/stream"):  # type: ignore[arg-type]
        assert (await http.get(f"/topics/{topic}.a")).json()["subscribers"] == 2


async def test_put_sets_the_retention_of_one_topic(http: httpx.AsyncClient, topic: str) -> None:
    await publish(http, topic, "1", "2", "3")
    answer = await http.put(f"/topics/{topic}", content='{"max_messages":2,"max_age":"90m"}')
    assert answer.json()["retention"] == {"max_messages": 2, "max_bytes": 8 << 20, "max_age": "90m"}
    assert [m["data"] for m in (await http.get(f"/topics/{topic}/messages")).json()["messages"]] == ["2", "3"]
    answer = await http.put(f"/topics/{topic}", content='{"max_bytes":1}')
    assert answer.json()["messages"] == 1


@pytest.mark.parametrize(
    "body", ['{"max_messages":0}', '{"max_age":"-1h"}', '{"max_age":3}', '{"more":1}', "[]", "{", "\xff", "[" * 4_000]
)
async def test_settings_that_cannot_be_read_change_nothing(http: httpx.AsyncClient, topic: str, body: str) -> None:
    answer = await http.put(f"/topics/{topic}", content=body.encode("latin-1"))
    assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")
    assert (await http.get(f"/topics/{topic}")).status_code == 404


async def test_a_deleted_topic_is_gone_and_starts_again_from_0(http: httpx.AsyncClient, topic: str) -> None:
    await publish(http, topic, "1", "2")
    assert (await http.delete(f"/topics/{topic}")).status_code == 204
    assert (await http.delete(f"/topics/{topic}")).status_code == 404
    answer = await http.post(f"/topics/{topic}/messages", content="3")
    assert answer.json()["index"] == 0


@pytest.mark.parametrize("name", ["messages", "stream"])
async def test_a_topic_may_have_the_name_of_what_is_below_one(http: httpx.AsyncClient, name: str) -> None:
    await publish(http, name, "1")
    assert (await http.get(f"/topics/{name}")).json()["topic"] == name
    assert (await http.delete(f"/topics/{name}")).status_code == 204


@pytest.mark.parametrize(("method", "allowed"), [("PUT", "GET, HEAD, POST"), ("DELETE", "GET, HEAD, POST")])
async def test_a_slip_of_the_method_makes_and_deletes_no_topic(
    http: httpx.AsyncClient, topic: str, method: str, allowed: str
) -> None:
    answer = await http.request(method, f"/topics/{topic}/messages")
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert (await http.request(method, f"/topics/{topic}/stream")).status_code == 405
    assert (await http.get("/topics", params={"match": f"{topic}/*"})).json()["topics"] == []
    assert (await http.put(f"/topics/{topic}%2Fmessages")).json()["topic"] == f"{topic}/messages"


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("group/crew", "groups/crew"), ("Groups/crew", "groups/crew"), ("gruops/crew", "groups/crew"), ("groups", ""),
    ],
)  # fmt: skip
async def test_a_slip_in_the_path_of_a_group_makes_no_topic(
    http: httpx.AsyncClient, topic: str, slip: str, meant: str
) -> None:
    answer = await http.put(f"/topics/{topic}/{slip}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.json()["detail"].endswith(f"; did you mean PUT /topics/{topic}/{meant}?" if meant else "%2F")
    assert (await http.get("/topics", params={"match": f"{topic}/**"})).json()["topics"] == []
    assert (await http.get(f"/topics/{topic}/{slip}")).status_code == 404
    encoded = f"{topic}/{slip}".replace("/", "%2F")
    assert (await http.put(f"/topics/{encoded}", json={"max_messages": 5})).json()["topic"] == f"{topic}/{slip}"
    changed = await http.put(f"/topics/{topic}/{slip}", json={"max_messages": 6})  # it exists now
    assert changed.json()["retention"]["max_messages"] == 6


@pytest.mark.parametrize("rest", ["rooms/42", "grp/1", "user/groupings", "group", "a/b/c", "groups/a/b"])
async def test_a_topic_of_several_segments_is_made_by_its_path(http: httpx.AsyncClient, topic: str, rest: str) -> None:
    assert (await http.put(f"/topics/{topic}/{rest}")).json()["topic"] == f"{topic}/{rest}"
