"""`plainmq export` and `plainmq import`, run as a shell runs them."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.client import AsyncClient, Gap
from tests.cli.commands import messages, post, run, running, texts
from tests.harness import DEADLINE, ServerProcess, free_port, http_client, start_server

ENGINES = ("memory", "sqlite")
LINE = '{{"id":"x-{0}","topic":"{1}","index":0,"time":"","event":null,"content_type":"text/plain","data":"{0}"}}'


def flags(engine: str, folder: Path) -> list[str]:
    return ["--engine", "memory" if engine == "memory" else f"sqlite:{folder / 'log.db'}"]


@pytest.fixture(scope="module", params=ENGINES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server of each engine for all: use a topic of your own."""
    with start_server(*flags(request.param, tmp_path_factory.mktemp("log")), tcp_port=0) as process:
        yield process


@pytest.fixture
def fresh() -> Iterator[ServerProcess]:
    """A server nobody has published to."""
    with start_server(tcp_port=0) as process:
        yield process


def page(server: ServerProcess, topic: str) -> bytes:
    """What a single page shows, as lines."""
    url = f"{server.url}/topics/{topic}/messages"
    return httpx.get(url, params={"limit": 1000}, headers={"Accept": "application/x-ndjson"}).content


def batch(server: ServerProcess, topic: str, count: int) -> None:
    body = "\n".join(map(str, range(count)))
    httpx.post(f"{server.url}/topics/{topic}/messages", content=body, headers={"Content-Type": "application/x-ndjson"})


def parts(message: dict[str, Any]) -> list[Any]:
    return [
        message.get(name)
        for name in ("topic", "event", "content_type", "headers", "priority", "key", "data", "data_base64")
    ]


def counters(said: bytes) -> list[int]:
    """How many were stored, and how many were known."""
    return [int(number) for number in re.findall(rb"\d+", said.splitlines()[-1])]


# Export


def test_lines_are_those_of_the_server(server: ServerProcess, topic: str) -> None:
    for name in ("a", "b/c"):
        post(server.url, f"{topic}/{name}", f"to {name}\n")
    httpx.post(f"{server.url}/topics/{topic}/a/messages?event=price", content=bytes(range(256)))
    done = run("export", "--topic", f"{topic}/**", url=server.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, page(server, f"{topic}/**"), b"")
    assert len(done.stdout.splitlines()) == 3


def test_without_a_topic_it_is_the_whole_log_in_its_order(fresh: ServerProcess) -> None:
    for number in range(10):
        post(fresh.url, "ab"[number % 2], str(number))
    done = run("export", url=fresh.url)
    assert [json.loads(line)["data"] for line in done.stdout.splitlines()] == [*map(str, range(10))]
    assert done.stdout == page(fresh, "**")


def test_of_several_topics_each_message_is_written_once_in_the_order_of_the_log(
    server: ServerProcess, topic: str
) -> None:
    for number in range(9):
        post(server.url, f"{topic}.{'abc'[number % 3]}", str(number))
    chosen = [f"{topic}.c", f"{topic}.*", f"{topic}.a"]
    done = run("export", *(word for name in chosen for word in ("--topic", name)), url=server.url)
    assert done.stdout == page(server, f"{topic}.*")


def test_since_chooses_where_it_begins(server: ServerProcess, topic: str) -> None:
    for number in range(5):
        post(server.url, topic, str(number))
    done = run("export", "--topic", topic, "--since", "last:2", url=server.url)
    assert [json.loads(line)["data"] for line in done.stdout.splitlines()] == ["3", "4"]


async def test_it_reads_page_after_page_and_ends_where_the_log_was_when_it_began(
    server: ServerProcess, topic: str
) -> None:
    for name in ("a", "b", "c"):
        batch(server, f"{topic}.{name}", 900)
    found: list[str] = []
    async with AsyncClient(server.url) as client, client.export(f"{topic}.*") as items:
        async for item in items:
            if not found or len(found) == 1_500:
                await client.publish(f"{topic}.d", b"too late")
            found.append(json.loads(item.text)["data"])
    assert found == [*map(str, range(900))] * 3


