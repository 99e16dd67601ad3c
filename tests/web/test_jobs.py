"""Looking at the messages of a group over HTTP: what is ready, leased, delayed and dead, without taking any."""

from typing import Any

import pytest

from tests.web.groups import Group, code


async def jobs(group: Group, state: str = "ready", **options: str | int) -> list[dict[str, Any]]:
    page = await group.http.get("/jobs", params={"topic": group.topic, "group": "g", "state": state, **options})
    found: list[dict[str, Any]] = page.raise_for_status().json()["jobs"]
    assert {job["state"] for job in found} <= {state}
    return found


async def test_each_message_is_listed_in_its_state_and_nothing_is_taken(group: Group) -> None:
    await group.http.put(group.path, json={"max_deliveries": 2})
    ids = await group.publish(*"abcdef")
    await group.pull(max=4)
    await group.settle("nack", ids[0], delay="1h", reason="no paper")
    await group.settle("nack", ids[1])
    await group.settle("ack", ids[2])
    for _ in range(2):
        listed = {state: [job["data"] for job in await jobs(group, state)] for state in ("ready", "leased", "delayed")}
        assert listed == {"ready": ["b", "e", "f"], "leased": ["d"], "delayed": ["a"]}
    assert await group.counters("ready", "leased", "delayed", "acked") == (3, 1, 1, 1)
    assert [job["id"] for job in await group.pull(max=9)] == [ids[1], ids[4], ids[5]]


async def test_a_leased_job_shows_its_consumer_and_its_deadline(group: Group) -> None:
    (id,) = await group.publish("a", event="resize")
    (lease,) = await group.pull(lease="10m")
    (job,) = await jobs(group, "leased")
    assert job == {
        "id": id, "topic": group.topic, "index": 0, "time": lease["time"], "event": "resize", "data": "a",
        "content_type": lease["content_type"], "size": 1, "state": "leased", "attempt": 1, "lease": lease["lease"],
        "since": job["since"], "until": lease["lease_expires"], "consumer": "127.0.0.1",
    }  # fmt: skip
    assert lease["time"] <= job["since"] < job["until"]


async def test_a_delayed_one_says_why_and_how_long(group: Group) -> None:
    (id,) = await group.publish("a")
    await group.pull()
    await group.settle("nack", id, delay="1h", reason="no paper")
    (job,) = await jobs(group, "delayed")
    assert (job["attempt"], job["reason"]) == (1, "no paper")
    assert job["first_failure"] == job["last_failure"] < job["due"]
    assert "lease" not in job


async def test_dead_ones_are_those_of_this_group_with_their_story(group: Group) -> None:
    other = Group(group.http, group.topic, "h")
    for one in (group, other):
        await one.http.put(one.path, json={"max_deliveries": 1})
    a, b = await group.publish("a", "b")
    await group.pull(max=2)
    await group.settle("nack", a, reason="no paper")
    await other.pull(max=2)
    await other.settle("nack", a, b)
    (job,) = await jobs(group, "dead")
    assert (job["topic"], job["data"], job["original"]) == (f"{group.topic}.dead", "a", a)
    assert (job["dead"]["group"], job["dead"]["reason"]) == ("g", "no paper")
    assert job["id"] != a
    await group.http.delete(f"/topics/{group.topic}.dead")
    assert await jobs(group, "dead") == []


@pytest.mark.parametrize("state", ["ready", "leased", "dead"])
async def test_pages_follow_each_other_in_the_order_of_the_log(group: Group, state: str) -> None:
    await group.http.put(group.path, json={"max_deliveries": 1})
    ids = await group.publish(*map(str, range(7)))
    taken = [] if state == "ready" else await group.pull(max=7)
    if state == "dead":
        await group.settle("nack", *reversed([job["id"] for job in taken]))
    pages, query = list[list[str]](), {"topic": group.topic, "group": "g", "state": state, "limit": "3"}
    while True:
        page = (await group.http.get("/jobs", params=query)).json()
        pages.append([job.get("original", job["id"]) for job in page["jobs"]])
        if page["next"] is None:
            break
        query["after"] = page["next"]
    assert list(map(len, pages)) == [3, 3, 1]
    assert [id for page in pages for id in page] == (ids[::-1] if state == "dead" else ids)


async def test_a_page_has_about_a_mebibyte_of_bodies_and_each_is_cut(group: Group) -> None:
    await group.http.put(group.path)
    bodies = ["x" * 65_535 + "\u00e9" + "y" * (200_000 - 65_537), "z" * 900_000, "short"]
    await group.publish(*bodies)
    query = {"topic": group.topic, "group": "g"}
    page = (await group.http.get("/jobs", params=query)).json()
    first, second = page["jobs"]
    assert (first["size"], first["truncated"], first["data"]) == (200_000, True, "x" * 65_535)
    assert (second["size"], second["data"]) == (900_000, "z" * 65_536)
    (third,) = (await group.http.get("/jobs", params={**query, "after": page["next"]})).json()["jobs"]
    assert (third["data"], "truncated" in third) == ("short", False)


async def test_what_is_not_text_comes_in_base64(group: Group) -> None:
    await group.http.put(group.path)
    await group.http.post(f"/topics/{group.topic}/messages", content=b"\xff")
    (job,) = await jobs(group)
    assert (job["data_base64"], "data" in job) == ("/w==", False)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("group=g", (400, "option_invalid")),
        ("topic={topic}", (400, "option_invalid")),
        ("topic={topic}&group=-", (400, "group_invalid")),
        ("topic={topic}&group=g&state=lost", (400, "option_invalid")),
        ("topic={topic}&group=g&limit=1001", (400, "option_invalid")),
        ("topic={topic}&topic={topic}&group=g", (400, "option_invalid")),
        ("topic={topic}&group=h", (404, "not_found")),
        ("topic={topic}.x&group=g", (404, "not_found")),
    ],
)
async def test_what_cannot_be_listed_is_refused(group: Group, query: str, expected: tuple[int, str]) -> None:
    await group.http.put(group.path)
    assert code(await group.http.get(f"/jobs?{query.format(topic=group.topic)}")) == expected
