"""What a token has begun ends with it, in good order."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from app.access.authenticator import Authenticator
from app.access.claims import LEEWAY, every_right
from app.access.token_watch import CHECK_INTERVAL
from app.access.tokens import TokenFile, make_token
from app.tcp.session import MAX_AUTH_LINE
from tests.abuse.subscribers import metric
from tests.access.conftest import Guarded
from tests.access.keys import claims, put, signed
from tests.event_stream import Stream, stream
from tests.harness import DEADLINE, http_client
from tests.tcp.peer import DONE, Peer, Port, serving

_LISTENS = r'plainmq_subscribers\{kind="%s"\}'
LONG = 4.0  # seconds: a busy machine has let everybody in by then


async def test_streams_and_long_polls_end_when_the_token_expires(protected: Guarded, topic: str) -> None:
    token = signed(claims(exp=time.time() + LONG - LEEWAY))
    headers = {"Authorization": f"Bearer {token}"}
    async with http_client(protected.process.url, headers=headers) as http:
        first = (await http.post(f"/topics/{topic}/messages", content=b"x")).json()["id"]
        for name in (topic, f"{topic}.other"):
            await http.put(f"/topics/{name}/groups/g")
        ticket = (await http.post("/tickets")).json()["ticket"]
        polls = asyncio.gather(
            http.get(f"/topics/{topic}/messages?since={first}&wait=60s"),
            http.post(f"/topics/{topic}.other/groups/g/pull?wait=60s"),
        )
        streams = asyncio.gather(
            _last(protected, f"/topics/{topic}/stream", headers),
            _last(protected, f"/topics/{topic}/stream?timeout=1h", headers),
            _last(protected, f"/topics/{topic}/groups/g/stream", headers),
            _last(protected, f"/stream?topic=a&topic=b&ticket={ticket}", {}),
            _last(protected, f"/topics/{topic}/stream", {"Cookie": f"plainmq={token}"}),
        )
        assert [(answer.status_code, answer.json()["messages"]) for answer in await polls] == [(200, [])] * 2
        assert set(await streams) == {"expired"}
        assert (await http.get(f"/topics/{topic}")).status_code == 401


async def test_what_goes_on_ends_when_the_token_is_taken_out_and_others_stay(protected: Guarded, topic: str) -> None:
    every = ["**"]
    gone = protected.token(f"gone.{topic}", publish=every, subscribe=every, consume=every, admin=every)
    stays = protected.token(f"stays.{topic}", subscribe=every)
    headers = {"Authorization": f"Bearer {gone}"}
    async with (
        http_client(protected.process.url, headers=headers) as http,
        AsyncExitStack() as stack,
    ):
        await http.put(f"/topics/{topic}/groups/g")
        ticket = (await http.post("/tickets")).json()["ticket"]

        async def opened(path: str, headers: dict[str, str]) -> Stream:
            return await stack.enter_async_context(stream(protected.process, path, **headers))

        other = await opened(f"/topics/{topic}/stream", {"Authorization": f"Bearer {stays}"})
        streams = [
            await opened(f"/topics/{topic}/stream", headers),
            await opened(f"/topics/{topic}/stream?timeout=1h", headers),
            await opened(f"/topics/{topic}/groups/g/stream", headers),
            await opened(f"/stream?topic=a&topic=b&ticket={ticket}", {}),
            await opened(f"/topics/{topic}/stream", {"Cookie": f"plainmq={gone}"}),
        ]
        polls = [
            asyncio.create_task(http.get(f"/topics/{topic}/messages?since=latest&wait=60s")),
            asyncio.create_task(http.post(f"/topics/{topic}/groups/g/pull?wait=60s")),
        ]
        async with asyncio.timeout(DEADLINE):
            while await metric(http, _LISTENS % "read") != 1 or await metric(http, _LISTENS % "worker") != 2:
                pass
        lines = protected.tokens.read_bytes().splitlines(keepends=True)
        put(protected.tokens, b"".join(line for line in lines if f'"gone.{topic}"'.encode() not in line))
        assert {await _last_of(events) for events in streams} == {"revoked"}
        assert {(await poll).status_code for poll in polls} == {401}
        good = {"Authorization": f"Bearer {protected.good}"}
        assert (await http.post(f"/topics/{topic}/messages", content=b"x", headers=good)).status_code == 201
        while (event := await other.next()) and event.data != "x":
            assert event.type != "bye"
        assert event is not None


async def _last(protected: Guarded, path: str, headers: dict[str, str]) -> str:
    """The reason in the last event of the stream."""
    async with stream(protected.process, path, **headers) as events:
        return await _last_of(events)


async def _last_of(events: Stream) -> str:
    assert events.status == 200
    last = None
    while event := await events.next():
        last = event
    assert last is not None
    assert last.type == "bye"
    assert events.parser.retry is not None
    reason: str = json.loads(last.data)["reason"]
    return reason


# The line port, with a clock of our own

SOON = 0.05  # seconds


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class AccessLogMiddleware:
    """A line port whose tokens expire as the test says."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.path = folder / "tokens"
        self.path.touch(0o600)
        self.authenticator = Authenticator(file=TokenFile(self.path), clock=self.clock)

    def token(self, name: str, seconds: float | None) -> str:
        """One that is good for so long; the clock stands at full seconds."""
        return make_token(self.path, name, every_right(), None if seconds is None else self.clock.now + seconds)

    @asynccontextmanager
    async def serving(self, auth_timeout: float = DEADLINE) -> AsyncIterator[Port]:
        self.clock.now += CHECK_INTERVAL  # the file is looked at again
        async with serving(authenticator=self.authenticator, auth_timeout=auth_timeout) as port:
            yield port


