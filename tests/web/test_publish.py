"""POST /topics/{topic}/messages."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from random import Random

import httpx
import pytest

from app.errors import MessageTooLarge, OptionInvalid
from app.web.publish_request import PublishLimits, lines_of
from tests.event_stream import stream
from tests.harness import DEADLINE, ServerProcess, http_client, start_server


async def test_the_body_is_the_message_byte_for_byte(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    async with stream(server, f"/topics/{topic}/stream") as events:
        await http.post(
            f"/topics/{topic}/messages", content="größer als\n\n  two lines", headers={"Content-Type": "a/b"}
        )
        assert await events.data(1) == ["größer als\n\n  two lines"]


async def test_a_201_gives_the_position_the_subscribers_and_the_durability(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    async with stream(server, f"/topics/{topic}/stream"), stream(server, f"/topics/{topic}/stream"):
        await http.post(f"/topics/{topic}/messages", content="one")
        answer = await http.post(f"/topics/{topic}/messages", content="two")
    assert answer.status_code == 201
    body = answer.json()
    assert body.keys() == {"id", "topic", "index", "subscribers", "durability"}
    assert (body["topic"], body["index"], body["subscribers"], body["durability"]) == (topic, 1, 2, "memory")
    assert answer.headers["location"] == f"/topics/{topic}/messages/{body['id']}"


async def test_ids_rise_by_one_over_all_topics(http: httpx.AsyncClient, topic: str) -> None:
    ids = [(await http.post(f"/topics/{topic}.{n}/messages", content="x")).json()["id"] for n in range(3)]
    epochs, numbers = zip(*(id.split("-") for id in ids), strict=True)
    assert len(set(epochs)) == 1
    assert [int(n) - int(numbers[0]) for n in numbers] == [0, 1, 2]


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("with%20space", "'with space'"),
        ("nul%00byte", "'nul\\x00byte'"),
        ("%ff", "'\\ufffd'"),
        ("a..b", "'a..b'"),
        ("a//b", "'a//b'"),
        ("a/../b", "'a/../b'"),
        ("a.", "'a.'"),
        ("st*r", "'st*r'"),
        ("a.*", "'a.*'"),
        ("x" * 2_000, "1024"),
        ("%F0%9F%98%80", "'\\U0001f600'"),
    ],
)
async def test_an_unlawful_topic_is_refused_with_what_was_seen(server: ServerProcess, path: str, what: str) -> None:
    status, body = await _raw_post(server, f"/topics/{path}/messages", b"x")
    assert status == 400
    assert '"code":"topic_invalid"' in body
    assert what.replace("\\", "\\\\") in body


async def _raw_post(server: ServerProcess, target: str, body: bytes) -> tuple[int, str]:
    """A POST whose target no client library tidies up."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    async with asyncio.timeout(DEADLINE):
        answer = (await reader.read()).decode()
    writer.close()
    return int(answer.split()[1]), answer.partition("\r\n\r\n")[2]


@pytest.mark.parametrize(
    "name", ["a", "a.b/c-d_e~f", "'quotes\"", "x" * 1_024, "{}", "%41", "UPPER.lower", "a/messages"]
)
async def test_a_lawful_topic_is_taken_as_it_is(http: httpx.AsyncClient, name: str) -> None:
    answer = await http.post(
        httpx.URL("/topics/").join("").raw_path.decode() + _quoted(name) + "/messages", content="x"
    )
    assert answer.status_code == 201
    assert answer.json()["topic"] == name


def _quoted(name: str) -> str:
    return "".join(f"%{ord(char):02X}" if not char.isalnum() and char not in "./-_~" else char for char in name)


