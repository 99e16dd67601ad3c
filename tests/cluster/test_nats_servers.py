"""Servers on one NATS, as their users see them."""

import json
import socket
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_bytes, token_hex
from typing import Any

import nkeys
import pytest
import trustme

from app.storage.unusable import StoreUnusable
from tests.cluster.conftest import node
from tests.cluster.test_redis_servers import failed_start, publish
from tests.engines.nats_journal import shared_nats
from tests.event_stream import stream as open_stream
from tests.harness import free_port, http_client, start_server
from tests.nats_server import NatsServer, nats_server


def on(nats: NatsServer, *flags: str, name: str = "demo", more: str = "") -> list[str]:
    return ["--engine", f"{nats.url}?name={name}{more}", *flags]


async def test_what_one_server_accepts_is_seen_at_the_other_also_after_nats_was_killed() -> None:
    with nats_server() as nats, start_server(*on(nats)) as first, start_server(*on(nats)) as second:
        assert "engine nats:R1" in first.banner
        async with open_stream(second, "/topics/foo/stream") as stream:
            accepted = await publish(first, "before")
            assert accepted["durability"] == "nats:R1"
            assert [(e.data, e.last_event_id) for e in await stream.take(1)] == [("before", accepted["id"])]
            nats.kill()
            async with http_client(first.url) as http:
                refused = [await http.post("/topics/foo/messages", content="meanwhile") for _ in range(2)][-1]
                assert (refused.status_code, refused.json()["code"]) == (503, "storage_failed")
                assert "nothing was stored" in refused.json()["detail"]
                stored = await http.get("/topics/foo/messages")
                assert [message["data"] for message in stored.json()["messages"]] == ["before"]
                assert (await http.get("/readyz")).status_code == 200, "or a proxy would take away all servers at once"
            nats.start()
            await publish(first, "after")
            assert [event.data for event in await stream.take(1)] == ["after"]
        async with http_client(second.url) as http:
            pulled = await http.post("/topics/foo/groups/g/pull", params={"max": "10"})
            ids = [message["id"] for message in pulled.json()["messages"]]
        async with http_client(first.url) as http:
            acked = await http.post("/topics/foo/groups/g/ack", json={"ids": ids})
            assert acked.json()["results"] == dict.fromkeys(ids, "done"), "an ack works at any server"
            shown = (await http.get("/server")).json()
            assert shown["engine"] == "nats"


REFUSED = [
    (["jetstream: false"], "", "has no JetStream: start nats-server with -js"),
    (["accounts { a { users [{user: u, password: secret}] } }"], "u:secret@", "the user .* has no JetStream"),
    (["authorization { token: other }"], "secret@", "refuses the user"),
    (
        ['authorization { users [{user: u, password: secret, permissions {publish: ["$JS.API.INFO"]}}] }'],
        "u:secret@",
        "permissions violation",
    ),
    (["max_payload: 512KB"], "", "set max_payload to 1MB"),
]


@pytest.mark.parametrize(
    ("settings", "login", "expected"), REFUSED, ids=["jetstream", "account", "token", "rights", "payload"]
)
async def test_a_nats_that_cannot_serve_is_refused(settings: list[str], login: str, expected: str) -> None:
    with nats_server(*settings) as nats:
        nats.login = login
        with pytest.raises(StoreUnusable, match=expected) as refused:
            async with node(f"{nats.url}?name=demo", timeout=0.5):
                pass
        assert "secret" not in str(refused.value)


def test_a_refusal_names_the_setting_and_hides_the_password() -> None:
    with nats_server("authorization { user: u, password: other }") as nats:
        nats.login = "u:secret@"
        refused = failed_start(*on(nats))
        assert "refuses the user" in refused
        assert "--engine" in refused
        assert "secret" not in refused


def test_a_nats_without_room_for_the_largest_batch_is_refused() -> None:
    with nats_server("max_payload: 1MB") as nats:
        assert "set max_payload to 18MB" in failed_start(*on(nats))


