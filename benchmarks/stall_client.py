"""The client that stalls a server: it fills topics, and makes the requests that are measured."""

import socket
import time
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection
from threading import Thread
from typing import Any, Final

import msgspec

from benchmarks.harness import connect, receive_some, receive_until
from benchmarks.publish_probe import TIMEOUT
from tests.harness import ServerProcess

BIG: Final = "big"  # the topic that is filled
BODY: Final = "x" * 64
_SUCCESS: Final = b'{"success": true}\r\n'

Json = dict[str, Any]


class StallClient:
    def __init__(self, server: ServerProcess, messages: int, topics: int) -> None:
        self.server = server
        self.messages = messages
        self.topics = topics
        self._open: list[socket.socket] = []

    def call(
        self, method: str, path: str, body: Json | bytes | None = None, content_type: str = "application/json"
    ) -> bytes:
        with closing(HTTPConnection("127.0.0.1", self.server.port, timeout=TIMEOUT)) as http:
            data = body if isinstance(body, bytes) else None if body is None else msgspec.json.encode(body)
            http.request(method, path, data, {"Content-Type": content_type} if data is not None else {})
            answer = http.getresponse()
            content = answer.read()
            assert answer.status < 300 or answer.status == 409, (
                f"{method} {path[:80]}: {answer.status} {content[:300]!r}"
            )
            return content

    def fill(self, topic: Callable[[int], str], count: int, at_once: int = 1_000) -> None:
        """Publish `count` messages, to topic(0), topic(1), ... Every message is a run of its own."""
        with connect(self.server.tcp_port) as sock:
            for first in range(0, count, at_once):
                numbers = range(first, min(first + at_once, count))
                sock.sendall(b"".join(_line(topic(number), number) for number in numbers))
                answered, answers = sum(number % 2 for number in numbers), b""
                while answers.count(_SUCCESS) < answered:
                    answers += receive_some(sock)

    def fill_one(self, topic: str = BIG) -> None:
        self.fill(lambda _: topic, self.messages)

    def pull(self, topic: str, group: str, times: int = 1) -> list[str]:
        ids: list[str] = []
        for _ in range(times):
            answer = msgspec.json.decode(self.call("POST", f"/topics/{topic}/groups/{group}/pull?max=100&lease=1h"))
            ids += [message["id"] for message in answer["messages"]]
        return ids

    def settle(self, action: str, ids: list[str], group: str, topic: str = BIG) -> None:
        self.call("POST", f"/topics/{topic}/groups/{group}/{action}", {"ids": ids})

    def in_threads(self, count: int, action: "Callable[[StallClient], object]") -> None:
        threads = [Thread(target=action, args=(self,)) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def send_line(self, line: bytes, until: bytes) -> None:
        with connect(self.server.tcp_port) as sock:
            sock.settimeout(TIMEOUT)
            sock.sendall(line)
            receive_until(sock, until)

    def subscribe(self, topics: list[str]) -> None:
        """On a connection that stays open as long as this client."""
        sock = connect(self.server.tcp_port)
        self._open.append(sock)
        sock.sendall(b"".join(b"sub %b latest\n" % topic.encode() for topic in topics))
        answers = b""
        while answers.count(b"OK ") < len(topics):
            answers += receive_some(sock)

    def read_stream(self, path: str, seconds: float) -> None:
        """Read until nothing comes for 0.2 s, or for `seconds` at most."""
        with closing(socket.create_connection(("127.0.0.1", self.server.port))) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
            sock.settimeout(0.2)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                try:
                    if not sock.recv(1 << 20):
                        return
                except TimeoutError:
                    return


def _line(topic: str, number: int) -> bytes:
    """A line that publishes. Two kinds alternate, so that no message joins the run of the one before it.

    Only those with an odd number are answered.
    """
    if number % 2:
        return b'{"command":"send","topic":"%b","msg":"%b","delivery":"all"}\n' % (topic.encode(), BODY.encode())
    return b"{'command':'send', 'topic':'%b', 'msg':'%b'}\n" % (topic.encode(), BODY.encode())
