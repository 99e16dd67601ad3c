"""The Python client does what an operator does."""

from collections.abc import Iterator

import pytest

from app import Client, NotFound, Scheduled
from tests.harness import ServerProcess

GROUP = "crew"


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def give_up(client: Client, topic: str, *bodies: str) -> list[str]:
    """The ids of messages that are dead now."""
    client.set_group(topic, GROUP, max_deliveries=1)
    ids = [client.publish(topic, body).id for body in bodies]
    client.nack(topic, GROUP, list(client.pull(topic, GROUP, max=len(bodies))), reason="no paper")
    return ids


def test_dead_messages_are_found_and_put_back(client: Client, topic: str) -> None:
    ids = give_up(client, topic, "a", "b", "c")
    page = client.jobs(topic, GROUP, "dead", limit=2)
    assert [(job.text, job.original, job.dead.reason if job.dead else "") for job in page] == [
        ("a", ids[0], "no paper"), ("b", ids[1], "no paper")
    ]  # fmt: skip
    (last,) = client.jobs(topic, GROUP, "dead", after=page.next)
    some = client.redrive(topic, GROUP, last.id)
    assert (some.redriven, some.left, some.results) == (1, 2, {last.id: "done"})
    assert client.redrive(topic, GROUP, [last.id]).results == {last.id: "unknown"}
    every = client.redrive(topic, GROUP, rate=1_000)
    assert (every.redriven, every.left, every.results) == (2, 0, {})
    jobs = [job for _ in range(3) for job in client.pull(topic, GROUP, wait="5s", max=1)]
    assert [(job.text, job.attempt, job.original) for job in jobs] == [
        ("c", 1, ids[2]), ("a", 1, ids[0]), ("b", 1, ids[1])
    ]  # fmt: skip


def test_a_job_is_released_and_a_message_skipped(client: Client, topic: str) -> None:
    ids = [client.publish(topic, body).id for body in ("a", "b")]
    (job,) = client.pull(topic, GROUP, max=1)
    assert client.release(topic, GROUP, job) == {job.lease: "done"}
    assert client.skip(topic, GROUP, ids) == dict.fromkeys(ids, "done")
    state = client.group(topic, GROUP)
    assert (state.ready, state.leased, state.skipped) == (0, 0, 2)


def test_a_group_is_sent_back_and_paused(client: Client, topic: str) -> None:
    id = client.publish(topic, "a").id
    client.ack(topic, GROUP, list(client.pull(topic, GROUP)))
    assert client.seek(topic, GROUP, "earliest").ready == 1
    assert client.seek(topic, GROUP, id).position == id
    assert client.pause_group(topic, GROUP).paused
    client.publish(topic, "b")
    assert len(client.pull(topic, GROUP)) == 0
    assert not client.resume_group(topic, GROUP).paused
    assert [job.text for job in client.pull(topic, GROUP)] == ["b"]


def test_the_messages_of_a_scheduled_batch_are_read_page_by_page(client: Client, topic: str) -> None:
    answer = client.publish_batch(topic, ["a", "b", "c"], delay="1h")
    assert isinstance(answer, Scheduled)
    first = client.scheduled_messages(answer.id, limit=2)
    assert ([message.text for message in first], first.next) == (["a", "b"], 2)
    last = client.scheduled_messages(answer.id, after=first.next)
    assert ([(message.number, message.text) for message in last], last.next) == ([(3, "c")], None)


def test_a_topic_is_purged(client: Client, topic: str) -> None:
    ids = [client.publish(topic, body).id for body in "abc"]
    assert client.purge(topic, before=ids[1]) == 1
    assert client.purge(topic) == 2
    with pytest.raises(NotFound):
        client.purge(f"{topic}.other")
