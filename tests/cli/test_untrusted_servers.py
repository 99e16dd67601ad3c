"""The commands against servers and messages that mean them ill: nothing steers the terminal, no answer is more than a
sentence, and what stays on this machine does."""

import contextlib
import gzip
import json
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest

from app.client.address import is_loopback
from app.client.events import BOM, MAX_LINE, Event, EventReader, TooLong
from app.messages.control_characters import CODES, escape, has_control_characters
from tests.cli.commands import PROGRAM, environment, run, seen_on_a_terminal
from tests.cli.fake_servers import HEAD, answer, answering, endless
from tests.harness import DEADLINE, ROOT, ServerProcess, start_server

EVIL = "".join(map(chr, sorted(CODES - {0}))) + "\x1b]0;title\x07\x1b[2J"
TABOO = [chr(code).encode() for code in CODES if code not in (0x0D, 0x0A)]  # a terminal's own line end is CR LF


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with start_server() as process:
        yield process


# What a person sees


def publish(server: ServerProcess, topic: str, body: bytes) -> None:
    answer = httpx.post(f"{server.url}/topics/{topic}/messages", content=body, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 201


COMMANDS = {
    "subscribe": ("subscribe", "TOPIC", "--since", "earliest", "--count", "2"),
    "subscribe --json": ("subscribe", "TOPIC", "--since", "earliest", "--count", "2", "--json"),
    "export": ("export", "--topic", "TOPIC"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_message_does_not_steer_a_terminal_and_a_pipe_gets_its_bytes(
    server: ServerProcess, topic: str, command: str
) -> None:
    publish(server, topic, f"a{EVIL}b".encode())
    publish(server, topic, b"\x9b2J\xff")  # not UTF-8, and CSI to a terminal of old
    arguments = [word.replace("TOPIC", topic) for word in COMMANDS[command]]
    person = seen_on_a_terminal(*arguments, url=server.url)
    assert b"\\u001b]0;title\\u0007" in person
    assert not [taboo for taboo in TABOO if taboo in person.replace(b"\r\n", b"\n")]
    program = run(*arguments, url=server.url).stdout
    raw = seen_on_a_terminal(*arguments, "--raw", url=server.url).replace(b"\r\n", b"\n")
    assert raw == program
    if command == "subscribe":
        assert program == f"a{EVIL}b\n".encode() + b"\x9b2J\xff\n"
    else:
        first = json.loads(program.splitlines()[0])["data"]
        assert first == json.loads(person.replace(b"\r\n", b"\n").splitlines()[0])["data"] == f"a{EVIL}b"


def test_what_is_shown_is_the_same_text_but_for_what_steers() -> None:
    assert escape("größe \u2028\t\n\U0001f468\u200d\U0001f469") == "größe \u2028\t\n\U0001f468\u200d\U0001f469"
    for code in range(0x3000):
        character = chr(code)
        assert (escape(character) != character) is has_control_characters(character.encode()) is (code in CODES)


# Broken answers


SSE, JSON, GZIP = "Content-Type: text/event-stream", "Content-Type: application/json", "Content-Encoding: gzip"
PROBLEM = "Content-Type: application/problem+json"
NEXT = 'Link: <{}>; rel="next"'
DIGITS = "9" * 5_000
BROKEN: dict[str, bytes] = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-",
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
    "broken gzip": answer("200 OK", b"\x1f\x8bnothing", GZIP, JSON),
    "broken gzip of a stream": answer("200 OK", b"\x1f\x8bnothing", GZIP, SSE),
    "broken gzip of a refusal": answer("400 Bad Request", b"\x1f\x8bnothing", GZIP, PROBLEM),
    "good gzip": answer("200 OK", gzip.compress(b"x" * 100_000), GZIP, SSE),
    "an unknown coding": answer("200 OK", b"x", "Content-Encoding: \x7fx", SSE),
    "a page": answer("200 OK", b"<html>\x1b[2J</html>", "Content-Type: text/html"),
    "an unknown charset": answer("200 OK", b"\xff", "Content-Type: text/event-stream; charset=nonsense"),
    "bytes that are not UTF-8": answer("201 Created", b'{"id":"\xff"}', JSON),
    "another type": answer("201 Created", b'{"id":1}', JSON),
    "a deep one": answer("201 Created", b'{"x":' + b"[" * 100_000, JSON),
    "nothing as JSON": answer("201 Created", b"", JSON),
    "a refusal that is none": answer("400 \x1b[2J", b'{"code":1}', PROBLEM),
    "a refusal that steers": answer("400 Bad Request", json.dumps({"code": "x", "detail": EVIL}).encode(), PROBLEM),
    "a refusal in a stream": answer("200 OK", b"event: bye\ndata: {}\n\n", SSE),
    "a bye that steers": answer("200 OK", b"event: bye\ndata: " + json.dumps({"reason": EVIL}).encode() + b"\n\n", SSE),
    "an event that is none": answer("200 OK", b"id: \xff-1\ndata: {}\n\n", SSE),
    "an event that is not UTF-8": answer("200 OK", b"id: a-1\ndata: {\"id\":\"\xff\"}\n\n", SSE),
    "a gap that is none": answer("200 OK", b"event: gap\ndata: []\n\n", SSE),
    "a retry without end": answer("200 OK", f"retry: {DIGITS}\ndata: x\n\n".encode(), SSE),
    "a redirection": answer("302 Match", b"", "Location: http://\x1b/"),
    "a switch": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "a next that is no URL": answer("200 OK", b"", NEXT.format("http://[")),
    "a next without a place": answer("200 OK", b"", NEXT.format("/?x=1")),
    "a next of many digits": answer("200 OK", b"", NEXT.format(f"/?since=a-{DIGITS}")),
    "a next in other digits": answer("200 OK", b"", NEXT.format("/?since=a-%D9%A3")),
    "a head without an end": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
    "a chunk that is none": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n?\r\n"
    ),
}  # fmt: skip


ASKING = {
    "publish": ("publish", "a", "x", "--retry-for", "0"),
    "subscribe": ("subscribe", "a", "--count", "1", "--retry-for", "0"),
    "export": ("export", "--retry-for", "0"),
    "topics": ("topics",),
    "peek": ("peek", "a", "g"),
    "redrive": ("redrive", "a", "g", "--all"),
    "status": ("status",),
    "check": ("check", "--view", "a"),
}


@pytest.mark.parametrize("command", ASKING)
def test_whatever_is_answered_a_command_says_a_sentence(command: str) -> None:
    """One process for all answers would hide what the end of a process shows; three at a time are quick enough."""
    failures = []
    for name, said in BROKEN.items():
        with answering(lambda connection, said=said: connection.sendall(said)) as url:  # type: ignore[misc]
            done = run(*ASKING[command], url=url)
        text = done.stderr.decode()
        good = text.count("Error: ") == 1 and done.returncode in (1, 3) and done.stdout == b""
        if not good or "Traceback" in text or not text.replace("\n", "").isprintable():
            failures.append((name, done.returncode, text[-300:]))
    assert not failures


STREAM_HEAD: Final = HEAD % b"text/event-stream"
ENDLESS = {
    "a line of a stream": ("subscribe", STREAM_HEAD + b"data: ", b"x"),
    "lines of an event": ("subscribe", STREAM_HEAD, b"data: " + b"x" * 20 + b"\n"),
    "long lines of an event": ("subscribe", STREAM_HEAD, b"data: " + b"x" * 100_000 + b"\n"),
    "an id": ("subscribe", STREAM_HEAD, b"id: " + b"x" * 100_000 + b"\n"),
    "a field that is ignored": ("subscribe", STREAM_HEAD + b"x: ", b"x"),
    "a list": ("topics", HEAD % b"application/json", b"x"),
    "a page": ("export", HEAD % b"application/x-ndjson", b"x"),
    "an answer": ("publish", HEAD % b"application/json", b"x"),
    "a refusal": ("publish", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"x"),
}
MAX_RESIDENT: Final = 256 << 10  # KiB: the program has 50 MiB, and what is read at most 128 MiB and room to grow


def peak_of(program: list[str], url: str) -> tuple[int, str, int]:
    """The status of a program, what it said, and its largest resident memory in KiB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *program], capture_output=True, timeout=2 * DEADLINE, cwd=ROOT,
        env=environment(url), check=False,
    )  # fmt: skip
    status, peak = map(int, done.stdout.split())
    return status, done.stderr.decode(), peak


@pytest.mark.parametrize("what", ENDLESS)
def test_an_answer_without_an_end_is_bounded(what: str) -> None:
    command, start, unit = ENDLESS[what]
    with answering(endless(start, unit)) as url:
        status, said, peak = peak_of([*PROGRAM, *ASKING[command]], url)
    assert status == 1
    assert said.startswith("Error: ")
    assert peak < MAX_RESIDENT


LARGE: Final = 100 << 20  # bytes: less than an answer may have, so it is read as a whole
ONCE: Final = 160 << 10  # KiB: the program, and such an answer in memory once, with room to grow
PAGE_HEAD: Final = b'HTTP/1.1 200 OK\r\nLink: </?since=a-9>; rel="next"\r\n\r\n'
REFUSED: Final = b"HTTP/1.1 400 Bad Request\r\n\r\n"
WHOLE = {
    "a line of a stream": ("subscribe", STREAM_HEAD + b"data: ", b"x", b"\n\n"),
    "lines of an event": ("subscribe", STREAM_HEAD, b"data: " + b"x" * 20 + b"\n", b"\n"),
    "a text in a stream": ("subscribe", STREAM_HEAD + b'data: "', b"x", b'"\n\n'),
    "a list": ("topics", HEAD % b"application/json", b"x", b""),
    "a deep list": ("topics", HEAD % b"application/json" + b'{"topics":[', b"{},", b""),
    "many lines of a page": ("export", PAGE_HEAD, b"{}\n", b""),
    "a refusal": ("publish", REFUSED, b"x", b""),
    "a sentence of a refusal": ("publish", REFUSED + b'{"code":"x","detail":"\xf0\x9f\x98\x80', b"x", b'"}'),
}


def sending(start: bytes, unit: bytes, end: bytes) -> Callable[[socket.socket], None]:
    """`start`, LARGE bytes of the unit, `end`."""
    return lambda connection: connection.sendall(start + unit * (LARGE // len(unit)) + end)


@pytest.mark.parametrize("what", WHOLE)
def test_a_large_answer_is_in_memory_once(what: str) -> None:
    command, start, unit, end = WHOLE[what]
    with answering(sending(start, unit, end)) as url:
        status, said, peak = peak_of([*PROGRAM, *ASKING[command]], url)
    assert status == 1
    assert said.startswith("Error: ")
    assert len(said) < 1_000
    assert peak < ONCE


CLIENTS = {
    "Client": """
with app.Client(sys.argv[1]) as client:
    next(iter(client.subscribe("a", retry_for=0)))
""",
    "AsyncClient": """
async def main():
    async with app.AsyncClient(sys.argv[1]) as client:
        await anext(aiter(client.subscribe("a", retry_for=0)))
asyncio.run(main())
""",
}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_large_event_is_in_the_memory_of_a_client_once(client: str) -> None:
    with answering(sending(STREAM_HEAD + b"data: ", b"x", b"\n\n")) as url:
        status, said, peak = peak_of([sys.executable, "-c", f"import app, asyncio, sys\n{CLIENTS[client]}", url], url)
    assert status == 1
    assert "RequestRefused: this is not an answer of plainmq" in said
    assert peak < ONCE


MEASURED = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:])
print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


GREAT, LAST = 10**400, "Connection: close"
RECORD = {
    "topic": "a", "messages": GREAT, "bytes": GREAT, "delayed": 1, "first": None, "last": None, "subscribers": 1,
    "groups": [], "retention": {"max_messages": 1, "max_bytes": 1, "max_age": "1d"}, "rate": 1e308,
}  # fmt: skip


@pytest.mark.parametrize("page", [{"topics": [], "next": "a"}, {"topics": [RECORD], "next": "a"}])
def test_pages_that_do_not_go_on_end(page: dict[str, object]) -> None:
    body = json.dumps(page).encode()
    with answering(lambda connection: connection.sendall(answer("200 OK", body, JSON, LAST))) as url:
        done = run("topics", url=url)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"Error: the pages of the server's answer do not go on\n"


def test_a_number_that_is_too_great_is_a_sentence() -> None:
    body = json.dumps({"topics": [RECORD], "next": None}).encode()
    with answering(lambda connection: connection.sendall(answer("200 OK", body, JSON))) as url:
        shown = seen_on_a_terminal("topics", url=url, env={"TERM": "dumb"})
    assert b"Traceback" not in shown
    assert shown.count(b"Error: this is not an answer of plainmq") == 1


@pytest.mark.parametrize("flags", [("--file", "-"), ("--lines",), ()])
def test_an_input_without_an_end_is_bounded(server: ServerProcess, topic: str, flags: tuple[str, ...]) -> None:
    with Path("/dev/zero").open("rb") as zeros:
        done = subprocess.run(
            [*PROGRAM, "publish", topic, *flags], stdin=zeros, capture_output=True, timeout=DEADLINE, cwd=ROOT,
            env=environment(server.url), check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)),
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"Error: ")
    assert b"Traceback" not in done.stderr


# The subscriber of events


def read(*chunks: bytes, longest: int = 1_000) -> list[Event]:
    reader = EventReader(longest)
    return [event for chunk in chunks for event in reader.feed(chunk)]


STREAM = (
    "\ufeffretry: 7\n: c\nid: a-1\ndata: ä\ndata\ndata:  b\n\nevent: gap\ndata: {}\n\ndata: same id\n\nid\ndata:x\n\n"
)
EXPECTED = [
    Event("", "ä\n\n b".encode(), "a-1", 7),
    Event("gap", b"{}", "a-1"), Event("", b"same id", "a-1"), Event("", b"x", ""),
]  # fmt: skip


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events_are_the_same_however_they_are_cut(end: str) -> None:
    data = STREAM.replace("\n", end).encode()
    for size in (1, 2, 3, 7, len(data)):
        chunks = [data[at : at + size] for at in range(0, len(data), size)]
        assert read(*chunks) == EXPECTED, size


@pytest.mark.parametrize("unit", [b"data: x\n", b"x", b"data: " + b"x" * 100 + b"\n", b"data\n"])
def test_an_event_has_a_bound_and_so_has_a_line(unit: bytes) -> None:
    with pytest.raises(TooLong):
        read(*[unit] * 2_000)
    assert len(read(*[unit * 2 + b"\n\n"] * 100)) in (100, 0)


def test_a_long_line_of_data_is_the_same_however_it_is_cut() -> None:
    for begin in (b"data:", b"data: ", b"\xef\xbb\xbfdata: "):
        for length in (*range(MAX_LINE - 7, MAX_LINE + 1), 3 * MAX_LINE):
            stream = begin + b"x" * length + b"\r\ndata: y\r\n\r\ndata: z\r\n\r\n"
            expected = [Event("", b"x" * length + b"\ny"), Event("", b"z")]
            for size in (1, 1_000, MAX_LINE, MAX_LINE + 1, length + len(begin), length + len(begin) + 1, len(stream)):
                chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
                assert read(*chunks, longest=10 * MAX_LINE) == expected, (begin, length, size)


@pytest.mark.parametrize("bom", [b"", BOM])
@pytest.mark.parametrize("begin", [b": ", b"x: ", b"x", b"data"])
def test_a_line_without_data_has_a_smaller_bound(bom: bytes, begin: bytes) -> None:
    padding = bom + begin + b"x" * (MAX_LINE - len(begin))
    assert read(padding, b"\ndata: y\n\n", longest=10 * MAX_LINE) == [Event("", b"y")]
    for longer in ([padding + b"x\n"], [padding, b"x", b"x\n"], [padding, b"xxxx"]):
        with pytest.raises(TooLong):
            read(*longer, b"x", b"x\n\n", longest=10 * MAX_LINE)


# Proxies


@contextmanager
def proxy() -> Iterator[tuple[dict[str, str], list[bytes]]]:
    """Variables that name a proxy, and what it was asked."""
    asked: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        asked.append(b"asked")
        connection.sendall(answer("502 Bad Gateway", b""))

    with answering(serve) as url:
        yield dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"), url), asked


def test_what_stays_on_this_machine_is_sent_to_no_proxy(
    server: ServerProcess, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy() as (variables, asked):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        for host in ("127.0.0.1", "localhost"):
            url = f"http://{host}:{server.port}"
            assert run("publish", topic, "x", "--token", "pmq_secret", url=url).returncode == 0
        assert run("subscribe", topic, "--since", "earliest", "--count", "2", url=server.url).stdout == b"x\nx\n"
        assert asked == []
        away = run("publish", topic, "x", "--retry-for", "0", url="http://mq.example.org")
        assert (away.returncode, asked) == (1, [b"asked"])


def own_hosts() -> list[str]:
    """The name of this machine and its addresses, with none of loopback where it has others."""
    hosts = {socket.gethostname()}
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((far, 9))
            address = sock.getsockname()[0]
            hosts.add(f"[{address}]" if family == socket.AF_INET6 else address)
    return sorted(hosts)


def test_this_machine_under_its_own_name_and_addresses_is_asked_through_no_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with proxy() as (variables, asked), socket.socket() as closed:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        closed.bind(("127.0.0.1", 0))  # nobody listens: the command must find that itself
        for host in own_hosts():
            url = f"http://{host}:{closed.getsockname()[1]}"
            done = run("publish", "a", "x", "--token", "pmq_secret", "--retry-for", "0", url=url)
            assert (done.returncode, asked) == (3, []), url
            assert b"cannot be reached" in done.stderr


@pytest.mark.parametrize("value", ["nonsense://x", "socks5://127.0.0.1:1", "http://[", "::"])
def test_a_proxy_that_cannot_be_used_is_a_sentence(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", value)
    done = run("publish", "a", "x", "--retry-for", "0", url="http://mq.example.org")
    assert done.returncode in (1, 3)
    assert done.stderr.startswith(b"Error: ")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("localhost", True), ("LOCALHOST.", True), ("a.localhost", True),
     ("::1", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", True), ("::", True), ("2130706433", True), ("127.1", True),
     ("10.0.0.1", False), ("mq.example.org", False), ("localhost.example.org", False), ("::2", False),
     ("fe80::1%eth0", False), ("", False)],
)  # fmt: skip
def test_which_hosts_are_this_machine(host: str, here: bool) -> None:
    assert is_loopback(host) is here


# Tokens


def test_an_error_about_a_missing_token_says_how_to_give_one(tmp_path: Path) -> None:
    with start_server("--auth", "required", "--data-dir", str(tmp_path), tcp_port=0) as server:
        for command in ASKING.values():
            for flags in ((), ("--token", "pmq_wrong")):
                said = run(*command, *flags, url=server.url).stderr.decode()
                assert said.startswith("Error: ")
                assert "--token or PLAINMQ_TOKEN" in said
                assert "Bearer" not in said
