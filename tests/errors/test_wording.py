"""Error texts speak to people: of numbers, texts and lists, and not of Python's types."""

import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec
import pytest

from app.access.claims import Name
from app.access.private_files import FileInvalid
from app.access.tokens import Hash, TokenFile
from app.errors.wording import cause, in_words, quoted
from app.tcp.dialects.python_literals import AnyLine
from app.web.api.groups import Deliveries
from tests.access.keys import put
from tests.cli.commands import run
from tests.harness import ServerProcess, start_server
from tests.line_client import Lines, lines

OF_PROGRAMMERS = re.compile(
    r"`(int|str|float|bool|array|object|null|datetime|key|\$)|\$\.|\benum\b|regex|\bstr\b|\bint\b"
    r"|another form|(?<![\d.])\d+\.0(?![\d.])|\bb['\"]"
    r"|got `|bytearray|Errno|_ssl\.c|NoneType|recursion|\bsys\.|at line|\bURL\(|pip "
    r"|\b1 (?:characters|items)|A-label|\b(integer|float) range|codec|Traceback|truncated"
)


class Colour(Enum):
    RED = "red"


class Everything(msgspec.Struct, forbid_unknown_fields=True):
    count: Annotated[int, msgspec.Meta(ge=1, le=5)]
    maybe: int | None = None
    short: Annotated[str, msgspec.Meta(min_length=1, max_length=3)] = "a"
    shaped: Annotated[str, msgspec.Meta(pattern="^a")] = "a"
    names: list[str] = []
    colour: Colour = Colour.RED
    when: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    yes: bool = True
    named: Name = "a"
    hashed: Hash = "0" * 64
    whole: Deliveries = 1
    map: dict[str, float] = {}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({}, "'count' is missing"),
        ({"count": "x"}, "count: expected a whole number, got a text"),
        ({"count": 0}, "count: expected a whole number of at least 1"),
        ({"count": 9}, "count: expected a whole number of at most 5"),
        ({"count": 1.5}, "count: expected a whole number, got a number"),
        ({"count": 1, "maybe": []}, "maybe: expected a whole number or null, got a list"),
        ({"count": 1, "short": ""}, "short: expected at least 1 character"),
        ({"count": 1, "short": "long"}, "short: expected at most 3 characters"),
        ({"count": 1, "shaped": "b"}, "shaped: it has characters that it cannot have"),
        ({"count": 1, "names": {}}, "names: expected a list, got an object"),
        ({"count": 1, "names": [True]}, "names[0]: expected a text, got true or false"),
        ({"count": 1, "colour": "blue"}, "colour: 'blue' is not an allowed value"),
        ({"count": 1, "when": "x"}, "when: expected a time such as 2026-01-31T12:00:00Z"),
        ({"count": 1, "when": "2026-01-01T00:00:00"}, "when: expected a time with its zone, such as Z"),
        ({"count": 1, "yes": 1}, "yes: expected true or false, got a whole number"),
        ({"count": 1, "map": {"a": "b"}}, "map[...]: expected a number, got a text"),
        ({"count": 1, "other": 1}, "'other' is not known"),
        ({"count": 1, "\x1b[2J" + "x" * 99: 1}, r"'\u001b[2J" + "x" * 56 + "' is not known"),
        ({"count": 1, "named": "a b"}, "named: expected printable ASCII without blanks"),
        ({"count": 1, "hashed": "a b"}, "hashed: expected 64 of the characters 0-9 and a-f"),
        ({"count": 1, "whole": 1.5}, "whole: expected a whole number"),
        ({"count": 1, "whole": 0}, "whole: expected a number of at least 1"),
        ({"count": 1, "whole": 2e9}, "whole: expected a number of at most 1000"),
        ([], "expected an object, got a list"),
    ],
)
def test_a_validation_error_is_a_sentence(value: Any, sentence: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(json.dumps(value), type=Everything)
    assert in_words(caught.value) == sentence
    assert not OF_PROGRAMMERS.search(sentence)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the JSON is incomplete"), (b'{"count":', "the JSON is incomplete"),
        (b'{"short":"\\ud800"}', "the JSON is incomplete"),
        (b"nonsense", "it is not JSON: invalid character near byte 4"),
        (b'{"count":1}x', "it is not JSON: trailing characters near byte 12"),
        (b'{"count":1e999}', "count: the number is too large"),
    ],
)  # fmt: skip
def test_an_error_in_json_names_its_position(body: bytes, sentence: str) -> None:
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(body, type=Everything)
    assert in_words(caught.value) == sentence


