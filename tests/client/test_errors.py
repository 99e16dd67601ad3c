"""What the server refuses is an exception of its own class, with the server's code and sentence."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

import app
from app import (
    AsyncClient,
    Client,
    Forbidden,
    InvalidRequest,
    LimitReached,
    LogFull,
    MessageTooLarge,
    NotFound,
    RequestRefused,
    Unauthorised,
    Unreachable,
)
from app.client.errors import KINDS
from tests.cli.commands import run
from tests.cli.fake_servers import HEAD, answer, answering, endless
from tests.client.test_client import reply, scripted
from tests.harness import DEADLINE, ROOT, ServerProcess, free_port, start_server


@pytest.fixture(scope="module")
def small() -> Iterator[ServerProcess]:
    """A server that is full soon."""
    with start_server("--max-topics", "2", "--max-message", "1KiB", tcp_port=0) as process:
        yield process


def token(folder: Path, *rights: str) -> str:
    made = run("token", "somebody", *rights, "--data-dir", str(folder), url="")
    found = re.search(r"pmq_\S+", made.stdout.decode())
    assert found, made
    return found[0]


def test_an_unlawful_topic_group_option_or_place_is_an_invalid_request(server: ServerProcess, topic: str) -> None:
    with Client(server.url) as client:
        asked: dict[str, Callable[[], Any]] = {
            "topic_invalid": lambda: client.publish("a b", "x"),
            "group_invalid": lambda: client.pull(topic, "a b"),
            "option_invalid": lambda: client.publish(topic, "x", ttl="soon"),
        }
        for code, ask in asked.items():
            with pytest.raises(InvalidRequest) as caught:
                ask()
            assert (caught.value.code, caught.value.status) == (code, 400)
        with pytest.raises(InvalidRequest, match="yesterday"):
            next(client.subscribe(topic, since="yesterday"))


def test_without_a_good_token_it_is_unauthorised_and_without_the_right_forbidden(tmp_path: Path) -> None:
    reader = token(tmp_path, "--subscribe", "a")
    with start_server("--auth", "required", "--data-dir", str(tmp_path), tcp_port=0) as server:
        with Client(server.url) as client, pytest.raises(Unauthorised, match="asks for a token"):
            client.publish("a", "x")
        with Client(server.url, token="pmq_wrong") as client, pytest.raises(Unauthorised):
            client.publish("a", "x")
        with Client(server.url, token=reader) as client:
            with pytest.raises(Forbidden):
                client.publish("a", "x")
            with pytest.raises(NotFound):
                client.messages("b")
            with pytest.raises(NotFound):
                next(client.subscribe("b"))


def test_what_is_not_there_is_not_found(server: ServerProcess, topic: str) -> None:
    with Client(server.url) as client:
        for ask in (client.topic, client.messages, client.groups, client.delete_topic):
            with pytest.raises(NotFound):
                ask(topic)
        with pytest.raises(NotFound):
            client.ack(topic, "g", "e-1")


def test_a_message_that_is_too_large_is_refused(small: ServerProcess) -> None:
    with Client(small.url) as client, pytest.raises(MessageTooLarge, match="1024"):
        client.publish("a", b"x" * 1025)


def test_a_topic_more_than_the_server_keeps_is_a_limit(small: ServerProcess) -> None:
    with Client(small.url) as client:
        for name in ("a", "b"):
            client.publish(name, "x")
        with pytest.raises(LimitReached) as caught:
            client.publish("c", "x")
    assert (caught.value.code, caught.value.retry_after) == ("topic_limit", None)


def test_the_rate_that_a_client_may_publish_with_is_waited_for_or_said(tmp_path: Path) -> None:
    told: list[str] = []
    all_rights = token(tmp_path, "--all")
    flags = ("--publish-rate", "2", "--publish-burst", "2", "--data-dir", str(tmp_path))

    def publish(client: Client) -> list[int]:
        return [client.publish("a", "x").index for _ in range(6)]

    with start_server(*flags, tcp_port=0) as server:
        with Client(server.url, token=all_rights, retry_for=DEADLINE, tell=told.append) as client:
            assert publish(client) == [*range(6)]
        assert told
        assert all("trying again" in sentence for sentence in told)
        with Client(server.url, token=all_rights, retry_for=0) as client, pytest.raises(LimitReached) as caught:
            publish(client)
    assert (caught.value.code, caught.value.status) == ("rate_limited", 429)
    assert caught.value.retry_after
    assert caught.value.retry_after >= 1


def test_a_topic_that_its_groups_hold_is_full(server: ServerProcess, topic: str) -> None:
    with Client(server.url) as client:
        client.set_topic(topic, max_messages=1)
        client.set_group(topic, "g")
        client.publish(topic, "x")
        with pytest.raises(LogFull) as caught:
            client.publish(topic, "y")
        assert (caught.value.code, caught.value.status) == ("log_full", 507)


def test_every_code_of_the_document_has_a_class() -> None:
    text = yaml.safe_load((ROOT / "openapi" / "openapi.yaml").read_text())["info"]["description"]
    statuses = {int(status) for status in re.findall(r"^\| (\d{3}) \| `\w+` \|", text, re.MULTILINE)}
    # Faults of a program or a server, which nobody handles one by one
    others = {405, 408, 411, 414, 415, 421, 431, 500, 501, 505}
    assert statuses == KINDS.keys() | others
    assert all(getattr(app, kind.__name__) is kind for kind in KINDS.values())


async def test_the_404_of_a_proxy_does_not_say_that_there_is_no_such_topic() -> None:
    async with scripted(reply("404 Not Found", "text/html", b"<p>")) as (url, _), AsyncClient(url) as client:
        with pytest.raises(RequestRefused) as caught:
            await client.topic("foo")
    assert (type(caught.value), caught.value.code) == (RequestRefused, "http_404")


@pytest.mark.parametrize("field", ["soon", "-1", "1e9", "9" * 5_000, "٣", "Wed, 21 Oct 2026 07:28:00 GMT", ""])
async def test_a_retry_after_that_cannot_be_read_is_none(field: str) -> None:
    problem = b'{"code":"rate_limited","detail":"too fast"}'
    said = answer("429 Too Many Requests", problem, f"Retry-After: {field}", "Connection: close")
    async with scripted(said) as (url, _), AsyncClient(url) as client:
        with pytest.raises(LimitReached) as caught:
            await client.publish("foo", "x")
    assert caught.value.retry_after is None


def test_a_server_that_is_not_there_is_unreachable() -> None:
    with Client(f"http://127.0.0.1:{free_port()}", retry_for=0) as client:
        for ask in (client.topics, lambda: client.publish("a", "x"), lambda: next(client.subscribe("a", retry_for=0))):
            with pytest.raises(Unreachable):
                ask()


# Servers that mean it ill


@asynccontextmanager
async def trickling(start: bytes) -> AsyncIterator[str]:
    """A server that sends this, and then a byte now and then without an end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(start)
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        except OSError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield "http://{}:{}".format(*server.sockets[0].getsockname())
    finally:
        server.close()


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\n\r\n{", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 400 X\r\n\r\n{"])
async def test_an_answer_that_trickles_in_has_a_deadline(start: bytes) -> None:
    async with (
        asyncio.timeout(DEADLINE),
        trickling(start) as url,
        AsyncClient(url, timeout=0.5, retry_for=0) as client,
    ):
        with pytest.raises(Unreachable, match=r"within 0\.5 seconds"):
            await client.topics()
        if b"400" in start:
            with pytest.raises(Unreachable):
                await anext(client.subscribe("a", retry_for=0))


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HEADS_WITHOUT_END: dict[str, bytes] = {
    "100 Continue": CONTINUE,
    "many at once": CONTINUE * 1_000,
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
    "silence": b"",
}
CALLS: dict[str, Callable[[AsyncClient], Any]] = {
    "publish": lambda client: client.publish("a", "x"),
    "publish_batch": lambda client: client.publish_batch("a", ["x"]),
    "messages": lambda client: client.messages("a"),
    "topics": lambda client: client.topics(),
    "pull": lambda client: client.pull("a", "g"),
    "subscribe": lambda client: anext(client.subscribe("a", retry_for=0.2)),
}


