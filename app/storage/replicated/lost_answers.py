"""Answers that were lost: what the log has given to a client that was told nothing of it is given back."""

from collections.abc import Iterable, Iterator
from typing import Any

from ...log.commands.command import Command
from ...log.commands.delivery import GiveBack, Take
from ...log.commands.groups import Claim, Settle
from ...messages.lease import Action, lease_id


def returns(commands: Iterable[Command], results: Iterable[Any]) -> Iterator[Command]:
    """The commands that return what these have got."""
    for command, result in zip(commands, results, strict=True):
        if isinstance(result, BaseException) or not result:
            continue
        if isinstance(command, Take):
            yield GiveBack([*result])
        elif isinstance(command, Claim):
            ids = [lease_id(lease) for lease in result]
            yield Settle(command.topic, command.group, Action.EXCUSE, ids, None, None)