async def test_a_body_over_the_limit_is_refused_and_nothing_is_stored(http: httpx.AsyncClient, topic: str) -> None:
    largest = b"x" * (1 << 20)
    assert (await http.post(f"/topics/{topic}/messages", content=largest)).status_code == 201
    answer = await http.post(f"/topics/{topic}/messages", content=largest + b"x")
    assert (answer.status_code, answer.json()["code"]) == (413, "message_too_large")
    assert (await http.post(f"/topics/{topic}/messages", content="next")).json()["index"] == 1


async def test_a_chunked_body_over_the_limit_is_refused_while_it_comes(server: ServerProcess, topic: str) -> None:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(
        f"POST /topics/{topic}/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    for _ in range(17):
        writer.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
    async with asyncio.timeout(DEADLINE):
        assert b" 413 " in await reader.readline()
    writer.close()


async def test_a_chunked_body_is_taken(server: ServerProcess, http: httpx.AsyncClient, topic: str) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    async with stream(server, f"/topics/{topic}/stream") as events:
        await http.post(f"/topics/{topic}/messages", content=parts())
        assert await events.data(1) == ["one two"]


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        ("evnt=x", "did you mean 'event'"),
        ("delivery=some", "'some'"),
        ("retain=no", "'no'"),
        ("ttl=10", "'10'"),
        ("ttl=5m&ttl=6m", "twice"),
        ("event=gr%C3%B6n", "printable ASCII"),
        ("event=" + "x" * 129, "128"),
        ("event=a%0Ab", "printable ASCII"),
    ],
)
async def test_an_option_that_cannot_be_read_is_refused(
    http: httpx.AsyncClient, topic: str, query: str, seen: str
) -> None:
    answer = await http.post(f"/topics/{topic}/messages?{query}", content="x")
    assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")
    assert seen in answer.json()["detail"]
    assert answer.headers["content-type"] == "application/problem+json"