async def test_what_retention_takes_meanwhile_is_a_gap(server: ServerProcess, topic: str) -> None:
    gaps: list[Gap] = []
    found: list[int] = []
    async with (
        http_client(server.url) as http,
        AsyncClient(server.url) as client,
        client.export(topic, on_gap=gaps.append) as items,
    ):
        await http.put(f"/topics/{topic}", json={"max_messages": 2_000})
        batch(server, topic, 1_900)
        async for item in items:
            if not found:
                await http.put(f"/topics/{topic}", json={"max_messages": 10})
            found.append(int(json.loads(item.text)["data"]))
    assert found == [*range(1_000), *range(1_890, 1_900)]
    assert [gap.reason for gap in gaps] == ["trimmed"]


def test_a_gap_is_a_sentence_on_standard_error(server: ServerProcess, topic: str) -> None:
    post(server.url, topic, "x")
    done = run("export", "--topic", topic, "--since", "other-1", url=server.url)
    assert (done.returncode, done.stdout) == (0, page(server, topic))
    assert done.stderr.startswith(b"Gap: messages after other-1 are gone (epoch)")


def test_what_waits_for_one_subscriber_stays_for_it(server: ServerProcess, topic: str) -> None:
    httpx.post(f"{server.url}/topics/{topic}/messages?delivery=one", content="job")
    assert run("export", "--topic", topic, url=server.url).stdout == b""
    assert run("subscribe", topic, "--count", "1", url=server.url).stdout == b"job\n"


def test_it_ends_quietly_when_its_output_is_closed(server: ServerProcess, topic: str) -> None:
    batch(server, topic, 1_000)  # more than a pipe holds
    with running("export", "--topic", topic, url=server.url) as command:
        assert json.loads(command.line())["data"] == "0"
        assert command.process.stdout
        command.process.stdout.close()
        command.process.stdout = None
        assert command.wait() == (0, b"")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["export", "--topic", "a..b"], 1),
        (["export", "--since", "yesterday"], 1),
        (["export", "foo"], 2),
        (["import", "no such file"], 2),
    ],
)
def test_what_cannot_be_done_is_a_sentence(server: ServerProcess, arguments: list[str], status: int) -> None:
    done = run(*arguments, url=server.url)
    assert (done.returncode, done.stdout, b"Error: " in done.stderr) == (status, b"", True)


@pytest.mark.parametrize("name", ["export", "import"])
def test_a_server_that_is_away_is_status_3(name: str) -> None:
    done = run(name, "--retry-for", "0", stdin=LINE.format(1, "t").encode(), url=f"http://127.0.0.1:{free_port()}")
    assert (done.returncode, done.stdout, b"cannot be reached" in done.stderr) == (3, b"", True)


# Import


def test_what_was_exported_comes_back_with_new_ids(server: ServerProcess, fresh: ServerProcess, topic: str) -> None:
    post(server.url, "moves.the.ids", "x")
    for body in (b"text", b"", "snow ☃\r\n".encode(), bytes(range(256))):
        httpx.post(
            f"{server.url}/topics/{topic}/a/messages?event=e&priority=3&key=k",
            content=body,
            headers={"Content-Type": "x/y", "ce-id": "7"},
        )
    post(server.url, f"{topic}/b", "plain")
    exported = run("export", "--topic", f"{topic}/**", url=server.url).stdout
    done = run("import", stdin=exported, url=fresh.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"messages stored: 5, known already: 0\n")
    new = messages(fresh, "**")
    assert [*map(parts, new)] == [parts(json.loads(line)) for line in exported.splitlines()]
    assert not {message["id"] for message in new} & {json.loads(line)["id"] for line in exported.splitlines()}


