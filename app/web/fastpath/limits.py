"""Limits of a request: the size of its head, and the time that it may take to arrive.

A client that sends little and slowly (slowloris) holds a connection. A client that sends an endless header fills
memory, because the parser buffers it. Both are found here. Nothing in this file waits, reads a clock or uses a socket.
"""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from ...errors import HeadTooLarge, TargetTooLong

MAX_HEADERS: Final = 100  # browsers send about twenty and proxies add some; each costs more than its bytes
MAX_PIPELINED: Final = 100  # requests that wait behind another: browsers send none, and each takes a kilobyte
MAX_TARGET: Final = 8 << 10  # bytes: the longest topic, escaped, with every option, has half of that
MIN_BODY_RATE: Final = 1 << 10  # bytes a second: a slower body must arrive within body_timeout

_REQUEST_LINE: Final = len("  HTTP/1.1\r\n")  # without the method and the target
_COLON: Final = len(": \r\n")


class RequestLimits(msgspec.Struct, frozen=True):
    """`max_head`: in bytes; timeouts: in seconds; `max_clients`: connections at once."""

    max_head: int = 16 << 10
    head_timeout: float = 10.0
    body_timeout: float = 30.0
    max_clients: int = 20_000

    def check_size(self, nbytes: int) -> None:
        """Raises HeadTooLarge."""
        if nbytes > self.max_head:
            raise HeadTooLarge(f"the request's head has more than the {self.max_head} bytes that are accepted")


def check_parts(target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Raises TargetTooLong, HeadTooLarge."""
    if len(target) > MAX_TARGET:
        raise TargetTooLong(f"the request's target has more than the {MAX_TARGET} bytes that are accepted")
    if len(headers) > MAX_HEADERS:
        raise HeadTooLarge(f"the request has more than the {MAX_HEADERS} headers that are accepted")


def head_size(method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> int:
    """Bytes of a head in its usual spelling, with the empty line."""
    fields = sum(len(name) + len(value) + _COLON for name, value in headers)
    return len(method) + len(target) + _REQUEST_LINE + fields + len("\r\n")


Stage = Literal["request", "head", "body"]
"""What a connection waits for from its client: the first byte of a request, the rest of its head, or of its body. Not
an enum: its members are slow to look up."""


class SlowRequestDetector:
    """Time without progress on one connection. It is sampled about once a second, so that requests read no clock; a
    limit may be exceeded by as much."""

    __slots__ = ("_awaited", "_nbytes", "_since")

    def __init__(self) -> None:
        self._awaited: tuple[Stage | None, int] = (None, 0)
        self._since = 0.0
        self._nbytes = 0

    def is_slow(self, stage: Stage | None, request: int, nbytes: int, now: float, limits: RequestLimits) -> bool:
        """`stage`: None if nothing is awaited. `request`: its number on the connection. `nbytes`: of all bodies so
        far."""
        waited = now - self._since
        if (stage, request) != self._awaited:
            self._begin(stage, request, nbytes, now)
        elif stage == "body" and waited >= limits.body_timeout:
            if nbytes - self._nbytes < MIN_BODY_RATE * waited:
                return True
            self._begin(stage, request, nbytes, now)
        return stage in {"request", "head"} and now - self._since >= limits.head_timeout

    def _begin(self, stage: Stage | None, request: int, nbytes: int, now: float) -> None:
        self._awaited, self._since, self._nbytes = (stage, request), now, nbytes