@pytest.fixture
def watched(tmp_path: Path) -> AccessLogMiddleware:
    return AccessLogMiddleware(tmp_path)


@pytest.mark.parametrize(
    ("lines", "farewell"),
    [
        (["sub a"], b"BYE expired\r\n"),
        (["work a g"], b"BYE expired\r\n"),
        (['{"command":"subscribe","topic":"a"}'], b""),
        (['{"command":"subscribe","topic":"a","group":"g"}'], b""),
        (["{'command':'subscribe','topic':'a'}"], b""),
        (["ping"], b"BYE expired\r\n"),
    ],
)
async def test_a_connection_ends_when_its_token_expires(
    watched: AccessLogMiddleware, lines: list[str], farewell: bytes
) -> None:
    token = watched.token("short", 100)
    async with watched.serving() as port, port.connect() as peer:
        watched.clock.now += 99 - SOON
        said = await _after(peer, f"auth {token}", "pub a x", *lines)
        assert said.endswith(farewell)
        assert (b"BYE" in said) == bool(farewell)
        assert b"OK you are short" in said
        assert b"subscribers=0" in said
        assert sum(port.broker.subscribers().values()) == 0


async def _after(peer: Peer, *lines: str) -> bytes:
    peer.send(*lines)
    return await peer.rest()


async def test_a_connection_without_a_token_in_time_is_closed(watched: AccessLogMiddleware) -> None:
    async with watched.serving(SOON) as port, port.connect() as silent, port.connect() as program:
        program.send('{"command":"ping"}', '{"command":"auth","token":"wrong"}')
        assert await silent.rest() == b"BYE unauthorised\r\n"
        assert (await program.rest()).endswith(b'"the token is not one of this server\'s"}\r\n')


async def test_a_connection_with_a_token_that_does_not_expire_stays_open(watched: AccessLogMiddleware) -> None:
    token = watched.token("long", None)
    async with watched.serving(SOON) as port, port.connect() as silent, port.connect() as peer:
        assert await peer.ask(f"auth {token}") == b"OK you are long\r\n"
        assert await silent.rest() == b"BYE unauthorised\r\n"
        await peer.assert_quiet()


async def test_a_new_token_takes_the_place_of_one_that_is_about_to_expire(watched: AccessLogMiddleware) -> None:
    short, long = watched.token("short", 100), watched.token("long", None)
    async with watched.serving() as port, port.connect() as peer, port.connect() as other:
        watched.clock.now += 97  # three seconds are left to say the next lines
        assert await peer.ask(f"auth {short}", "sub a") == b"OK you are short\r\n"
        assert await peer.ask(f"auth {long}") == b"OK subscribed to a\r\n"
        assert await peer.line() == b"OK you are long\r\n"
        assert await _after(other, f"auth {short}") == b"OK you are short\r\nBYE expired\r\n"
        assert (await peer.ask("pub a x")).startswith(b"OK ")
        assert (await peer.line()).startswith(b"MSG a ")


async def test_a_token_that_has_no_right_to_what_is_subscribed_to_changes_nothing(watched: AccessLogMiddleware) -> None:
    good = watched.token("good", None)
    (path, name), rights = (watched.path, "narrow"), every_right()
    rights.subscribe = ["b"]
    narrow = make_token(path, name, rights)
    async with watched.serving() as port, port.connect() as peer:
        assert await peer.ask(f'{{"command":"auth","token":"{good}"}}') == DONE
        await peer.do('{"command":"subscribe","topic":"a"}')
        refused = await peer.ask(f"auth {narrow}")
        assert refused.startswith(b"ERR not_found there is no topic 'a', or this token has no right to subscribe on it")
        assert (await peer.ask("pub a x")).startswith(b"OK ")
        assert b'"msg":"x"' in await peer.line()
        await peer.do('{"command":"unsubscribe","topic":"a"}')
        assert await peer.ask(f"auth {narrow}") == b"OK you are narrow\r\n"
        assert (await peer.ask("sub a")).startswith(b"ERR not_found")


async def test_a_connection_ends_when_its_token_is_taken_out_and_others_stay(watched: AccessLogMiddleware) -> None:
    first, second = watched.token("first", None), watched.token("second", None)
    async with watched.serving() as port, port.connect() as out, port.connect() as stays:
        assert await out.ask(f"auth {first}") == b"OK you are first\r\n"
        assert await out.ask("sub a") == b"OK subscribed to a\r\n"
        assert await stays.ask(f"auth {second}") == b"OK you are second\r\n"
        first_line, second_line = watched.path.read_bytes().splitlines()
        put(watched.path, second_line + b"\n" + first_line.replace(b'"**"', b'"b"', 1))
        assert await out.rest() == b"BYE revoked\r\n"
        await stays.assert_quiet()
        assert port.broker.subscribers()["line"] == 0


async def test_without_authentication_any_token_will_do() -> None:
    async with serving() as port, port.connect() as peer:
        assert await peer.ask("auth nonsense") == b"OK you are anybody\r\n"
        assert (await peer.ask("pub a x")).startswith(b"OK ")


@pytest.mark.parametrize("line", [b"pub a %b", b"{'command':'send', 'topic':'a', 'msg':'%b'}", b'{"command":"%b"}'])
async def test_a_long_line_of_a_client_without_a_token_is_not_even_read(
    watched: AccessLogMiddleware, line: bytes
) -> None:
    watched.token("somebody", None)
    async with watched.serving() as port, port.connect() as peer:
        answer = await peer.ask(line % (b"x" * MAX_AUTH_LINE) + b"\n")
        assert b"this needs a token" in answer
        assert port.broker.counters.refusals["unauthorised"] == 1
