"""What clients of a door say and hear. Only bytes: a generator sends and counts them, whatever server hears them.

A body begins with MARK and the time it was due, so a delivery can be counted by its mark, and its latency read.
"""

from typing import Final, NamedTuple
from urllib.parse import quote

MARK: Final = ord("~")  # once in every message, and nowhere else in what a server sends
DIGITS: Final = 19  # nanoseconds of the monotonic clock, which processes of one machine share
SMALLEST: Final = 1 + DIGITS  # bytes of a body
NUMBER: Final = b"<n>"  # in what is sent: the number of the connection
_DUE: Final = b"#" * DIGITS


class Speech(NamedTuple):
    """One door. `publish` is what is sent for one or more messages; `messages` says how many."""

    publish: bytes
    answer: bytes = b""  # once in each answer to a publish that was taken; empty: there are no answers
    join: bytes = b""  # said by a reader when it is connected
    joined: bytes = b""  # heard by it when it has become one
    hello: bytes = b""  # said by a publisher when it is connected
    messages: int = 1

    def due(self, nanoseconds: int) -> bytes:
        """The publish of a message that was to be sent at that time."""
        return self.publish.replace(_DUE, b"%0*d" % (DIGITS, nanoseconds))


def body(size: int) -> bytes:
    """A message of so many bytes, at least SMALLEST; its time is put in by `Speech.due`."""
    return (b"%c" % MARK + _DUE).ljust(size, b"x")


def post(path: str, host: str, content: bytes, headers: bytes = b"", kind: str = "text/plain") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n"
    return head.encode() + headers + b"\r\n" + content


def get_stream(path: str, host: str, headers: bytes = b"") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n".encode() + headers + b"\r\n"


def http(topic: str, size: int, host: str = "localhost", headers: bytes = b"", batch: int = 0) -> Speech:
    """The HTTP door: event streams, and a message a request, or `batch` of them. `headers` are whole lines."""
    base = f"/topics/{quote(topic)}"
    content = (body(size) + b"\n") * batch if batch else body(size)
    return Speech(
        post(f"{base}/messages", host, content, headers, "application/x-ndjson" if batch else "text/plain"),
        answer=b'"durability":',
        join=get_stream(f"{base}/stream", host, headers),
        joined=b"retry: ",
        messages=batch or 1,
    )


_DONE: Final = b'{"success": true}\r\n'
_PING, _PONG = b"ping\n", b"OK pong"  # in words, so that the answer cannot be taken for another's


def literal(topic: str, size: int) -> Speech:
    """The line port, as it all began: a publish has no answer."""
    name = topic.encode()
    return Speech(
        b"{'command':'send', 'topic':'%b', 'msg':'%b'}\n" % (name, body(size)),
        join=b"{'command':'subscribe', 'topic':'%b'}\n" % name + _PING,
        joined=_PONG,
    )


def lines(topic: str, size: int, token: str | None = None) -> Speech:
    """The line port, in JSON: a publish has an answer."""
    name, hello = topic.encode(), b"auth %b\n" % token.encode() if token else b""
    return Speech(
        b'{"command":"send","topic":"%b","msg":"%b","delivery":"all"}\n' % (name, body(size)),
        answer=_DONE,
        join=hello + b'{"command":"subscribe","topic":"%b","cache":false}\n' % name + _PING,
        joined=_PONG,
        hello=hello,
    )
