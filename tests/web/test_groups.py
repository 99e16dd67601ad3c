"""Groups over HTTP: how they are made, what they begin with, and how they end."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.event_stream import stream
from tests.harness import DEADLINE, ServerProcess, http_client, start_server
from tests.web.groups import Group, code, data, jobs

# What groups there are


async def test_a_pull_makes_the_group_from_the_earliest_message_on(group: Group) -> None:
    await group.publish("before")
    assert data(await group.pull()) == ["before"]
    assert (await group.http.get(f"/topics/{group.topic}")).json()["groups"] == ["g"]


async def test_a_pull_makes_the_group_before_the_topic_has_a_message(group: Group) -> None:
    waiting = asyncio.create_task(group.pull(wait="60s"))
    async with asyncio.timeout(DEADLINE):
        while (await group.http.get(group.path)).status_code == 404:
            pass
    await group.publish("first")
    assert data(await waiting) == ["first"]


async def test_a_pull_makes_no_topic_beyond_the_limit() -> None:
    with start_server("--max-topics", "1", tcp_port=0) as small:
        async with http_client(small.url) as http:
            assert await Group(http, "first").pull() == []
            for _ in range(2):
                assert code(await http.post("/topics/second/groups/g/pull")) == (429, "topic_limit")
            assert [info["topic"] for info in (await http.get("/topics")).json()["topics"]] == ["first"]


# What was gone before there was a group


@pytest.mark.parametrize("make", ["pull", "put"])
async def test_the_first_pull_says_what_is_gone(group: Group, make: str) -> None:
    """Of 1,500 jobs an ordinary topic keeps 1,000."""
    lines = "\n".join(map(str, range(1_500)))
    path = f"/topics/{group.topic}/messages"
    await group.http.post(path, content=lines, headers={"Content-Type": "application/x-ndjson"})
    first = (await group.http.get(path, params={"limit": 1})).json()["messages"][0]
    gap = {"requested": "earliest", "reason": "trimmed", "missed": 500, "resumes_at": first["id"]}
    if make == "put":
        assert (await group.http.put(group.path)).json()["gap"] == gap
    pulled = (await group.http.post(f"{group.path}/pull", params={"max": 1})).json()
    assert (pulled["gap"], data(pulled["messages"])) == (gap, ["500"])
    assert "gap" not in (await group.http.post(f"{group.path}/pull")).json()
    assert (await group.state())["gap"] == gap


async def test_a_gap_is_a_line_among_lines(group: Group) -> None:
    await group.http.put(f"/topics/{group.topic}", json={"max_messages": 1})
    await group.publish("1", "2")
    answer = await group.http.post(f"{group.path}/pull", headers={"Accept": "application/x-ndjson"})
    gap, job = map(json.loads, answer.text.splitlines())
    assert (gap["gap"]["missed"], job["data"]) == (1, "2")


async def test_when_all_is_gone_each_pull_says_so_until_there_is_something(group: Group) -> None:
    await group.publish("1", "2")
    await group.http.delete(f"/topics/{group.topic}")
    for _ in range(2):
        pulled = (await group.http.post(f"{group.path}/pull")).json()
        assert (pulled["messages"], pulled["gap"]["missed"], pulled["gap"]["resumes_at"]) == ([], 2, None)
    await group.publish("3")
    assert "gap" in (await group.http.post(f"{group.path}/pull", params={"lease": "0"})).json()
    assert "gap" not in (await group.http.post(f"{group.path}/pull")).json()


async def test_a_stream_says_what_is_gone_before_its_first_message(server: ServerProcess, group: Group) -> None:
    await group.http.put(f"/topics/{group.topic}", json={"max_messages": 1})
    await group.publish("1", "2")
    await group.http.put(group.path)
    async with stream(server, f"{group.path}/stream") as events:
        gap, job = await events.take(2)
        assert (gap.type, json.loads(gap.data)["missed"], json.loads(job.data)["data"]) == ("gap", 1, "2")
    async with stream(server, f"{group.path}/stream") as events:
        assert jobs(await events.data(1)) == [("2", 2)]


@pytest.mark.parametrize(("start", "told"), [("latest", False), ("last:9", False), ("{}", True), ("1h", True)])
async def test_a_gap_covers_only_what_the_client_asked_for(group: Group, start: str, told: bool) -> None:
    await group.http.put(f"/topics/{group.topic}", json={"max_messages": 1})
    ids = await group.publish("1", "2", "3")
    await group.http.put(group.path, json={"start": start.format(ids[0])})
    assert ("gap" in (await group.http.post(f"{group.path}/pull")).json()) == told


async def test_each_seek_to_what_is_gone_is_reported_until_a_message_was_handed_out(group: Group) -> None:
    async def seek(to: str) -> Any:
        return (await group.http.post(f"{group.path}/seek", json={"to": to})).raise_for_status().json()["gap"]

    async def pull() -> Any:
        """The gap before the messages, which are acked at once."""
        pulled = (await group.http.post(f"{group.path}/pull", params={"max": 9})).raise_for_status().json()
        if pulled["messages"]:
            await group.settle("ack", *(message["id"] for message in pulled["messages"]))
        return pulled.get("gap")

    await group.http.put(f"/topics/{group.topic}", json={"max_messages": 2})
    ids = await group.publish(*"123456")
    await group.http.put(group.path)
    assert (await pull())["requested"] == "earliest"
    for to in (ids[2], ids[0], ids[1], ids[1]):
        gap = await seek(to)
        assert (gap["requested"], gap["resumes_at"]) == (to, ids[4])
        assert await pull() == gap
        assert await pull() is None
        assert (await group.state())["gap"] == gap
    for to in (ids[4], "latest", ids[3]):  # all that follows is there
        await seek(ids[0])
        assert await seek(to) is None
        assert await pull() is None
        assert (await group.state())["gap"] is None


async def test_no_gap_is_reported_where_nothing_is_gone(group: Group) -> None:
    (id,) = await group.publish("1")
    assert "gap" not in (await group.http.post(f"{group.path}/pull", params={"lease": "0"})).json()
    assert (await group.state())["gap"] is None
    await group.http.put(f"/topics/{group.topic}", json={"max_messages": 1})
    await group.pull()
    await group.settle("ack", id)
    await group.publish("2")
    assert "gap" not in (await group.http.post(f"{group.path}/pull")).json()


@pytest.mark.parametrize("published", [0, 1])
async def test_a_safe_method_makes_no_group(group: Group, published: int) -> None:
    await group.publish(*["x"] * published)
    for method, call in (("GET", "/stream"), ("HEAD", "/stream"), ("GET", ""), ("HEAD", "")):
        for accept in ("*/*", "text/event-stream"):
            answer = await group.http.request(method, group.path + call, headers={"Accept": accept})
            assert answer.status_code == 404
            if method == "GET":
                assert answer.json()["code"] == "not_found"
    topics = await group.http.get("/topics", params={"match": group.topic})
    assert [info["groups"] for info in topics.json()["topics"]] == [[]] * published


async def test_a_head_takes_nothing(server: ServerProcess, group: Group) -> None:
    await group.publish("for a subscriber", delivery="one")
    await group.publish("for a worker")
    await group.http.put(group.path)
    for path in (f"{group.path}/stream", f"/topics/{group.topic}/stream?since=earliest"):
        assert (await group.http.head(path)).status_code == 200
    assert await group.counters("ready", "leased", "workers") == (1, 0, 0)
    async with stream(server, f"/topics/{group.topic}/stream?since=earliest") as events:
        assert await events.data(2) == ["for a subscriber", "for a worker"]


async def test_a_topic_with_the_longest_name_can_be_worked_on(http: httpx.AsyncClient, topic: str) -> None:
    names = [(topic + "." + "x" * 1_024)[:length] for length in (1_019, 1_020, 1_023, 1_024)]
    names.append(names[-1][:-1] + "y")
    graves: list[str] = []
    for name in names:
        group = Group(http, name)
        await http.put(group.path, json={"max_deliveries": 1})
        await group.publish("work")
        (job,) = await group.pull()
        await group.settle("nack", job["id"])
        graves.append((await group.state())["dead_letter"])
        (dead,) = (await http.get(f"/topics/{graves[-1]}/messages")).json()["messages"]
        assert (dead["data"], dead["dead"]["topic"]) == ("work", name)
        assert len(graves[-1]) == 1_024
        assert graves[-1].endswith(".dead")
    assert graves[0] == f"{names[0]}.dead"
    assert len(set(graves)) == len(graves)


async def test_put_makes_the_topic_and_the_group_with_its_settings(group: Group) -> None:
    settings = {"start": "last:1", "ack_timeout": "1m", "max_deliveries": 3, "dead_letter": "graveyard"}
    answer = await group.http.put(group.path, json=settings)
    assert (answer.status_code, answer.json()) == (200, await group.state())
    assert answer.json() == {
        "topic": group.topic, "group": "g", "lag": 0, "ready": 0, "leased": 0, "delayed": 0, "acked": 0, "dead": 0,
        "dead_total": 0, "skipped": 0, "paused": False, "position": answer.json()["position"],
        "oldest": None, "gap": None, "rate": 0, "workers": 0, **settings,
        "dead_letters": {
            "kept": 0, "bytes": 0, "max_messages": 1_000, "max_bytes": 8 << 20, "waiting": 0
        },
    }  # fmt: skip


async def test_put_without_a_body_makes_it_with_the_defaults_and_leaves_it_as_it_is(group: Group) -> None:
    defaults = (await group.http.put(group.path)).json()
    names = ("start", "ack_timeout", "max_deliveries", "dead_letter")
    assert [defaults[name] for name in names] == ["earliest", "30s", 10, f"{group.topic}.dead"]
    await group.http.put(group.path, json={"max_deliveries": 3})
    changed = (await group.http.put(group.path, json={"ack_timeout": "1h", "dead_letter": None})).json()
    assert [changed[name] for name in names] == ["earliest", "1h", 3, f"{group.topic}.dead"]
    assert (await group.http.put(group.path)).json() == changed


@pytest.mark.parametrize(("start", "expected"), [("earliest", ["1", "2", "3"]), ("latest", []), ("last:2", ["2", "3"])])
async def test_a_group_begins_at_its_start_option(group: Group, start: str, expected: list[str]) -> None:
    await group.publish("1", "2", "3")
    await group.http.put(group.path, json={"start": start})
    await group.publish("4")
    assert data(await group.pull()) == [*expected, "4"]


async def test_a_group_begins_after_an_id(group: Group) -> None:
    first, _ = await group.publish("1", "2")
    await group.http.put(group.path, json={"start": first})
    assert data(await group.pull()) == ["2"]


async def test_the_start_of_a_group_cannot_be_changed(group: Group) -> None:
    await group.http.put(group.path, json={"start": "latest"})
    assert (await group.http.put(group.path, json={"start": "latest"})).status_code == 200
    assert code(await group.http.put(group.path, json={"start": "earliest"})) == (400, "option_invalid")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("start", "now"), ("start", "another-7"), ("start", 7)],
        *[("ack_timeout", "999ms"), ("ack_timeout", "61m"), ("ack_timeout", "soon"), ("ack_timeout", 30)],
        *[("max_deliveries", 0), ("max_deliveries", 1_001), ("max_deliveries", 1.5), ("max_deliveries", "3")],
        *[("dead_letter", 7), ("dead_letter", []), ("max_messages", 1)],
    ],
)
async def test_a_setting_that_is_none_is_refused_and_nothing_is_made(group: Group, name: str, value: object) -> None:
    assert code(await group.http.put(group.path, json={name: value})) == (400, "option_invalid")
    assert (await group.http.get(f"/topics/{group.topic}")).status_code == 404


async def test_a_dead_letter_topic_is_a_lawful_one_and_not_the_group_s_own(group: Group) -> None:
    assert code(await group.http.put(group.path, json={"dead_letter": "a..b"})) == (400, "topic_invalid")
    assert code(await group.http.put(group.path, json={"dead_letter": group.topic})) == (400, "option_invalid")


@pytest.mark.parametrize("name", ["-", ".g", "a b", "a%2Bb", "a*", "%C3%BC", "x" * 129])
async def test_an_unlawful_name_of_a_group_is_refused(http: httpx.AsyncClient, topic: str, name: str) -> None:
    path = f"/topics/{topic}/groups/{name}"
    for answer in (
        await http.put(path),
        await http.get(path),
        await http.delete(path),
        await http.post(f"{path}/pull"),
    ):
        assert code(answer) == (400, "group_invalid")


async def test_a_deleted_group_begins_anew(group: Group) -> None:
    await group.publish("work")
    await group.pull()
    assert (await group.http.delete(group.path)).status_code == 204
    assert code(await group.http.delete(group.path)) == (404, "not_found")
    assert [message["attempt"] for message in await group.pull()] == [1]


async def test_a_waiting_pull_ends_when_its_group_is_deleted(group: Group) -> None:
    await group.http.put(group.path)
    waiting = asyncio.create_task(group.http.post(f"{group.path}/pull?wait=60s"))
    await group.until("workers", 1)
    await group.http.delete(group.path)
    assert code(await waiting) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "below", "allowed"),
    [
        ("POST", "", "DELETE, GET, HEAD, PUT"),
        ("GET", "/pull", "POST"),
        ("PUT", "/ack", "POST"),
        ("DELETE", "/nack", "POST"),
        ("PUT", "/extend", "POST"),
        ("POST", "/stream", "GET, HEAD"),
    ],
)
async def test_a_slip_of_the_method_says_which_there_are_and_makes_nothing(
    group: Group, method: str, below: str, allowed: str
) -> None:
    answer = await group.http.request(method, group.path + below)
    assert code(answer) == (405, "method_not_allowed")
    assert answer.headers["allow"] == allowed
    assert (await group.http.get(f"/topics?match={group.topic}/**")).json()["topics"] == []


async def test_a_path_with_the_word_of_a_topic_at_its_end_is_of_the_topic(http: httpx.AsyncClient, topic: str) -> None:
    """`users/groups` is a topic that somebody may have."""
    await http.post(f"/topics/{topic}/groups/messages", content=b"x")
    page = await http.get(f"/topics/{topic}/groups/messages")
    assert [message["topic"] for message in page.json()["messages"]] == [f"{topic}/groups"]
    for word in ("messages", "stream"):
        assert code(await http.put(f"/topics/{topic}/groups/{word}")) == (405, "method_not_allowed")


async def test_a_topic_with_slashes_has_groups(http: httpx.AsyncClient, topic: str) -> None:
    group = Group(http, f"{topic}/a/b")
    await group.publish("work")
    assert data(await group.pull()) == ["work"]
    assert (await group.state())["topic"] == f"{topic}/a/b"


async def test_a_topic_has_a_bounded_number_of_groups() -> None:
    with start_server("--max-groups", "1", tcp_port=0) as small:
        async with http_client(small.url) as http:
            await http.put("/topics/foo/groups/one")
            for answer in (
                await http.put("/topics/foo/groups/two"),
                await http.post("/topics/foo/groups/two/pull"),
            ):
                assert code(answer) == (429, "group_limit")
            assert (await http.put("/topics/bar/groups/two")).status_code == 200


async def test_the_state_counts_messages_at_each_stage(group: Group) -> None:
    ids = await group.publish(*map(str, range(6)))
    await group.http.put(group.path, json={"max_deliveries": 2})
    await group.pull(max=4)
    await group.settle("ack", ids[1])
    await group.settle("nack", ids[2], delay="1h")
    await group.settle("nack", ids[3], delay="0")
    assert [message["id"] for message in await group.pull(max=1)] == [ids[3]]
    await group.settle("nack", ids[3])
    state = await group.state()
    names = ("lag", "ready", "leased", "delayed", "acked", "dead")
    assert [state[name] for name in names] == [4, 2, 1, 1, 1, 1]
    first = (await group.http.get(f"/topics/{group.topic}/messages?limit=1")).json()["messages"][0]
    assert state["oldest"] == {"id": ids[0], "time": first["time"]}


# A server that stops


async def test_while_the_server_stops_leases_are_settled_and_workers_are_sent_home() -> None:
    with start_server(tcp_port=0) as server:
        async with http_client(server.url) as http:
            group = Group(http, "jobs")
            (id,) = await group.publish("work")
            await group.pull()
            async with _late(server, f"{group.path}/ack", json.dumps({"ids": [id]})) as ack:
                waiting = asyncio.create_task(group.pull(wait="60s"))
                await group.until("workers", 1)
                async with stream(server, f"{group.path}/stream") as events:
                    server.process.terminate()
                    (bye,) = await events.take(1)
                assert json.loads(bye.data) == {"reason": "draining"}
                assert await waiting == []
                assert f'"{id}":"done"' in await ack()
        assert server.process.wait(DEADLINE) == 0


@asynccontextmanager
async def _late(server: ServerProcess, path: str, body: str) -> AsyncIterator[Callable[[], Any]]:
    """A POST whose body is sent, and whose answer is read, when that is called."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode())

    async def finish() -> str:
        writer.write(body.encode())
        async with asyncio.timeout(DEADLINE):
            return (await reader.read()).decode()

    try:
        yield finish
    finally:
        writer.close()
