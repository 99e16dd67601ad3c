"""Tickets: one stream each, and the way back to it."""

import asyncio
import hmac
import secrets
import signal
import time
import weakref
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from app.access.authenticator import Authenticator
from app.access.claims import Rights, every_right
from app.access.grant import ANONYMOUS, Grant
from app.access.jwt_keys import Expected, JwtKeys, read_key
from app.access.spent_tickets import LIFETIME
from app.access.startup import TICKET_KEY_FILE
from app.access.tickets import ARRIVED, KEY_BYTES, Tickets
from app.access.tokens import TokenFile, make_token
from app.errors import NotFound, Unauthorised
from app.web.sse import CHUNKED_RAW, SSE_RAW, Encoders, marked
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


# From the outside


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


# Inside


class Opened:
    """A stream that a ticket has opened."""

    def revoke(self) -> None:
        raise AssertionError("its token is good")


class Desk:
    """An authenticator with clocks of our own, and a token that is good for so long. `ahead`: of the time of day."""

    def __init__(self, folder: Path, seconds: float | None = None, tickets: Tickets | None = None) -> None:
        self.now, self.ahead = 1_000_000.0, 0.0
        self.path = folder / "tokens"
        self.token = make_token(self.path, "somebody", every_right(), seconds and self.now + seconds)
        keys = JwtKeys([read_key(f"HS256:{put(folder / 'secret', SECRET.encode())}")], Expected())
        self.authenticator = Authenticator(
            file=TokenFile(self.path), keys=keys, clock=lambda: self.now + self.ahead,
            tickets=tickets or Tickets(clock=lambda: self.now),
        )  # fmt: skip

    def ticket(self) -> str:
        return self.authenticator.make_ticket(self.authenticator.authenticate(self.token, "")).ticket

    def is_good(self, ticket: str, way_back: str = "") -> bool:
        try:
            self.open(ticket, way_back)
        except Unauthorised:
            return False
        return True

    def open(self, ticket: str, way_back: str = "") -> "Opened":
        """A stream. Raises Unauthorised."""
        redeemed = self.authenticator.redeem_ticket(ticket, "/a", way_back, "")
        assert redeemed.grant.name == "somebody"
        with self.authenticator.spending(redeemed.ticket, opened := Opened()):
            return opened

    def end(self, stream: "Opened", *, lost: bool) -> None:
        self.authenticator.unregister(stream, lost=lost)


