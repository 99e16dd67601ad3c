"""Error texts speak to people: of numbers, texts and lists, and not of Python's types."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec
import pytest

from app.access.private_files import FileInvalid, append_private
from app.access.tokens import TokenFile
from app.errors.wording import in_words
from tests.harness import Lines, ServerProcess, lines, start_server
from tests.test_cli import run

OF_PROGRAMMERS = re.compile(
    r"`(int|str|float|bool|array|object|null|datetime|key|\$)|\$\.|\benum\b|regex|\bstr\b|\bint\b"
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
    map: dict[str, float] = {}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({}, "'count' is missing"),
        ({"count": "x"}, "count: expected a whole number, got a text"),
        ({"count": 0}, "count: expected a whole number at least 1"),
        ({"count": 9}, "count: expected a whole number at most 5"),
        ({"count": 1.5}, "count: expected a whole number, got a number"),
        ({"count": 1, "maybe": []}, "maybe: expected a whole number or null, got a list"),
        ({"count": 1, "short": ""}, "short: expected at least 1 characters"),
        ({"count": 1, "short": "long"}, "short: expected at most 3 characters"),
        ({"count": 1, "shaped": "b"}, "shaped: expected a text of another form"),
        ({"count": 1, "names": {}}, "names: expected a list, got an object"),
        ({"count": 1, "names": [True]}, "names[0]: expected a text, got true or false"),
        ({"count": 1, "colour": "blue"}, "colour: 'blue' is none of the values that are allowed"),
        ({"count": 1, "when": "x"}, "when: expected a time such as 2026-01-31T12:00:00Z"),
        ({"count": 1, "when": "2026-01-01T00:00:00"}, "when: expected a time with its zone, such as Z"),
        ({"count": 1, "yes": 1}, "yes: expected true or false, got a whole number"),
        ({"count": 1, "map": {"a": "b"}}, "map[...]: expected a number, got a text"),
        ({"count": 1, "other": 1}, "'other' is not known"),
        ([], "expected an object, got a list"),
    ],
)
def test_what_does_not_fit_is_told_in_words(value: Any, sentence: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(json.dumps(value), type=Everything)
    assert in_words(caught.value) == sentence
    assert not OF_PROGRAMMERS.search(sentence)


def test_other_sentences_stay_as_they_are() -> None:
    assert in_words(ValueError("a sentence, of `this` and that")) == "a sentence, of `this` and that"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with start_server() as process:
        yield process


WRONG: tuple[Any, ...] = (
    {"max_messages": "x"},
    {"max_messages": 1.5},
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
            "{'command':'subscribe', 'topic':'a', 'last_seen':'x'}",
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
        append_private(path, json.dumps(wrong).encode())
        with pytest.raises(FileInvalid) as caught:
            TokenFile(path).read_whole()
        assert not OF_PROGRAMMERS.search(str(caught.value))


def test_a_line_that_is_no_export_is_shown(server: ServerProcess) -> None:
    for line in (b"nonsense", b'{"id":1}', b"[]", b"\xff\x1b[2J", b'{"id":"a-1"}'):
        said = run("import", stdin=line + b"\n", url=server.url).stderr.decode()
        assert said.startswith("Error: line 1: this is not a message as export writes it")
        assert not OF_PROGRAMMERS.search(said)
        assert "\x1b" not in said


@pytest.mark.parametrize("flags", [("--count", "x"), ("--timeout", "x"), ("--url", "x:y"), ("--retry-for", "-1")])
def test_options_of_commands_are_refused_in_words(flags: tuple[str, str]) -> None:
    done = run("subscribe", "a", *flags)
    assert done.returncode == 2
    assert not OF_PROGRAMMERS.search(done.stderr.decode())
