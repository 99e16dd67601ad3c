"""What a client needs for each command. One without a row cannot be done."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from ..access.grant import EVERYTHING, Grant, Right, authorise
from .dialects.commands import Auth, Command, Help, Ping, Quit, Send, Settle, Subscribe, Topics, Unsubscribe, Work

Need = tuple[Right, Callable[[Any], str]]  # a right, on what the command names

NEEDS: Final[Mapping[type[Command], Need | None]] = {
    Send: (Right.PUBLISH, lambda command: command.envelope.topic),
    Subscribe: (Right.SUBSCRIBE, lambda command: command.topic),
    Work: (Right.CONSUME, lambda command: command.topic),
    Settle: (Right.CONSUME, lambda command: command.topic),
    Topics: (Right.ADMIN, lambda _: EVERYTHING),
    Unsubscribe: None,
    Auth: None,
    Ping: None,
    Help: None,
    Quit: None,
}


def check(grant: Grant, command: Command) -> None:
    """Raises Unauthorised, Forbidden, NotFound."""
    need = NEEDS[type(command)]
    if need is not None:
        authorise(grant, need[0], need[1](command))
