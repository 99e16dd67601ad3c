"""What an operator does to a group over HTTP: release, skip, pause."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.harness import http_client, start_server
from tests.web.test_groups import Group, code, data


@pytest.fixture
def group(http: httpx.AsyncClient, topic: str) -> Group:
    return Group(http, topic)


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
