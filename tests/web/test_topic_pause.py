"""POST /topics/{topic}/pause and /resume: a topic that accepts nothing, until it is resumed."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness import ServerProcess, start_server
from tests.line_client import lines

BATCH = {"Content-Type": "application/x-ndjson"}


async def state(http: httpx.AsyncClient, topic: str) -> dict[str, Any]:
    found: dict[str, Any] = (await http.get(f"/topics/{topic}")).json()
    return found


async def paused(http: httpx.AsyncClient, topic: str) -> str:
    """A topic of one message that is paused."""
    await http.post(f"/topics/{topic}/messages", content=b"before")
    answer = await http.post(f"/topics/{topic}/pause")
    assert (answer.status_code, answer.json()["paused"]) == (200, True)
    return f"/topics/{topic}/messages"


@pytest.mark.parametrize(
    ("query", "headers"), [("", {}), ("", BATCH), ("?delay=1h", {}), ("?retain=false", {}), ("", {"ce-id": "1"})]
)
async def test_a_paused_topic_refuses_every_publish_and_stores_nothing(
    http: httpx.AsyncClient, topic: str, query: str, headers: dict[str, str]
) -> None:
    path = await paused(http, topic)
    for _ in range(3):
        answer = await http.post(f"{path}{query}", content=b"x", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (503, "topic_paused")
        assert int(answer.headers["retry-after"]) > 0
    shown = await state(http, topic)
    assert (shown["messages"], shown["delayed"], shown["paused"]) == (1, 0, True)


async def test_a_resumed_topic_accepts_publishes_and_both_can_be_repeated(http: httpx.AsyncClient, topic: str) -> None:
    path = await paused(http, topic)
    assert (await http.post(f"/topics/{topic}/pause")).json()["paused"] is True
    for _ in range(2):
        assert (await http.post(f"/topics/{topic}/resume")).json()["paused"] is False
    assert (await http.post(path, content=b"x")).status_code == 201


async def test_a_duplicate_publish_gets_its_answer_and_earlier_messages_are_delivered(
    http: httpx.AsyncClient, topic: str
) -> None:
    key = {"Idempotency-Key": "k"}
    first = await http.post(f"/topics/{topic}/messages", content=b"x", headers=key)
    await http.post(f"/topics/{topic}/pause")
    again = await http.post(f"/topics/{topic}/messages", content=b"x", headers=key)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert len((await http.get(f"/topics/{topic}/messages")).json()["messages"]) == 1
    assert len((await http.post(f"/topics/{topic}/groups/g/pull")).json()["messages"]) == 1


async def test_what_is_scheduled_stays_scheduled(http: httpx.AsyncClient, topic: str) -> None:
    scheduled = await http.post(f"/topics/{topic}/messages?delay=1h", content=b"x")
    await http.post(f"/topics/{topic}/pause")
    path = f"/scheduled/{scheduled.json()['id']}"
    assert (await http.post(f"{path}/publish")).json()["code"] == "topic_paused"
    await http.post(f"/topics/{topic}/resume")
    assert (await http.post(f"{path}/publish")).status_code == 200


async def test_what_was_due_meanwhile_comes_when_the_topic_is_resumed(http: httpx.AsyncClient, topic: str) -> None:
    path = await paused(http, topic)
    await http.post(f"/topics/{topic}/resume")
    before = (await http.get(path)).json()["next"]
    (await http.post(f"{path}?delay=10ms", content=b"late")).raise_for_status()
    await http.post(f"/topics/{topic}/pause")
    await http.post(f"/topics/{topic}/groups/g/pull", params={"wait": "50ms"})  # longer than the delay
    await http.post(f"/topics/{topic}/resume")
    page = await http.get(path, params={"since": before, "wait": "5s"})
    assert [message["data"] for message in page.json()["messages"]] == ["late"]


async def test_what_dies_waits_in_its_group_while_the_dead_letter_topic_is_paused(
    http: httpx.AsyncClient, topic: str
) -> None:
    await paused(http, f"{topic}.dead")
    await http.post(f"/topics/{topic}/messages", content=b"x")
    await http.put(f"/topics/{topic}/groups/g", json={"max_deliveries": 1})
    (job,) = (await http.post(f"/topics/{topic}/groups/g/pull")).json()["messages"]
    await http.post(f"/topics/{topic}/groups/g/nack", json={"ids": [job["id"]]})
    group = (await http.get(f"/topics/{topic}/groups/g")).json()
    assert (group["dead"], group["dead_letters"]["waiting"]) == (0, 1)


@pytest.mark.parametrize("below", ["pause", "resume", "messages/x-1/copy"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_another_method_is_refused_there_and_makes_no_topic(
    http: httpx.AsyncClient, topic: str, below: str, method: str
) -> None:
    answer = await http.request(method, f"/topics/{topic}/{below}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    listed = await http.get("/topics", params={"match": f"{topic}/**"})
    assert listed.json()["topics"] == []


async def test_a_topic_that_is_not_there_cannot_be_paused(http: httpx.AsyncClient, topic: str) -> None:
    for verb in ("pause", "resume"):
        assert (await http.post(f"/topics/{topic}/{verb}")).status_code == 404


async def test_a_deleted_topic_is_not_paused_when_it_comes_again(http: httpx.AsyncClient, topic: str) -> None:
    path = await paused(http, topic)
    await http.delete(f"/topics/{topic}")
    assert (await http.post(path, content=b"x")).status_code == 201


async def test_a_line_client_gets_a_gap(server: ServerProcess, http: httpx.AsyncClient, topic: str) -> None:
    await paused(http, topic)
    async with lines(server) as peer:
        peer.send(f"pub {topic} x")
        assert (await peer.next()).startswith(b"ERR topic_paused ")


async def test_a_topic_stays_paused_over_a_restart(tmp_path: Path) -> None:
    for code in (200, 503):
        with start_server("--engine", f"sqlite:///{tmp_path}/log.db") as server:
            async with httpx.AsyncClient(base_url=server.url) as http:
                if code == 200:
                    await paused(http, "a")
                assert (await http.post("/topics/a/messages", content=b"x")).status_code == 503
                assert (await state(http, "a"))["paused"] is True


# A message is copied to another topic


async def test_a_copy_has_what_the_message_has_and_a_place_of_its_own(http: httpx.AsyncClient, topic: str) -> None:
    headers = {"Content-Type": "image/x", "X-Plainmq-Title": "cat"}
    first = await http.post(
        f"/topics/{topic}/messages", content=b"\xff", headers=headers, params={"event": "e", "ttl": "1h"}
    )
    path = f"/topics/{topic}/messages/{first.json()['id']}/copy"
    answer = await http.post(path, params={"to": f"{topic}.copy"})
    assert (answer.status_code, answer.json()["topic"], answer.json()["index"]) == (201, f"{topic}.copy", 0)
    copies = (await http.get(f"/topics/{topic}.copy/messages")).json()["messages"]
    originals = (await http.get(f"/topics/{topic}/messages")).json()["messages"]
    differ = {"id", "topic", "time"}
    assert [{name: one[name] for name in one.keys() - differ} for one in copies] == [
        {name: one[name] for name in one.keys() - differ} for one in originals
    ]
    assert copies[0]["id"] == answer.json()["id"] != originals[0]["id"]


async def test_a_copy_that_is_repeated_with_its_key_is_made_once(http: httpx.AsyncClient, topic: str) -> None:
    id = (await http.post(f"/topics/{topic}/messages", content=b"x")).json()["id"]
    path, key = f"/topics/{topic}/messages/{id}/copy?to={topic}.copy", {"Idempotency-Key": "k"}
    assert [(await http.post(path, headers=key)).status_code for _ in range(2)] == [201, 200]
    assert (await state(http, f"{topic}.copy"))["messages"] == 1


@pytest.mark.parametrize(("to", "status"), [("", 400), ("?to=a..b", 400), ("?to=a.*", 400), ("?to=a&to=b", 400)])
async def test_a_copy_needs_one_topic_to_go_to(http: httpx.AsyncClient, topic: str, to: str, status: int) -> None:
    id = (await http.post(f"/topics/{topic}/messages", content=b"x")).json()["id"]
    assert (await http.post(f"/topics/{topic}/messages/{id}/copy{to}")).status_code == status
    assert (await http.post(f"/topics/{topic}/messages/x-1/copy?to={topic}")).status_code == 404