def test_message_text_is_shown_as_it_is_without_control_characters() -> None:
    assert quoted("größe") == "'größe'"
    assert quoted(b"[1,2") == "'[1,2'"
    assert quoted(b"\xff\x1b[2J\n") == r"'\xff\u001b[2J\u000a'"
    assert quoted("x" * 100, 3) == "'xxx'"
    assert quoted("\u202e\udcff") == r"'\u202e\udcff'"


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("[Errno 111] Connection refused", "Connection refused"),
        ("[X509: NO_CERTIFICATE] no certificate found (_ssl.c:4154)", "no certificate found"),
        ("Server disconnected.", "Server disconnected"),
    ],
)
def test_a_cause_is_reported_without_error_numbers(said: str, left: str) -> None:
    assert cause(OSError(said)) == left


VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 10**30, 1.5, 1e300, "", "x", "x" * 200, [], [None], [[]], {}, {"a": None}, {1, 2}, (1,), b"x",
    1j,
)  # fmt: skip


@pytest.mark.parametrize("field", [*Everything.__struct_fields__, "command"])
def test_no_error_of_any_field_uses_words_of_programmers(field: str) -> None:
    """As a body of JSON has it, and as a Python literal."""
    sentences = set()
    for value in VALUES:
        for given, kind in (
            ({"count": 1, field: value}, Everything),
            ({field: value}, AnyLine),
            ({"command": "send", "topic": "a", "msg": "", field: value}, AnyLine),
        ):
            try:
                msgspec.convert(given, kind)
                msgspec.json.decode(msgspec.json.encode(given), type=kind)
            except msgspec.ValidationError as error:
                sentences.add(in_words(error))
            except (TypeError, NotImplementedError):  # JSON has no such value
                pass
    assert sentences
    assert not [sentence for sentence in sentences if OF_PROGRAMMERS.search(sentence)]


def test_other_sentences_stay_as_they_are() -> None:
    assert in_words(ValueError("a sentence, of `this` and that")) == "a sentence, of `this` and that"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with start_server() as process:
        yield process


RAW = (
    b"{", b"nonsense", b"tru", b"\xff", b'{"a\xff":1}', b'{"max_age":"\xff"}', b'"\\ud800"', b"[" * 2_000, b"{1:2}",
    b"NaN", b'{"max_messages":1e999}', b'{"max_messages":' + b"9" * 5_000 + b"}", b'{"max_messages":01}',
    b'{"x":' + b"[" * 50_000,
)  # fmt: skip


@pytest.mark.parametrize("body", RAW, ids=range(len(RAW)))
def test_a_body_that_is_no_json_is_refused_in_words(server: ServerProcess, body: bytes) -> None:
    httpx.post(f"{server.url}/topics/a/messages", content=b"x")
    answers = [httpx.put(f"{server.url}/topics/a{path}", content=body) for path in ("", "/groups/g")]
    for answer in (*answers, httpx.post(f"{server.url}/topics/a/groups/g/ack", content=body)):
        assert answer.status_code == 400
        assert not OF_PROGRAMMERS.search(answer.json()["detail"]), answer.text