@asynccontextmanager
async def stalling(what: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that sends this again and again, and never an answer. Its URL and the requests that it got."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            requests.append(await reader.readuntil(b"\r\n\r\n"))
            while not writer.is_closing():
                writer.write(what)
                await writer.drain()
                await asyncio.sleep(0.02)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield "http://{}:{}".format(*server.sockets[0].getsockname()), requests
    finally:
        server.close()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("what", HEADS_WITHOUT_END)
async def test_a_request_that_is_never_answered_is_not_sent_again_when_its_time_was_the_whole_patience(
    what: str, call: str
) -> None:
    async with (
        asyncio.timeout(DEADLINE),
        stalling(HEADS_WITHOUT_END[what]) as (url, requests),
        AsyncClient(url, timeout=0.4, retry_for=0.2) as client,
    ):
        with pytest.raises(Unreachable, match=r"within 0\.4 seconds"):
            await CALLS[call](client)
    assert len(requests) == 1


async def test_a_request_that_is_never_answered_is_sent_again_while_there_is_patience() -> None:
    async with (
        asyncio.timeout(DEADLINE),
        stalling(CONTINUE) as (url, requests),
        AsyncClient(url, timeout=0.2, retry_for=1.0) as client,
    ):
        with pytest.raises(Unreachable):
            await client.publish("a", "x")
    assert len(requests) > 1


@pytest.mark.parametrize("command", [("publish", "a", "x"), ("import",)])
async def test_a_publishing_command_waits_no_longer_for_an_answer_than_it_retries(command: tuple[str, ...]) -> None:
    line = b'{"id":"a-1","topic":"a","index":0,"time":"","event":null,"content_type":"text/plain","data":"x"}\n'
    async with stalling(CONTINUE) as (url, requests):
        done = await asyncio.to_thread(run, *command, "--retry-for", "1s", stdin=line, url=url)
    assert done.returncode == 3
    assert "has not answered within 10 seconds" in done.stderr.decode()
    assert len(requests) == 1


async def test_a_stream_that_falls_silent_is_broken() -> None:
    async with scripted(HEAD % b"text/event-stream") as (url, requests), AsyncClient(url, timeout=0.2) as client:
        with pytest.raises(Unreachable):
            await anext(client.subscribe("a", retry_for=0))
    assert requests


async def test_an_event_stream_is_no_answer_to_a_question(server: ServerProcess, topic: str) -> None:
    async with asyncio.timeout(DEADLINE), AsyncClient(server.url) as client:
        with pytest.raises(RequestRefused, match="event stream") as caught:
            await client.topic(f"{topic}/stream")
    assert caught.value.code == "not_plainmq"


WITH_A_CLIENT: Final = """
from app import Client, RequestRefused
with Client("{url}", retry_for=0) as client:
    try:
        {asking}
    except RequestRefused as error:
        print(error.code, {peak})
"""
WITH_AN_ASYNC_CLIENT: Final = """
import asyncio
from app import AsyncClient, RequestRefused
async def main():
    async with AsyncClient("{url}", retry_for=0) as client:
        try:
            {asking}
        except RequestRefused as error:
            print(error.code, {peak})
asyncio.run(main())
"""
PEAK: Final = (
    'int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) >> 10'  # ru_maxrss has the parent's, too
)
MAX_RESIDENT: Final = 256  # MiB: the program has 50, and what is read at most 128 and room to grow
ASKING = {
    "a page": ("client.messages('a')", b"application/json"),
    "jobs": ("client.pull('a', 'g')", b"application/json"),
    "topics": ("client.topics()", b"application/json"),
    "a worker": ("next(client.work('a', 'g', retry_for=0))", b"application/json"),
    "a stream": ("next(client.subscribe('a', retry_for=0))", b"text/event-stream"),
}


def resident_after(program: str, asking: str, start: bytes, unit: bytes) -> int:
    """The peak of the resident memory in MiB, of a process whose client is refused such an answer."""
    with answering(endless(start, unit)) as url:
        source = program.format(url=url, asking=asking, peak=PEAK)
        done = subprocess.run(
            [sys.executable, "-c", source], capture_output=True, text=True, timeout=2 * DEADLINE, cwd=ROOT, check=False
        )
    assert done.stderr == ""
    code, peak = done.stdout.split()
    assert code == "not_plainmq"
    return int(peak)


@pytest.mark.parametrize("what", ASKING)
def test_an_answer_without_an_end_is_bounded(what: str) -> None:
    asking, kind = ASKING[what]
    start = HEAD % kind + (b"data: " if b"event" in kind else b"")
    assert resident_after(WITH_A_CLIENT, asking, start, b"x") < MAX_RESIDENT


@pytest.mark.parametrize(
    ("program", "asking"),
    [
        (WITH_A_CLIENT, "next(client.subscribe('a', retry_for=0))"),
        (WITH_AN_ASYNC_CLIENT, "await anext(client.subscribe('a', retry_for=0))"),
    ],
)
def test_an_event_of_short_lines_without_an_end_is_bounded(program: str, asking: str) -> None:
    assert resident_after(program, asking, HEAD % b"text/event-stream", b"data: " + b"x" * 20 + b"\n") < MAX_RESIDENT
