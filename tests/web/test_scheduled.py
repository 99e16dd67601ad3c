"""What is published with a delay or at a time: it can be listed, looked at, published now and cancelled."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.access.conftest import Guarded, guarded
from tests.harness import start_server


def at(**ahead: float) -> str:
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat()


async def schedule(http: httpx.AsyncClient, topic: str, content: bytes = b"x", **query: Any) -> dict[str, Any]:
    query = query or {"delay": "1h"}
    headers = {"Content-Type": "application/x-ndjson"} if b"\n" in content else {"X-Plainmq-Title": "later"}
    answer = await http.post(f"/topics/{topic}/messages", content=content, params=query, headers=headers)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/scheduled/{answer.json()['id']}"
    found: dict[str, Any] = answer.json()
    return found


async def texts(http: httpx.AsyncClient, topic: str) -> list[str]:
    page = await http.get(f"/topics/{topic}/messages", params={"wait": "1ms"})
    return [message["data"] for message in page.json()["messages"]]


async def test_what_is_scheduled_is_listed_by_its_due_time_in_pages(http: httpx.AsyncClient, topic: str) -> None:
    for name, hours in (("c", 3), ("a", 1), ("d", 24 * 365), ("b", 2)):
        await schedule(http, f"{topic}.{name}", name.encode(), at=at(hours=hours))
    await schedule(http, f"elsewhere.{topic}")
    query: dict[str, Any] = {"match": f"{topic}.*", "limit": 3}
    first = (await http.get("/scheduled", params=query)).json()
    second = (await http.get("/scheduled", params=query | {"after": first["next"]})).json()
    assert [[one["data"] for one in page["scheduled"]] for page in (first, second)] == [["a", "b", "c"], ["d"]]
    assert second["next"] is None


async def test_one_is_shown_with_what_is_known_of_it(http: httpx.AsyncClient, topic: str) -> None:
    answer = await schedule(http, topic, b"tea", delay="1h", event="e", ttl="1d", delivery="one")
    shown = (await http.get(f"/scheduled/{answer['id']}")).json()
    assert shown == {
        "id": answer["id"], "topic": topic, "due": answer["due"], "scheduled": 1, "size": 3, "event": "e",
        "content_type": "text/plain; charset=utf-8", "delivery": "one", "ttl": "1d", "headers": {"title": "later"},
        "data": "tea", "messages": [{"number": 1, "size": 3, "data": "tea"}], "next": None,
    }  # fmt: skip


async def test_of_a_batch_the_first_body_is_shown_and_of_a_long_one_the_beginning(
    http: httpx.AsyncClient, topic: str
) -> None:
    batch = await schedule(http, topic, b"1\n22\n", delay="1h")
    shown = (await http.get(f"/scheduled/{batch['id']}")).json()
    assert (shown["scheduled"], shown["size"], shown["data"]) == (2, 3, "1")
    long = await schedule(http, topic, "é".encode() * 40_000, delay="1h")
    shown = (await http.get(f"/scheduled/{long['id']}")).json()
    assert (shown["size"], shown["truncated"], shown["data"]) == (80_000, True, "é" * 32_768)


async def test_one_can_be_published_now(http: httpx.AsyncClient, topic: str) -> None:
    id = (await schedule(http, topic, b"now"))["id"]
    answer = await http.post(f"/scheduled/{id}/publish")
    receipt = answer.json()
    assert (answer.status_code, receipt["topic"], receipt["index"]) == (200, topic, 0)
    assert answer.headers["location"] == f"/topics/{topic}/messages/{receipt['id']}"
    (message,) = (await http.get(f"/topics/{topic}/messages")).json()["messages"]
    assert (message["id"], message["data"], message["headers"]) == (receipt["id"], "now", {"title": "later"})
    assert (await http.get(f"/topics/{topic}")).json()["delayed"] == 0
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/publish")):
        assert (await http.request(method, f"/scheduled/{id}{path}")).status_code == 404


async def test_one_that_is_cancelled_never_comes(http: httpx.AsyncClient, topic: str) -> None:
    first, second = [(await schedule(http, topic, body))["id"] for body in (b"1\n2\n", b"3")]
    assert (await http.delete(f"/scheduled/{first}")).status_code == 204
    assert (await http.delete(f"/scheduled/{first}")).status_code == 404
    assert (await http.get(f"/topics/{topic}")).json()["delayed"] == 1
    assert (await http.post(f"/scheduled/{second}/publish")).status_code == 200
    assert await texts(http, topic) == ["3"]


async def test_a_publish_that_finds_no_room_stays_scheduled(http: httpx.AsyncClient, topic: str) -> None:
    id = (await schedule(http, topic))["id"]
    await http.put(f"/topics/{topic}", json={"max_messages": 1})
    await http.put(f"/topics/{topic}/groups/g")
    await http.post(f"/topics/{topic}/messages", content=b"first")
    assert (await http.post(f"/scheduled/{id}/publish")).status_code == 507
    assert (await http.get(f"/scheduled/{id}")).status_code == 200
    (job,) = (await http.post(f"/topics/{topic}/groups/g/pull")).json()["messages"]
    await http.post(f"/topics/{topic}/groups/g/ack", json={"ids": [job["id"]]})
    assert (await http.post(f"/scheduled/{id}/publish")).status_code == 200
    assert await texts(http, topic) == ["x"]


async def test_a_time_that_is_past_is_due_at_once(http: httpx.AsyncClient, topic: str) -> None:
    await schedule(http, topic, b"late", at="2001-01-01T00:00:00Z")
    page = await http.get(f"/topics/{topic}/messages", params={"wait": "10s"})
    assert [message["data"] for message in page.json()["messages"]] == ["late"]


@pytest.mark.parametrize(
    "query",
    [
        {"at": "tomorrow"},
        {"at": "2026-01-31"},
        {"at": at(days=367)},
        {"delay": "367d"},
        {"at": at(hours=1), "delay": "1h"},
    ],
)
async def test_a_time_that_cannot_be_is_refused(http: httpx.AsyncClient, topic: str, query: dict[str, str]) -> None:
    answer = await http.post(f"/topics/{topic}/messages", content=b"x", params=query)
    assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")


@pytest.mark.parametrize("id", ["k3f9a2-1", "k3f9a2-d", "K-d1", "d1"])
async def test_what_is_no_id_of_a_scheduled_publish_is_refused(http: httpx.AsyncClient, id: str) -> None:
    assert (await http.get(f"/scheduled/{id}")).status_code == 400


async def test_numbers_do_not_repeat_and_what_is_scheduled_outlives_a_restart(tmp_path: Any) -> None:
    ids: list[str] = []
    for round_ in range(3):
        with start_server("--engine", f"sqlite:///{tmp_path}/log.db") as server:
            async with httpx.AsyncClient(base_url=server.url) as http:
                listed = (await http.get("/scheduled")).json()["scheduled"]
                assert [one["id"] for one in listed] == ids[:1]
                ids += [(await schedule(http, "a"))["id"] for _ in range(2)]
                for id in ids[-2 if round_ else -1 :]:
                    assert (await http.delete(f"/scheduled/{id}")).status_code == 204
    assert len(set(ids)) == 6


async def test_a_viewer_sees_no_body_and_a_client_without_the_right_sees_nothing(tmp_path: Any, topic: str) -> None:
    with guarded(tmp_path, "own protocol") as server:
        async with httpx.AsyncClient(base_url=server.process.url) as http:
            id = (await _scheduled_by(http, server, topic))["id"]
            seen = await _asked(http, server, f"/scheduled/{id}", view=[topic])
            assert not {"data", "headers"} & seen.json().keys()
            seen = await _asked(http, server, f"/scheduled/{id}", view=[topic], subscribe=[topic])
            assert seen.json()["data"] == "x"
            denied = await _asked(http, server, f"/scheduled/{id}", view=["other"], subscribe=[topic])
            missing = await _asked(http, server, f"/scheduled/{id}7", view=["other"])
            assert denied.status_code == missing.status_code == 404
            assert missing.text.replace(f"{id}7", id) == denied.text


async def _scheduled_by(http: httpx.AsyncClient, server: Guarded, topic: str) -> dict[str, Any]:
    http.headers["Authorization"] = f"Bearer {server.good}"
    return await schedule(http, topic)


async def _asked(http: httpx.AsyncClient, server: Guarded, path: str, **rights: list[str]) -> httpx.Response:
    token = server.token("-".join([*rights, str(len(path)), *rights.get("view", [])]), **rights)
    return await http.get(path, headers={"Authorization": f"Bearer {token}"})


async def test_the_key_of_a_cancelled_publish_is_forgotten(tmp_path: Any) -> None:
    later: dict[str, Any] = {"headers": {"Idempotency-Key": "k"}, "params": {"delay": "1h"}, "content": b"x"}
    for engine in ("memory", f"sqlite:///{tmp_path}/log.db"):
        with start_server("--engine", engine) as server:
            async with httpx.AsyncClient(base_url=server.url) as http:
                first = (await http.post("/topics/a/messages", **later)).json()
                assert (await http.post("/topics/a/messages", **later)).json() == first | {"duplicate": True}
                assert (await http.delete(f"/scheduled/{first['id']}")).status_code == 204
                again = (await http.post("/topics/a/messages", **later)).json()
                assert (await http.get(f"/scheduled/{again['id']}")).json()["data"] == "x"
                assert (await http.get(f"/scheduled/{first['id']}")).status_code == 404


BATCH = {"Content-Type": "application/x-ndjson"}


async def test_a_batch_is_shown_message_by_message_in_pages(http: httpx.AsyncClient, topic: str) -> None:
    body = b"one\n\xff2\n" + b"3" * 70_000
    answer = await http.post(f"/topics/{topic}/messages?delay=1h", content=body, headers=BATCH)
    path = f"/scheduled/{answer.json()['id']}"
    first = (await http.get(path, params={"limit": 2})).json()
    assert (first["scheduled"], first["size"], first["next"]) == (3, 70_005, 2)
    assert first["messages"] == [
        {"number": 1, "size": 3, "data": "one"}, {"number": 2, "size": 2, "data_base64": "/zI="}
    ]  # fmt: skip
    rest = (await http.get(path, params={"after": 2})).json()
    (last,) = rest["messages"]
    assert (last["number"], last["size"], len(last["data"]), last["truncated"]) == (3, 70_000, 1 << 16, True)
    assert rest["next"] is None
    (listed,) = (await http.get("/scheduled", params={"match": topic})).json()["scheduled"]
    assert (listed["scheduled"], "messages" in listed) == (3, False)


async def test_a_page_of_a_batch_is_bounded_in_bytes(http: httpx.AsyncClient, topic: str) -> None:
    body = b"\n".join([b"x" * 70_000] * 30)
    answer = await http.post(f"/topics/{topic}/messages?delay=1h", content=body, headers=BATCH)
    page = (await http.get(f"/scheduled/{answer.json()['id']}")).json()
    assert len(page["messages"]) == page["next"] == 16
