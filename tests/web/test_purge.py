"""Purging a topic over HTTP."""

from typing import Any

import pytest

from tests.event_stream import stream
from tests.harness import ServerProcess
from tests.web.groups import Group, code, data


async def purge(group: Group, **options: str) -> Any:
    answer = await group.http.post(f"/topics/{group.topic}/purge", params=options)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def left(group: Group) -> list[str]:
    return data((await group.http.get(f"/topics/{group.topic}/messages")).json()["messages"])


async def test_an_option_in_the_body_of_a_purge_is_refused_and_purges_nothing(group: Group) -> None:
    ids = await group.publish(*"abc")
    for body in (b'{"before":"%b"}' % ids[1].encode(), b"before=1h", b"x", b"[]"):
        answer = await group.http.post(f"/topics/{group.topic}/purge", content=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")
        assert "its options are in the query" in answer.json()["detail"]
    assert await left(group) == ["a", "b", "c"]
    assert (await group.http.post(f"/topics/{group.topic}/purge", json={})).json() == {"purged": 3}


async def test_a_purge_takes_the_messages_and_leaves_settings_and_groups(group: Group) -> None:
    await group.http.put(f"/topics/{group.topic}", json={"max_messages": 7})
    await group.http.put(group.path)
    ids = await group.publish(*"abcd")
    (job, _) = await group.pull(max=2)
    await group.settle("ack", ids[1])
    assert await purge(group) == {"purged": 4}
    assert await left(group) == []
    topic = (await group.http.get(f"/topics/{group.topic}")).json()
    assert (topic["messages"], topic["bytes"], topic["retention"]["max_messages"]) == (0, 0, 7)
    assert await group.counters("ready", "leased", "lag", "acked") == (0, 0, 0, 1)
    assert await group.settle("ack", job["lease"]) == {job["lease"]: "unknown"}
    await group.publish("e")
    assert data(await group.pull(max=9)) == ["e"]
    assert await purge(group) == {"purged": 1}
    assert await purge(group) == {"purged": 0}


async def test_an_id_or_a_time_says_what_stays(group: Group) -> None:
    ids = await group.publish(*"abcd")
    assert await purge(group, before=ids[2]) == {"purged": 2}
    assert await left(group) == ["c", "d"]
    assert await purge(group, before="1h") == {"purged": 0}
    assert await purge(group, before="2999-01-01T00:00:00Z") == {"purged": 2}


@pytest.mark.parametrize("before", ["", "now", "latest", "earliest", "last:1"])
async def test_a_place_that_a_purge_does_not_take_is_not_recommended_either(group: Group, before: str) -> None:
    await group.publish("a")
    answer = await group.http.post(f"/topics/{group.topic}/purge", params={"before": before})
    assert code(answer) == (400, "option_invalid")
    assert "latest" not in answer.json()["detail"].removeprefix(f"before='{before}'")
    assert await left(group) == ["a"]


async def test_room_that_groups_held_is_there_again(group: Group) -> None:
    await group.http.put(f"/topics/{group.topic}", json={"max_messages": 2})
    await group.http.put(group.path)
    await group.publish("a", "b")
    assert code(await group.http.post(f"/topics/{group.topic}/messages", content="c")) == (507, "log_full")
    await purge(group)
    await group.publish("c", "d")
    assert data(await group.pull(max=9)) == ["c", "d"]


async def test_a_subscriber_that_resumes_there_gets_a_gap(group: Group, server: ServerProcess) -> None:
    ids = await group.publish(*"abc")
    await purge(group)
    await group.publish("d")
    async with stream(server, f"/topics/{group.topic}/stream", Last_Event_ID=ids[0]) as events:
        gap = await events.next()
        assert gap is not None
        assert gap.type == "gap"
        assert await events.data(1) == ["d"]


async def test_redriven_and_dead_messages_go_too(group: Group) -> None:
    await group.http.put(group.path, json={"max_deliveries": 1})
    ids = await group.publish("a", "b")
    await group.pull(max=2)
    await group.settle("nack", *ids)
    letters = (await group.http.get(f"/topics/{group.topic}.dead/messages")).json()["messages"]
    await group.http.post(f"{group.path}/redrive", json={"ids": [letters[0]["id"]]})
    assert await purge(group) == {"purged": 3}
    assert await group.counters("ready", "lag") == (0, 0)
    assert await purge(Group(group.http, f"{group.topic}.dead")) == {"purged": 1}
    assert (await group.state())["dead_letters"]["kept"] == 0


@pytest.mark.parametrize("before", ["latest", "earliest", "last:3", "somewhere", "other-1"])
async def test_a_purge_needs_a_place(group: Group, before: str) -> None:
    await group.publish("a")
    answer = await group.http.post(f"/topics/{group.topic}/purge", params={"before": before})
    assert code(answer) == (400, "option_invalid")
    assert await left(group) == ["a"]


async def test_only_a_topic_that_is_there_is_purged(group: Group) -> None:
    assert code(await group.http.post(f"/topics/{group.topic}/purge")) == (404, "not_found")
