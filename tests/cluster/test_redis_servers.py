"""Servers on one Redis, as their users see them."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import trustme

from tests.event_stream import stream as open_stream
from tests.harness import DEADLINE, ROOT, ServerProcess, free_port, http_client, start_server
from tests.line_client import lines
from tests.redis_server import RedisServer, redis_server, sentinel

SLOW_START = 0.1  # seconds between two attempts of a client


def on(redis: RedisServer, *flags: str, user: str = "") -> list[str]:
    return ["--engine", f"redis://{user}127.0.0.1:{redis.port}/0?name=demo", *flags]


@contextmanager
def two_servers(redis: RedisServer, *flags: str) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    with start_server(*on(redis, *flags)) as first, start_server(*on(redis, *flags)) as second:
        yield first, second


async def publish(server: ServerProcess, body: str) -> dict[str, object]:
    """With a key, and again until it is accepted."""
    async with http_client(server.url) as http, asyncio.timeout(DEADLINE):
        while True:
            answer = await http.post("/topics/foo/messages", content=body, headers={"Idempotency-Key": f'"{body}"'})
            if answer.is_success:
                return dict(answer.json())
            assert answer.status_code in {503, 504}, answer.text
            await asyncio.sleep(SLOW_START)


async def test_what_one_server_accepts_is_seen_at_the_other_also_after_redis_was_killed(redis: RedisServer) -> None:
    with two_servers(redis) as (first, second):
        assert "engine redis:primary" in first.banner
        async with open_stream(second, "/topics/foo/stream") as stream:
            accepted = await publish(first, "before")
            assert accepted["durability"] == "redis:primary"
            assert [(e.data, e.last_event_id) for e in await stream.take(1)] == [("before", accepted["id"])]
            redis.kill()
            async with http_client(first.url) as http:
                refused = [await http.post("/topics/foo/messages", content="meanwhile") for _ in range(2)][-1]
                assert (refused.status_code, refused.json()["code"]) == (503, "storage_failed")
                assert "nothing was stored" in refused.json()["detail"]
                assert refused.headers["retry-after"]
                stored = await http.get("/topics/foo/messages")
                assert [message["data"] for message in stored.json()["messages"]] == ["before"]
                assert (await http.get("/readyz")).status_code == 200, "or a proxy would take away all servers at once"
                journal = (await http.get("/server")).json()["journal"]
                assert (journal["connected"], len(journal["nodes"])) == (False, 2)
                matters = (await http.get("/stats")).json()["attention"]
                assert "journal_lost" in [matter["kind"] for matter in matters]
            redis.start()
            await publish(first, "after")
            async with http_client(first.url) as http:
                assert (await http.get("/server")).json()["journal"]["connected"]
            assert [event.data for event in await stream.take(1)] == ["after"]
        work = {"max": "10"}
        async with http_client(second.url) as http:
            pulled = await http.post("/topics/foo/groups/g/pull", params=work)
            assert [message["data"] for message in pulled.json()["messages"]] == ["before", "after"]
            ids = [message["id"] for message in pulled.json()["messages"]]
        async with http_client(first.url) as http:
            acked = await http.post("/topics/foo/groups/g/ack", json={"ids": ids})
            assert acked.json()["results"] == dict.fromkeys(ids, "done"), "an ack works at any server"


async def test_the_line_port_of_one_server_hears_the_other(redis: RedisServer) -> None:
    with two_servers(redis) as (first, second):
        async with lines(second) as client:
            client.send('{"command":"subscribe","topic":"foo"}')
            await client.synchronise()
            await publish(first, "hello")
            async with asyncio.timeout(DEADLINE):
                while b"hello" not in await client.next():  # behind the answers to the commands
                    pass


async def test_a_server_that_was_stopped_while_others_lost_its_messages_ends_its_streams_with_a_farewell(
    redis: RedisServer,
) -> None:
    with start_server(*on(redis)) as first:
        kept = await publish(first, "gone")
        async with open_stream(first, "/topics/foo/stream") as stream:
            first.process.send_signal(signal.SIGSTOP)
            redis.kill()
            redis.start()
            with start_server(*on(redis)) as second:
                await publish(second, "new")
                first.process.send_signal(signal.SIGCONT)
                (bye,) = await stream.take(1)
                assert (bye.type, json.loads(bye.data)) == ("bye", {"reason": "failover"})
                async with open_stream(first, "/topics/foo/stream", Last_Event_ID=str(kept["id"])) as again:
                    gap, message = await again.take(2)
                    assert (gap.type, json.loads(gap.data)["reason"]) == ("gap", "epoch")
                    assert message.data == "new"
                await publish(first, "both")
                async with http_client(second.url) as http:
                    stored = (await http.get("/topics/foo/messages")).json()["messages"]
                    assert [message["data"] for message in stored] == ["new", "both"]


async def test_while_redis_hangs_reads_are_answered_behind_a_publish_too(redis: RedisServer) -> None:
    with start_server(*on(redis, "--journal-timeout", "1m")) as server:
        await publish(server, "before")
        async with http_client(server.url) as http, asyncio.timeout(2 * DEADLINE):
            redis.signal(signal.SIGSTOP)
            try:
                pending = asyncio.ensure_future(http.post("/topics/foo/messages", content="on its way"))
                read = await http.get("/topics/foo/messages")
                assert [message["data"] for message in read.json()["messages"]] == ["before"]
                assert not pending.done()
            finally:
                redis.signal(signal.SIGCONT)
            assert (await pending).status_code == 201


REFUSED = [
    (["--maxmemory-policy", "allkeys-lru"], [], "maxmemory-policy noeviction"),
    (["--replicaof", "127.0.0.1", "1"], [], "is a replica"),
    ([], ["--durability", "disk"], "appendfsync always"),
    (["--requirepass", "secret"], [], "refuses the user"),
]


@pytest.mark.parametrize(("redis_flags", "flags", "expected"), REFUSED, ids=["policy", "replica", "disk", "password"])
def test_a_redis_that_could_lose_messages_is_refused(redis_flags: list[str], flags: list[str], expected: str) -> None:
    with redis_server(*redis_flags) as redis:
        refused = failed_start(*on(redis, *flags))
        assert expected in refused
        assert "--engine" in refused


def failed_start(*flags: str) -> str:
    command = [sys.executable, "-m", "app", "serve", "--port", "0", "--tcp-port", "0", *flags]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert run.returncode
    assert "Traceback" not in run.stderr
    return run.stderr


def test_a_redis_that_cannot_be_reached_is_named_after_the_timeout() -> None:
    engine = ["--engine", f"redis://:secret@127.0.0.1:{free_port()}/0", "--journal-timeout", "500ms"]
    refused = failed_start(*engine)
    assert "cannot be reached" in refused
    assert "secret" not in refused


def test_the_durability_of_redis_is_refused_with_another_engine() -> None:
    assert "--durability" in failed_start("--durability", "replicated:1")


def test_a_package_that_is_missing_is_named() -> None:
    code = "import sys; sys.modules['hiredis'] = None; from app.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", "--port", "0", "--engine", "redis://127.0.0.1:1"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert "pip install 'plainmq[redis]'" in run.stderr
    assert "Traceback" not in run.stderr


async def test_a_user_of_redis_with_few_rights_is_enough_and_its_password_is_shown_nowhere() -> None:
    with redis_server() as redis:
        rights = re.search(r"The user needs these rights: `([^`]+)`", (ROOT / "docs" / "cluster.md").read_text())
        assert rights
        commands = rights[1].split()
        redis.client.acl_setuser(
            "mq", enabled=True, passwords=["+s3cr3t"], keys=["{plainmq:demo}:*"], commands=commands
        )
        with start_server(*on(redis, user="mq:s3cr3t@")) as server:
            await publish(server, "hello")
            async with http_client(server.url) as http:
                shown = (await http.get("/server")).text
                assert "redis://***@127.0.0.1" in shown
            server.stop()
            assert server.process.stderr
            assert "s3cr3t" not in shown + server.banner + server.process.stderr.read()


def test_a_user_of_redis_who_lacks_a_right_is_refused_with_a_sentence(redis: RedisServer) -> None:
    redis.client.acl_setuser("mq", enabled=True, passwords=["+x"], keys=["*"], commands=["+@all", "-xadd"])
    assert "refuses the user a command" in failed_start(*on(redis, user="mq:x@"))


async def test_redis_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    port = free_port()
    tls = ["--tls-port", str(port), "--tls-cert-file", str(tmp_path / "cert.pem"), "--tls-auth-clients", "no"]
    tls += ["--tls-key-file", str(tmp_path / "key.pem"), "--tls-ca-cert-file", str(tmp_path / "ca.pem")]
    with redis_server(*tls):
        with start_server("--engine", f"rediss://127.0.0.1:{port}?ca={tmp_path}/ca.pem") as server:
            assert (await publish(server, "hello"))["durability"] == "redis:primary"
        assert "certificate" in failed_start("--engine", f"rediss://127.0.0.1:{port}", "--journal-timeout", "500ms")


async def test_a_failover_by_sentinel_loses_nothing(tmp_path: Path) -> None:
    with redis_server() as redis, redis_server("--replicaof", "127.0.0.1", str(redis.port)) as replica:
        replica.until(lambda: replica.is_level_with(redis))
        with sentinel(redis, tmp_path) as port:
            engine = ["--engine", f"redis+sentinel://127.0.0.1:{port}/main/0?name=demo"]
            with start_server(*engine) as first, start_server(*engine) as second:
                async with open_stream(second, "/topics/foo/stream") as stream:
                    await publish(first, "1")
                    redis.kill()
                    await publish(first, "2")
                    await publish(second, "3")
                    assert [event.data for event in await stream.take(3)] == ["1", "2", "3"]


def test_a_server_that_does_not_know_an_entry_ends_with_a_sentence(redis: RedisServer) -> None:
    with start_server(*on(redis)) as server:
        assert asyncio.run(publish(server, "hello"))
        asyncio.run(append_unknown(redis))
        assert server.process.wait(DEADLINE) == 1
        assert server.process.stderr
        assert "a command that this version does not know" in server.process.stderr.read()
    assert "update this server" in failed_start(*on(redis))


async def append_unknown(redis: RedisServer) -> None:
    """As a later version does."""
    from app.storage.replicated.redis.address import parse_address
    from app.storage.replicated.redis.journal import RedisJournal

    journal = RedisJournal(parse_address(on(redis)[1]))
    await journal.open()
    await journal.append(b"a link", msgspec.msgpack.encode([1, 2, "later", [["of a later version"]]]))
    await journal.close()