async def test_an_encoded_body_is_refused(http: httpx.AsyncClient, topic: str) -> None:
    answer = await http.post(f"/topics/{topic}/messages", content="x", headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (415, "encoding_unsupported")


async def test_other_paths_and_methods_are_problems_too(http: httpx.AsyncClient, topic: str) -> None:
    missing = await http.get("/nothing/here")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    wrong = await http.patch(f"/topics/{topic}/stream")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert "GET" in wrong.headers["allow"]


async def test_a_client_that_leaves_in_the_middle_of_its_body_stores_nothing(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    with socket.create_connection((server.host, server.port)) as leaver:
        leaver.sendall(
            f"POST /topics/{topic}/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf".encode()
        )
    assert (await http.post(f"/topics/{topic}/messages", content="whole")).json()["index"] == 0


async def test_health_answers(http: httpx.AsyncClient) -> None:
    assert (await http.get("/livez")).text == "ok\n"
    assert (await http.get("/readyz")).text == "ok\n"


NDJSON = {"Content-Type": "application/x-ndjson"}


async def test_each_line_of_a_batch_is_a_message(server: ServerProcess, http: httpx.AsyncClient, topic: str) -> None:
    async with stream(server, f"/topics/{topic}/stream") as events:
        answer = await http.post(f"/topics/{topic}/messages", content='{"a":1}\n\n[2]\r\nthree', headers=NDJSON)
        body = answer.json()
        ids = [event.last_event_id for event in await events.take(3)]
    assert answer.status_code == 201
    assert (body["id"], body["last"], body["count"], body["index"], body["subscribers"]) == (ids[0], ids[2], 3, 0, 1)
    page = (await http.get(f"/topics/{topic}/messages")).json()["messages"]
    assert [message["data"] for message in page] == ['{"a":1}', "[2]", "three"]


@pytest.mark.parametrize("body", [b"", b"\n", b"\r\n\n", b"\r\r\r"])
async def test_a_batch_of_line_ends_only_has_no_message(http: httpx.AsyncClient, topic: str, body: bytes) -> None:
    answer = await http.post(
        f"/topics/{topic}/messages", content=body, headers={"Content-Type": "application/x-ndjson"}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")
    assert (await http.get(f"/topics/{topic}")).status_code == 404


def test_a_batch_is_cut_as_by_a_search_for_every_line_end() -> None:
    """The short way of cutting it, with the slow one."""
    chance = Random(7)
    for _ in range(5_000):
        body = b"".join(chance.choices((b"a", b"bc", b"\r", b"\n", b"\r\n"), (4, 2, 2, 3, 3), k=chance.randrange(12)))
        lines = [line for line in body.replace(b"\r\n", b"\n").split(b"\n") if line.strip(b"\r")]
        try:
            cut = lines_of(body, PublishLimits(message=4, batch_messages=3))
        except MessageTooLarge:
            assert body.count(b"\n") > 3 or len(lines) > 3 or max(map(len, lines)) > 4
        except OptionInvalid:
            assert not lines
        else:
            assert cut == lines
            assert len(lines) <= 3 >= body.count(b"\n")


async def test_a_batch_is_stored_whole_or_not_at_all(http: httpx.AsyncClient, topic: str) -> None:
    for content, status in (
        (b"small\n" + b"x" * (1 << 20) + b"y", 413),
        (b"x\n" * 10_001, 413),
        (b"\n" * 10_001 + b"x", 413),  # empty lines are not free either
        (b"\n\r\n\n", 400),
        (b"x" * ((16 << 20) + 1), 413),
    ):
        answer = await http.post(f"/topics/{topic}/messages", content=content, headers=NDJSON)
        assert answer.status_code == status
    assert (await http.get(f"/topics/{topic}")).status_code == 404


async def test_the_same_key_stores_once_and_answers_the_same(http: httpx.AsyncClient, topic: str) -> None:
    key = {"Idempotency-Key": "order 17"}
    first = await http.post(f"/topics/{topic}/messages", content="x", headers=key)
    again = await http.post(f"/topics/{topic}/messages", content="x", headers=key)
    other = await http.post(f"/topics/{topic}/messages", content="x", headers={"Idempotency-Key": "order 18"})
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 201)
    assert again.json() == first.json() | {"duplicate": True}
    assert (await http.get(f"/topics/{topic}")).json()["messages"] == 2


@pytest.mark.parametrize("key", ["x" * 129, "gr\xfcn"])
async def test_a_key_that_is_too_long_or_not_printable_is_refused(
    http: httpx.AsyncClient, topic: str, key: str
) -> None:
    headers = {"Idempotency-Key": key.encode("latin-1")}
    answer = await http.post(f"/topics/{topic}/messages", content="x", headers=headers)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")


async def test_a_delay_is_a_year_at_most(http: httpx.AsyncClient, topic: str) -> None:
    assert (await http.post(f"/topics/{topic}/messages?delay=366d", content="later")).status_code == 202
    refused = await http.post(f"/topics/{topic}/messages?delay=367d", content="too late")
    assert (refused.status_code, refused.json()["code"]) == (400, "option_invalid")
    assert "from 0 to 366d" in refused.json()["detail"]
    assert (await http.get(f"/topics/{topic}")).json()["delayed"] == 1
    await http.delete(f"/topics/{topic}")
    assert (await http.get(f"/topics/{topic}")).status_code == 404


async def test_a_delayed_message_is_accepted_now_and_published_when_due(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    async with stream(server, f"/topics/{topic}/stream") as events:
        answer = await http.post(f"/topics/{topic}/messages?delay=200ms", content="later")
        assert answer.status_code == 202
        assert (answer.json()["scheduled"], answer.json()["due"][-1]) == (1, "Z")
        await http.post(f"/topics/{topic}/messages", content="now")
        assert await events.data(2) == ["now", "later"]


async def test_a_full_log_refuses_and_says_what_to_do() -> None:
    with start_server("--max-message", "10B", "--max-total-bytes", "7KiB", tcp_port=0) as small:
        async with http_client(small.url) as client:
            statuses = [(await client.post(f"/topics/t{n}/messages", content="x")).status_code for n in range(6)]
            assert statuses == [201, 201, 201, 201, 507, 507]
            refused = await client.post("/topics/t9/messages", content="x")
            assert refused.json()["code"] == "log_full"
            await client.delete("/topics/t0")
            assert (await client.post("/topics/t9/messages", content="x")).status_code == 201


async def test_one_topic_too_many_is_refused() -> None:
    with start_server("--max-topics", "2", tcp_port=0) as small:
        async with http_client(small.url) as client:
            answers = [await client.post(f"/topics/t{n}/messages", content="x") for n in range(3)]
            assert [answer.status_code for answer in answers] == [201, 201, 429]
            assert answers[2].json()["code"] == "topic_limit"
            assert (await client.post("/topics/t0/messages", content="x")).status_code == 201


FORM = "application/x-www-form-urlencoded"  # what curl, wget and others send when nobody says what the body is
TEXT, BYTES = "text/plain; charset=utf-8", "application/octet-stream"


@pytest.mark.parametrize("query", ["", "?event=x"])  # with the fast path and without
@pytest.mark.parametrize(
    ("said", "body", "kept"),
    [
        (FORM, b"hello", TEXT),
        (FORM, b"", TEXT),
        (FORM, "Grüße 🙂".encode(), TEXT),
        (FORM, b"\x89PNG\xff", BYTES),
        (FORM.title(), b"hello", TEXT),
        ("", b"hello", TEXT),
        ("", b"\xff", BYTES),
        (f"{FORM}; charset=utf-8", b"a=b", f"{FORM}; charset=utf-8"),  # of a page, which means it
        ("text/plain", b"\xff", "text/plain"),
        ("application/json", b"{}", "application/json"),
    ],
)
async def test_a_body_without_a_content_type_is_text_or_bytes(
    http: httpx.AsyncClient, topic: str, said: str, body: bytes, kept: str, query: str
) -> None:
    headers = {"Content-Type": said} if said else {}
    path = f"/topics/{topic}/messages"
    for mixed in (body, b"text between", body, b"\xfe\xff", body):  # the same head again and again
        location = (await http.post(path + query, content=mixed, headers=headers)).headers["location"]
        if mixed == body:
            assert (await http.get(location)).headers["content-type"] == kept
    page = (await http.get(path)).json()["messages"]
    assert [record["content_type"] for record in page[::2]] == [kept] * 3
    assert all(("data_base64" in record) == (b"\xff" in body) for record in page[::2])


async def test_what_comes_in_one_turn_from_several_keeps_its_own_content_type(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    """As from clients of which some say what they send, to the same topic at the same time."""
    kinds = [(FORM, b"text"), (FORM, b"\xff"), ("image/png", b"\xff"), ("", b"text"), (BYTES, b"text")]
    requests = [
        f"POST /topics/{topic}/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
        for kind, body in kinds * 20
    ]
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"".join(requests[:90]))
    async with asyncio.timeout(DEADLINE):
        for _ in requests[:90]:
            assert b" 201 " in await reader.readuntil(b'"durability":"memory"}\n')
    writer.close()
    page = (await http.get(f"/topics/{topic}/messages?limit=90")).json()["messages"]
    assert [record["content_type"] for record in page] == [TEXT, BYTES, "image/png", TEXT, BYTES] * 18


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
async def test_what_curl_sends_without_a_word_is_text(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    url = f"{server.url}/topics/{topic}/messages"
    for body in (b"hello", b"\xff\xfe"):
        curl = await asyncio.create_subprocess_exec(
            *("curl", "-sf", "--data-binary", "@-", url), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        await curl.communicate(body)
        assert curl.returncode == 0
    page = (await http.get(f"/topics/{topic}/messages")).json()["messages"]
    assert [record["content_type"] for record in page] == [TEXT, BYTES]