PROXIES = ("foo://x:1", "http://127.0.0.1:99999", "socks5://x", "http://x:y", "ftp://x")


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_proxy_that_cannot_be_used_is_refused_in_words(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    said = run("publish", "a", "x", "--retry-for", "0", url="http://192.0.2.1").stderr.decode()
    assert said == (
        f"Error: the proxy '{proxy}' (HTTP_PROXY) cannot be used: expected the URL of an HTTP proxy, such as "
        "http://127.0.0.1:3128\n"
    )


WRONG: tuple[Any, ...] = (
    {"max_messages": "x"},
    {"max_messages": 1.5},
    {"max_messages": 0},
    {"max_bytes": []},
    {"max_age": 5},
    {"nonsense": 1},
    [],
    "x",
    None,
)


def test_settings_of_topics_and_groups_are_refused_in_words(server: ServerProcess) -> None:
    httpx.post(f"{server.url}/topics/a/messages", content=b"x")
    bodies: dict[str, tuple[Any, ...]] = {
        "/topics/a": WRONG,
        "/topics/a/groups/g": ({"ack_timeout": 5}, {"max_deliveries": "many"}, {"start": 1}, {"other": 1}, []),
    }
    for path, wrong in bodies.items():
        for body in wrong:
            answer = httpx.put(f"{server.url}{path}", content=json.dumps(body))
            assert answer.status_code == 400
            assert not OF_PROGRAMMERS.search(answer.json()["detail"]), answer.text
    wrong_ids: tuple[Any, ...] = ({}, {"ids": "x"}, {"ids": [1]}, {"ids": None}, [])
    for ids in wrong_ids:
        answer = httpx.post(f"{server.url}/topics/a/groups/g/ack", content=json.dumps(ids))
        assert answer.status_code in (400, 404)
        assert not OF_PROGRAMMERS.search(answer.json()["detail"]), answer.text


async def test_literals_are_refused_in_words(server: ServerProcess) -> None:
    async with lines(server) as peer:
        for line in (
            "{'command':'send'}", "{'command':'send', 'topic':1, 'msg':2}", "{'command':'nonsense'}", "{'command':1}",
            "{'command':'send', 'topic':'a', 'msg':'b', 'cache':1}", "(1,)", "'x'", "{'command':'send', 'x':1}",
            "{'command':'send', 'topic':'a', 'msg':'b', 'delivery':'some'}", "{'a':1, 2:3}",
            "{'command':'subscribe', 'topic':'a', 'last_seen':'x'}", r"{'a':'\x'}", "{'command'",
            "{'command':None}", "{'command':['send']}", "{'command':'send', 'topic':1j, 'msg':'x'}", "{'a'=1}", "'a",
            "{'command':'send', 'topic':'a', 'msg':" + "9" * 5_000 + "}", "{'command':(1,)}",
        ):  # fmt: skip
            assert not OF_PROGRAMMERS.search(await refused(peer, line)), line


async def refused(peer: Lines, line: str) -> str:
    peer.send(line)
    answer = (await peer.next()).decode()
    assert "'success': False" in answer
    return answer.replace("{'command'", "")  # the examples


def test_a_line_of_the_file_of_tokens_is_refused_in_words(tmp_path: Path) -> None:
    for number, wrong in enumerate(({"name": 1}, {"name": "a", "sha256": 1}, {"name": ""}, {"name": "a", "x": 1}, [])):
        path = tmp_path / str(number)
        put(path, json.dumps(wrong).encode())
        with pytest.raises(FileInvalid) as caught:
            TokenFile(path).read_whole()
        assert not OF_PROGRAMMERS.search(str(caught.value))


def test_a_line_that_is_no_export_is_shown(server: ServerProcess) -> None:
    for line in (b"nonsense", b'{"id":1}', b"[]", b"\xff\x1b[2J", b'{"id":"a-1"}'):
        said = run("import", stdin=line + b"\n", url=server.url).stderr.decode()
        assert said.startswith("Error: line 1: this is not a message as export writes it")
        assert not OF_PROGRAMMERS.search(said)
        assert "\x1b" not in said


FLAGS = [
    ("--count", "x"), ("--count", "0"), ("--timeout", "x"), ("--url", "x:y"), ("--retry-for", "-1"),
    ("--url", "http://127.0.0.1:99999"), ("--url", "http://[x"), ("--url", " "), ("--url", "http://x:0"),
    ("--url", "http://xn--/"), ("--url", "http://a:xy"), ("--ca", "/etc/passwd"), ("--token", "\xe9"),
]  # fmt: skip


@pytest.mark.parametrize("flags", FLAGS)
def test_options_of_commands_are_refused_in_words(flags: tuple[str, str]) -> None:
    done = run("subscribe", "a", *flags)
    assert done.returncode == 2
    assert not OF_PROGRAMMERS.search(done.stderr.decode())


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("subscribe", "a", "--count", "0"), "'0' is not a whole number of at least 1"),
        (("bench", "--size", "x"), "'x' is not a whole number from 20 to 1048576"),
        (("bench", "--rate", "x"), "'x' is not a number from 0.1 to 1000000"),
        (("echo", "70000"), "'70000' is not a whole number from 0 to 65535"),
    ],
)
def test_an_error_about_a_number_names_its_bounds(command: tuple[str, ...], sentence: str) -> None:
    assert sentence in run(*command).stderr.decode()


