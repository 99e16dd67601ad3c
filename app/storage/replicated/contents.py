"""The contents of an entry: the commands of one node, as bytes."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from ...log.commands.any_command import AnyCommand
from ...log.commands.command import Command
from ...log.level import LEVEL
from ...messages.attendance import Attendance

FORMAT: Final = 1  # of the fields below; a new one goes to the end and has a default


class NewerVersion(Exception):
    """This version of plainmq does not know what a later one has written. The text is for people."""


class Head(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The same in every format. `level`: the newest that the node knows (app/log/level.py)."""

    format: int
    level: int
    node: str


class TicketNote(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A ticket is spent, or unspent again."""

    number: int
    spent: bool


class Contents(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`node`: who appended them. `bye`: it stops behind them. `attendance`: who listens there, if that has changed.
    `tickets`: news of them, which change nothing here. `position`: where the node was."""

    format: int
    level: int
    node: str
    commands: list[AnyCommand]
    bye: bool = False
    attendance: Attendance | None = None
    tickets: Sequence[TicketNote] = ()
    position: tuple[int, int] = (0, 0)


NOTHING: Final = Contents(FORMAT, LEVEL, "", [])

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Contents).decode
_decode_head = msgspec.msgpack.Decoder(Head).decode


def decode(data: bytes) -> Contents:
    """Raises NewerVersion."""
    try:
        contents = _decode(data)
    except msgspec.DecodeError as error:
        raise NewerVersion(_why_not(data, error)) from error
    if contents.format != FORMAT:
        raise NewerVersion(f"has the format {contents.format}")
    return contents


def _why_not(data: bytes, error: msgspec.DecodeError) -> str:
    try:
        head = _decode_head(data)
    except msgspec.DecodeError:
        return f"is none of plainmq: {error}"
    if head.format != FORMAT:
        return f"has the format {head.format}"
    return f"has a command that this version does not know (level {head.level}): {error}"


class Writer(NamedTuple):
    """A node that appends. `level`: the newest that it knows."""

    node: str
    level: int = LEVEL

    def encode(
        self, commands: Sequence[Command], *, bye: bool = False, attendance: Attendance | None = None,
        tickets: Sequence[TicketNote] = (), position: tuple[int, int] = (0, 0),
    ) -> bytes:  # fmt: skip
        """The bytes of Contents."""
        return _encode((FORMAT, self.level, self.node, commands, bye, attendance, tickets, position))
