"""`plainmq redrive`, `release`, `skip`, `purge`, `scheduled` and `subscribers`: what they do to a real server."""

import json
import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.web.api.redrive import MAX_RATE
from tests.cli.commands import messages, post, post_when_subscribed, run, running, texts
from tests.cli.window import window
from tests.harness import DEADLINE, ServerProcess, start_server


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with start_server(tcp_port=0) as process:
        yield process


def rows(output: bytes) -> list[list[str]]:
    return [line.split("\t") for line in output.decode().splitlines()]


def group(server: ServerProcess, topic: str, name: str = "g") -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.url}/topics/{topic}/groups/{name}").raise_for_status().json()
    return found


def make_group(server: ServerProcess, topic: str, name: str = "g", **settings: Any) -> None:
    httpx.put(f"{server.url}/topics/{topic}/groups/{name}", json=settings).raise_for_status()


def pull(server: ServerProcess, topic: str, count: int) -> list[dict[str, Any]]:
    answer = httpx.post(f"{server.url}/topics/{topic}/groups/g/pull", params={"max": count, "lease": "1h"})
    found: list[dict[str, Any]] = answer.raise_for_status().json()["messages"]
    return found


def nack(server: ServerProcess, topic: str, jobs: list[dict[str, Any]], **options: str) -> None:
    body = {"ids": [job["lease"] for job in jobs]}
    httpx.post(f"{server.url}/topics/{topic}/groups/g/nack", json=body, params=options).raise_for_status()


def dead(server: ServerProcess, topic: str, count: int) -> list[str]:
    """Dead messages of a group: the ids of the dead letters."""
    make_group(server, topic, max_deliveries=1)
    for number in range(count):
        post(server.url, topic, str(number))
    nack(server, topic, pull(server, topic, count))
    return [row[0] for row in rows(run("peek", topic, "g", "--state", "dead", url=server.url).stdout)]


# Redrive


def test_dead_messages_return_to_their_group_one_by_one_or_all(server: ServerProcess, topic: str) -> None:
    first, *others = dead(server, topic, 4)
    done = run("redrive", topic, "g", first, url=server.url)
    assert (done.returncode, rows(done.stdout), done.stderr) == (0, [[first, "done"]], b"")
    assert [job["data"] for job in pull(server, topic, 10)] == ["0"]
    done = run("redrive", topic, "g", first, others[0], url=server.url)
    assert (done.returncode, rows(done.stdout)) == (1, [[first, "unknown"], [others[0], "done"]])
    done = run("redrive", topic, "g", "--all", "--rate", "100", "--json", url=server.url)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"redriven": 2, "left": 0, "results": {}})
    assert json.loads(run("redrive", topic, "g", "--all", "--json", url=server.url).stdout)["redriven"] == 0
    assert texts(server, topic) == ["0", "1", "2", "3"]  # nobody else sees them again


def test_without_ids_it_says_where_they_are_shown(server: ServerProcess, topic: str) -> None:
    for words in ([], ["x-1", "--all"]):
        done = run("redrive", topic, "g", *words, url=server.url)
        assert done.returncode == 2
        assert f"`plainmq peek {topic} g --state dead` shows the ids" in done.stderr.decode()
    dead(server, topic, 1)
    done = run("redrive", topic, "gg", "--all", url=server.url)
    assert done.stderr.decode() == f"Error: topic '{topic}' has no group 'gg'; did you mean 'g'?\n"


# Release and skip


def test_a_leased_and_a_delayed_message_are_ready_at_once(server: ServerProcess, topic: str) -> None:
    make_group(server, topic)
    ids = [post(server.url, topic, body)["id"] for body in ("leased", "delayed")]
    nack(server, topic, pull(server, topic, 2)[1:], delay="1h")
    done = run("release", topic, "g", *ids, url=server.url)
    assert (done.returncode, rows(done.stdout)) == (0, [[id, "done"] for id in ids])
    assert (group(server, topic)["ready"], group(server, topic)["leased"]) == (2, 0)
    httpx.post(f"{server.url}/topics/{topic}/groups/g/ack", json={"ids": [pull(server, topic, 1)[0]["lease"]]})
    again = run("release", topic, "g", *ids, "--json", url=server.url)
    assert again.returncode == 1
    results = [json.loads(line) for line in again.stdout.splitlines()]
    assert results == [{"id": ids[0], "result": results[0]["result"]}, {"id": ids[1], "result": "done"}]
    assert results[0]["result"] != "done"


