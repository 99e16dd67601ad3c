"""Groups over HTTP: a topic shared out among workers that pull, or that have it pushed."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.event_stream import stream
from tests.harness import DEADLINE, ServerProcess, http_client, start_server


class Group:
    """One group of one topic."""

    def __init__(self, http: httpx.AsyncClient, topic: str, name: str = "g") -> None:
        self.http = http
        self.topic = topic
        self.path = f"/topics/{topic}/groups/{name}"

    async def publish(self, *bodies: str, **options: str) -> list[str]:
        """The ids, in this order."""
        answers = [
            await self.http.post(f"/topics/{self.topic}/messages", content=body, params=options) for body in bodies
        ]
        return [answer.raise_for_status().json()["id"] for answer in answers]

    async def pull(self, **options: str | int) -> list[dict[str, Any]]:
        answer = await self.http.post(f"{self.path}/pull", params=options)
        messages: list[dict[str, Any]] = answer.raise_for_status().json()["messages"]
        return messages

    async def settle(self, action: str, *ids: str, **options: str) -> dict[str, str]:
        """What became of each, also when every lease is over."""
        answer = await self.http.post(f"{self.path}/{action}", json={"ids": ids, **options})
        assert answer.status_code in {200, 409}, answer.text
        results: dict[str, str] = answer.json()["results"]
        return results

    async def state(self) -> dict[str, Any]:
        state: dict[str, Any] = (await self.http.get(self.path)).raise_for_status().json()
        return state

    async def counters(self, *names: str) -> tuple[int, ...]:
        state = await self.state()
        return tuple(state[name] for name in names)

    async def until(self, name: str, value: int) -> None:
        """Wait until the group's state says so."""
        async with asyncio.timeout(DEADLINE):
            while (await self.state())[name] != value:
                pass


@pytest.fixture
def group(http: httpx.AsyncClient, topic: str) -> Group:
    return Group(http, topic)


def data(messages: list[dict[str, Any]]) -> list[str]:
    return [message["data"] for message in messages]


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


# Pulling


async def test_each_message_goes_to_one_worker_in_order(group: Group) -> None:
    await group.publish(*map(str, range(5)))
    pulls = [await group.pull(max=2) for _ in range(4)]
    assert list(map(data, pulls)) == [["0", "1"], ["2", "3"], ["4"], []]


async def test_a_pull_takes_ten_unless_it_says_how_many(group: Group) -> None:
    await group.publish(*map(str, range(12)))
    assert len(await group.pull()) == 10


async def test_a_message_comes_with_its_lease(group: Group) -> None:
    (id,) = await group.publish("work", event="resize")
    (message,) = await group.pull()
    assert message["lease_expires"] > message["time"]
    stream_request = {"id": id, "data": "work", "event": "resize", "attempt": 1, "lease": f"{id}-1"}
    assert {name: message[name] for name in stream_request} == stream_request


