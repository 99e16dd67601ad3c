"""`plainmq publish` and `plainmq subscribe`, run as a shell runs them."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import httpx
import pytest
from click.testing import CliRunner

from app.cli import main
from tests.cli.commands import PROGRAM, environment, messages, post, post_when_subscribed, run, running, texts
from tests.harness import DEADLINE, ROOT, ServerProcess, free_port, start_server

BINARY = bytes(range(256))


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """One server for all: how it serves is not what is tested here."""
    with start_server(tcp_port=0) as process:
        yield process


# Help


ACTIONS = ("redrive", "release", "skip", "purge", "scheduled", "subscribers")
OPERATIONS = ("topics", "topic", "groups", "group", "peek", "status", "top", "check")
OF_HTTP = ("publish", "subscribe", "export", "import", "bench", *OPERATIONS, *ACTIONS)


@pytest.mark.parametrize("name", [*OF_HTTP, "backup", "restore", "token"])
def test_help_explains_every_option_and_every_exit_status(name: str) -> None:
    help = run(name, "--help").stdout.decode()
    command = main.commands[name]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.opts
            assert all(re.search(rf"^ +(-h, )?{option}\b", help, re.MULTILINE) for option in parameter.opts)
    for status in ("0", "1", "2", "130", "143", *(["3"] if name in OF_HTTP else [])):
        assert re.search(rf"^ +{status}  +\S", help, re.MULTILINE), status
    assert ("PLAINMQ_URL" if name in OF_HTTP else "PLAINMQ_ENGINE") in help


@pytest.mark.parametrize("columns", [80, 120])
def test_the_list_of_commands_has_whole_sentences(columns: int) -> None:
    listed = CliRunner().invoke(main, ["--help"], terminal_width=columns).output.partition("Commands:\n")[2]
    lines = listed.splitlines()
    assert [line.split()[0] for line in lines] == sorted(main.commands)
    for line in lines:
        assert line.endswith("."), line
        assert not line.endswith("..."), line


def test_the_commands_of_a_client_say_that_they_read_no_file_of_settings(topic: str, tmp_path: Path) -> None:
    """A folder must not decide where a message and its token go."""
    for name in OF_HTTP:
        assert re.search(r"`.env` is\s+not\s+read", run(name, "--help").stdout.decode()), name
    (tmp_path / ".env").write_text("PLAINMQ_TOKEN='this is no token'\n")
    with start_server(tcp_port=0) as server:
        done = subprocess.run(
            [*PROGRAM, "publish", topic, "x"], cwd=tmp_path, capture_output=True, timeout=DEADLINE, check=False,
            env=environment(server.url) | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")


# Publishing


def test_a_message_from_the_argument_is_published_and_its_id_printed(server: ServerProcess, topic: str) -> None:
    done = run("publish", topic, "hello  world", "--url", server.url)
    (message,) = messages(server, topic)
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, message["id"] + "\n", b"")
    assert message["data"] == "hello  world"


def test_the_url_may_come_from_the_environment(server: ServerProcess, topic: str) -> None:
    assert run("publish", topic, "x", url=server.url).returncode == 0
    assert texts(server, topic) == ["x"]


def test_an_argument_that_is_not_utf8_keeps_its_bytes(server: ServerProcess, topic: str) -> None:
    run("publish", topic, b"\xff-", url=server.url)
    (message,) = messages(server, topic)
    assert (message["data_base64"], message["content_type"]) == ("/y0=", "application/octet-stream")


def test_a_file_is_one_message_byte_for_byte(server: ServerProcess, topic: str, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(BINARY)
    id = run("publish", topic, "--file", str(path), url=server.url).stdout.decode().strip()
    id_of_stdin = run("publish", topic, "--file", "-", stdin=BINARY, url=server.url).stdout.decode().strip()
    for message in (id, id_of_stdin):
        assert httpx.get(f"{server.url}/topics/{topic}/messages/{message}").content == BINARY


def test_standard_input_is_a_line_a_message_and_silent(server: ServerProcess, topic: str) -> None:
    done = run("publish", topic, stdin=b"one\n\n two \r\n\r\nlast without end", url=server.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert texts(server, topic) == ["one", " two ", "last without end"]


def test_lines_of_a_file_keep_their_order(server: ServerProcess, topic: str, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("".join(f"{number}\n" for number in range(200)))
    assert run("publish", topic, "--lines", "--file", str(path), url=server.url).returncode == 0
    assert texts(server, topic) == [*map(str, range(200))]


def test_lines_leave_as_they_come(server: ServerProcess, topic: str) -> None:
    for flags in ([], ["--ndjson"]):
        with running("publish", topic, "--json", *flags, url=server.url) as command:
            for number in range(3):
                command.send(str(number).encode())
                assert json.loads(command.line())["topic"] == topic
    assert texts(server, topic) == ["0", "1", "2"] * 2


def test_ndjson_goes_in_batches_and_says_it_is_json(server: ServerProcess, topic: str) -> None:
    done = run("publish", topic, "--ndjson", "--json", stdin=b'{"a":1}\n\n{"a":2}\r\n', url=server.url)
    assert json.loads(done.stdout)["count"] == 2
    assert [(m["data"], m["content_type"]) for m in messages(server, topic)] == [
        ('{"a":1}', "application/json"),
        ('{"a":2}', "application/json"),
    ]


def test_more_lines_than_a_batch_holds_make_several(server: ServerProcess, topic: str) -> None:
    lines = b"".join(b"%d\n" % number for number in range(12_000))
    answers = run("publish", topic, "--ndjson", "--json", stdin=lines, url=server.url).stdout.splitlines()
    assert sum(json.loads(answer).get("count", 1) for answer in answers) == 12_000
    assert texts(server, topic) == [*map(str, range(11_000, 12_000))]


def test_options_reach_the_message(server: ServerProcess, topic: str) -> None:
    options = ["--event", "e", "--ttl", "1h", "--content-type", "text/x", "--delivery", "all", "--key", "k"]
    options += ["--header", "title=a=b", "--header", "Trace=1", "--priority", "7", "--order-key", "a b"]
    first = run("publish", topic, "x", *options, "--json", url=server.url)
    again = run("publish", topic, "x", *options, "--json", url=server.url)
    (message,) = messages(server, topic)
    assert (message["event"], message["content_type"]) == ("e", "text/x")
    assert message["headers"] == {"title": "a=b", "trace": "1"}
    assert (message["priority"], message["key"]) == (7, "a b")
    assert json.loads(first.stdout)["id"] == json.loads(again.stdout)["id"] == message["id"]
    assert json.loads(again.stdout)["duplicate"] is True
    run("publish", topic, "gone", "--no-retain", url=server.url)
    run("publish", topic, "for one", "--delivery", "one", url=server.url)
    assert texts(server, topic) == ["x"]


def test_a_delayed_message_says_when_it_is_due(server: ServerProcess, topic: str) -> None:
    done = run("publish", topic, "x", "--delay", "1h", url=server.url)
    assert done.returncode == 0
    assert re.fullmatch(rb"scheduled \w+-d\d+ \d{4}-\d\d-\d\dT[\d:.]+Z\n", done.stdout)
    assert texts(server, topic) == []


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("topic", "message", "--file", "-"),
        ("topic", "message", "--lines"),
        ("topic", "--lines", "--key", "k"),
        ("topic", "--ndjson", "--content-type", "text/plain"),
        ("topic", "--file", "/nonexistent"),
        ("topic", "message", "--delivery", "some"),
        ("topic", "message", "--header", "title"),
        ("topic", "message", "--header", "a b=c"),
        ("topic", "message", "--header", "title=a\x1bb"),
        ("topic", "message", "--retry-for", "soon"),
        ("topic", "message", "--url", "ftp://host"),
    ],
)
def test_wrong_usage_is_status_2_and_a_sentence(arguments: tuple[str, ...]) -> None:
    done = run("publish", *arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Error: " in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_terminal_as_standard_input_needs_to_be_asked_for(server: ServerProcess, topic: str) -> None:
    ours, theirs = pty.openpty()
    try:
        with running("publish", topic, url=server.url, stdin=theirs) as command:
            status, said = command.wait()
            assert (status, b"--lines" in said) == (2, True)
        with running("publish", topic, "--lines", "--json", url=server.url, stdin=theirs) as command:
            os.write(ours, b"typed\n")
            assert json.loads(command.line())["topic"] == topic
            assert command.stop(signal.SIGINT) == (130, b"")
    finally:
        os.close(ours)
        os.close(theirs)
    assert texts(server, topic) == ["typed"]


def test_a_refusal_is_status_1_with_the_servers_sentence(server: ServerProcess) -> None:
    done = run("publish", "a..b", "x", url=server.url)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"Error: 'a..b' is not a topic")


def test_a_refused_line_says_how_many_went_before(topic: str) -> None:
    with start_server("--max-message", "10", tcp_port=0) as server:
        done = run("publish", topic, stdin=b"1\n2\nfar too long a line\n4\n", url=server.url)
        assert done.returncode == 1
        assert b"2 messages before it were accepted" in done.stderr
        assert texts(server, topic) == ["1", "2"]


def test_a_server_that_is_not_there_is_status_3() -> None:
    done = run("publish", "topic", "x", "--retry-for", "0", url=f"http://127.0.0.1:{free_port()}")
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"cannot be reached" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_publish_waits_for_a_server_that_comes_back(topic: str) -> None:
    port = free_port()
    with running("publish", topic, "x", "--retry-for", "1m", url=f"http://127.0.0.1:{port}") as command:
        assert b"trying again" in command.line(command.process.stderr)
        with start_server(port=port, tcp_port=0) as server:
            assert command.wait()[0] == 0
            assert texts(server, topic) == ["x"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_publishing_without_a_traceback(
    server: ServerProcess, topic: str, number: int, status: int
) -> None:
    with running("publish", topic, "--json", url=server.url) as command:
        command.send(b"1")
        command.line()
        assert command.stop(number) == (status, b"")


@pytest.mark.parametrize(("count", "shown"), [(12_000, True), (20, False)])
def test_long_input_shows_its_progress_on_a_terminal_and_nowhere_else(
    server: ServerProcess, topic: str, tmp_path: Path, count: int, shown: bool
) -> None:
    path = tmp_path / "lines"
    path.write_text("x\n" * count)
    ours, theirs = pty.openpty()
    screen: list[bytes] = []

    def read_screen() -> None:
        while data := os.read(ours, 65536):
            screen.append(data)
            if b"\0" in data:
                return

    reader = threading.Thread(target=read_screen)
    reader.start()
    try:
        with running("publish", topic, "--ndjson", "--file", str(path), url=server.url, stderr=theirs) as command:
            assert command.wait()[0] == 0
    finally:
        os.write(theirs, b"\0")
        reader.join(DEADLINE)
        os.close(ours)
        os.close(theirs)
    assert (b"messages" in b"".join(screen)) is shown
    assert run("publish", topic, "--ndjson", "--file", str(path), url=server.url).stderr == b""


# Subscribing


def test_it_prints_bodies_line_by_line_as_they_come(server: ServerProcess, topic: str) -> None:
    with running("subscribe", topic, url=server.url) as command:
        post_when_subscribed(server.url, topic, "first")
        assert command.line() == b"first\n"
        for text in ("second", "", "two\nlines"):
            post(server.url, topic, text)
        while (line := command.line()) == b"first\n":
            pass
        assert [line, *(command.line() for _ in range(3))] == [b"second\n", b"\n", b"two\n", b"lines\n"]


def test_since_and_count(server: ServerProcess, topic: str) -> None:
    for number in range(5):
        post(server.url, topic, str(number))
    for since, count, expected in (("earliest", "2", b"0\n1\n"), ("last:3", "3", b"2\n3\n4\n")):
        done = run("subscribe", topic, "--since", since, "--count", count, url=server.url)
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, b"")


def test_count_takes_no_message_for_one_more(server: ServerProcess, topic: str) -> None:
    for number in range(2):
        httpx.post(f"{server.url}/topics/{topic}/messages?delivery=one", content=str(number))
    for number in range(2):
        assert run("subscribe", topic, "--count", "1", url=server.url).stdout == b"%d\n" % number


def test_json_is_one_record_a_line_with_its_topic(server: ServerProcess, topic: str) -> None:
    post(server.url, f"{topic}.a", "x\ny")
    httpx.post(f"{server.url}/topics/{topic}.b/messages", content=b"\xff")
    done = run("subscribe", f"{topic}.*", "--since", "earliest", "--count", "2", "--json", url=server.url)
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert printed == [*messages(server, f"{topic}.a"), *messages(server, f"{topic}.b")]


def test_timeout_is_the_end_or_status_5_when_messages_are_missing(server: ServerProcess, topic: str) -> None:
    post(server.url, topic, "x")
    arguments = ("subscribe", topic, "--since", "earliest", "--timeout", "1s")
    assert run(*arguments, url=server.url).returncode == 0
    done = run(*arguments, "--count", "2", url=server.url)
    assert (done.returncode, done.stderr) == (5, b"")


def test_it_goes_on_after_a_restart_of_the_server_and_tells_of_the_gap(topic: str) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        running("subscribe", topic, url=url) as plain,
        running("subscribe", topic, "--json", url=url) as as_json,
    ):
        assert b"trying again" in plain.line(plain.process.stderr)
        assert b"trying again" in as_json.line(as_json.process.stderr)
        with start_server(port=port, tcp_port=0) as server:
            post_when_subscribed(url, topic, "before", subscribers=2)
            assert plain.line() == b"before\n"
            id = json.loads(as_json.line())["id"]
            server.process.kill()
            server.process.wait(DEADLINE)
        with start_server(port=port, tcp_port=0):
            after = post(url, topic, "after")
            said = b""
            while b"Gap" not in said:
                said = plain.line(plain.process.stderr)
                assert said, "it ended without a word of a gap"
            assert said.startswith(b"Gap: ")
            assert b"(epoch)" in said
            while (text := plain.line()) == b"before\n":
                pass
            assert text == b"after\n"
            while "gap" not in (record := json.loads(as_json.line())):
                pass
            assert record["gap"]["reason"] == "epoch"
            assert record["gap"]["requested"].split("-")[0] == id.split("-")[0]
            assert json.loads(as_json.line())["id"] == after["id"]


def test_strict_ends_at_a_gap_with_status_4(server: ServerProcess, topic: str) -> None:
    post(server.url, topic, "x")
    arguments = ("subscribe", topic, "--since", "other-1", "--count", "1")
    strict = run(*arguments, "--strict", url=server.url)
    assert (strict.returncode, strict.stdout) == (4, b"")
    assert strict.stderr.startswith(b"Gap: messages after other-1 are gone (epoch)")
    lenient = run(*arguments, url=server.url)
    assert (lenient.returncode, lenient.stdout, lenient.stderr) == (0, b"x\n", strict.stderr)


def test_refused_unreachable_and_wrong_usage_are_told_apart(server: ServerProcess) -> None:
    assert run("subscribe", "a..b", url=server.url).returncode == 1
    assert run("subscribe", "a", "--since", "yesterday", url=server.url).returncode == 1
    assert run("subscribe", url=server.url).returncode == 2
    assert run("subscribe", "a", "--count", "0", url=server.url).returncode == 2
    away = run("subscribe", "a", "--retry-for", "0", url=f"http://127.0.0.1:{free_port()}")
    assert (away.returncode, away.stdout) == (3, b"")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_subscribing_without_a_traceback(
    server: ServerProcess, topic: str, number: int, status: int
) -> None:
    with running("subscribe", topic, url=server.url) as command:
        post_when_subscribed(server.url, topic, "x")
        command.line()
        assert command.stop(number) == (status, b"")


def test_a_signal_ends_it_while_its_output_is_not_read(server: ServerProcess, topic: str) -> None:
    with running("subscribe", topic, url=server.url) as command:
        post_when_subscribed(server.url, topic, "x")
        command.line()
        post(server.url, topic, "y" * 500_000)  # more than a pipe holds
        assert command.process.stdout
        assert command.process.stdout.read(1)
        command.process.send_signal(signal.SIGTERM)
        assert command.process.wait(DEADLINE) == 143


@pytest.mark.parametrize("busy", [True, False], ids=["with a message to write", "with nothing to write"])
def test_it_ends_quietly_when_its_output_is_closed(server: ServerProcess, topic: str, busy: bool) -> None:
    with running("subscribe", topic, url=server.url) as command:
        post_when_subscribed(server.url, topic, "x")
        command.line()
        assert command.process.stdout
        command.process.stdout.close()
        command.process.stdout = None
        if busy:
            post(server.url, topic, "more")
        assert command.wait() == (0, b"")


@pytest.mark.parametrize("arguments", [("subscribe", "--since", "earliest"), ("publish", "--json")])
def test_an_output_that_cannot_be_written_is_status_1_and_a_sentence(
    server: ServerProcess, topic: str, arguments: tuple[str, ...]
) -> None:
    post(server.url, topic, "x")
    with Path("/dev/full").open("wb") as full, running(*arguments, topic, url=server.url, stdout=full) as command:
        if arguments[0] == "publish":  # a subscriber reads nothing, and may have ended
            command.send(b"x")
        status, said = command.wait()
    done = b"Messages published: 1\n" if arguments[0] == "publish" else b""
    assert (status, said) == (1, done + b"Error: the output cannot be written: No space left on device\n")


def test_head_takes_a_line_and_the_pipeline_ends(server: ServerProcess, topic: str) -> None:
    post(server.url, topic, "first")
    post(server.url, topic, "second")
    pipeline = f"'{sys.executable}' -m app subscribe {topic} --since earliest | head -1"
    done = subprocess.run(
        ["/bin/sh", "-c", pipeline], capture_output=True, timeout=DEADLINE, cwd=ROOT, env=environment(server.url),
        check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (b"first\n", b"")


@pytest.mark.parametrize(
    "command", ["publish a x --retry-for 0", "subscribe a --retry-for 0", "export --retry-for 0", "--help"]
)
def test_a_command_imports_nothing_that_it_does_not_need(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "app", *command.split()],
        env=os.environ | {"PLAINMQ_URL": f"http://127.0.0.1:{free_port()}"},
        capture_output=True, cwd=ROOT, timeout=DEADLINE, check=False,
    )  # fmt: skip
    imported = set(re.findall(r"\| +(\S+)$", done.stderr.decode(), re.MULTILINE))
    assert "app.cli" in imported
    assert not {"rich", "pygments", "starlette", "uvicorn", "cryptography"} & imported
