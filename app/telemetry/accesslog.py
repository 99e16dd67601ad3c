"""The access log: records of requests, streams and connections of the line port, and how each of them ended.

A record costs as much as publishing a message (docs/operations.md). So by default only failures are recorded, and at
most MAX_ERRORS a second: a client cannot fill the disk, or slow the server down, by being refused.
"""

from logging import ERROR, INFO, WARNING
from time import monotonic
from typing import Any, Final, Literal

from . import redact
from .log import log_event

Which = Literal["errors", "all", "none"]

MAX_ERRORS: Final = 100  # records a second; the rest are only counted, and one record gives their number

_LEAST: Final[dict[Which, int]] = {"all": 100, "errors": 400, "none": 1_000}
_LEVELS: Final = {500: ERROR, 503: WARNING, 504: ERROR, 507: WARNING}
_WRONG: Final = {"cut_off": WARNING, "failed": ERROR, "another_protocol": INFO, "unauthorised": INFO}


class AccessLog:
    """The access log of one endpoint, `http` or the line port. `which`: record all answers, only errors, or none."""

    def __init__(self, which: Which = "errors", door: str = "http") -> None:
        self.least = _LEAST[which]
        """The lowest status that is recorded. Callers compare with it first, so that other requests cost nothing."""
        self.all = which == "all"
        self._which = which
        self._door = door
        self._second = 0
        self._count = 0  # records asked for in that second

    def request(self, status: int, method: str, target: bytes, **fields: Any) -> None:
        """Record an answered request. The caller has compared its status with `least`."""
        if self._has_room():
            level = _LEVELS.get(status, INFO)
            log_event(
                "request", level, door=self._door, method=method, path=redact.target(target), status=status, **fields
            )

    def ended(self, message: str, why: str, target: bytes | None = None, **fields: Any) -> None:
        """Record the end of a stream or a connection, if its reason is to be recorded."""
        wanted = self.all or (why in _WRONG and self._which == "errors")
        if wanted and self._has_room():
            path = None if target is None else redact.target(target)
            log_event(message, _WRONG.get(why, INFO), door=self._door, why=why, path=path, **fields)

    def report_unrecorded(self) -> None:
        """Write one record with the number of errors of the last second that have none of their own."""
        if self._count > MAX_ERRORS and self._which == "errors":
            log_event("more went wrong", WARNING, count=self._count - MAX_ERRORS, door=self._door)
        self._count = 0

    def _has_room(self) -> bool:
        second = int(monotonic())
        if second != self._second:
            self.report_unrecorded()
            self._second = second
        self._count += 1
        return self._count <= MAX_ERRORS or self.all


def address(client: tuple[str, int] | None) -> str | None:
    """Host and port, such as `127.0.0.1:4242`; None for a client without an address."""
    if client is None:
        return None
    host, port = client
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