DEVIATIONS: list[tuple[dict[str, Any], str]] = [
    ({"max_age": 10**12}, "has max_age 1000000000000: expected 0"),
    ({"max_msgs": 100}, "has max_msgs 100: expected -1"),
    ({"discard": "old"}, "has discard old: expected new"),
    ({"retention": "workqueue"}, "has retention workqueue: expected limits"),
    ({"storage": "memory"}, "has storage memory: expected file"),
    ({"max_msg_size": 1_000}, "has max_msg_size 1000"),
]


@pytest.mark.parametrize(("config", "expected"), DEVIATIONS, ids=[next(iter(config)) for config, _ in DEVIATIONS])
async def test_a_stream_that_could_lose_messages_is_refused(config: dict[str, Any], expected: str) -> None:
    nats, name = shared_nats(), token_hex(8)
    stream = f"plainmq-log-{name}"
    wanted = {"name": stream, "subjects": [f"plainmq.{name}.log.x"], "discard": "new", "storage": "file", **config}
    assert "error" not in nats.ask(f"STREAM.CREATE.{stream}", **wanted)
    with pytest.raises(StoreUnusable, match=expected):
        async with node(f"{nats.url}?name={name}"):
            pass


async def test_replicas_that_a_server_alone_cannot_have_are_refused() -> None:
    with pytest.raises(StoreUnusable, match="replicas > 1 not supported in non-clustered mode"):
        async with node(f"{shared_nats().url}?name={token_hex(8)}&replicas=3"):
            pass


async def test_other_replicas_than_a_stream_has_are_refused() -> None:
    nats, name = shared_nats(), token_hex(8)
    async with node(f"{nats.url}?name={name}"):
        pass
    with pytest.raises(StoreUnusable, match="has 1 replicas: expected replicas=1 in the address"):
        async with node(f"{nats.url}?name={name}&replicas=3"):
            pass


@contextmanager
def old_nats() -> Iterator[int]:
    """A server that says of itself that it is an old one. Its port."""
    info = {"server_id": "x", "version": "2.10.29", "proto": 1, "headers": True, "max_payload": 1 << 26}

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rwb") as file:
            file.write(b"INFO %s\r\n" % json.dumps(info).encode())
            file.flush()
            for line in file:
                if line.startswith(b"PING"):
                    file.write(b"PONG\r\n")
                    file.flush()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=[listener])
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


async def test_an_old_nats_is_refused() -> None:
    with old_nats() as port, pytest.raises(StoreUnusable, match=r"version 2\.10\.29: expected 2\.11 or later"):
        async with node(f"nats://127.0.0.1:{port}"):
            pass


def test_a_nats_that_cannot_be_reached_is_named_after_the_timeout() -> None:
    engine = ["--engine", f"nats://u:secret@127.0.0.1:{free_port()}", "--journal-timeout", "500ms"]
    refused = failed_start(*engine)
    assert "cannot be reached" in refused
    assert "secret" not in refused


def test_the_durability_of_redis_is_refused_with_nats() -> None:
    assert "--durability" in failed_start(*on(shared_nats(), "--durability", "disk"))


LOG, SNAPSHOTS = "plainmq-log-demo", "plainmq-snapshots-demo"
RIGHTS = [
    "$JS.API.INFO", f"$JS.API.STREAM.*.{LOG}", f"$JS.API.STREAM.*.{SNAPSHOTS}", f"$JS.API.STREAM.MSG.GET.{LOG}",
    f"$JS.API.STREAM.MSG.GET.{SNAPSHOTS}", f"$JS.API.DIRECT.GET.{SNAPSHOTS}.>", f"$JS.API.CONSUMER.CREATE.{LOG}",
    "$JS.FC.>", "plainmq.demo.>",
]  # fmt: skip


