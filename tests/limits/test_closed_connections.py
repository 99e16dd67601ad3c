"""What a connection needed is free as soon as it is closed. Otherwise clients that connect, send a large head and leave
would fill memory between two collections of garbage, beyond what is announced."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.harness import DEADLINE, ServerProcess, start_server

HEAD = 14_000  # bytes: almost --max-head
WARM_UP, COUNT = 100, 300  # connections
ALLOWED = 4_096  # bytes of growth a connection: a quarter of its head
RESET = b"\1\0\0\0\0\0\0\0"  # struct linger: on, 0 seconds

REQUESTS = {
    "an answer": "GET /topics?limit=1 HTTP/1.1",
    "an answer of HTTP/1.0": "GET /livez HTTP/1.0",
    "an error": "GET /nothing HTTP/1.1",
    "a refused head": "GET /livez HTTP/1.1\r\nContent-Length: many",
    "an ignored upgrade": "GET /livez HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c",
    "a publish": "POST /topics/foo/messages HTTP/1.1\r\nContent-Length: 0",
    "an unfinished publish": "POST /topics/foo/messages HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9",
    "an unfinished body": "POST /topics/foo/groups/crew/ack HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9",
    "a stream": "GET /topics/foo/stream HTTP/1.1",
}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with start_server("--auth", "none", tcp_port=0, program=("tests.uncollected",)) as server:
        yield server


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("request_line", REQUESTS.values(), ids=REQUESTS)
def test_a_closed_connection_leaves_nothing_for_the_garbage_collector(
    server: ServerProcess, request_line: str, reset: bool
) -> None:
    def connect_and_leave() -> None:
        head = f"{request_line}\r\nHost: localhost\r\nX-Large: {'x' * HEAD}\r\n\r\n"
        with closing(socket.create_connection((server.host, server.port), DEADLINE)) as sock:
            sock.sendall(head.encode())
            assert sock.recv(16), "no answer"
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    for _ in range(WARM_UP):
        connect_and_leave()
    before = server.resident()
    for _ in range(COUNT):
        connect_and_leave()
    assert server.resident() - before < COUNT * ALLOWED
