"""The fold: it carries out the entries of a journal, in slices, and leads to the same state on each node.

Nothing here depends on this node: not on its clock, on its clients, or on what they have read meanwhile.
"""

from collections.abc import Sequence
from typing import Any

from ...errors import PlainmqError
from ...log.commands.command import Command, SlicedChange
from ...log.level import LEVEL
from ...log.slices import Slices
from ...log.state import LogStateMachine
from .contents import NOTHING, Contents, NewerVersion, decode
from .journal import Entry, Head
from .level_in_use import LevelInUse
from .sessions import Sessions
from .state_check import StateCheck


class Fork(Exception):
    """The next entry does not follow the last one that was carried out."""


class Trimmed(Fork):
    """Entries between the two are only in a snapshot."""


class Fold:
    """`number`, `link`, `time` and `contents`: of the last entry."""

    def __init__(self, core: LogStateMachine, known_level: int = LEVEL) -> None:
        self.core = core
        self.sessions = Sessions(core)
        self.level = LevelInUse(core, known_level)
        self.check = StateCheck()
        self.number = 0
        self.link = b""
        self.time = 0.0
        self.contents = NOTHING

    @property
    def deadline(self) -> float:
        """The next time at which an entry has effects for clients, whatever commands it has."""
        return min(self.core.deadline, self.sessions.deadline)

    def is_due(self, now: float) -> bool:
        return self.core.is_due(now) or self.sessions.deadline <= now

    def is_ahead_of(self, head: Head) -> bool:
        """Whether entries were carried out that are not in the journal with this head."""
        return self.number > head.number or (self.number == head.number and self.link != head.link)

    def carry_out(self, entry: Entry) -> Slices[Sequence[Any]]:
        """The result or the PlainmqError of each command. Raises Fork, NewerVersion."""
        if entry.number > self.number + 1:
            raise Trimmed(f"entry {entry.number} of the journal comes behind entry {self.number}")
        if (entry.number, entry.before) != (self.number + 1, self.link):
            raise Fork(f"entry {entry.number} of the journal does not follow entry {self.number}")
        self.number, self.link, self.time = entry.number, entry.link, max(entry.time, self.time)
        self.contents = contents = _decoded(entry)
        self.core.log.single_delivery.node = contents.node
        self.sessions.renew(contents.node, contents.level, self.time)
        self.sessions.pass_time(self.time)
        self.level.check(self.sessions.lowest_level, self.time)
        self.core.pass_time(self.time)
        results: list[Any] = []
        for command in contents.commands:
            results.append((yield from self._result(command)))
            self.core.trim()
        if contents.attendance is not None:
            self.sessions.attend(contents.node, contents.attendance)
        if contents.bye:
            self.sessions.end(contents.node)
        self.check.add(self.core, results)
        return results

    def _result(self, command: Command) -> Slices[Any]:
        try:
            result = command.carry_out(self.core, self.time)
            return (yield from result) if isinstance(command, SlicedChange) else result
        except PlainmqError as error:
            return error


def _decoded(entry: Entry) -> Contents:
    """Raises NewerVersion."""
    try:
        return decode(entry.data)
    except NewerVersion as error:
        raise NewerVersion(
            f"entry {entry.number} of the log {error}: it is of a later version of plainmq; update this server"
        ) from error
