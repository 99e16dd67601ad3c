"""The bytes that clients of one protocol send and expect. A generator only sends and counts bytes, whatever the server.

A body begins with MARK and the time it was due, so that deliveries can be counted and their latency measured.
"""

from typing import Final, NamedTuple
from urllib.parse import quote

MARK: Final = ord("~")  # stands once in every message, and nowhere else in what a server sends
DIGITS: Final = 19  # nanoseconds of the monotonic clock, which all processes of a machine share
MIN_BODY: Final = 1 + DIGITS  # bytes
NUMBER: Final = b"<n>"  # placeholder for the number of the connection
_DUE: Final = b"#" * DIGITS  # placeholder for the time


class WireScript(NamedTuple):
    """How to publish and subscribe in one protocol. `publish` is one request, with `messages` messages."""

    publish: bytes
    answer: bytes = b""  # occurs once in each answer to a successful publish; empty: publishes are not answered
    join: bytes = b""  # what a subscriber sends once connected
    joined: bytes = b""  # occurs in what it then receives
    hello: bytes = b""  # what a publisher sends once connected
    messages: int = 1

    def publish_due(self, nanoseconds: int) -> bytes:
        """The publish request, with the time it was due."""
        return self.publish.replace(_DUE, b"%0*d" % (DIGITS, nanoseconds))


def body(size: int) -> bytes:
    """A message of `size` bytes, at least MIN_BODY, with a placeholder for the time."""
    return (b"%c" % MARK + _DUE).ljust(size, b"x")


def post(path: str, host: str, content: bytes, headers: bytes = b"", content_type: str = "text/plain") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\nContent-Length: {len(content)}\r\n"
    return head.encode() + headers + b"\r\n" + content


def get_stream(path: str, host: str, headers: bytes = b"") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n".encode() + headers + b"\r\n"


def http(topic: str, size: int, host: str = "localhost", headers: bytes = b"", batch: int = 0) -> WireScript:
    """HTTP: event streams, and one message a request, or `batch` of them. `headers` are whole lines."""
    base = f"/topics/{quote(topic)}"
    content = (body(size) + b"\n") * batch if batch else body(size)
    return WireScript(
        post(f"{base}/messages", host, content, headers, "application/x-ndjson" if batch else "text/plain"),
        answer=b'"durability":',
        join=get_stream(f"{base}/stream", host, headers),
        joined=b"retry: ",
        messages=batch or 1,
    )


_SUCCESS: Final = b'{"success": true}\r\n'
_PING, _PONG = b"ping\n", b"OK pong"  # in the text dialect, so that the answer differs from all others


def literal(topic: str, size: int) -> WireScript:
    """The line port, in the original protocol: publishes are not answered."""
    name = topic.encode()
    return WireScript(
        b"{'command':'send', 'topic':'%b', 'msg':'%b'}\n" % (name, body(size)),
        join=b"{'command':'subscribe', 'topic':'%b'}\n" % name + _PING,
        joined=_PONG,
    )


def lines(topic: str, size: int, token: str | None = None) -> WireScript:
    """The line port, in JSON: publishes are answered."""
    name, hello = topic.encode(), b"auth %b\n" % token.encode() if token else b""
    return WireScript(
        b'{"command":"send","topic":"%b","msg":"%b","delivery":"all"}\n' % (name, body(size)),
        answer=_SUCCESS,
        join=hello + b'{"command":"subscribe","topic":"%b","cache":false}\n' % name + _PING,
        joined=_PONG,
        hello=hello,
    )
