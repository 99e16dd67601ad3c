"""`?priority=` and `?key=` of a publish: kept with the message, shown in its records, and followed by groups."""

import httpx
import pytest


async def publish(http: httpx.AsyncClient, topic: str, body: str, **options: str) -> httpx.Response:
    return await http.post(f"/topics/{topic}/messages", content=body, params=options)


async def pull(http: httpx.AsyncClient, topic: str) -> list[dict[str, object]]:
    jobs: list[dict[str, object]] = (await http.post(f"/topics/{topic}/groups/g/pull?max=10")).json()["messages"]
    return jobs


async def test_records_show_a_priority_and_a_key_that_were_set(http: httpx.AsyncClient, topic: str) -> None:
    for options in ({}, {"priority": "0"}, {"priority": "7"}, {"key": "order 7"}, {"priority": "1", "key": "k"}):
        assert (await publish(http, topic, "x", **options)).status_code == 201
    page = (await http.get(f"/topics/{topic}/messages")).json()["messages"]
    shown = [{name: message[name] for name in ("priority", "key") if name in message} for message in page]
    assert shown == [{}, {}, {"priority": 7}, {"key": "order 7"}, {"priority": 1, "key": "k"}]
    for lease, options in zip(sorted(await pull(http, topic), key=lambda job: str(job["id"])), shown, strict=True):
        assert {name: lease[name] for name in ("priority", "key") if name in lease} == options
    jobs = (await http.get(f"/jobs?topic={topic}&group=g&state=leased")).json()["jobs"]
    assert [{name: job[name] for name in ("priority", "key") if name in job} for job in jobs] == shown


async def test_a_group_follows_priorities_and_keys(http: httpx.AsyncClient, topic: str) -> None:
    await http.put(f"/topics/{topic}/groups/g")
    for body, options in (("a1", {"key": "a"}), ("a2", {"key": "a"}), ("b1", {"key": "b"}), ("top", {"priority": "9"})):
        await publish(http, topic, body, **options)
    jobs = await pull(http, topic)
    assert [job["data"] for job in jobs] == ["top", "a1", "b1"]
    await http.post(f"/topics/{topic}/groups/g/ack", json={"ids": [jobs[1]["lease"]]})
    assert [job["data"] for job in await pull(http, topic)] == ["a2"]


async def test_a_plain_publish_and_one_with_options_are_in_one_order(http: httpx.AsyncClient, topic: str) -> None:
    """Plain ones take the short way in."""
    for n, options in enumerate(({}, {"priority": "1"}, {}, {"priority": "1"})):
        await publish(http, topic, str(n), **options)
    assert [job["data"] for job in await pull(http, topic)] == ["1", "3", "0", "2"]


async def test_each_line_of_a_batch_has_the_options_of_the_request(http: httpx.AsyncClient, topic: str) -> None:
    fields = {"Content-Type": "application/x-ndjson"}
    options = {"priority": "3", "key": "k"}
    await http.post(f"/topics/{topic}/messages", content=b"1\n2\n3\n", headers=fields, params=options)
    page = (await http.get(f"/topics/{topic}/messages")).json()["messages"]
    assert [(message["priority"], message["key"]) for message in page] == [(3, "k")] * 3
    assert [job["data"] for job in await pull(http, topic)] == ["1"]


@pytest.mark.parametrize(
    "options",
    [{"priority": priority} for priority in ("10", "-1", "1.5", "high", "", "1e0")]
    + [{"key": key} for key in ("", "x" * 129, "größe", "a\tb", "a\nb")],
)
async def test_what_is_no_priority_or_key_is_refused(
    http: httpx.AsyncClient, topic: str, options: dict[str, str]
) -> None:
    answer = await publish(http, topic, "x", **options)
    assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")


async def test_what_is_scheduled_shows_and_keeps_them(http: httpx.AsyncClient, topic: str) -> None:
    options = {"priority": "4", "key": "k"}
    id = (await publish(http, topic, "later", delay="1h", **options)).json()["id"]
    record = (await http.get(f"/scheduled/{id}")).json()
    assert (record["priority"], record["key"]) == (4, "k")
    await http.post(f"/scheduled/{id}/publish")
    (message,) = (await http.get(f"/topics/{topic}/messages")).json()["messages"]
    assert (message["priority"], message["key"]) == (4, "k")


async def test_a_dead_message_one_that_is_redriven_and_a_copy_keep_them(http: httpx.AsyncClient, topic: str) -> None:
    group = f"/topics/{topic}/groups/g"
    await http.put(group, json={"max_deliveries": 1})
    id = (await publish(http, topic, "x", priority="4", key="k")).json()["id"]
    copied = await http.post(f"/topics/{topic}/messages/{id}/copy", params={"to": f"{topic}.copy"})
    assert copied.status_code == 201
    await http.post(f"{group}/nack", json={"ids": [(await pull(http, topic))[0]["lease"]]})
    for place in (f"{topic}.dead", f"{topic}.copy"):
        (message,) = (await http.get(f"/topics/{place}/messages")).json()["messages"]
        assert (message["priority"], message["key"]) == (4, "k")
    await publish(http, topic, "plain")
    await publish(http, topic, "next", key="k")
    assert (await http.post(f"{group}/redrive", json={"all": True})).json() == {"redriven": 1, "left": 0}
    assert [(job["data"], job.get("priority")) for job in await pull(http, topic)] == [("x", 4), ("plain", None)]


@pytest.mark.parametrize("ordering", ["priority=1", "key=k"])
@pytest.mark.parametrize("option", ["delivery=one", "retain=false"])
async def test_what_no_group_gets_has_neither_priority_nor_key(
    http: httpx.AsyncClient, topic: str, option: str, ordering: str
) -> None:
    answer = await http.post(f"/topics/{topic}/messages?{option}&{ordering}", content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")
    assert "no group gets" in answer.json()["detail"]
    assert (await http.get(f"/topics/{topic}")).status_code == 404
    assert (await http.post(f"/topics/{topic}/messages?{option}&priority=0", content=b"x")).status_code == 201