@contextmanager
def answering(data: bytes) -> Iterator[str]:
    """A server that sends this to each client, and closes: its address."""
    with socket.create_server(("127.0.0.1", 0)) as sock, ThreadPoolExecutor(1) as pool:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = sock.accept()
                    with client:
                        client.recv(1 << 16)
                        client.sendall(data)

        pool.submit(serve)
        try:
            yield "http://{}:{}".format(*sock.getsockname())
        finally:
            sock.shutdown(socket.SHUT_RDWR)


HOSTILE = {
    b"ERR unknown_command nonsense\r\n\r\n": "does not answer in HTTP",
    b"\xff" * 200_000: "does not answer in HTTP",
    b"": "closed the connection before its answer was complete",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{": "closed the connection before its answer was complete",
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n[1,2": "this is not an answer of plainmq: '[1,2'",
}


@pytest.mark.parametrize("data", HOSTILE)
def test_an_error_about_a_server_of_another_kind_is_a_sentence(data: bytes) -> None:
    with answering(data) as url:
        said = run("publish", "a", "x", "--retry-for", "0", url=url).stderr.decode()
    assert HOSTILE[data] in said
    assert not OF_PROGRAMMERS.search(said)


def test_an_error_about_a_header_value_does_not_show_its_bytes(server: ServerProcess) -> None:
    for flag in ("--key", "--content-type"):
        done = run("publish", "a", "x", flag, "a\nb", url=server.url)
        assert done.returncode == 1
        assert "a key or a content type has characters that no header can have" in done.stderr.decode()
        assert not OF_PROGRAMMERS.search(done.stderr.decode())


def test_a_load_without_a_token_says_how_to_give_one(tmp_path: Path) -> None:
    with start_server("--auth", "required", "--data-dir", str(tmp_path)) as locked:
        lines = f"127.0.0.1:{locked.tcp_port}"
        for flags in ((), ("--line-port", lines), ("--token", "wrong"), ("--line-port", lines, "--token", "wrong")):
            done = run("bench", "publish", "--seconds", "1s", *flags, url=locked.url)
            assert done.returncode == 1
            said = done.stderr.decode()
            assert said == "Error: the server asks for a token: give a valid one with --token or PLAINMQ_TOKEN\n"


def test_a_load_that_is_refused_shows_the_sentence_and_no_json(server: ServerProcess) -> None:
    said = run("bench", "publish", "--topic", "a b", "--seconds", "1s", url=server.url).stderr.decode()
    assert said.startswith("Error: the server refuses: 'a b' is not a topic: expected ")
    assert "{" not in said
    other = run("bench", "publish", "--seconds", "1s", url=f"http://127.0.0.1:{server.tcp_port}").stderr.decode()
    assert other == ("Error: the server closed a connection without an answer: is that the port of another protocol?\n")