def test_an_import_that_is_repeated_stores_only_what_is_new(
    server: ServerProcess, fresh: ServerProcess, topic: str, tmp_path: Path
) -> None:
    for number in range(5):
        post(server.url, topic, str(number))
    lines = run("export", "--topic", topic, url=server.url).stdout.splitlines(keepends=True)
    file = tmp_path / "lines"
    for count, said in ((3, b"messages stored: 3, known already: 0\n"), (5, b"messages stored: 2, known already: 3\n")):
        file.write_bytes(b"".join(lines[:count]))
        assert run("import", str(file), url=fresh.url).stderr == said
    assert texts(fresh, topic) == [*map(str, range(5))]


def test_what_was_deleted_can_be_imported_again_at_once(server: ServerProcess, topic: str) -> None:
    for number in range(3):
        post(server.url, topic, str(number))
    lines = run("export", "--topic", topic, url=server.url).stdout
    for _ in range(2):
        httpx.delete(f"{server.url}/topics/{topic}").raise_for_status()
        assert run("import", stdin=lines, url=server.url).stderr == b"messages stored: 3, known already: 0\n"
        assert texts(server, topic) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("hello", "this is not a message as export writes it: "),
        ('{"topic":"t"}', "'id' is missing"),
        ('{"gap":{"requested":"x-1","reason":"epoch","missed":null,"resumes_at":null}}', "'id' is missing"),
        ("WITHOUT", "expected either `data` or `data_base64`"),
        ('WITH,"data":"x","data_base64":"eA=="', "expected either `data` or `data_base64`"),
        ('WITH,"data":"\\ud800"', "this is not a message"),
        ('WITH,"data_base64":"?"', "this is not a message"),
        ('BAD,"data":"x"', "'a..b'"),
    ],
)
def test_a_line_that_is_not_right_stops_it_with_its_number(
    fresh: ServerProcess, topic: str, line: str, sentence: str
) -> None:
    head = f'{{"id":"x-1","topic":"{topic}","index":0,"time":"","event":null,"content_type":"text/plain"'
    if line.startswith(("WITH", "BAD")):
        start = head.replace(topic, "a..b") if line.startswith("BAD") else head
        line = start + line.removeprefix("WITHOUT").removeprefix("WITH").removeprefix("BAD") + "}"
    after = head.replace("x-1", "x-2") + ',"data":"after"}'
    done = run("import", stdin=f'{head},"data":"before"}}\r\n\n{line}\n{after}\n'.encode(), url=fresh.url)
    error, tally = done.stderr.decode().splitlines()
    assert (done.returncode, tally) == (1, "messages stored: 1, known already: 0")
    assert error.startswith("Error: line 3: ")
    assert sentence in error
    assert texts(fresh, topic) == ["before"]


def test_it_goes_on_after_the_server_was_killed_and_stores_each_once(topic: str, tmp_path: Path) -> None:
    port = free_port()
    with running("import", "--retry-for", "60s", url=f"http://127.0.0.1:{port}") as command:
        with start_server(*flags("sqlite", tmp_path), port=port, tcp_port=0) as server:
            command.send(LINE.format(1, topic).encode())
            assert run("subscribe", topic, "--since", "earliest", "--count", "1", url=server.url).stdout == b"1\n"
            server.process.kill()
            server.process.wait(DEADLINE)
        command.send(LINE.format(1, topic).encode(), LINE.format(2, topic).encode())
        assert b"trying again" in command.line(command.process.stderr)
        with start_server(*flags("sqlite", tmp_path), port=port, tcp_port=0) as server:
            status, said = command.wait()
            assert (status, sum(counters(said))) == (0, 3)
            assert texts(server, topic) == ["1", "2"]


def test_a_signal_ends_it_with_the_count(server: ServerProcess, topic: str) -> None:
    with running("import", url=server.url) as command:
        command.send(*(LINE.format(number, topic).encode() for number in (1, 2)))
        assert run("subscribe", topic, "--since", "earliest", "--count", "2", url=server.url).stdout == b"1\n2\n"
        status, said = command.stop(signal.SIGTERM)
    assert (status, counters(said)) in [(143, [1, 0]), (143, [2, 0])], "the second answer may still be on its way"
