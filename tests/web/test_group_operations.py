"""What an operator does to a group over HTTP: release, skip, pause."""

import asyncio
from typing import Any

import pytest

from tests.event_stream import stream
from tests.harness import ServerProcess, http_client, start_server
from tests.web.groups import Group, code, data

# Release


async def test_a_released_lease_is_over_and_the_job_ready_at_once(group: Group) -> None:
    (id,) = await group.publish("a")
    (job,) = await group.pull(lease="1h")
    assert await group.settle("release", id) == {id: "done"}
    assert await group.settle("ack", job["lease"]) == {job["lease"]: "expired"}
    (again,) = await group.pull()
    assert (again["id"], again["attempt"]) == (id, 2)


async def test_a_released_attempt_does_not_count_as_failed(group: Group) -> None:
    await group.http.put(group.path, json={"max_deliveries": 1})
    (id,) = await group.publish("a")
    for _ in range(3):
        await group.pull()
        await group.settle("release", id)
    assert await group.counters("ready", "dead") == (1, 0)
    await group.pull()
    await group.settle("nack", id)
    assert await group.counters("ready", "dead") == (0, 1)


async def test_a_delayed_job_is_released_too(group: Group) -> None:
    (id,) = await group.publish("a")
    await group.pull()
    await group.settle("nack", id, delay="1h")
    assert await group.settle("release", id) == {id: "done"}
    assert await group.settle("release", id) == {id: "done"}
    assert data(await group.pull()) == ["a"]


async def test_what_is_no_job_is_not_released(group: Group) -> None:
    done, fresh = await group.publish("a", "b")
    await group.pull(max=1)
    assert await group.settle("release", f"{done}-2") == {f"{done}-2": "expired"}
    await group.settle("ack", done)
    assert await group.settle("release", done, fresh, "other-1") == {
        done: "expired", fresh: "unknown", "other-1": "unknown"
    }  # fmt: skip


# Skip


@pytest.mark.parametrize("state", ["never handed out", "ready", "leased", "delayed"])
async def test_a_skipped_message_is_never_handed_out_again(group: Group, state: str) -> None:
    await group.http.put(group.path)
    ids = await group.publish("a", "b", "c")
    if state != "never handed out":
        await group.pull(max=2)
        await group.settle("ack", ids[0])
    if state in {"ready", "delayed"}:
        await group.settle("nack", ids[1], delay="0" if state == "ready" else "1h")
    assert await group.settle("skip", ids[1]) == {ids[1]: "done"}
    assert await group.settle("skip", ids[1]) == {ids[1]: "done"}
    assert await group.counters("skipped", "leased", "delayed") == (1, 0, 0)
    left = ["c"] if state != "never handed out" else ["a", "c"]
    assert (await group.state())["ready"] == len(left)
    assert data(await group.pull(max=9)) == left
    assert await group.settle("ack", ids[1]) == {ids[1]: "done"}


async def test_a_skipped_message_is_there_for_others(group: Group) -> None:
    other = Group(group.http, group.topic, "h")
    for one in (group, other):
        await one.http.put(one.path)
    (id,) = await group.publish("a")
    await group.settle("skip", id)
    assert data(await other.pull()) == ["a"]
    assert data((await group.http.get(f"/topics/{group.topic}/messages")).json()["messages"]) == ["a"]


async def test_a_skipped_message_gives_its_room_back(group: Group) -> None:
    await group.http.put(f"/topics/{group.topic}", json={"max_messages": 2})
    await group.http.put(group.path)
    a, b = await group.publish("a", "b")
    assert code(await group.http.post(f"/topics/{group.topic}/messages", content="c")) == (507, "log_full")
    await group.settle("skip", b)  # what is before it holds it, too
    assert code(await group.http.post(f"/topics/{group.topic}/messages", content="c")) == (507, "log_full")
    await group.settle("skip", a)
    await group.publish("c", "d")
    assert data(await group.pull(max=9)) == ["c", "d"]


