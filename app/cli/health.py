"""The commands `plainmq status`, `top` and `check`."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from ..messages.topic import covers
from .options import exit_status, server_options, short_duration
from .terminal import end_on_signals, screen, terminal

if TYPE_CHECKING:
    from ..client.commands import Server

_RIGHTS: Final = ("publish", "subscribe", "consume", "admin", "view")

F = TypeVar("F", bound=Callable[..., Any])


@click.command(short_help="Say what needs attention at a server.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@server_options
@exit_status({0: "nothing needs attention", 6: "something needs attention"})
def status(*, as_json: bool, server: "Server") -> None:
    """Say what needs attention at a server, with a command that shows more of it, and the server's main figures.

    These need attention: no messages are accepted, or the server stops; dead messages; messages that are ready while
    their group has no worker or is paused; memory that is 80 % full; an event loop that is 0.1 seconds late; in the
    last minutes, failures of the disk, and subscribers that were disconnected because they did not read.

    It needs the right to view or admin on `**`.
    """
    end_on_signals()
    from ..client import health, operations

    sys.exit(operations.run(operations.Request(server, as_json), health.status, terminal()))


@click.command(short_help="Show what a server does, as it does it.")
@server_options
@exit_status(
    {
        0: "q was pressed, or the terminal was closed",
        1: "refused by the server; a sentence says why",
        2: "wrong usage, such as output that is no terminal",
        3: "the server cannot be reached at the start",
    }
)
def top(*, server: "Server") -> None:
    """Show what a server does, once a second, until q or Ctrl-C: the rates of the last minutes, what needs attention,
    and the groups that are furthest behind. While the server restarts, it waits for it.

    It needs a terminal, and the right to view or admin on `**`.
    """
    end_on_signals()
    console = screen()
    if console is None:
        raise click.UsageError(
            "top needs a terminal with a screen: use `plainmq status --json` for one look, or "
            f"`curl -N {server.url.rstrip('/')}/stats/stream` for a stream"
        )
    from ..client.top import top
    from .screen import TerminalScreen

    sys.exit(top(server, TerminalScreen(console), terminal()))


def _rights(command: F) -> F:
    for right in reversed(_RIGHTS):
        command = click.option(
            f"--{right}", multiple=True, metavar="PATTERN", help=f"The token must have the right to {right} on it."
        )(command)
    return command


@click.command(short_help="Check that a server can be reached and used.")
@_rights
@click.option(
    "--timeout", type=short_duration, default="3s", show_default=True, metavar="DURATION",
    help="The longest wait for each answer.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@server_options
@exit_status(
    {
        0: "it can be used",
        1: "it is not ready, the token is not valid, or a right is missing; a sentence says which",
        3: "it cannot be reached",
    }
)
def check(*, timeout: float, as_json: bool, server: "Server", **wanted: Sequence[str]) -> None:
    """Check that a server can be reached, that it accepts messages, that the token is valid, and that it has the rights
    that the options name. Print who the token belongs to and what it may do.

    Without a token and without such options, it is enough that the server accepts messages. It takes one attempt: the
    caller repeats it, as in `until plainmq check; do sleep 1; done`.
    """
    end_on_signals()
    from ..client import health, operations

    request = operations.Request(server, as_json, timeout=timeout)
    operation = partial(health.check, wanted=wanted, has_token=server.token is not None, allows=_allows)
    sys.exit(operations.run(request, operation, terminal()))


def _allows(patterns: Sequence[str], wanted: str) -> bool:
    return any(covers(pattern, wanted) for pattern in patterns)
