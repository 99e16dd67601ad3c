"""Tickets: one stream each, and the way back to it."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest

from app.access.claims import Rights, every_right
from app.access.startup import TICKET_KEY_FILE
from app.access.tickets import ARRIVED
from app.access.tokens import make_token
from tests.access.conftest import Guarded, guarded
from tests.access.keys import SECRET, claims, put, signed
from tests.clients.proxy import proxy
from tests.event_stream import Stream, stream
from tests.harness import DEADLINE, ServerProcess, free_port, http_client, start_server, start_uvicorn_with


@asynccontextmanager
async def client(server: ServerProcess, token: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {token}"}
    async with http_client(server.url, headers=headers) as http:
        yield http


async def ticket_of(server: ServerProcess, token: str) -> str:
    async with client(server, token) as http:
        ticket: str = (await http.post("/tickets")).json()["ticket"]
        return ticket


async def publish(server: ServerProcess, token: str, topic: str, *bodies: str) -> None:
    async with client(server, token) as http:
        for body in bodies:
            assert (await http.post(f"/topics/{topic}/messages", content=body)).status_code == 201


async def status(server: ServerProcess, path: str, last_id: str = "") -> int:
    async with stream(server, path, **({"Last_Event_ID": last_id} if last_id else {})) as events:
        return events.status


async def last_id(events: Stream, placed: bool = True) -> str:
    """Of a stream that nothing was published to since: as an EventSource has it. `placed`: the place in the log too."""
    assert events.status == 200
    async with asyncio.timeout(DEADLINE):
        while not events.parser.id or (placed and events.parser.id.startswith("~")):
            await events.feed()
    return events.parser.id


async def test_of_many_clients_with_one_ticket_one_gets_in(protected: Guarded, topic: str) -> None:
    path = f"/topics/{topic}/stream?ticket={await ticket_of(protected.process, protected.good)}"
    async with AsyncExitStack() as stack:  # which keeps them open
        streams = await asyncio.gather(*(stack.enter_async_context(stream(protected.process, path)) for _ in range(20)))
        assert sorted(events.status for events in streams) == [200] + [401] * 19


async def test_a_client_that_was_cut_off_reconnects_with_the_ticket_and_the_last_id(
    protected: Guarded, topic: str
) -> None:
    path = f"/topics/{topic}/stream?ticket={await ticket_of(protected.process, protected.good)}"
    async with stream(protected.process, path) as events:
        seen = [await last_id(events)]  # also before there was a message
        await publish(protected.process, protected.good, topic, "1", "2")
        first, second = await events.take(2)
        seen += [first.last_event_id, second.last_event_id]
    await publish(protected.process, protected.good, topic, "3")
    for place, rest in zip(seen, (["1", "2", "3"], ["2", "3"], ["3"]), strict=True):
        async with stream(protected.process, path, Last_Event_ID=place) as events:
            assert await events.data(len(rest)) == rest
            assert events.parser.id.partition("~")[2] == place.partition("~")[2]


async def test_a_spent_ticket_and_an_id_that_anybody_could_know_open_nothing(protected: Guarded, topic: str) -> None:
    ticket, other = [await ticket_of(protected.process, protected.good) for _ in range(2)]
    path = f"/topics/{topic}/stream?ticket={ticket}"
    async with (
        stream(protected.process, path) as events,
        stream(protected.process, f"/topics/b/stream?ticket={other}") as others,
    ):
        place, elsewhere = await last_id(events), await last_id(others)
        id, mark, way_back = place.partition("~")
        assert len(mark + way_back) == 17
        for wrong in (
            "",
            id,
            f"{id}~",
            f"{id}~{way_back[:-1]}",
            f"{id}~{way_back}x",
            f"{id}~{'A' * 16}",
            elsewhere,
            "~",
        ):
            assert await status(protected.process, path, wrong) == 401
        for option in ("last_event_id", "lastEventId", "since"):  # logs keep it there
            assert await status(protected.process, f"{path}&{option}={place}") == 401
        for beyond in (
            f"/topics/{topic}.b/stream?",
            "/topics/**/stream?",
            f"/stream?topic={topic}&topic=b&",
            "/stream?topic=**&",
        ):
            assert await status(protected.process, f"{beyond}ticket={ticket}", place) == 401
        assert await status(protected.process, f"/topics/{topic}/stream?ticket={protected.good}", place) == 401
        assert await status(protected.process, f"/topics/{topic}/stream", place) == 401
        assert await status(protected.process, f"/topics/{topic}/messages?ticket={ticket}", place) == 401
        assert await status(protected.process, path, place) == 200


@pytest.mark.parametrize("origin", ["", "http://a.example"])
async def test_a_stream_that_is_refused_spends_no_ticket(tmp_path: Path, origin: str) -> None:
    """Who asks once more is told the cause again."""
    tokens = tmp_path / "tokens"
    token = make_token(tokens, "good", Rights(subscribe=["a", "**"], consume=["a"]))
    sitting = make_token(tokens, "sitting", every_right())
    flags = ("--tokens", str(tokens), "--max-subscribers", "1", "--allowed-origins", "http://a.example")
    headers = {"Origin": origin} if origin else {}
    with start_server(*flags, tcp_port=0) as server:
        ticket = await ticket_of(server, token)
        async with http_client(server.url, headers=headers) as page:

            async def refused(path: str) -> int:
                codes = [(await page.get(f"{path}ticket={ticket}")).status_code for _ in range(2)]
                assert codes[0] == codes[1]
                return codes[0]

            for path, code in {
                "/topics/a/stream?since=nonsense&": 400, "/topics/a/stream?whatever=1&": 400,
                "/topics/a..b/stream?": 400, "/topics/a/groups/none/stream?": 404, "/stream?": 400,
                "/topics/b/groups/none/stream?": 404,
            }.items():  # fmt: skip
                assert await refused(path) == code
            async with stream(server, "/topics/b/stream", Authorization=f"Bearer {sitting}"):
                assert await refused("/topics/a/stream?") == 503
        await no_subscribers(server, sitting)
        async with stream(server, f"/topics/a/stream?ticket={ticket}", **headers) as events:
            await last_id(events)
            assert await status(server, f"/topics/a/stream?ticket={ticket}") == 401


async def test_a_client_that_was_cut_off_before_the_first_id_reconnects_with_the_ticket_alone(
    protected: Guarded, topic: str
) -> None:
    """Through a proxy, which takes what its client never gets."""
    path = f"/topics/{topic}/stream?since=earliest&ticket={await ticket_of(protected.process, protected.good)}"
    await publish(protected.process, protected.good, topic, "1")
    for cut in (0, 10, 0):
        async with proxy(protected.process.port, cut) as middle:
            reader, writer = await asyncio.open_connection("127.0.0.1", middle.port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
            writer.close()
        await no_subscribers(protected.process, protected.good)
    async with stream(protected.process, path) as events:
        assert await events.data(1) == ["1"]
        assert await status(protected.process, path) == 401


async def no_subscribers(server: ServerProcess, token: str) -> None:
    """Return when the server has seen that all streams are gone."""
    async with client(server, token) as http, asyncio.timeout(DEADLINE):
        while b'plainmq_subscribers{kind="stream"} 0.0' not in (await http.get("/metrics")).content:
            pass


async def test_a_ticket_whose_stream_has_arrived_opens_no_other(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    token = make_token(tokens, "good", every_right())
    beats = 4  # comments a second, and they come no sooner
    with start_server("--tokens", str(tokens), "--keep-alive", f"{1_000 // beats}ms", tcp_port=0) as server:
        path = f"/topics/a/stream?ticket={await ticket_of(server, token)}"
        async with stream(server, path) as events:
            place = await last_id(events)
            while len(events.parser.comments) < 2 + beats * (ARRIVED + 1):
                await events.feed()
        assert await status(server, path) == 401
        assert await status(server, path, place) == 200


async def test_streams_of_several_topics_of_a_group_and_of_statistics_reconnect_too(
    protected: Guarded, topic: str
) -> None:
    async with client(protected.process, protected.good) as http:
        (await http.put(f"/topics/{topic}/groups/g")).raise_for_status()
    below_all = f"/stream?topic={topic}&topic=b.*&", f"/topics/{topic}/groups/g/stream?credit=1&", "/stats/stream?"
    for below in below_all:
        placed = below.startswith("/stream")
        path = f"{below}ticket={await ticket_of(protected.process, protected.good)}"
        async with stream(protected.process, path) as events:
            place = await last_id(events, placed)
            assert await status(protected.process, path) == 401
        async with stream(protected.process, path, Last_Event_ID=place) as events:
            assert await last_id(events, placed) != ""


async def test_a_client_that_is_refused_for_lack_of_a_slot_can_come_back(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    token = make_token(tokens, "good", every_right())
    with start_server("--tokens", str(tokens), "--max-subscribers", "1", tcp_port=0) as server:
        path = f"/topics/a/stream?ticket={await ticket_of(server, token)}"
        async with stream(server, "/topics/b/stream", Authorization=f"Bearer {token}") as sitting:
            assert sitting.status == 200
            async with stream(server, path, Accept="text/event-stream") as events:
                event = await events.next()
                assert event is not None
                assert event.type == "busy"
                place = event.last_event_id
        async with asyncio.timeout(DEADLINE):
            while True:
                async with stream(server, path, Accept="text/event-stream", Last_Event_ID=place) as events:
                    assert events.status == 200
                    await publish(server, token, "a", "x")
                    event = await events.next()
                    if event is not None and event.type == "message":
                        break


@pytest.mark.parametrize("signed_token", [False, True])
async def test_a_ticket_outlives_the_server_but_not_its_token(tmp_path: Path, signed_token: bool) -> None:
    tokens, port = tmp_path / "tokens", free_port()
    good, secret = make_token(tokens, "good", every_right()), put(tmp_path / "secret", SECRET.encode())
    token = signed(claims(aud=None)) if signed_token else make_token(tokens, "short", every_right())
    flags = ("--tokens", str(tokens), "--jwt-keys", f"HS256:{secret}")
    with start_server(*flags, port=port, tcp_port=0) as server:
        path = f"/topics/a/stream?ticket={await ticket_of(server, token)}"
        async with stream(server, path) as events:
            assert events.status == 200
            await publish(server, good, "a", "before")
            place = (await events.take(1))[0].last_event_id
        server.stop(signal.SIGKILL)
    with start_server(*flags, port=port, tcp_port=0) as server:
        async with stream(server, path, Last_Event_ID=place) as events:
            event = await events.next()
            assert event is not None
            assert event.type == "gap"  # the engine is in memory
            await publish(server, good, "a", "x")
            assert await events.data(1) == ["x"]
            if signed_token:
                put(secret, SECRET[::-1].encode())
                server.process.send_signal(signal.SIGHUP)
            else:
                put(tokens, b"".join(line for line in tokens.read_bytes().splitlines(True) if b'"short"' not in line))
            event = await events.next()
            assert event is not None
            assert event.data == '{"reason":"revoked"}'
        assert await status(server, path, place) == 401
        if not signed_token:  # nor with another one of the same name
            make_token(tokens, "short", every_right())
            assert await status(server, path, place) == 401


async def test_another_server_with_the_same_tokens_and_key_admits_a_client_that_reconnects(tmp_path: Path) -> None:
    with guarded(tmp_path, "own protocol") as first, guarded_again(tmp_path) as second:
        path = f"/topics/a/stream?ticket={await ticket_of(first.process, first.good)}"
        async with stream(first.process, path) as events:
            place = await last_id(events)
        assert await status(second, path, place) == 200
        fresh = f"/topics/a/stream?ticket={await ticket_of(first.process, first.good)}"
        for alone in (path, fresh):  # whether it is spent is known to the first only
            assert await status(second, alone) == 401
        assert await status(first.process, fresh) == 200
        (tmp_path / TICKET_KEY_FILE).unlink()
        assert await status(first.process, path, place) == 200
    with guarded_again(tmp_path) as stranger:
        assert await status(stranger, path, place) == 401


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("signed_token", [False, True])
async def test_after_a_restart_a_ticket_alone_opens_nothing_and_with_its_pass_what_it_opened(
    tmp_path: Path, number: signal.Signals, signed_token: bool
) -> None:
    tokens, secret = tmp_path / "tokens", put(tmp_path / "secret", SECRET.encode())
    good = make_token(tokens, "good", every_right())
    token = signed(claims(aud=None)) if signed_token else good
    flags = ("--tokens", str(tokens), "--jwt-keys", f"HS256:{secret}")
    with start_server(*flags, tcp_port=0) as server:
        ticket_refused, fresh = [f"/topics/a/stream?ticket={await ticket_of(server, token)}" for _ in range(2)]
        async with stream(server, ticket_refused) as events:
            place = await last_id(events)
        server.stop(number)
    with start_server(*flags, tcp_port=0) as server:
        assert await status(server, ticket_refused) == 401
        async with http_client(server.url) as http:
            refused = await http.get(fresh)
        assert refused.status_code == 401
        assert "ask the server for another one" in refused.json()["detail"]
        assert await status(server, ticket_refused, place) == 200
        assert await status(server, f"/topics/a/stream?ticket={await ticket_of(server, token)}") == 200


async def test_a_head_spends_no_ticket_and_is_answered_as_a_get_would_be(protected: Guarded, topic: str) -> None:
    async with client(protected.process, protected.good) as http, http_client(protected.process.url) as page:
        (await http.put(f"/topics/{topic}/groups/g")).raise_for_status()
        for below in (f"/topics/{topic}/stream?", f"/stream?topic={topic}&", f"/topics/{topic}/groups/g/stream?"):
            path = f"{below}ticket={await ticket_of(protected.process, protected.good)}"
            assert [(await page.head(path)).status_code for _ in range(3)] == [200] * 3
            async with stream(protected.process, path) as events:
                place = await last_id(events, placed=False)
                assert (await page.head(path)).status_code == 401
            assert (await page.head(path, headers={"Last-Event-ID": place})).status_code == 200
            assert await status(protected.process, path, place) == 200


async def test_a_head_of_a_stream_takes_nothing(protected: Guarded, topic: str) -> None:
    """Nor does it tell the gap, which a group's first worker is to be told."""
    async with client(protected.process, protected.good) as http:
        path = f"/topics/{topic}"
        await http.put(path, json={"max_messages": 1})
        await publish(protected.process, protected.good, topic, "1", "2")
        (await http.put(f"{path}/groups/g")).raise_for_status()
        (await http.post(f"{path}.one/messages?delivery=one", content=b"x")).raise_for_status()

        async def state() -> list[object]:
            below = (path, f"{path}/groups/g", f"{path}.one")
            return [(await http.get(each)).json() for each in below]

        before = await state()
        for below in (f"{path}/stream", f"{path}/groups/g/stream", f"{path}/groups/g", f"{path}.one/stream", path):
            for query in ("", "?timeout=1ms"):
                answer = await http.head(below + (query if below.endswith("stream") else ""))
                assert (answer.status_code, answer.content) == (200, b"")
        assert await state() == before


