"""What every command is: data that decides the same on every state machine that has the same state.

`now` is the log's time for the command. A command reads no clock and no random number, so whoever carries out the same
commands at the same times gets the same state and the same results.
"""

from typing import Any

import msgspec

from ..slices import Slices
from ..state import LogStateMachine


class Command(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One change of the log. Its encoding is an array: the tag, then the fields in their order. A new field goes to the
    end and has a default; a tag is never used again for another command."""

    def carry_out(self, core: LogStateMachine, now: float) -> Any:
        """Decide, and return the result: for a SlicedChange, slices of it. Raises PlainmqError, and nothing has
        changed."""
        raise NotImplementedError

    @property
    def level(self) -> int:
        """The first level that has it, with these fields (app/log/level.py)."""
        return 1

    @property
    def size(self) -> int:
        """How many publishes wait for it."""
        return 1

    @property
    def body_bytes(self) -> int:
        """Of message bodies."""
        return 0


class Publish(Command, frozen=True, array_like=True, gc=False):
    """It adds messages to the log. Many are carried out in a row, and the topics are trimmed once."""


class Effect(Command, frozen=True, array_like=True, gc=False):
    """It records what has happened outside of the log, so it cannot be refused."""

    @property
    def size(self) -> int:
        return 0


class Change(Command, frozen=True, array_like=True, gc=False):
    """It is carried out after all that is due; messages that are out of attempts then leave their groups."""

    def carry_out(self, core: LogStateMachine, now: float) -> Any:
        core.pass_time(now)
        try:
            return self.decide(core, now)
        finally:
            core.follow_up(now)

    def decide(self, core: LogStateMachine, now: float) -> Any:
        raise NotImplementedError


class SlicedChange(Command, frozen=True, array_like=True, gc=False):
    """A change that may take long, in slices. Between two of them, an engine may carry out other commands."""

    def carry_out(self, core: LogStateMachine, now: float) -> Slices[Any]:
        core.pass_time(now)
        try:
            return (yield from self.decide(core, now))
        finally:
            core.follow_up(now)

    def decide(self, core: LogStateMachine, now: float) -> Slices[Any]:
        raise NotImplementedError