def test_a_skipped_message_is_never_handed_out(server: ServerProcess, topic: str) -> None:
    make_group(server, topic)
    ids = [post(server.url, topic, body)["id"] for body in ("a", "b", "c")]
    assert run("skip", topic, "g", ids[1], url=server.url).returncode == 0
    assert [job["data"] for job in pull(server, topic, 10)] == ["a", "c"]
    assert run("skip", topic, "g", ids[1].replace("-", "x-"), url=server.url).returncode == 1


# Seek


def test_a_group_goes_back_and_leaps_forward(server: ServerProcess, topic: str) -> None:
    make_group(server, topic)
    ids = [post(server.url, topic, body)["id"] for body in ("a", "b", "c")]
    assert dict(rows(run("group", topic, "g", "--seek", ids[1], url=server.url).stdout))["ready"] == "1"
    assert dict(rows(run("group", topic, "g", "--seek", "earliest", url=server.url).stdout))["ready"] == "3"
    assert dict(rows(run("group", topic, "g", "--seek", "latest", url=server.url).stdout))["ready"] == "0"


# Purge


def test_a_purge_without_a_terminal_needs_yes(server: ServerProcess, topic: str) -> None:
    make_group(server, topic)
    ids = [post(server.url, topic, body)["id"] for body in ("a", "b", "c")]
    done = run("purge", topic, url=server.url)
    assert done.returncode == 2
    assert "give --yes" in done.stderr.decode()
    assert texts(server, topic) == ["a", "b", "c"]
    done = run("purge", topic, "--before", ids[2], "--yes", url=server.url)
    assert (done.returncode, rows(done.stdout)) == (0, [["purged", "2"]])
    assert texts(server, topic) == ["c"]
    done = run("purge", topic, "--yes", "--json", url=server.url)
    assert json.loads(done.stdout) == {"topic": topic, "group": None, "purged": 1}
    assert (messages(server, topic), group(server, topic)["lag"]) == ([], 0)


@pytest.mark.parametrize("right", [True, False])
def test_a_person_types_the_name_of_the_topic_to_purge_it(server: ServerProcess, topic: str, right: bool) -> None:
    for body in ("a", "b"):
        post(server.url, topic, body)
    with window("purge", topic, url=server.url, TERM="dumb", columns=200) as terminal:
        terminal.shows(f"This deletes 2 messages of the topic {topic}. Type its name to go on: ")
        os.write(terminal.ours, f"{topic if right else topic[:-1]}\n".encode())
        assert terminal.process.wait(DEADLINE) == (0 if right else 1)
        terminal.shows("purged  2" if right else "Error: that is not its name: nothing was deleted")
    assert texts(server, topic) == ([] if right else ["a", "b"])


def test_a_purge_of_a_group_keeps_the_messages_of_the_topic(server: ServerProcess, topic: str) -> None:
    for name in ("g", "other"):
        make_group(server, topic, name)
    for body in ("a", "b"):
        post(server.url, topic, body)
    done = run("purge", topic, "--group", "g", "--yes", "--json", url=server.url)
    assert json.loads(done.stdout) == {"topic": topic, "group": "g", "purged": 2}
    assert (group(server, topic)["lag"], group(server, topic, "other")["lag"]) == (0, 2)
    assert texts(server, topic) == ["a", "b"]
    assert run("purge", topic, "--group", "g", "--before", "x-1", "--yes", url=server.url).returncode == 2


def test_a_mistyped_topic_is_not_asked_for(server: ServerProcess, topic: str) -> None:
    post(server.url, topic, "a")
    with window("purge", f"{topic}x", url=server.url, TERM="dumb") as terminal:
        assert terminal.process.wait(DEADLINE) == 1
        terminal.shows(f"did you mean '{topic}'?")