async def test_what_was_skipped_stays_so_after_a_restart(tmp_path: Any) -> None:
    file = f"sqlite://{tmp_path}/log.db"
    with start_server("--engine", file) as server:
        async with http_client(server.url) as http:
            group = Group(http, "jobs")
            await http.put(group.path)
            _, b, _ = await group.publish("a", "b", "c")
            await group.settle("skip", b)
            assert await group.counters("ready", "skipped") == (2, 1)
            server.process.kill()
    with start_server("--engine", file) as server:
        async with http_client(server.url) as http:
            group = Group(http, "jobs")
            assert await group.counters("ready", "skipped") == (2, 1)
            assert data(await group.pull(max=9)) == ["a", "c"]


# Pause


async def test_a_paused_group_hands_out_nothing_until_it_is_resumed(group: Group) -> None:
    leased, _ = await group.publish("a", "b")
    await group.pull(max=1)
    paused = await group.http.post(f"{group.path}/pause")
    assert (paused.status_code, paused.json()["paused"]) == (200, True)
    waiting = asyncio.create_task(group.pull(wait="50s"))
    await group.until("workers", 1)
    assert await group.pull() == []
    await group.publish("c")
    assert await group.settle("ack", leased) == {leased: "done"}
    assert await group.counters("ready", "leased") == (2, 0)
    assert not waiting.done()
    resumed = await group.http.post(f"{group.path}/resume")
    assert resumed.json()["paused"] is False
    assert data(await waiting) == ["b", "c"]


async def test_a_pause_outlasts_a_restart(tmp_path: Any) -> None:
    file = f"sqlite://{tmp_path}/log.db"
    with start_server("--engine", file) as server:
        async with http_client(server.url) as http:
            group = Group(http, "jobs")
            await group.publish("a")
            await http.put(group.path)
            await http.post(f"{group.path}/pause")
            server.process.kill()
    with start_server("--engine", file) as server:
        async with http_client(server.url) as http:
            group = Group(http, "jobs")
            assert (await group.state())["paused"] is True
            assert await group.pull() == []
            await http.post(f"{group.path}/resume")
            assert data(await group.pull()) == ["a"]


@pytest.mark.parametrize("verb", ["pause", "resume"])
async def test_only_a_group_that_is_there_is_paused(group: Group, verb: str) -> None:
    await group.publish("a")
    assert code(await group.http.post(f"{group.path}/{verb}")) == (404, "not_found")


# Redrive


async def give_up(group: Group, *bodies: str, reason: str = "no paper") -> list[str]:
    """Messages that are dead in the group. Their ids, in this order."""
    await group.http.put(group.path, json={"max_deliveries": 1})
    ids = await group.publish(*bodies)
    await group.pull(max=len(ids))
    await group.settle("nack", *ids, reason=reason)
    return ids


async def dead(group: Group) -> list[dict[str, Any]]:
    query = {"topic": group.topic, "group": "g", "state": "dead"}
    found: list[dict[str, Any]] = (await group.http.get("/jobs", params=query)).json()["jobs"]
    return found


async def redrive(group: Group, *ids: str, rate: int | None = None) -> dict[str, Any]:
    query = {} if rate is None else {"rate": rate}
    body = {"ids": ids} if ids else {"all": True}
    answer = await group.http.post(f"{group.path}/redrive", params=query, json=body)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


async def test_dead_messages_return_to_their_group_with_new_attempts(group: Group) -> None:
    ids = await give_up(group, "a", "b")
    assert await redrive(group) == {"redriven": 2, "left": 0}
    jobs = await group.pull(max=9)
    assert [(job["data"], job["attempt"], job["original"]) for job in jobs] == [("a", 1, ids[0]), ("b", 1, ids[1])]
    assert await group.settle("ack", jobs[0]["lease"]) == {jobs[0]["lease"]: "done"}
    assert await group.counters("leased", "acked", "dead_total") == (1, 1, 2)
    assert await dead(group) == []
    assert (await group.http.get(f"/topics/{group.topic}.dead/messages")).json()["messages"] == []


async def test_some_return_and_repeating_it_returns_none_twice(group: Group) -> None:
    await give_up(group, "a", "b", "c")
    first, second, _ = [job["id"] for job in await dead(group)]
    assert await redrive(group, second, "other-1") == {
        "redriven": 1, "left": 2, "results": {second: "done", "other-1": "unknown"}
    }  # fmt: skip
    assert await redrive(group, second) == {"redriven": 0, "left": 2, "results": {second: "unknown"}}
    assert (await redrive(group, first, second))["results"] == {first: "done", second: "unknown"}
    assert data(await group.pull(max=9)) == ["b", "a"]