def test_a_ticket_is_good_again_when_its_stream_was_lost_before_it_arrived(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    ticket = desk.ticket()
    for _ in range(3):
        stream = desk.open(ticket)
        assert not desk.is_good(ticket)  # there is a stream
        desk.now += ARRIVED - 0.001
        desk.end(stream, lost=True)
        desk.end(stream, lost=True)
    stream = desk.open(ticket)
    desk.now += ARRIVED
    desk.end(stream, lost=True)
    assert not desk.is_good(ticket)


def test_a_ticket_is_not_good_again_after_a_stream_that_the_server_has_ended(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    ticket = desk.ticket()
    stream = desk.open(ticket)
    for lost in (False, True):  # the connection ends too
        desk.end(stream, lost=lost)
        assert not desk.is_good(ticket)


def test_a_lost_stream_makes_no_ticket_good_for_longer(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    ticket = desk.ticket()
    desk.now += LIFETIME - 1
    stream = desk.open(ticket)
    desk.now += 1
    desk.end(stream, lost=True)
    assert not desk.is_good(ticket)


def test_a_lost_stream_gives_back_no_ticket_but_its_own(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first, second = desk.ticket(), desk.ticket()
    lost, way_back = desk.open(first), desk.authenticator.redeem_ticket(second, "/a", "", "").stream_pass
    desk.open(second)
    again = desk.open(second, way_back)  # with its pass it spends nothing, so it gives nothing back
    desk.end(again, lost=True)
    desk.end(lost, lost=True)
    assert not desk.is_good(second)
    assert desk.is_good(first)


def test_a_ticket_is_unspent_when_the_stream_is_refused(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    ticket = desk.ticket()
    redeemed = desk.authenticator.redeem_ticket(ticket, "/a", "", "")
    with pytest.raises(NotFound), desk.authenticator.spending(redeemed.ticket, Opened()):
        raise NotFound("no such group")
    assert desk.is_good(ticket)
    with pytest.raises(Unauthorised), desk.authenticator.spending(redeemed.ticket, Opened()):
        raise AssertionError("another stream has spent it meanwhile")


def test_streams_that_have_arrived_are_not_remembered(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    opened = []
    for _ in range(10):
        opened.append(weakref.ref(desk.open(desk.ticket())))
        desk.now += ARRIVED
    assert [stream() is None for stream in opened] == [True] * 9 + [False]


def test_a_ticket_that_is_too_old_is_spent(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first, second = desk.ticket(), desk.ticket()
    desk.now += LIFETIME - 0.001
    assert desk.is_good(first)
    desk.now += 0.001
    assert not desk.is_good(second)


@pytest.mark.parametrize("step", [0.0, 0.4, 0.5, 0.99])
def test_a_spent_ticket_is_known_as_long_as_it_could_be_used(tmp_path: Path, step: float) -> None:
    desk = Desk(tmp_path)
    desk.is_good(desk.ticket())  # the clock of what is spent runs
    desk.now += LIFETIME * step
    ticket = desk.ticket()
    assert desk.is_good(ticket)
    for _ in range(20):
        desk.now += LIFETIME / 10
        assert desk.is_good(desk.ticket())
        assert not desk.is_good(ticket)


@pytest.mark.parametrize("step", [-86_400.0, -LIFETIME, -1.0, -0.001, 0.001, 1.0, LIFETIME, 86_400.0])
def test_a_time_of_day_that_is_set_makes_no_spent_ticket_good_and_no_fresh_one_bad(tmp_path: Path, step: float) -> None:
    desk = Desk(tmp_path)
    spent, fresh = desk.ticket(), desk.ticket()
    assert desk.is_good(spent)
    desk.ahead = step
    assert desk.is_good(fresh)
    for ahead in (step, 0.0, step, 0.0):
        desk.ahead = ahead
        for _ in range(4):
            assert desk.is_good(desk.ticket())
            assert not desk.is_good(spent)
            desk.now += LIFETIME / 3


def test_a_ticket_of_a_version_without_epochs_resumes_and_opens_nothing_new(tmp_path: Path) -> None:
    key = put(tmp_path / "tickets.key", secrets.token_bytes(KEY_BYTES))
    tickets = Tickets(key)
    desk = Desk(tmp_path, tickets=tickets)
    grant = desk.authenticator.authenticate(desk.token, "")
    body = msgspec.msgpack.encode([7, desk.now + LIFETIME, grant.name, None, None])
    signature = hmac.digest(key.read_bytes(), grant.origin + b"\0" + body, "sha256")
    ticket = urlsafe_b64encode(body + signature[:16]).rstrip(b"=").decode()
    assert not desk.is_good(ticket)
    assert desk.is_good(ticket, tickets.pass_for(grant, "/a"))


def test_of_more_spent_tickets_than_can_be_remembered_none_is_good_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.access.tickets.MAX_SPENT", 3)
    desk = Desk(tmp_path)
    spent: list[str] = []
    for _ in range(10):
        spent.append(desk.ticket())
        assert desk.is_good(spent[-1])
        assert not any(map(desk.is_good, spent))


def test_a_ticket_is_good_no_longer_than_its_token(tmp_path: Path) -> None:
    desk = Desk(tmp_path, LIFETIME / 2)
    first, second = desk.ticket(), desk.ticket()
    way_back = desk.authenticator.redeem_ticket(first, "/a", "", "").stream_pass
    assert desk.is_good(first, way_back)
    desk.now += LIFETIME / 2
    for ticket, again in ((first, way_back), (second, "")):
        with pytest.raises(Unauthorised, match="expired"):
            desk.authenticator.redeem_ticket(ticket, "/a", again, "")


def test_a_ticket_is_good_no_more_when_its_token_is_taken_out(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first, second = desk.ticket(), desk.ticket()
    way_back = desk.authenticator.redeem_ticket(first, "/a", "", "").stream_pass
    desk.path.write_bytes(b"")
    assert not desk.is_good(first, way_back)
    assert not desk.is_good(second)


def test_a_ticket_says_no_more_than_its_token(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    token = signed(claims(aud=None, subscribe=["a.*"], consume=["b"], publish=["c"], admin=["d"], view=["e"]))
    grant = desk.authenticator.authenticate(token, "")
    found = desk.authenticator.redeem_ticket(desk.authenticator.make_ticket(grant).ticket, "/a", "", "").grant
    assert (found.subscribe.names, found.consume.names, found.view.names) == (("a.*",), ("b",), ("e", "d"))
    assert (found.publish.names, found.admin.names) == ((), ())
    assert (found.name, found.expires) == (grant.name, grant.expires)


def test_a_ticket_that_is_changed_anywhere_is_not_good(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    for ticket in (
        desk.ticket(),
        desk.authenticator.make_ticket(desk.authenticator.authenticate(signed(claims(aud=None)), "")).ticket,
    ):
        for place in range(len(ticket) - 1):  # the last letter has bits that say nothing
            letter = "A" if ticket[place] != "A" else "B"
            assert not desk.is_good(ticket[:place] + letter + ticket[place + 1 :])
        for wrong in ("", ticket[:-4], ticket + "AAAA", f" {ticket}", ticket.replace(ticket[5], "*", 1)):
            assert not desk.is_good(wrong)
        assert desk.is_good(ticket)


def test_a_ticket_of_a_server_without_authentication_is_refused_once_it_has_tokens(tmp_path: Path) -> None:
    tickets = Tickets(tmp_path / TICKET_KEY_FILE)
    desk = Desk(tmp_path, tickets=tickets)
    for grant in (ANONYMOUS, Grant("somebody"), Grant("somebody", stored=True)):
        assert not desk.is_good(tickets.make(grant, desk.now).ticket)


def test_the_key_of_tickets_is_its_owners_and_one_that_is_not_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state" / TICKET_KEY_FILE
    first = Tickets(path).make(ANONYMOUS, 0.0)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [found.name for found in path.parent.iterdir()] == [TICKET_KEY_FILE]
    assert first.ticket != Tickets(path).make(ANONYMOUS, 0.0).ticket
    path.chmod(0o644)
    desk = Desk(tmp_path, tickets=Tickets(path))
    assert desk.is_good(desk.ticket())
    assert "the key of tickets is not kept" in caplog.text
    path.chmod(0o600)
    strange = Desk(tmp_path / "state", tickets=Tickets(path))
    assert not strange.is_good(desk.ticket())


def test_subscribers_with_the_same_token_share_their_bytes(tmp_path: Path) -> None:
    desk, forms = Desk(tmp_path), Encoders(SSE_RAW, CHUNKED_RAW)
    first, second = (desk.authenticator.redeem_ticket(desk.ticket(), "/a", "", "").stream_pass for _ in range(2))
    elsewhere = desk.authenticator.redeem_ticket(desk.ticket(), "/b", "", "").stream_pass
    assert marked(forms, first) is marked(forms, second)
    assert marked(forms, first) is not marked(forms, elsewhere)


def test_a_ticket_takes_memory_only_once_it_is_spent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.access.tickets.MAX_SPENT", 3)
    desk = Desk(tmp_path)
    tickets = [desk.ticket() for _ in range(1_000)]  # were they counted, the first would open nothing any more
    assert desk.is_good(tickets[0])
