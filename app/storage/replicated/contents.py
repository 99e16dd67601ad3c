"""The contents of an entry: the commands of one node, as bytes."""

from collections.abc import Sequence
from typing import Final

import msgspec

from ...log.commands.any_command import AnyCommand
from ...log.commands.command import Command
from ...messages.attendance import Attendance

LEVEL: Final = 1  # of what commands mean: a node does not carry out entries of a later level


class TicketNote(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A ticket is spent, or unspent again."""

    number: int
    spent: bool


class Contents(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`node`: who appended them. `bye`: it stops behind them. `attendance`: who listens there,
    if that has changed. `tickets`: news of them, which change nothing here."""

    level: int
    node: str
    commands: list[AnyCommand]
    bye: bool = False
    attendance: Attendance | None = None
    tickets: Sequence[TicketNote] = ()


NOTHING: Final = Contents(LEVEL, "", [])

_encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Contents).decode


def encode(
    node: str, commands: Sequence[Command], *, bye: bool = False, attendance: Attendance | None = None,
    tickets: Sequence[TicketNote] = (),
) -> bytes:  # fmt: skip
    """The bytes of Contents of the present level."""
    return _encode((LEVEL, node, commands, bye, attendance, tickets))