async def test_no_other_consumer_sees_them_again(group: Group, server: ServerProcess) -> None:
    other = Group(group.http, group.topic, "h")
    await other.http.put(other.path)
    await give_up(group, "a")
    (seen,) = await other.pull()
    await other.settle("ack", seen["lease"])
    async with stream(server, f"/topics/{group.topic}/stream") as events:
        await redrive(group)
        await group.publish("b")
        assert await events.data(1) == ["b"]
    assert data(await other.pull(max=9)) == ["b"]
    page = (await group.http.get(f"/topics/{group.topic}/messages")).json()["messages"]
    assert data(page) == ["a", "b"]
    assert data(await group.pull(max=9)) == ["a", "b"]


async def test_a_redriven_message_that_is_done_leaves_nothing_behind(group: Group) -> None:
    await give_up(group, "a")
    await redrive(group)
    assert (await group.http.get(f"/topics/{group.topic}")).json()["messages"] == 2
    (job,) = await group.pull()
    await group.settle("ack", job["id"])
    assert (await group.http.get(f"/topics/{group.topic}")).json()["messages"] == 1


async def test_what_dies_again_says_what_it_was_first(group: Group) -> None:
    (first,) = await give_up(group, "a")
    for _ in range(2):
        await redrive(group)
        (job,) = await group.pull()
        await group.settle("nack", job["id"], reason="still no paper")
        (letter,) = await dead(group)
        assert (letter["original"], letter["dead"]["id"], letter["dead"]["reason"]) == (first, first, "still no paper")
    assert (await group.http.get(f"/topics/{group.topic}")).json()["messages"] == 1


async def test_a_rate_spreads_them_over_time(group: Group) -> None:
    await give_up(group, *"abc")
    assert (await redrive(group, rate=1))["redriven"] == 3
    assert await group.counters("ready", "delayed") == (1, 2)
    assert data(await group.pull(max=9)) == ["a"]
    assert data(await group.pull(max=9, wait="10s")) == ["b"]


async def test_the_headers_type_and_event_come_back_too(group: Group) -> None:
    await group.http.put(group.path, json={"max_deliveries": 1})
    headers = {"X-Plainmq-Colour": "blue", "Content-Type": "application/json"}
    answer = await group.http.post(f"/topics/{group.topic}/messages?event=made", content=b"{}", headers=headers)
    await group.pull()
    await group.settle("nack", answer.json()["id"])
    await redrive(group)
    (job,) = await group.pull()
    assert (job["event"], job["content_type"], job["headers"]) == ("made", "application/json", {"colour": "blue"})


async def test_without_room_none_returns(group: Group) -> None:
    await give_up(group, "a", "b")
    await group.http.put(f"/topics/{group.topic}", json={"max_messages": 2})
    await group.publish("c")
    answer = await group.http.post(f"{group.path}/redrive", json={"all": True})
    assert code(answer) == (507, "log_full")
    assert len(await dead(group)) == 2
    assert await group.counters("ready", "dead") == (1, 2)


async def test_the_dead_of_a_group_that_is_gone_stay(group: Group) -> None:
    await give_up(group, "a")
    await group.http.delete(group.path)
    assert code(await group.http.post(f"{group.path}/redrive", json={"all": True})) == (404, "not_found")
    assert len((await group.http.get(f"/topics/{group.topic}.dead/messages")).json()["messages"]) == 1


async def test_with_the_group_its_redriven_messages_go(group: Group) -> None:
    await give_up(group, "a", "b")
    await redrive(group)
    await group.http.delete(group.path)
    assert (await group.http.get(f"/topics/{group.topic}")).json()["messages"] == 2
    await group.http.put(group.path)
    assert data(await group.pull(max=9)) == ["a", "b"]


@pytest.mark.parametrize("body", ["{}", '{"ids":[]}', '{"all":false}', '{"all":true,"ids":["a-1"]}', '{"ids":["x"]}'])
async def test_a_redrive_says_which(group: Group, body: str) -> None:
    await give_up(group, "a")
    assert code(await group.http.post(f"{group.path}/redrive", content=body)) == (400, "option_invalid")
    assert len(await dead(group)) == 1


