"""Servers that answer each request with bytes of the test's choice."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.harness import DEADLINE

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n\r\n"


def answer(status: str, body: bytes, *fields: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "", ""]).encode() + body


@contextmanager
def answering(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does this with each connection, once a request has come."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    def one(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65_536)
                serve(connection)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65_536):
                    pass
            except OSError:
                pass

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(DEADLINE)


def endless(start: bytes, unit: bytes = b"x") -> Callable[[socket.socket], None]:
    """After `start`, the unit again and again."""
    many = unit * max((1 << 20) // len(unit), 1)

    def serve(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(many)

    return serve
