"""Peers that vanish without a word: their machine has lost its power, or a cable is cut."""

import asyncio
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from app.net.sockets import Names, listen
from tests.harness import DEADLINE, free_port, http_client, start_server


def test_every_accepted_connection_is_probed_and_bounded() -> None:
    """As the kernel has it: what is set on the listening socket holds for those it accepts."""
    with listen("127.0.0.1", 0, 64 << 10, 10.0, Names("--host", "--port")) as listening:
        listening.listen()
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            options = {
                "SO_KEEPALIVE": accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                **{
                    name: accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
                },
            }
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) in {64 << 10, 128 << 10}  # Linux doubles it
    assert options == {
        "SO_KEEPALIVE": 1,
        "TCP_KEEPIDLE": 30,
        "TCP_KEEPINTVL": 10,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": 10_000,
    }


# A subscriber in a network of its own, whose cable can be cut. It says what it got, line by line.
READER = """
import socket, sys
sock = socket.create_connection(("10.253.7.1", int(sys.argv[1])))
sock.sendall(sys.argv[2].encode().decode("unicode_escape").encode())
while data := sock.recv(65536):
    sys.stdout.buffer.write(data)
    sys.stdout.flush()
"""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=DEADLINE)


@contextmanager
def cable(name: str) -> Iterator[str]:
    """A network namespace behind a virtual cable, which `ip link set NAME down` cuts; its name."""
    try:
        _ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("network namespaces are not permitted here")
    try:
        _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("addr", "add", "10.253.7.1/30", "dev", name)
        _ip("link", "set", name, "up")
        _ip("-n", name, "addr", "add", "10.253.7.2/30", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        yield name
    finally:
        _ip("netns", "del", name)  # and the cable with it


@pytest.mark.skipif(not shutil.which("ip"), reason="ip is not installed (Debian package iproute2)")
@pytest.mark.parametrize(
    ("endpoint", "request_"),
    [
        ("http", r"GET /topics/foo/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("line port", r"sub foo\n"),
    ],
    ids=["http", "line port"],
)
async def test_a_subscriber_whose_cable_is_cut_is_removed(endpoint: str, request_: str) -> None:
    """What is written to it is not acknowledged: TCP_USER_TIMEOUT ends it, long before TCP itself would."""
    flags = ["--host", "0.0.0.0", "--tcp-host", "0.0.0.0", "--auth", "none", "--keep-alive", "200ms"]
    with cable(f"mq{free_port()}") as name, start_server(*flags, "--stall-timeout", "1s") as server:
        port = server.port if endpoint == "http" else server.tcp_port
        command = ["ip", "netns", "exec", name, sys.executable, "-c", READER, str(port), request_]
        reader = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert reader.stdout
        async with asyncio.timeout(DEADLINE), http_client(server.url) as http:
            await reader.stdout.readline()
            files = server.open_files()
            while (await http.post("/topics/foo/messages", content="x")).json()["subscribers"] != 1:
                pass
            _ip("link", "set", name, "down")
            while (await http.post("/topics/foo/messages", content="x")).json()["subscribers"]:
                pass
            while server.open_files() > files:
                await http.get("/livez")
        reader.kill()
        await reader.wait()