# Seek


async def seek(group: Group, to: str) -> dict[str, Any]:
    answer = await group.http.post(f"{group.path}/seek", json={"to": to})
    assert answer.status_code == 200, answer.text
    state: dict[str, Any] = answer.json()
    return state


async def test_a_replay_hands_out_again_what_was_done(group: Group) -> None:
    ids = await group.publish(*"abc")
    await group.pull(max=3)
    await group.settle("ack", *ids)
    state = await seek(group, "earliest")
    assert (state["ready"], state["acked"], state["position"]) == (3, 3, f"{ids[0].partition('-')[0]}-0")
    assert [(job["data"], job["attempt"]) for job in await group.pull(max=9)] == [("a", 2), ("b", 2), ("c", 2)]
    assert await group.settle("ack", f"{ids[0]}-1") == {f"{ids[0]}-1": "expired"}  # it is of before the replay
    await group.settle("ack", *ids)
    assert data(await group.pull()) == []
    await seek(group, ids[1])
    assert data(await group.pull(max=9)) == ["c"]


async def test_what_is_leased_stays_leased_when_the_group_goes_back(group: Group) -> None:
    ids = await group.publish(*"abcd")
    await group.pull(max=3)
    await group.settle("ack", ids[0], ids[2])
    assert (await seek(group, "earliest"))["ready"] == 3
    assert data(await group.pull(max=9)) == ["a", "c", "d"]
    assert await group.settle("ack", *ids) == dict.fromkeys(ids, "done")
    assert await group.counters("ready", "leased", "lag") == (0, 0, 0)


async def test_an_ack_of_a_job_ahead_of_the_position_counts(group: Group) -> None:
    ids = await group.publish(*"abc")
    await group.pull(max=3)
    await group.settle("ack", ids[0], ids[1])
    await seek(group, "earliest")
    assert await group.settle("ack", ids[2]) == {ids[2]: "done"}
    assert (await group.state())["ready"] == 2
    assert data(await group.pull(max=9)) == ["a", "b"]


async def test_a_leap_forgets_what_is_before_it(group: Group) -> None:
    ids = await group.publish(*"abcd")
    (leased, *_) = await group.pull(max=2)
    state = await seek(group, ids[2])
    assert (state["ready"], state["leased"], state["position"]) == (1, 0, ids[2])
    assert await group.settle("nack", leased["lease"]) == {leased["lease"]: "expired"}
    assert data(await group.pull(max=9)) == ["d"]


async def test_latest_leaves_only_what_is_to_come(group: Group) -> None:
    await group.http.put(group.path)
    await group.publish(*"abc")
    assert (await seek(group, "latest"))["lag"] == 0
    await group.publish("d")
    assert data(await group.pull(max=9)) == ["d"]


async def test_a_time_is_where_its_messages_begin(group: Group) -> None:
    ids = await group.publish(*"ab")
    page = (await group.http.get(f"/topics/{group.topic}/messages")).json()["messages"]
    await group.pull(max=9)
    await group.settle("ack", *ids)
    await seek(group, page[0]["time"])
    assert data(await group.pull(max=9)) == ["a", "b"]


async def test_a_leap_gives_room_back_and_a_replay_takes_it(group: Group) -> None:
    await group.http.put(f"/topics/{group.topic}", json={"max_messages": 2})
    await group.http.put(group.path)
    await group.publish("a", "b")
    assert code(await group.http.post(f"/topics/{group.topic}/messages", content="c")) == (507, "log_full")
    await seek(group, "latest")
    await group.publish("c")
    await seek(group, "earliest")
    assert code(await group.http.post(f"/topics/{group.topic}/messages", content="d")) == (507, "log_full")
    assert data(await group.pull(max=9)) == ["b", "c"]


@pytest.mark.parametrize("to", ["somewhere", "other-1", "{epoch}-99999999"])
async def test_a_seek_goes_to_a_place_in_the_log(group: Group, to: str) -> None:
    (id,) = await group.publish("a")
    await group.pull()
    to = to.format(epoch=id.partition("-")[0])
    assert code(await group.http.post(f"{group.path}/seek", json={"to": to})) == (400, "option_invalid")
    assert await group.counters("leased") == (1,)


