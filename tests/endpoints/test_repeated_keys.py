"""A key that stands twice in a request: programs disagree which one counts, so the request is refused."""

import json
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from app.access.private_files import FileInvalid
from app.access.tokens import TokenFile
from app.messages.json_keys import repeated_key
from app.tcp.dialects.base import BadArguments
from app.tcp.dialects.json_objects import AnyLine, JsonDialect
from tests.access.keys import put
from tests.harness import ServerProcess, http_client, start_server
from tests.line_client import Lines, lines


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with start_server() as process:
        yield process


@pytest.fixture
async def peer(server: ServerProcess) -> AsyncIterator[Lines]:
    async with lines(server) as peer:
        yield peer


BODIES = [
    ("PUT", "/topics/a", b'{"max_messages":1,"max_messages":2}', "max_messages"),
    ("PUT", "/topics/a", b'{"max_messages":1,"max_age":"1h", "max_m\\u0065ssages" : 2}', "max_messages"),
    ("PUT", "/topics/a/groups/g", b'{"max_deliveries":1,"max_deliveries":1}', "max_deliveries"),
    ("POST", "/topics/a/groups/g/ack", b'{"ids":["k3f9a2-1"],"ids":["k3f9a2-2"]}', "ids"),
]


@pytest.mark.parametrize(("method", "path", "body", "key"), BODIES)
def test_a_body_with_a_key_twice_is_refused_and_changes_nothing(
    server: ServerProcess, method: str, path: str, body: bytes, key: str
) -> None:
    assert httpx.post(f"{server.url}/topics/a/messages", content=b"x").status_code == 201
    assert httpx.put(f"{server.url}/topics/a/groups/g").is_success
    before = httpx.get(f"{server.url}/topics/a").json()["retention"]
    answer = httpx.request(method, server.url + path, content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")
    assert answer.json()["detail"].endswith(f"'{key}' is given twice")
    assert httpx.get(f"{server.url}/topics/a").json()["retention"] == before


MALFORMED = b'{"success": false, "reason": "Malformed json message"}\r\n'
TWICE = [
    '{"command":"send","topic":"a","topic":"b","msg":"x","delivery":"all"}',
    '{"command":"send","topic":"a","msg":"x","delivery":"all","topi\\u0063" :"b"}',
    '{"command":"send","topic":"a","msg":"x","delivery":"one","delivery":"all"}',
    '{"command":"ping","command":"send","topic":"a","msg":"x","delivery":"all"}',
    '{"command":"send","topic":"a","msg":"x","msg":"' + "y" * 1_000 + '","delivery":"all"}',
    '{"command":"send","topic":"a","msg":"' + "y:" * 100_000 + '","msg":"' + "y:" * 99_000 + '","delivery":"all"}',
    '{"command":"subscribe","topic":"a","topic":"b"}',
    '{"command":"ping","command":"ping"}',
    '{"command":"ack","topic":"a","group":"g","id":"a-1","id":"a-2"}',
]


@pytest.mark.parametrize("line", TWICE, ids=range(len(TWICE)))
async def test_a_line_of_json_with_a_key_twice_is_refused(peer: Lines, line: str) -> None:
    peer.send(line)
    assert await peer.next() == MALFORMED


@pytest.mark.parametrize(
    "text", ['":', '"topic":"b"', "12:00 http://x", '{"a":1,"a":2}', "\\:\\", ":" * 2_000, '\u00fc":']
)
async def test_a_message_may_have_anything_that_looks_like_a_key(peer: Lines, text: str) -> None:
    line = {"command": "send", "topic": "c", "msg": text, "delivery": "all", "cache": True}
    for separators in ((",", ":"), (", ", ": "), (" ,\t", " : ")):
        peer.send(json.dumps(line, separators=separators))
        assert await peer.next() == b'{"success": true}\r\n'


@pytest.mark.parametrize(
    "line",
    [
        "{'command':'send', 'topic':'a', 'topic':'b', 'msg':'x'}",
        "{'command':'send', 'topic':'a', 'msg':'x', 'msg':'y'}",
        "{'command':'send', 'topic':'a', 'msg':1, 'topic':'b'}",
        "{'command':'send', 'topic':'a', 'msg':1, 'top' 'ic':'b'}",
    ],
)
async def test_a_literal_with_a_key_twice_is_refused(peer: Lines, line: str) -> None:
    peer.send(line)
    assert b"is given twice" in await peer.next()


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1e400", "NaN", "Infinity"])
async def test_a_number_that_no_number_can_hold_is_refused(server: ServerProcess, peer: Lines, number: str) -> None:
    peer.send(f'{{"command":"subscribe","topic":"a","last_seen":{number}}}')
    assert b'"success": false' in await peer.next()
    async with http_client(server.url) as http:
        for path, key in (("", "max_messages"), ("", "max_bytes"), ("/groups/g", "max_deliveries")):
            answer = await http.put(f"/topics/a{path}", content=f'{{"{key}":{number}}}')
            assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")


async def test_an_index_beyond_all_indices_is_an_index_and_a_setting_beyond_its_bounds_is_refused(
    server: ServerProcess, peer: Lines, topic: str
) -> None:
    nines = "9" * 400
    peer.send(f'{{"command":"subscribe","topic":"{topic}","last_seen":{nines}}}')
    assert await peer.next() == b'{"success": true}\r\n'
    peer.send(f"pub {topic} new")
    assert b'"msg":"new"' in await peer.next() + await peer.next()  # beside the reply
    async with http_client(server.url) as http:
        answer = await http.put(f"/topics/{topic}", content=f'{{"max_messages":{nines}}}')
        assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")


def test_a_token_with_a_key_twice_is_refused(tmp_path: Path) -> None:
    line = {"name": "a", "sha256": "0" * 64, "publish": ["x"]}
    put(tmp_path / "tokens", json.dumps(line)[:-1].encode() + b', "publish": ["**"]}')
    with pytest.raises(FileInvalid, match=r"line 1 of .* is not a token: 'publish' is given twice"):
        TokenFile(tmp_path / "tokens").read_whole()


def test_the_short_way_finds_what_the_slow_way_finds() -> None:
    draw, dialect, found = random.Random(6), JsonDialect(), {True: 0, False: 0}
    texts = ("x", "a:b", '{"a":1}', '\\":', "", "y" * 300, ":" * 50)
    for _ in range(3_000):
        keys = ["command", "topic", "msg", "delivery", *draw.choices(("cache", "topic", "msg", "delivery"), k=2)]
        draw.shuffle(keys)
        values = {"command": '"send"', "topic": '"a"', "delivery": '"all"', "cache": "true"}
        pairs = [(key, values.get(key) or json.dumps(draw.choice(texts))) for key in keys[: draw.randint(4, 6)]]
        colon, comma = draw.choice((":", ": ", " :")), draw.choice((",", ", ", " ,\t"))
        line = ("{" + comma.join(f'"{key}"{colon}{value}' for key, value in pairs) + "}").encode()
        try:
            msgspec.json.decode(line, type=AnyLine)
        except msgspec.ValidationError:
            continue
        try:
            dialect.parse(line)
            refused = False
        except BadArguments:
            refused = True
        assert refused == (repeated_key(line) is not None), line
        found[refused] += 1
    assert min(found.values()) > 100


def test_each_line_says_how_many_keys_it_has_at_least() -> None:
    for kind in AnyLine.__args__:
        required = [field for field in msgspec.structs.fields(kind) if field.required]
        assert kind.least_keys == 1 + len(required), kind
