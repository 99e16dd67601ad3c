"""TLS at both endpoints: the same answers, streams that stall and end, and clients that speak something else."""

import asyncio
import json
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import cast

import httpx
import pytest

from app.net.certificate import Certificate
from app.net.sockets import acknowledged
from tests.event_stream import Stream
from tests.harness import DEADLINE, ServerProcess, http_client, start_server
from tests.line_client import Lines
from tests.net.authority import Authority

HELLO = bytes.fromhex("160301000a0100000603030000")  # the beginning of a ClientHello, cut off


@asynccontextmanager
async def dial(
    server: ServerProcess, authority: Authority, port: int = 0
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(
        "localhost", port or server.port, ssl=authority.trust(), limit=1 << 24
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


@asynccontextmanager
async def stream(server: ServerProcess, authority: Authority, path: str) -> AsyncIterator[Stream]:
    async with dial(server, authority) as (reader, writer):
        yield await Stream(reader, writer).open(path, {})


@pytest.fixture
async def http(secure: ServerProcess, authority: Authority) -> AsyncIterator[httpx.AsyncClient]:
    async with http_client(secure.url, verify=authority.trust()) as client:
        yield client


async def raw(port: int, said: bytes) -> bytes:
    """What comes back without TLS, until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)
    async with asyncio.timeout(DEADLINE):
        answer = b""
        with suppress(ConnectionResetError):
            answer = await reader.read()
    writer.close()
    return answer


# HTTP


async def test_the_banner_says_https(secure: ServerProcess) -> None:
    assert f"curl -d hello https://127.0.0.1:{secure.port}/topics/foo/messages" in secure.banner
    assert f"openssl s_client -quiet -connect 127.0.0.1:{secure.tcp_port}" in secure.banner


async def test_what_is_published_is_streamed_and_read(
    secure: ServerProcess, authority: Authority, http: httpx.AsyncClient, topic: str
) -> None:
    async with stream(secure, authority, f"/topics/{topic}/stream") as events:
        for number in range(100):
            answer = await http.post(f"/topics/{topic}/messages", content=str(number))
            assert (answer.status_code, answer.json()["index"], answer.json()["subscribers"]) == (201, number, 1)
        assert await events.data(100) == [*map(str, range(100))]
    page = await http.get(f"/topics/{topic}/messages")
    assert [message["data"] for message in page.json()["messages"]] == [*map(str, range(100))]


async def test_a_large_message_and_a_large_page_come_whole(http: httpx.AsyncClient, topic: str) -> None:
    body = bytes(range(256)) * 4_000
    sent = await http.post(f"/topics/{topic}/messages", content=body)
    assert (await http.get(sent.headers["location"])).content == body


async def test_a_stream_ends_with_a_goodbye_of_both_kinds(
    secure: ServerProcess, authority: Authority, topic: str
) -> None:
    """Of the chunked coding and of TLS: an end that an attacker made would lack them."""
    async with dial(secure, authority) as (reader, writer):
        writer.write(f"GET /topics/{topic}/stream?timeout=1ms HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        async with asyncio.timeout(DEADLINE):
            answer = await reader.read()  # asyncio raises when the other side just hangs up
        assert answer.endswith(b"0\r\n\r\n")


async def test_a_refusal_at_the_head_reaches_a_client_that_is_still_sending(
    secure: ServerProcess, authority: Authority, topic: str
) -> None:
    async with dial(secure, authority) as (reader, writer):
        writer.write(f"GET /topics/{topic} HTTP/1.1\r\nHost: localhost\r\nX: {'x' * 100_000}".encode())
        async with asyncio.timeout(DEADLINE):
            assert b" 431 " in await reader.readline()
            assert b"head_too_large" in await reader.read()


async def test_a_subscriber_that_disconnects_is_not_counted(
    secure: ServerProcess, authority: Authority, http: httpx.AsyncClient, topic: str
) -> None:
    await http.put(f"/topics/{topic}")
    for leave in ("close", "abort"):
        async with stream(secure, authority, f"/topics/{topic}/stream") as events:
            assert (await http.get(f"/topics/{topic}")).json()["subscribers"] == 1
            getattr(events.writer.transport, leave)()
            async with asyncio.timeout(DEADLINE):
                while (await http.get(f"/topics/{topic}")).json()["subscribers"]:
                    pass


def stalled(host: str, authority: Authority, port: int, said: bytes) -> ssl.SSLSocket:
    """A client with a small buffer that asks and then takes nothing."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.settimeout(DEADLINE)
    sock.connect((host, port))
    wrapped = authority.trust().wrap_socket(sock, server_hostname="localhost")
    wrapped.sendall(said)
    return wrapped


async def test_a_stalled_subscriber_is_cut_off_and_a_healthy_one_gets_everything(
    impatient: ServerProcess, authority: Authority, topic: str
) -> None:
    request = f"GET /topics/{topic}/stream HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    files = impatient.open_files()
    with stalled(impatient.host, authority, impatient.port, request):
        async with (
            stream(impatient, authority, f"/topics/{topic}/stream") as events,
            http_client(impatient.url, verify=authority.trust()) as http,
        ):
            for number in range(12):
                await http.post(f"/topics/{topic}/messages", content=b"%02d" % number + b"x" * 1_000_000)
                assert (await events.data(1))[0][:2] == f"{number:02}"
            async with asyncio.timeout(DEADLINE):
                while (await http.get(f"/topics/{topic}")).json()["subscribers"] > 1:
                    pass
                while impatient.open_files() > files + 2:  # the subscriber's and the publisher's
                    await http.get("/livez")


async def test_what_a_slow_peer_takes_is_seen_below_the_transport(authority: Authority) -> None:
    """Who takes less than a whole buffer looks stalled above: the transport tells of its upper buffer only."""
    ready: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()
    lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    class Talker(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            ready.set_result(cast(asyncio.Transport, transport))

        def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
            lost.set_result(None)

    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    listening.bind(("127.0.0.1", 0))
    options = Certificate(authority.certificate, authority.key).options(DEADLINE)
    server = await asyncio.get_running_loop().create_server(Talker, sock=listening, **options)
    peer = await asyncio.to_thread(stalled, "127.0.0.1", authority, listening.getsockname()[1], b"")
    async with asyncio.timeout(DEADLINE):
        talker = await ready
        talker.write(b"x" * 2_000_000)
        unsent, before = talker.get_write_buffer_size(), acknowledged(talker)
        try:
            while acknowledged(talker) < before + 100_000:
                await asyncio.to_thread(peer.recv, 8_192)
                assert talker.get_write_buffer_size() == unsent
        finally:
            talker.abort()
            peer.close()
            server.close()
            await lost
    assert acknowledged(talker) == 0  # nobody is harmed by asking once it is gone


# The line port


async def test_the_line_port_speaks_tls(secure: ServerProcess, authority: Authority, topic: str) -> None:
    async with dial(secure, authority, secure.tcp_port) as (reader, writer):
        peer = Lines(reader, writer)
        peer.send(f"sub {topic}", f"pub {topic} hello", "quit")
        async with asyncio.timeout(DEADLINE):
            answers = (await reader.read()).splitlines()
        assert answers[0].startswith(b"OK subscribed")
        assert {answers[1][:2], answers[2][:3]} & {b"OK", b"MSG"}
        assert len(answers) == 3


async def test_a_client_that_ends_its_side_is_answered_what_the_log_knows(
    secure: ServerProcess, authority: Authority, topic: str
) -> None:
    context = authority.trust()
    with socket.create_connection((secure.host, secure.tcp_port), DEADLINE) as sock:
        peer = context.wrap_socket(sock, server_hostname="localhost")
        peer.sendall(f"pub {topic} hello\npub {topic} last".encode())
        with suppress(OSError):
            peer.unwrap()
        peer.close()
    async with http_client(secure.url, verify=context) as http:
        page = await http.get(f"/topics/{topic}/messages?wait=10s")
    assert page.json()["messages"][0]["data"] == "hello"


async def test_a_stalled_client_of_the_line_port_is_cut_off(
    impatient: ServerProcess, authority: Authority, topic: str
) -> None:
    with stalled(impatient.host, authority, impatient.tcp_port, f"sub {topic}\n".encode()):
        async with http_client(impatient.url, verify=authority.trust()) as http:
            async with asyncio.timeout(DEADLINE):
                while not (await http.post(f"/topics/{topic}/messages", content=b"x" * 500_000)).json()["subscribers"]:
                    pass
                while (await http.post(f"/topics/{topic}/messages", content=b"x" * 500_000)).json()["subscribers"]:
                    pass


async def test_one_client_too_many_is_refused_with_a_reason(authority: Authority) -> None:
    with start_server(*authority.flags, "--tcp-tls", "on", "--max-tcp-clients", "2") as server:
        context = authority.trust()
        dialled = [await asyncio.open_connection("localhost", server.tcp_port, ssl=context) for _ in range(2)]
        for reader, writer in dialled:
            writer.write(b"ping\n")
            assert await reader.readline() == b"OK pong\r\n"
        reader, writer = await asyncio.open_connection("localhost", server.tcp_port, ssl=context)
        async with asyncio.timeout(DEADLINE):
            assert (await reader.read()).startswith(b"ERR busy ")
        for _, each in [*dialled, (reader, writer)]:
            each.transport.abort()


# Those who speak something else


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"pub foo x\n", b"\0" * 1_000])
async def test_a_client_that_does_not_speak_tls_is_disconnected_and_no_other_notices(
    secure: ServerProcess, http: httpx.AsyncClient, said: bytes
) -> None:
    for port in (secure.port, secure.tcp_port):
        assert b"HTTP" not in await raw(port, said)
    assert (await http.get("/livez")).status_code == 200


async def test_a_tls_hello_to_a_plain_port_is_refused(authority: Authority) -> None:
    with start_server() as server:
        context = authority.trust()
        for port in (server.port, server.tcp_port):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                async with asyncio.timeout(DEADLINE):
                    await asyncio.open_connection("localhost", port, ssl=context)
        async with http_client(server.url) as http:
            assert (await http.get("/livez")).status_code == 200


@pytest.mark.parametrize("said", [b"", HELLO[:5], HELLO], ids=["silent", "half a hello", "a broken one"])
async def test_a_client_that_does_not_finish_the_handshake_is_disconnected(
    impatient: ServerProcess, said: bytes
) -> None:
    files = impatient.open_files()
    ports = [impatient.port, impatient.tcp_port] * 100
    await asyncio.gather(*(raw(port, said) for port in ports))
    await all_closed(impatient, files)
    assert impatient.process.poll() is None


async def all_closed(server: ServerProcess, files: int) -> None:
    async with asyncio.timeout(DEADLINE):
        while server.open_files() > files:  # noqa: ASYNC110  (it is another process)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_1_2_and_1_3_are_spoken(secure: ServerProcess, authority: Authority, version: ssl.TLSVersion) -> None:
    context = authority.trust()
    context.maximum_version = context.minimum_version = version
    async with http_client(secure.url, verify=context) as http:
        assert (await http.get("/livez")).status_code == 200


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
@pytest.mark.parametrize(("flag", "spoken"), [("-tls1", False), ("-tls1_1", False), ("-tls1_2", True)])
async def test_older_versions_are_not(secure: ServerProcess, authority: Authority, flag: str, spoken: bool) -> None:
    for port in (secure.port, secure.tcp_port):
        command = ["openssl", "s_client", flag, "-cipher", "ALL:@SECLEVEL=0", "-connect", f"localhost:{port}"]
        done = await asyncio.to_thread(
            subprocess.run,
            [*command, "-CAfile", str(authority.ca), "-verify_return_error"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DEADLINE,
        )
        assert (done.returncode == 0) == spoken


# Clients as people have them


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
async def test_curl_publishes_and_subscribes(secure: ServerProcess, authority: Authority, topic: str) -> None:
    url = f"https://localhost:{secure.port}/topics/{topic}"
    for arguments, answer in (
        (["-d", "hello", f"{url}/messages"], '"index":0'),
        (["-N", f"{url}/stream?since=earliest&limit=1"], "data: hello\n"),
    ):
        command = ["curl", "-sS", "--fail", "--cacert", str(authority.ca), *arguments]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=DEADLINE)
        assert (done.returncode, done.stderr) == (0, "")
        assert answer in done.stdout


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
async def test_openssl_does_both(secure: ServerProcess, authority: Authority, topic: str) -> None:
    command = ["openssl", "s_client", "-quiet", "-connect", f"localhost:{secure.tcp_port}", "-CAfile"]
    done = await asyncio.to_thread(
        subprocess.run,
        [*command, str(authority.ca)],
        input=f"pub {topic} hello\nsub {topic} earliest\nquit\n".encode(),
        capture_output=True,
        timeout=DEADLINE,
    )
    assert [line[:3] for line in done.stdout.splitlines()] == [b"OK ", b"OK ", b"MSG"]


# Its end


async def test_a_stalled_stream_does_not_hold_the_stop_up(authority: Authority) -> None:
    with start_server(*authority.flags, "--drain-timeout", "1s", "--stall-timeout", "1h", tcp_port=0) as server:
        request = b"GET /topics/foo/stream?since=earliest HTTP/1.1\r\nHost: localhost\r\n\r\n"
        async with http_client(server.url, verify=authority.trust()) as http:
            for _ in range(8):
                await http.post("/topics/foo/messages", content=b"x" * 1_000_000)
        with stalled(server.host, authority, server.port, request) as reader:
            assert reader.recv(1)
            assert await asyncio.to_thread(server.stop) == 0


async def test_a_stop_ends_streams_in_good_order_and_waits_for_no_goodbye(authority: Authority) -> None:
    """An idle connection of a client does not answer the goodbye of TLS: the stop must not wait for that."""
    with start_server(*authority.flags, "--tcp-tls", "on", "--drain-timeout", "1h") as server:
        idle = [stalled(server.host, authority, port, b"") for port in (server.port, server.tcp_port)]
        async with (
            stream(server, authority, "/topics/foo/stream") as events,
            dial(server, authority, server.tcp_port) as (reader, writer),
        ):
            idle[0].sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert idle[0].recv(1)
            writer.write(b"sub foo\n")
            assert (await reader.readline()).startswith(b"OK")
            server.process.send_signal(signal.SIGTERM)
            (bye,) = await events.take(1)
            assert (bye.type, json.loads(bye.data)) == ("bye", {"reason": "draining"})
            assert await events.next() is None
            assert events.ended_in_order
            async with asyncio.timeout(DEADLINE):
                assert await reader.read() == b"BYE draining\r\n"
            assert await asyncio.to_thread(server.process.wait, DEADLINE) == 0
        for sock in idle:
            sock.close()
