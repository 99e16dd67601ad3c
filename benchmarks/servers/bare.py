"""A server that only reads and writes: no checks, no ids, no order, no retention, no handling of slow readers.

It joins the messages of a turn of its loop and pauses between writes, as plainmq does. So it costs what the kernel
costs, and the least that a loop in Python adds: no Python server with one write a reader can cost less. It recognises
HTTP and lines by their first bytes, and assumes that each read has whole requests.

python -m benchmarks.servers.bare PORT
"""

import select
import socket
import sys
from contextlib import suppress
from time import monotonic
from typing import Final

READ_SIZE: Final = 65_536  # bytes
PAUSE: Final = 2  # times the duration of the last write, and MAX_PAUSE at most
MAX_PAUSE: Final = 0.01  # seconds
_JOINS: Final = (b"GET", b"{'command':'subscribe'")
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_BODY: Final = b'{"id":"1","topic":"foo","durability":"none"}'
_CREATED: Final = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_BODY)


class Server:
    def __init__(self, port: int) -> None:
        self.listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self.poll = select.epoll()
        self.poll.register(self.listener, select.EPOLLIN)
        self.connections: dict[int, socket.socket] = {}
        self.readers: dict[int, socket.socket] = {}
        self.batch: list[bytes] = []

    def run(self) -> None:
        paused_until = 0.0
        while True:
            for number, _ in self.poll.poll(max(paused_until - monotonic(), 0.0) if self.batch else None):
                if number in self.connections:
                    self.read(number)
                else:
                    self.accept()
            begin = monotonic()
            if self.batch and begin >= paused_until:
                self.write()
                end = monotonic()
                paused_until = end + min((end - begin) * PAUSE, MAX_PAUSE)

    def accept(self) -> None:
        connection, _ = self.listener.accept()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections[connection.fileno()] = connection
        self.poll.register(connection, select.EPOLLIN)

    def read(self, number: int) -> None:
        connection = self.connections[number]
        request = b""
        with suppress(ConnectionError):
            request = connection.recv(READ_SIZE)
        if not request:
            self.readers.pop(number, None)
            self.connections.pop(number).close()
        elif request.startswith(_JOINS):
            self.readers[number] = connection
            connection.send(_HEAD if request.startswith(b"GET") else b"OK pong\r\n")
        elif request.startswith(b"POST"):
            self.batch.append(b"id: 1\ndata: %b\n\n" % request.partition(b"\r\n\r\n")[2])
            connection.send(_CREATED + _BODY)
        else:
            self.batch.append(request)

    def write(self) -> None:
        frames, self.batch = b"".join(self.batch), []
        chunk = b"%x\r\n%b\r\n" % (len(frames), frames)
        for reader in self.readers.values():
            with suppress(ConnectionError):  # the next read from it fails, and removes it
                reader.send(chunk)


if __name__ == "__main__":
    Server(int(sys.argv[1])).run()
