"""What clients did and how it ended: a record for each request, stream and connection of the line port that is wanted.

A record costs as much as publishing a message (docs/operations.md), so by default only what went wrong has one, and
at most so many a second: nobody can fill a disk, or slow the server down, by being refused.
"""

from logging import ERROR, INFO, WARNING
from time import monotonic
from typing import Any, Final, Literal

from . import redact
from .log import log_event

Which = Literal["errors", "all", "none"]

MOST: Final = 100  # records a second of what went wrong; the rest are counted and told together

_LEAST: Final[dict[Which, int]] = {"all": 100, "errors": 400, "none": 1_000}
_LEVELS: Final = {500: ERROR, 503: WARNING, 507: WARNING}
_WRONG: Final = {"cut_off": WARNING, "failed": ERROR, "another_protocol": INFO, "unauthorised": INFO}


class AccessLog:
    """Of one door. `which`: of all answers, of those that are errors, or of none."""

    def __init__(self, which: Which = "errors", door: str = "http") -> None:
        self.least = _LEAST[which]
        """The lowest status that has a record: to be asked before anything is done for one."""
        self.all = which == "all"
        self._which = which
        self._door = door
        self._second = 0
        self._count = 0  # in that second

    def request(self, status: int, method: str, target: bytes, **fields: Any) -> None:
        """A request was answered; it is known to be wanted."""
        if self._has_room():
            level = _LEVELS.get(status, INFO)
            log_event(
                "request", level, door=self._door, method=method, path=redact.target(target), status=status, **fields
            )

    def ended(self, message: str, why: str, target: bytes | None = None, **fields: Any) -> None:
        """A stream or a connection has ended."""
        wanted = self.all or (why in _WRONG and self._which == "errors")
        if wanted and self._has_room():
            path = None if target is None else redact.target(target)
            log_event(message, _WRONG.get(why, INFO), door=self._door, why=why, path=path, **fields)

    def tell_rest(self) -> None:
        """What had no record of its own in the last second."""
        if self._count > MOST and self._which == "errors":
            log_event("more went wrong", WARNING, count=self._count - MOST, door=self._door)
        self._count = 0

    def _has_room(self) -> bool:
        second = int(monotonic())
        if second != self._second:
            self.tell_rest()
            self._second = second
        self._count += 1
        return self._count <= MOST or self.all


def address(client: tuple[str, int] | None) -> str | None:
    """`127.0.0.1:4242`"""
    if client is None:
        return None
    host, port = client
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
