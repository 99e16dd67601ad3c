"""The limits of the log are part of its state, since they decide: those of the node that was started last are in force
on all nodes."""

from asyncio import Future
from collections.abc import Callable, Mapping
from logging import WARNING
from typing import Any, Final

from ...log.commands.set_limits import SetLimits
from ...log.topic_log import Limits
from ...telemetry.journal import OtherLimit
from ...telemetry.log import log_event

_SETTINGS: Final[Mapping[str, Callable[[Limits], float]]] = {
    "max_messages": lambda limits: limits.retention.max_messages,
    "max_bytes": lambda limits: limits.retention.max_bytes,
    "max_age": lambda limits: limits.retention.max_age,
    "max_total_bytes": lambda limits: limits.total_bytes,
    "max_topics": lambda limits: limits.topics,
    "max_groups": lambda limits: limits.groups,
    "topic_idle": lambda limits: limits.topic_idle,
}


class LimitsInForce:
    def __init__(self, own: Limits, do: Callable[[SetLimits], "Future[Any]"]) -> None:
        self._own = own
        self._do = do
        self._set = False  # by this node
        self._seen: Limits | None = None

    def begin(self, in_force: Limits) -> None:
        """This node may append: set the limits that it was started with, once."""
        self.check(in_force)
        if self._set or in_force == self._own:
            self._set = True
            return
        fields: dict[str, Any] = {
            other.setting: f"{other.in_force:g} → {other.own:g}" for other in self.others(in_force)
        }
        log_event("this server sets other limits than the log had", WARNING, **fields)
        self._do(SetLimits(self._own)).add_done_callback(self._on_set)

    def _on_set(self, done: "Future[Any]") -> None:
        self._set = self._set or done.exception() is None  # otherwise begin() is called again

    def check(self, in_force: Limits) -> None:
        """Log once if those in force have changed and are not those of this node."""
        if in_force is self._seen:
            return
        self._seen = in_force
        if self._set and in_force != self._own:
            fields: dict[str, Any] = {
                other.setting: f"{other.own:g} → {other.in_force:g}" for other in self.others(in_force)
            }
            log_event("a server that was started later has set other limits", WARNING, **fields)

    def others(self, in_force: Limits) -> list[OtherLimit]:
        """The limits that are not those of this node."""
        values = [(name, value(self._own), value(in_force)) for name, value in _SETTINGS.items()]
        return [OtherLimit(*row) for row in values if row[1] != row[2]]
