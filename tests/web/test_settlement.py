"""Acks, nacks and extensions over HTTP."""

import asyncio
import json

import httpx
import pytest

from tests.harness import DEADLINE
from tests.web.groups import Group, code, data


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
