"""Messages that have failed too often, over HTTP, and what a group does not get."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.event_stream import stream
from tests.harness import DEADLINE, ServerProcess, http_client, start_server
from tests.web.groups import Group, code, data


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