@contextmanager
def guarded_again(folder: Path) -> Iterator[ServerProcess]:
    with start_uvicorn_with(PLAINMQ_TOKENS=str(folder / "tokens")) as server:
        yield server


async def test_a_stream_that_was_come_back_to_ends_with_its_token(protected: Guarded, topic: str) -> None:
    token = signed(claims(exp=time.time() - 1))  # some seconds are left: see LEEWAY
    path = f"/topics/{topic}/stream?ticket={await ticket_of(protected.process, token)}"
    async with stream(protected.process, path) as events:
        place = await last_id(events)
    async with stream(protected.process, path, Last_Event_ID=place) as events:
        last = None
        while event := await events.next():
            last = event
        assert last is not None
        assert last.data == '{"reason":"expired"}'
    assert await status(protected.process, path, place) == 401


async def test_an_id_with_a_mark_is_good_wherever_an_id_is(protected: Guarded, topic: str) -> None:
    await publish(protected.process, protected.good, topic, "1", "2")
    path = f"/topics/{topic}/stream?since=earliest&ticket={await ticket_of(protected.process, protected.good)}"
    async with stream(protected.process, path) as events:
        first = (await events.take(1))[0].last_event_id
    assert "~" in first
    async with client(protected.process, protected.good) as http:
        page = (await http.get(f"/topics/{topic}/messages", params={"since": first})).json()
        assert [message["data"] for message in page["messages"]] == ["2"]
        assert (await http.get(f"/topics/{topic}/messages/{first}")).text == "1"
    for option in ("last_event_id", "since"):
        async with stream(
            protected.process, f"/topics/{topic}/stream?{option}={first}", Authorization=f"Bearer {protected.good}"
        ) as events:
            (event,) = await events.take(1)
            assert (event.data, "~" in event.last_event_id) == ("2", False)