# Scheduled


def test_what_is_scheduled_is_listed_cancelled_and_published(server: ServerProcess, topic: str) -> None:
    answers = [
        json.loads(run("publish", topic, body, "--delay", delay, "--json", url=server.url).stdout)
        for body, delay in (("later", "2h"), ("soon", "1h"), ("never", "3h"))
    ]
    later, soon, never = (answer["id"] for answer in answers)
    listed = rows(run("scheduled", topic, url=server.url).stdout)
    assert [(row[0], row[2], row[3], row[5]) for row in listed] == [
        (soon, topic, "1", "soon"), (later, topic, "1", "later"), (never, topic, "1", "never"),
    ]  # fmt: skip
    assert rows(run("scheduled", "--now", later, url=server.url).stdout) == [[later, "done"]]
    assert rows(run("scheduled", "--cancel", never, "--cancel", soon, url=server.url).stdout) == [
        [never, "done"], [soon, "done"],
    ]  # fmt: skip
    again = run("scheduled", "--cancel", never, url=server.url)
    assert (again.returncode, rows(again.stdout)) == (1, [[never, "unknown"]])
    assert texts(server, topic) == ["later"]
    done = run("scheduled", topic, url=server.url)
    assert done.stderr.decode() == f"there are no scheduled messages that {topic} matches\n"
    assert run("scheduled", "--cancel", "a", "--now", "b", url=server.url).returncode == 2


def test_the_messages_of_a_scheduled_batch_are_listed(server: ServerProcess, topic: str) -> None:
    batch = "\n".join(map(str, range(1_500))).encode()
    headers = {"Content-Type": "application/x-ndjson"}
    answer = httpx.post(f"{server.url}/topics/{topic}/messages?delay=1h", content=batch, headers=headers)
    id = answer.raise_for_status().json()["id"]
    shown = rows(run("scheduled", "--show", id, url=server.url).stdout)
    assert [(row[0], row[2]) for row in shown] == [(str(number + 1), str(number)) for number in range(1_500)]
    some = run("scheduled", "--show", id, "--limit", "2", "--json", url=server.url)
    assert [json.loads(line)["data"] for line in some.stdout.splitlines()] == ["0", "1"]
    assert b"--limit shows more" in some.stderr
    gone = run("scheduled", "--show", id.replace("-d", "-d9"), url=server.url)
    assert (gone.returncode, b"there is no scheduled publish" in gone.stderr) == (1, True)
    both = run("scheduled", "--show", id, "--now", id, url=server.url)
    assert (both.returncode, b"--show" in both.stderr) == (2, True)


# Subscribers


def test_subscribers_are_listed(server: ServerProcess, topic: str) -> None:
    with running("subscribe", topic, "other.*", url=server.url):
        post_when_subscribed(server.url, topic, "x")
        ((who, kind, _, topics, *_),) = rows(run("subscribers", topic, url=server.url).stdout)
        assert (who, kind, topics) == ("127.0.0.1", "stream", topic)
        (record,) = run("subscribers", topic, "--json", url=server.url).stdout.splitlines()
        assert json.loads(record)["state"] == "live"


def test_the_rate_of_a_redrive_has_the_server_s_bound(server: ServerProcess, topic: str) -> None:
    assert f"at most {MAX_RATE:,}" in " ".join(run("redrive", "--help").stdout.decode().split())
    make_group(server, topic)
    refused = run("redrive", topic, "g", "--all", "--rate", str(MAX_RATE + 1), url=server.url)
    assert (refused.returncode, f"from 1 to {MAX_RATE}".encode() in refused.stderr) == (1, True)


def test_a_redrive_to_a_paused_topic_says_what_to_type(server: ServerProcess, topic: str) -> None:
    letters = dead(server, topic, 1)
    httpx.post(f"{server.url}/topics/{topic}/pause").raise_for_status()
    refused = run("redrive", topic, "g", *letters, url=server.url)
    assert (refused.returncode, f"`plainmq topic {topic} --resume`".encode() in refused.stderr) == (1, True)