async def test_lines_are_the_same_messages(group: Group) -> None:
    await group.publish("1", "2")
    answer = await group.http.post(f"{group.path}/pull", headers={"Accept": "application/x-ndjson"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert data([json.loads(line) for line in answer.text.splitlines()]) == ["1", "2"]


async def test_a_pull_with_a_body_is_refused_and_leases_nothing(group: Group) -> None:
    await group.publish("work")
    for body in (b'{"max":5}', b"x" * 100_000):
        answer = await group.http.post(f"{group.path}/pull", content=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")
    assert data(await group.pull()) == ["work"]


async def test_groups_get_everything_each_and_subscribers_too(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    one, two = Group(http, topic, "one"), Group(http, topic, "two")
    async with stream(server, f"/topics/{topic}/stream") as events:
        await one.publish("a", "b")
        assert data(await one.pull()) == data(await two.pull()) == await events.data(2) == ["a", "b"]


async def test_a_waiting_pull_is_answered_by_a_publish(group: Group) -> None:
    await group.http.put(group.path)
    waiting = asyncio.create_task(group.pull(wait="60s"))
    await group.until("workers", 1)
    await group.publish("news")
    assert data(await waiting) == ["news"]
    assert await group.counters("workers", "leased") == (0, 1)


async def test_a_waiting_pull_without_news_is_answered_with_nothing(group: Group) -> None:
    await group.http.put(group.path)
    assert await group.pull(wait="20ms") == []


@asynccontextmanager
async def request(server: ServerProcess, path: str) -> AsyncIterator[asyncio.StreamWriter]:
    """A POST on a connection of its own, without waiting for the answer."""
    _, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
    try:
        yield writer
    finally:
        writer.close()


async def test_a_client_that_leaves_while_it_waits_takes_nothing(server: ServerProcess, group: Group) -> None:
    await group.http.put(group.path)
    async with request(server, f"{group.path}/pull?wait=60s"):
        await group.until("workers", 1)
    await group.until("workers", 0)
    await group.publish("work")
    assert await group.counters("ready", "leased") == (1, 0)
    (message,) = await group.pull()
    assert message["attempt"] == 1


async def test_messages_are_handed_out_to_waiting_consumers_in_turn(group: Group) -> None:
    await group.http.put(group.path)
    waiting = [asyncio.create_task(group.pull(max=1, wait="60s")) for _ in range(3)]
    await group.until("workers", 3)
    await group.publish("1", "2", "3")
    assert sorted(map(data, await asyncio.gather(*waiting))) == [["1"], ["2"], ["3"]]


# Settling


async def test_what_is_acked_does_not_come_again(group: Group) -> None:
    ids = await group.publish("1", "2", "3")
    await group.pull(lease="50ms")
    assert await group.settle("ack", *ids[:2]) == dict.fromkeys(ids[:2], "done")
    assert [(m["data"], m["attempt"]) for m in await group.pull(wait="20s")] == [("3", 2)]
    assert await group.counters("acked", "lag") == (2, 1)


async def test_a_lease_that_ends_gives_the_message_to_another(group: Group) -> None:
    (id,) = await group.publish("work")
    await group.pull(lease="50ms")
    (again,) = await group.pull(wait="20s")
    assert (again["id"], again["attempt"], again["lease"]) == (id, 2, f"{id}-2")


async def test_a_nack_gives_it_back_at_once_the_first_time_and_later_the_next(group: Group) -> None:
    (id,) = await group.publish("work")
    await group.pull()
    assert await group.settle("nack", id) == {id: "done"}
    assert [message["attempt"] for message in await group.pull()] == [2]
    await group.settle("nack", id)
    assert await group.counters("ready", "leased", "delayed") == (0, 0, 1)


@pytest.mark.parametrize("where", ["query", "body"])
async def test_a_nack_may_say_how_long(group: Group, where: str) -> None:
    (id,) = await group.publish("work")
    await group.pull()
    if where == "query":
        await group.http.post(f"{group.path}/nack?delay=1h", content=json.dumps({"ids": [id]}))
    else:
        await group.settle("nack", id, delay="1h")
    assert await group.counters("ready", "leased", "delayed") == (0, 0, 1)


@pytest.mark.parametrize("where", ["query", "body"])
async def test_an_extended_lease_ends_when_it_says(group: Group, where: str) -> None:
    first, second = await group.publish("first", "second")
    await group.pull(lease="1h")
    if where == "query":
        await group.http.post(f"{group.path}/extend?lease=10ms", content=json.dumps({"ids": [second]}))
    else:
        await group.settle("extend", second, lease="10ms")
    assert data(await group.pull(wait="20s")) == ["second"]
    assert await group.settle("extend", first) == {first: "done"}


async def test_ids_need_no_content_type(group: Group) -> None:
    (id,) = await group.publish("work")
    await group.pull()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await group.http.post(f"{group.path}/ack", content=json.dumps({"ids": [id]}), headers=form)
    assert answer.json() == {"results": {id: "done"}}


async def test_a_late_ack_by_lease_does_not_end_the_lease_of_another(group: Group) -> None:
    (id,) = await group.publish("work")
    await group.pull(lease="50ms")
    await group.pull(wait="20s", lease="1h")
    assert await group.settle("ack", f"{id}-1") == {f"{id}-1": "expired"}
    assert await group.counters("leased", "acked") == (1, 0)
    assert await group.settle("ack", id) == {id: "done"}
    assert await group.counters("leased", "acked") == (0, 1)


async def test_an_ack_when_the_lease_is_over_is_too_late(group: Group) -> None:
    (id,) = await group.publish("work")
    await group.pull(lease="0")
    answer = await group.http.post(f"{group.path}/ack", json={"ids": [id, f"{id}-1"]})
    assert code(answer) == (409, "lease_expired")
    assert answer.json()["results"] == {id: "expired", f"{id}-1": "expired"}


async def test_an_ack_twice_is_done_and_a_nack_or_extend_of_it_expired(group: Group) -> None:
    (id,) = await group.publish("work")
    await group.pull()
    for action, outcome in (("ack", "done"), ("ack", "done"), ("nack", "expired"), ("extend", "expired")):
        assert await group.settle(action, id) == {id: outcome}
    assert await group.counters("acked", "lag") == (1, 0)


async def test_the_same_id_twice_in_a_call_is_answered_once(group: Group) -> None:
    (id,) = await group.publish("work")
    await group.pull()
    assert await group.settle("nack", id, id, delay="1h") == {id: "done"}


async def test_results_are_told_apart_in_one_answer(group: Group) -> None:
    one, two = await group.publish("1", "2")
    await group.pull(max=1)
    assert await group.settle("ack", one, f"{one}-1", f"{one}-2", two, "another-7") == {
        one: "done", f"{one}-1": "done", f"{one}-2": "done", two: "unknown", "another-7": "unknown",
    }  # fmt: skip


async def test_what_another_group_or_topic_was_handed_is_unknown(
    http: httpx.AsyncClient, topic: str, group: Group
) -> None:
    beside, elsewhere = Group(http, topic, "beside"), Group(http, f"{topic}.x", "g")
    await group.http.put(group.path)
    (id,) = await beside.publish("work")
    (foreign,) = await elsewhere.publish("work")
    await beside.pull()
    await elsewhere.pull()
    assert await group.settle("ack", id, foreign) == {id: "unknown", foreign: "unknown"}
    assert await beside.counters("leased") == (1,)


async def test_what_is_no_longer_kept_is_unknown(group: Group) -> None:
    (id,) = await group.publish("work", ttl="100ms")
    await group.pull(max=1)
    async with asyncio.timeout(DEADLINE):
        while (await group.http.get(f"/topics/{group.topic}/messages/{id}")).status_code == 200:
            pass
    assert (await group.http.get(group.path)).status_code == 200
    await group.pull()
    assert await group.settle("ack", id) == {id: "unknown"}


@pytest.mark.parametrize("method", ["ack", "nack", "extend"])
@pytest.mark.parametrize("deleted", ["group", "topic"])
async def test_nothing_can_be_settled_after_a_delete(group: Group, method: str, deleted: str) -> None:
    (id,) = await group.publish("work")
    await group.pull()
    path = group.path if deleted == "group" else f"/topics/{group.topic}"
    assert (await group.http.delete(path)).status_code == 204
    assert code(await group.http.post(f"{group.path}/{method}", json={"ids": [id]})) == (404, "not_found")
    assert code(await group.http.get(group.path)) == (404, "not_found")


@pytest.mark.parametrize(
    "body",
    [
        *("", "x", "[]", "{}", '{"ids":[]}', '{"ids":["k-1"],"more":1}', '{"ids":[1]}', '{"ids":"k-1"}'),
        *('{"ids":["nonsense"]}', '{"ids":["k-1-0"]}', '{"ids":["k-01"]}', '{"ids":["k-1-1-1"]}', '{"ids":["ü-1"]}'),
        *('{"ids":["\\ud800"]}', '{"ids":["k-1"],"delay":"10s","delay":1}', "[" * 10_000, "\x00"),
        json.dumps({"ids": [f"k-{n}" for n in range(1_001)]}),
    ],
)
async def test_what_is_no_list_of_ids_is_refused(group: Group, body: str) -> None:
    await group.http.put(group.path)
    for action in ("ack", "nack", "extend"):
        assert code(await group.http.post(f"{group.path}/{action}", content=body)) == (400, "option_invalid")


async def test_a_thousand_ids_are_settled_in_one_call(group: Group) -> None:
    batch = "\n".join(map(str, range(1_000)))
    path = f"/topics/{group.topic}/messages"
    await group.http.post(path, content=batch, headers={"Content-Type": "application/x-ndjson"})
    ids = [message["id"] for _ in range(10) for message in await group.pull(max=100)]
    assert await group.settle("ack", *ids) == dict.fromkeys(ids, "done")
    assert len(ids) == 1_000


async def test_an_option_in_query_and_body_is_given_twice(group: Group) -> None:
    await group.http.put(group.path)
    for action, name in (("nack", "delay"), ("extend", "lease")):
        answer = await group.http.post(f"{group.path}/{action}", params={name: "1s"}, json={"ids": ["k-1"], name: "1s"})
        assert code(answer) == (400, "option_invalid")
        assert "twice" in answer.json()["detail"]


@pytest.mark.parametrize(
    "call",
    [
        *("pull?max=0", "pull?max=101", "pull?wait=1h", "pull?wait=61s", "pull?lease=2h", "pull?lease=soon"),
        *("pull?credit=1", "stream?credit=0", "stream?credit=101", "stream?since=earliest", "ack?delay=1s"),
        *("nack?delay=2d", "nack?lease=1s", "extend?lease=61m", "extend?delay=1s"),
    ],
)
async def test_an_option_out_of_bounds_or_unknown_is_refused(group: Group, call: str) -> None:
    await group.publish("work")
    method = "GET" if call.startswith("stream") else "POST"
    answer = await group.http.request(method, f"{group.path}/{call}", content=b'{"ids":["k-1"]}')
    assert code(answer) == (400, "option_invalid")
    assert (await group.http.get(group.path)).status_code == 404, "the group was made nonetheless"


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


# The stream of a group


def jobs(events: list[str]) -> list[tuple[str, int]]:
    return [(job["data"], job["attempt"]) for job in map(json.loads, events)]


async def test_work_is_pushed_with_the_head_of_an_ordinary_stream(server: ServerProcess, group: Group) -> None:
    await group.http.put(group.path)
    (id,) = await group.publish("work", event="resize")
    async with stream(server, f"{group.path}/stream", Last_Event_ID="other-999") as events:
        assert events.status == 200
        assert events.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert events.headers["cache-control"] == "no-store"
        assert events.headers["x-accel-buffering"] == "no"
        (event,) = await events.take(1)
        assert events.parser.comments == ["plainmq"]
        assert events.parser.retry in range(1_000, 30_001)
    assert (event.type, event.last_event_id) == ("resize", id)
    job = json.loads(event.data)
    assert (job["data"], job["attempt"], job["lease"]) == ("work", 1, f"{id}-1")


async def test_credit_bounds_what_is_not_acked(server: ServerProcess, group: Group) -> None:
    await group.http.put(group.path)
    ids = await group.publish(*map(str, range(5)))
    async with stream(server, f"{group.path}/stream?credit=2") as events:
        assert jobs(await events.data(2)) == [("0", 1), ("1", 1)]
        assert await group.counters("leased", "ready") == (2, 3)
        await group.settle("ack", ids[0])
        assert jobs(await events.data(1)) == [("2", 1)]
        await group.settle("ack", ids[1], ids[2])
        assert jobs(await events.data(2)) == [("3", 1), ("4", 1)]
        assert await group.counters("leased", "acked") == (2, 3)


async def test_a_lost_stream_s_messages_go_to_another_worker_at_once(server: ServerProcess, group: Group) -> None:
    await group.http.put(group.path)
    async with stream(server, f"{group.path}/stream") as lost, stream(server, f"{group.path}/stream") as other:
        await group.until("workers", 2)
        await group.publish("1", "2")
        assert jobs(await lost.data(1) + await other.data(1)) == [("1", 1), ("2", 1)]
        lost.writer.transport.abort()
        assert jobs(await other.data(1)) == [("1", 2)]


async def test_a_lease_that_ends_on_a_stream_makes_room_for_the_next(server: ServerProcess, group: Group) -> None:
    await group.http.put(group.path)
    await group.publish("work")
    async with stream(server, f"{group.path}/stream?credit=1&lease=20ms") as events:
        assert jobs(await events.data(2)) == [("work", 1), ("work", 2)]


async def test_work_that_comes_later_is_pushed(server: ServerProcess, group: Group) -> None:
    await group.http.put(group.path)
    async with stream(server, f"{group.path}/stream") as events:
        await group.publish("news")
        assert jobs(await events.data(1)) == [("news", 1)]
        assert await group.counters("workers") == (1,)
    await group.until("workers", 0)


async def test_a_stalled_worker_holds_no_more_than_its_credit(server: ServerProcess, group: Group) -> None:
    await group.http.put(group.path)
    await group.publish(*["x" * 200_000] * 8)
    async with stream(server, f"{group.path}/stream?credit=4"):  # and nothing is read
        await group.until("leased", 4)
        assert len(await group.pull()) == 4


async def test_a_stream_of_a_deleted_group_says_goodbye(server: ServerProcess, group: Group) -> None:
    await group.http.put(group.path)
    await group.publish("work")
    async with stream(server, f"{group.path}/stream") as events:
        await events.take(1)
        await group.http.delete(group.path)
        (bye,) = await events.take(1)
        assert (bye.type, json.loads(bye.data)) == ("bye", {"reason": "deleted"})
        assert await events.next() is None
        assert events.ended_in_order


async def test_a_stream_with_a_timeout_ends_without_a_word_and_gives_back(server: ServerProcess, group: Group) -> None:
    await group.http.put(group.path)
    await group.publish("work")
    async with stream(server, f"{group.path}/stream?timeout=50ms") as events:
        assert jobs(await events.data(1)) == [("work", 1)]
        assert await events.next() is None
    assert [message["attempt"] for message in await group.pull(wait="20s")] == [2]


async def test_a_group_s_stream_is_kept_alive_and_ends_at_its_age() -> None:
    with start_server("--keep-alive", "50ms", "--stream-age", "300ms", tcp_port=0) as quick:
        async with http_client(quick.url) as http:
            await http.put("/topics/foo/groups/g")
        async with stream(quick, "/topics/foo/groups/g/stream") as events:
            (bye,) = await events.take(1)
            assert (bye.type, json.loads(bye.data)) == ("bye", {"reason": "age"})
            assert events.parser.comments[:2] == ["plainmq", ""]
            assert await events.next() is None


async def test_one_consumer_too_many_is_asked_to_come_back() -> None:
    with start_server("--max-subscribers", "1", tcp_port=0) as small:
        async with http_client(small.url) as http:
            await http.put("/topics/foo/groups/g")
            async with stream(small, "/topics/foo/groups/g/stream"):
                async with stream(small, "/topics/foo/groups/g/stream", Accept="text/event-stream") as refused:
                    (busy,) = await refused.take(1)
                    assert (refused.status, busy.type) == (200, "busy")
                for answer in (
                    await http.get("/topics/foo/groups/g/stream"),
                    await http.post("/topics/foo/groups/g/pull"),
                ):
                    assert code(answer) == (503, "subscriber_limit")


async def test_head_answers_without_a_stream(group: Group) -> None:
    await group.http.put(group.path)
    answer = await group.http.head(f"{group.path}/stream")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert await group.counters("workers") == (0,)


# Death, room, and what a group does not get


async def test_a_message_out_of_attempts_is_in_the_dead_letter_topic_with_its_story(group: Group) -> None:
    await group.http.put(group.path, json={"max_deliveries": 2})
    (id,) = await group.publish("work", event="resize")
    for _ in range(2):
        await group.pull()
        await group.settle("nack", id)
    dead = (await group.http.get(f"/topics/{group.topic}.dead/messages")).json()["messages"]
    (story,) = [message.pop("dead") for message in dead]
    assert [(message["data"], message["event"]) for message in dead] == [("work", "resize")]
    first, last = story.pop("first_failure"), story.pop("last_failure")
    assert first <= last
    assert story == {"id": id, "topic": group.topic, "group": "g", "attempts": 2, "reason": "nack"}
    assert await group.counters("dead", "lag") == (1, 0)
    assert await group.settle("ack", id) == {id: "expired"}


async def test_a_nack_says_why_and_the_dead_message_has_it(group: Group) -> None:
    await group.http.put(group.path, json={"max_deliveries": 1})
    (id,) = await group.publish("work")
    await group.pull()
    assert await group.settle("nack", id, reason="printer on fire \U0001f525") == {id: "done"}
    (dead,) = (await group.http.get(f"/topics/{group.topic}.dead/messages")).json()["messages"]
    assert dead["dead"]["reason"] == "printer on fire \U0001f525"


@pytest.mark.parametrize("reason", ["", "x" * 201, "a\nb", "a\tb", "\x1b[2J", "\u202etxt", "a\u2028b"])
async def test_a_reason_is_one_short_line_without_control_characters(group: Group, reason: str) -> None:
    (id,) = await group.publish("work")
    await group.pull()
    answer = await group.http.post(f"{group.path}/nack", json={"ids": [id], "reason": reason})
    assert code(answer) == (400, "option_invalid")
    assert await group.counters("leased") == (1,)


async def _let_expire(group: Group, _: ServerProcess) -> None:
    await group.pull(lease="0")


async def _lose(group: Group, server: ServerProcess) -> None:
    async with stream(server, f"{group.path}/stream") as events:
        await events.take(1)


@pytest.mark.parametrize(
    ("fail", "reason"),
    [
        (_let_expire, "the lease expired"),
        (_lose, "the worker's connection was lost"),
    ],
)
async def test_a_dead_message_says_why_it_failed_last(
    server: ServerProcess, group: Group, fail: Callable[[Group, ServerProcess], Any], reason: str
) -> None:
    await group.http.put(group.path, json={"max_deliveries": 1, "dead_letter": f"{group.topic}.lost"})
    await group.publish("work")
    await fail(group, server)
    dead = await group.http.get(f"/topics/{group.topic}.lost/messages?wait=20s")
    await group.until("dead", 1)
    assert [message["dead"]["reason"] for message in dead.json()["messages"]] == [reason]


async def test_what_is_dead_is_kept_beyond_the_topic_s_age_and_what_has_no_room_waits_and_is_counted() -> None:
    with start_server("--max-messages", "3", "--max-age", "100ms", tcp_port=0) as server:
        async with http_client(server.url) as http:
            group = Group(http, "jobs")
            await http.put("/topics/jobs", json={"max_messages": 5, "max_age": "1h"})
            await http.put(group.path, json={"max_deliveries": 1})
            await group.publish(*"1234")
            for job in await group.pull():
                await group.settle("nack", job["id"])
            bound = {"kept": 3, "bytes": 3, "max_messages": 3, "max_bytes": 8 << 20, "waiting": 1}
            assert (await group.state())["dead_letters"] == bound
            await http.post("/topics/other/messages", content="x")
            async with asyncio.timeout(DEADLINE):  # until what is older than the age is gone
                while (await http.get("/topics/other/messages")).json()["messages"]:
                    pass
            dead = (await http.get("/topics/jobs.dead/messages")).json()["messages"]
            assert data(dead) == ["1", "2", "3"]
            metrics = (await http.get("/metrics")).text
            assert "plainmq_dead_messages 3.0" in metrics
            assert "plainmq_dead_waiting_messages 1.0" in metrics
            assert code(await http.post("/topics/jobs.dead/messages", content="x")) == (507, "log_full")
            await group.publish(*"5678")
            assert code(await http.post("/topics/jobs/messages", content="9")) == (507, "log_full")
            grave = Group(http, "jobs.dead")
            jobs = await grave.pull()
            assert await grave.settle("ack", jobs[0]["id"]) == {jobs[0]["id"]: "done"}
            assert await grave.settle("ack", jobs[0]["id"]) == {jobs[0]["id"]: "unknown"}


async def test_a_group_s_dead_messages_are_work_for_another(group: Group) -> None:
    await group.http.put(group.path, json={"max_deliveries": 1})
    (id,) = await group.publish("work")
    await group.pull()
    await group.settle("nack", id)
    (message,) = await Group(group.http, f"{group.topic}.dead").pull()
    assert (message["data"], message["dead"]["id"]) == ("work", id)


async def test_a_topic_refuses_what_it_could_keep_only_by_taking_from_a_group(group: Group) -> None:
    await group.http.put(f"/topics/{group.topic}", json={"max_messages": 2})
    await group.http.put(group.path)
    first, _ = await group.publish("1", "2")
    path = f"/topics/{group.topic}/messages"
    assert code(await group.http.post(path, content="3")) == (507, "log_full")
    await group.pull(max=1)
    await group.settle("ack", first)
    assert (await group.http.post(path, content="3")).status_code == 201
    assert data(await group.pull()) == ["2", "3"]
    batch = {"Content-Type": "application/x-ndjson"}
    refused = await group.http.post(path, content="4\n5\n6", headers=batch)
    assert code(refused) == (413, "message_too_large")
    assert "send it in parts" in refused.json()["detail"]


async def test_a_ttl_takes_a_message_from_a_group(group: Group) -> None:
    await group.http.put(group.path)
    await group.publish("gone", ttl="0")
    await group.publish("here")
    assert data(await group.pull()) == ["here"]
    assert await group.counters("lag") == (1,)


async def test_a_group_does_not_get_what_is_for_one_subscriber_or_not_kept(server: ServerProcess, group: Group) -> None:
    await group.http.put(group.path)
    await group.publish("for one", delivery="one")
    await group.publish("passing", retain="false")
    await group.publish("work")
    assert data(await group.pull(wait="1s")) == ["work"]
    async with stream(server, f"/topics/{group.topic}/stream?since=earliest") as events:
        assert await events.data(2) == ["for one", "work"]


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


async def test_another_dead_letter_topic_is_refused_while_the_present_one_has_dead_messages(group: Group) -> None:
    await group.http.put(group.path, json={"max_deliveries": 1})
    (id,) = await group.publish("work")
    await group.pull()
    await group.settle("nack", id)
    other = {"dead_letter": f"{group.topic}.other"}
    assert code(await group.http.put(group.path, json=other)) == (409, "dead_letters_left")
    state = await group.state()
    assert (state["dead"], state["dead_total"], state["dead_letter"]) == (1, 1, f"{group.topic}.dead")
    await group.http.post(f"{group.path}/redrive", json={"all": True})
    assert (await group.http.put(group.path, json=other)).status_code == 200