@pytest.mark.parametrize("everything", [True, False])
async def test_nothing_returns_to_a_paused_topic_and_all_when_it_is_resumed(group: Group, everything: bool) -> None:
    await group.http.put(group.path, json={"max_deliveries": 1})
    (id,) = await group.publish("a")
    await group.pull()
    await group.settle("nack", id)
    query = {"topic": group.topic, "group": "g", "state": "dead"}
    (letter,) = (await group.http.get("/jobs", params=query)).json()["jobs"]
    body = {"all": True} if everything else {"ids": [letter["id"]]}
    await group.http.post(f"/topics/{group.topic}/pause")
    assert code(await group.http.post(f"{group.path}/redrive", json=body)) == (503, "topic_paused")
    assert (await group.state())["dead"] == 1
    await group.http.post(f"/topics/{group.topic}/resume")
    assert (await group.http.post(f"{group.path}/redrive", json=body)).json()["redriven"] == 1


async def test_a_redrive_without_its_topics_is_answered_with_what_is_not_there(group: Group) -> None:
    await group.http.put(group.path, json={"max_deliveries": 1})
    (id,) = await group.publish("a")
    await group.pull()
    await group.settle("nack", id)
    await group.http.delete(f"/topics/{group.topic}.dead")
    assert (await group.http.post(f"{group.path}/redrive", json={"all": True})).json() == {"redriven": 0, "left": 0}
    unknown = await group.http.post(f"{group.path}/redrive", json={"ids": [id]})
    assert (unknown.status_code, unknown.json()["results"]) == (200, {id: "unknown"})
    await group.http.delete(f"/topics/{group.topic}")
    assert code(await group.http.post(f"{group.path}/redrive", json={"all": True})) == (404, "not_found")


async def test_a_rate_beyond_the_bound_is_refused_with_the_bound(group: Group) -> None:
    await group.http.put(group.path)
    answer = await group.http.post(f"{group.path}/redrive?rate=1001", json={"all": True})
    assert (code(answer), "from 1 to 1000" in answer.json()["detail"]) == ((400, "option_invalid"), True)


async def test_dead_messages_are_named_by_the_id_that_was_published_too(group: Group) -> None:
    first, second = await give_up(group, "a", "b")
    answer = await group.http.post(f"{group.path}/redrive", json={"ids": [first]})
    assert answer.json() == {"redriven": 1, "left": 1, "results": {first: "done"}}
    (letter,) = await dead(group)
    assert letter["original"] == second
    answer = await group.http.post(f"{group.path}/redrive", json={"ids": [first, second, letter["id"]]})
    assert answer.json()["results"] == {first: "unknown", second: "done", letter["id"]: "done"}


@pytest.mark.parametrize("action", ["release", "skip"])
async def test_a_redriven_job_is_named_by_the_id_that_was_published(group: Group, action: str) -> None:
    first, second = await give_up(group, "a", "b")
    await redrive(group)
    leased = await group.pull(max=9)
    assert [job["original"] for job in leased] == [first, second]
    assert await group.settle(action, first, "other-1") == {first: "done", "other-1": "unknown"}
    assert await group.counters("leased", "ready", "skipped") == ((1, 1, 0) if action == "release" else (1, 0, 1))
    assert await group.settle("ack", leased[0]["lease"]) == {
        leased[0]["lease"]: "expired" if action == "release" else "unknown"
    }
    assert await group.settle(action, f"{second}-1") == {f"{second}-1": "expired" if action == "release" else "done"}
    assert (await group.state())["leased"] == 1


async def test_a_message_that_was_replayed_is_named_rather_than_its_redriven_copy(group: Group) -> None:
    (id,) = await give_up(group, "a")
    await redrive(group)
    (await group.http.post(f"{group.path}/seek", json={"to": "earliest"})).raise_for_status()
    assert (await group.state())["ready"] == 2
    assert await group.settle("skip", id) == {id: "done"}
    assert await group.counters("ready", "skipped") == (1, 1)
    assert await group.settle("skip", id) == {id: "done"}
    assert await group.counters("ready", "skipped") == (0, 2)
    assert await group.pull() == []