async def test_a_user_of_nats_with_few_rights_is_enough_and_its_password_is_shown_nowhere() -> None:
    rights = f'permissions {{ publish: {json.dumps(RIGHTS)}, subscribe: "_INBOX.>" }}'
    with nats_server(f"authorization {{ users [{{user: mq, password: s3cr3t, {rights}}}] }}") as nats:
        nats.login = "mq:s3cr3t@"
        with start_server(*on(nats)) as server:
            await publish(server, "hello")
            async with http_client(server.url) as http:
                shown = (await http.get("/server")).text
                assert "nats://***@127.0.0.1" in shown
            server.stop()
            assert server.process.stderr
            assert "s3cr3t" not in shown + server.banner + server.process.stderr.read()


def signed(issuer: nkeys.KeyPair, subject: str, name: str, claims: dict[str, Any]) -> str:
    """A JSON Web Token of NATS."""

    def part(value: object) -> str:
        return urlsafe_b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).decode().rstrip("=")

    token = {"jti": name, "iat": 1, "iss": issuer.public_key.decode(), "sub": subject, "name": name}
    text = f"{part({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{part({**token, 'nats': {**claims, 'version': 2}})}"
    return f"{text}.{part(issuer.sign(text.encode()))}"


async def test_a_file_with_credentials_is_enough(tmp_path: Path) -> None:
    kinds = (nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_USER, nkeys.PREFIX_BYTE_ACCOUNT)
    seeds = [bytes(nkeys.encode_seed(token_bytes(32), kind)) for kind in kinds]
    operator, account, user, system = [nkeys.from_seed(bytearray(seed)) for seed in seeds]
    operator_key, account_key, user_key, system_key = [
        pair.public_key.decode() for pair in (operator, account, user, system)
    ]
    limits: dict[str, Any] = dict.fromkeys(("subs", "conn", "leaf", "imports", "exports", "data", "payload"), -1)
    stored = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
    limits["wildcards"] = True
    of_account = signed(operator, account_key, "a", {"type": "account", "limits": limits | stored})
    of_system = signed(operator, system_key, "s", {"type": "account", "limits": limits})
    of_user = signed(account, user_key, "u", {"type": "user", "subs": -1, "data": -1, "payload": -1})
    (tmp_path / "mq.creds").write_text(
        f"-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seeds[2].decode()}\n------END USER NKEY SEED------\n"
    )
    of_operator = signed(operator, operator_key, "o", {"type": "operator"})
    settings = f"operator: {of_operator}\nresolver: MEMORY\nsystem_account: {system_key}"
    accounts = f"resolver_preload: {{ {account_key}: {of_account}, {system_key}: {of_system} }}"
    with nats_server(settings, accounts) as nats:
        async with node(f"{nats.url}?credentials={tmp_path}/mq.creds") as one:
            await one.publish("1")
        for path, expected in (("", "refuses the user"), (f"?credentials={tmp_path}/no.creds", "cannot be read")):
            with pytest.raises(StoreUnusable, match=expected):
                async with node(f"{nats.url}{path}"):
                    pass


async def test_nats_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    tls = f'tls {{ cert_file: "{tmp_path}/cert.pem", key_file: "{tmp_path}/key.pem" }}'
    with nats_server(tls) as nats:
        address = f"nats+tls://127.0.0.1:{nats.port}"
        with start_server("--engine", f"{address}?ca={tmp_path}/ca.pem") as server:
            assert (await publish(server, "hello"))["durability"] == "nats:R1"
        assert "certificate" in failed_start("--engine", address, "--journal-timeout", "500ms")
        assert "cannot be read" in failed_start("--engine", f"{address}?ca={tmp_path}/no.pem")


def test_a_server_without_tls_gets_no_password_from_an_address_with_tls() -> None:
    with nats_server("authorization { user: u, password: secret }", "trace: true") as nats:
        assert "does not speak TLS" in failed_start("--engine", f"nats+tls://u:secret@127.0.0.1:{nats.port}")
        assert "CONNECT" not in (nats.folder / "nats.log").read_text()
