"""The right that each command needs. A command without a row cannot be carried out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ..access.grant import EVERYTHING, Grant, Right, authorise
from .dialects.commands import (
    Auth,
    Command,
    Help,
    Jobs,
    Pause,
    Ping,
    Purge,
    Quit,
    Redrive,
    Release,
    Seek,
    Send,
    Settle,
    Skip,
    Subscribe,
    Topics,
    Unsubscribe,
    Work,
)

RequiredRight = tuple[Sequence[Right], Callable[[Any], str]]  # any of the rights, on a topic or pattern

REQUIRED_RIGHTS: Final[Mapping[type[Command], RequiredRight | None]] = {
    Send: ((Right.PUBLISH,), lambda command: command.envelope.topic),
    Subscribe: ((Right.SUBSCRIBE,), lambda command: command.topic),
    Work: ((Right.CONSUME,), lambda command: command.topic),
    Settle: ((Right.CONSUME,), lambda command: command.topic),
    Jobs: ((Right.CONSUME, Right.VIEW, Right.ADMIN), lambda command: command.topic),
    Release: ((Right.CONSUME, Right.ADMIN), lambda command: command.topic),
    Skip: ((Right.ADMIN,), lambda command: command.topic),
    Redrive: ((Right.ADMIN,), lambda command: command.topic),
    Seek: ((Right.ADMIN,), lambda command: command.topic),
    Pause: ((Right.ADMIN,), lambda command: command.topic),
    Purge: ((Right.ADMIN,), lambda command: command.topic),
    Topics: ((Right.VIEW, Right.ADMIN), lambda _: EVERYTHING),
    Unsubscribe: None,
    Auth: None,
    Ping: None,
    Help: None,
    Quit: None,
}


def check(grant: Grant, command: Command) -> None:
    """Raises Unauthorised, Forbidden, NotFound."""
    required = REQUIRED_RIGHTS[type(command)]
    if required is not None:
        rights, topic_of = required
        authorise(grant, rights, topic_of(command))
