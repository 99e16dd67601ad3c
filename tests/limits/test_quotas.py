"""Rate limits and quotas by a clock of the test's own, and what a client beyond its quota gets from each protocol."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.access.claims import every_right
from app.access.tokens import make_token
from app.errors import RateLimited, SubscriberLimit
from app.limits.quotas import FailedLogins, QuotaLimits, Quotas, client_of
from app.limits.rates import Buckets
from tests.event_stream import stream
from tests.harness import DEADLINE, ServerProcess, http_client, own_address, start_server
from tests.line_client import Lines, lines

# Buckets


def test_a_full_bucket_gives_its_burst_and_then_its_rate() -> None:
    buckets = Buckets(rate=1_000, burst=2_000)
    assert [buckets.take("a", 1, 100.0) for _ in range(2_000)] == [0.0] * 2_000
    assert buckets.take("a", 1, 100.0) == pytest.approx(0.001)
    assert buckets.take("a", 1, 100.0005) == pytest.approx(0.0005)
    assert buckets.take("a", 1, 100.001) == 0.0
    assert buckets.take("a", 500, 100.501) == 0.0
    assert buckets.take("a", 500, 100.9) == pytest.approx(0.101)


def test_what_was_refused_costs_nothing() -> None:
    buckets = Buckets(rate=1, burst=1)
    assert buckets.take("a", 1, 0.0) == 0.0
    assert {buckets.take("a", 1, 0.5) for _ in range(100)} == {0.5}
    assert buckets.take("a", 1, 1.0) == 0.0


def test_each_key_has_a_bucket_of_its_own() -> None:
    buckets = Buckets(rate=1, burst=1)
    assert [buckets.take(key, 1, 0.0) for key in "abab"] == [0.0, 0.0, 1.0, 1.0]


def test_a_request_larger_than_the_burst_waits_for_a_full_bucket_and_owes_the_rest() -> None:
    buckets = Buckets(rate=10, burst=20)
    assert buckets.take("a", 100, 0.0) == 0.0
    assert buckets.take("a", 1, 0.0) == pytest.approx(8.1)
    assert buckets.take("a", 100, 9.0) == pytest.approx(1.0)
    assert buckets.take("a", 100, 10.0) == 0.0


def test_a_long_pause_gives_no_more_than_the_burst() -> None:
    buckets = Buckets(rate=10, burst=20)
    buckets.take("a", 20, 0.0)
    assert [buckets.take("a", 1, 1e6) == 0.0 for _ in range(21)] == [True] * 20 + [False]


def test_there_are_only_so_many_buckets_and_the_busy_stay() -> None:
    buckets = Buckets(rate=1, burst=1, most=100)
    for n in range(1_000):
        buckets.take("busy", 1, 0.0)
        buckets.take(f"passing {n}", 1, 0.0)
        assert len(buckets) <= 100
    assert buckets.take("busy", 1, 0.5) == 0.5


# Who is a client


@pytest.mark.parametrize(
    ("token", "address", "client"),
    [
        ("ci", "203.0.113.7", "token 'ci'"),
        ("ci", "127.0.0.1", "token 'ci'"),
        (None, "203.0.113.7", "address 203.0.113.7"),
        (None, "::ffff:203.0.113.7", "address 203.0.113.7"),
        (None, "2001:db8:1:2:3:4:5:6", "address 2001:db8:1:2::/64"),
        (None, "fe80::1%eth0", "address fe80::/64"),
        (None, "127.0.0.1", None),
        (None, "127.9.9.9", None),
        (None, "::1", None),
        (None, "::ffff:127.0.0.1", None),
        (None, "", None),
        (None, None, None),
    ],
)
def test_a_rate_limit_counts_by_token_else_by_address_and_not_for_local_clients(
    token: str | None, address: str | None, client: str | None
) -> None:
    assert client_of(token, address) == client


# Subscriber quotas


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_ten_failed_log_ins_a_minute_and_then_one_every_six_seconds() -> None:
    clock = Clock()
    logins = FailedLogins(10, clock)
    for _ in range(10):
        logins.failed("203.0.113.7")
    with pytest.raises(RateLimited, match=r"address 203\.0\.113\.7 has failed to log in 10 times") as refused:
        logins.failed("203.0.113.7")
    assert refused.value.wait == pytest.approx(6.0)
    logins.failed("203.0.113.8")
    clock.now += 6
    logins.failed("203.0.113.7")
    with pytest.raises(RateLimited):
        logins.failed("203.0.113.7")


def test_failed_log_ins_count_on_this_machine_too() -> None:
    logins = FailedLogins(1, Clock())
    logins.failed("127.0.0.1")
    with pytest.raises(RateLimited):
        logins.failed("127.0.0.1")


def test_a_place_that_was_left_is_free() -> None:
    quotas = Quotas(QuotaLimits(subscribers=2))
    quotas.take_slots("token 'a'")
    quotas.take_slots("token 'a'")
    quotas.take_slots("token 'b'")
    with pytest.raises(SubscriberLimit, match="token 'a' has 2 subscribers"):
        quotas.take_slots("token 'a'")
    quotas.release_slots("token 'a'")
    quotas.take_slots("token 'a'")


def test_a_subscriber_may_take_several_places_and_leaves_them_all() -> None:
    quotas = Quotas(QuotaLimits(subscribers=3))
    quotas.take_slots("token 'a'", 2)
    with pytest.raises(SubscriberLimit, match="one with so many topics and patterns counts as 2"):
        quotas.take_slots("token 'a'", 2)
    quotas.take_slots("token 'a'")
    quotas.release_slots("token 'a'", 2)
    quotas.take_slots("token 'a'", 2)


def test_zero_is_no_limit_and_an_unknown_client_has_none() -> None:
    none, logins = Quotas(QuotaLimits(publish_rate=0, subscribers=0), Clock()), FailedLogins(0, Clock())
    some = Quotas(QuotaLimits(publish_rate=1, publish_burst=1, subscribers=1), Clock())
    for _ in range(100):
        none.count_publishes("token 'a'", 100)
        none.take_slots("token 'a'")
        logins.failed("203.0.113.7")
        some.count_publishes(None, 100)
        some.take_slots(None)


# Endpoints. An anonymous client has a limit only if it is not on this machine, so it comes by the machine's address.


@pytest.fixture
def strict() -> Iterator[ServerProcess]:
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    flags = ["--publish-rate", "1", "--publish-burst", "5", "--max-client-subscribers", "2"]
    with start_server("--host", address, "--tcp-host", address, "--auth", "none", *flags) as server:
        server.host, server.url = address, f"http://{address}:{server.port}"
        yield server


async def test_a_sixth_publish_is_refused_with_the_time_to_wait_and_stores_nothing(strict: ServerProcess) -> None:
    async with http_client(strict.url) as http:
        answers = [await http.post("/topics/foo/messages", content=str(n)) for n in range(20)]
        (refused, *_), stored = ([a for a in answers if a.status_code == n] for n in (429, 201))
        assert len(stored) >= 5
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["code"] == "rate_limited"
        assert f"address {strict.host} publishes more than 1 messages a second" in refused.json()["detail"]
        assert (await http.get("/topics/foo")).json()["messages"] == len(stored)
        async with lines(strict) as words:
            words.send(*["pub foo x"] * 20, "ping")
            got = [line async for line in _until_pong(words)]
            assert any(line.startswith(b"ERR rate_limited address ") for line in got)
            assert len(got) == 20


async def _until_pong(words: Lines) -> AsyncIterator[bytes]:
    while (line := await words.next()) != b"OK pong\r\n":
        yield line


async def test_a_batch_counts_as_its_messages_and_is_refused_whole(strict: ServerProcess) -> None:
    batch = {"Content-Type": "application/x-ndjson"}
    async with http_client(strict.url) as http:
        assert (await http.post("/topics/foo/messages", content=b"1\n" * 600, headers=batch)).status_code == 201
        refused = await http.post("/topics/foo/messages", content=b"1\n2\n", headers=batch)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert 500 < int(refused.headers["retry-after"]) <= 600
        plain = await http.post("/topics/foo/messages?event=x", content=b"1")
        assert plain.status_code == 429
        assert (await http.get("/topics/foo")).json()["messages"] == 600


async def test_a_third_subscriber_is_refused_as_busy_and_a_freed_slot_is_used_again(strict: ServerProcess) -> None:
    async with lines(strict) as words, http_client(strict.url) as http:
        words.send("sub foo")
        assert await words.next() == b"OK subscribed to foo\r\n"
        async with stream(strict, "/topics/foo/stream") as second:
            assert second.status == 200
            async with stream(strict, "/topics/foo/stream", Accept="text/event-stream") as third:
                busy = await third.next()
                assert busy is not None
                assert (busy.type, busy.data) == ("busy", '{"reason":"subscriber_limit"}')
            words.send("sub bar")
            assert (await words.next()).startswith(b"ERR subscriber_limit address ")
            await http.put("/topics/foo/groups/g")
            for path in ("/topics/foo/groups/g/stream", "/topics/foo/messages?wait=1s"):
                assert (await http.get(path)).json()["code"] == "subscriber_limit"
            assert (await http.post("/topics/foo/groups/g/pull?wait=1s")).json()["code"] == "subscriber_limit"
        async with asyncio.timeout(DEADLINE):
            while (await http.get("/topics/foo/stream?timeout=1ms")).status_code == 503:
                pass
        words.send("unsub foo", "sub foo")
        assert [await words.next(), await words.next()] == [
            b"OK unsubscribed from foo\r\n", b"OK subscribed to foo\r\n"
        ]  # fmt: skip


async def test_clients_on_this_machine_have_no_quota() -> None:
    with start_server("--publish-rate", "1", "--publish-burst", "1", "--max-client-subscribers", "1") as server:
        async with (
            http_client(server.url) as http,
            stream(server, "/topics/foo/stream"),
            stream(server, "/topics/foo/stream") as second,
        ):
            for n in range(10):
                assert (await http.post("/topics/foo/messages", content=str(n))).status_code == 201
            assert await second.data(10) == [str(n) for n in range(10)]


# With tokens, everywhere


@contextmanager
def with_tokens(folder: Path, *flags: str) -> Iterator[tuple[ServerProcess, dict[str, str]]]:
    """A server that knows two tokens, and those tokens by name."""
    tokens = {name: make_token(folder / "tokens", name, every_right()) for name in ("ann", "bob")}
    with start_server("--tokens", str(folder / "tokens"), *flags) as server:
        yield server, tokens


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_token_has_one_quota_for_both_protocols_and_another_token_has_its_own(tmp_path: Path) -> None:
    with with_tokens(tmp_path, "--publish-rate", "1", "--publish-burst", "60") as (server, tokens):
        async with http_client(server.url) as http, lines(server) as words:
            batch = bearer(tokens["ann"]) | {"Content-Type": "application/x-ndjson"}
            assert (await http.post("/topics/foo/messages", content=b"1\n" * 120, headers=batch)).status_code == 201
            for _ in range(2):  # the second time by the fast path
                refused = await http.post("/topics/foo/messages", content=b"x", headers=bearer(tokens["ann"]))
                assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
                assert refused.json()["detail"].startswith("token 'ann' publishes more than 1 messages a second")
            words.send(f"auth {tokens['ann']}", "pub foo x")
            assert await words.next() == b"OK you are ann\r\n"
            assert (await words.next()).startswith(b"ERR rate_limited token 'ann' ")
            words.send(f"auth {tokens['bob']}", "pub foo x")
            assert await words.next() == b"OK you are bob\r\n"
            assert (await words.next()).startswith(b"OK ")
            answer = await http.post("/topics/foo/messages", content=b"x", headers=bearer(tokens["bob"]))
            assert answer.status_code == 201


async def test_tokens_that_take_turns_on_one_connection_have_a_quota_each(tmp_path: Path) -> None:
    with with_tokens(tmp_path, "--publish-rate", "1", "--publish-burst", "60") as (server, tokens):
        async with http_client(server.url) as http:
            told: dict[str, list[int]] = {name: [] for name in tokens}
            for name in ["ann"] * 100 + ["ann", "bob"] * 40:
                answer = await http.post("/topics/foo/messages", content=b"x", headers=bearer(tokens[name]))
                told[name].append(answer.status_code)
            assert set(told["ann"][:60]) == {201}
            assert 429 in told["ann"][100:]
            assert set(told["bob"]) == {201}


async def test_a_token_has_so_many_subscribers(tmp_path: Path) -> None:
    with with_tokens(tmp_path, "--max-client-subscribers", "1") as (server, tokens):
        async with (
            http_client(server.url) as http,
            stream(server, "/topics/foo/stream", **bearer(tokens["ann"])) as first,
            stream(server, "/topics/foo/stream", **bearer(tokens["bob"])) as other,
        ):
            assert (first.status, other.status) == (200, 200)
            refused = await http.get("/topics/foo/stream", headers=bearer(tokens["ann"]))
            assert refused.json()["detail"] == "token 'ann' has 1 subscribers, as many as one client may have"


async def test_after_ten_failed_logins_more_must_wait_and_connected_clients_go_on(tmp_path: Path) -> None:
    with with_tokens(tmp_path, "--max-failed-logins", "10") as (server, tokens):
        async with http_client(server.url) as http, lines(server) as words:
            assert (await http.get("/topics", headers=bearer(tokens["ann"]))).status_code == 200
            statuses = [(await http.get("/topics", headers=bearer(f"guess-{n}"))).status_code for n in range(30)]
            assert statuses[:10] == [401] * 10
            assert 429 in statuses
            words.send("auth guess")
            assert (await words.next()).startswith(b"ERR rate_limited address 127.0.0.1 has failed to log in 10 times ")
            refused = await http.get("/topics", headers=bearer("guess"))
            assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
            assert 1 <= int(refused.headers["retry-after"]) <= 6
            assert (await http.get("/topics", headers=bearer(tokens["ann"]))).status_code == 200
