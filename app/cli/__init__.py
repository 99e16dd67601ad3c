"""The command line, a file for each family of commands.

`main` parses the arguments; each command calls a function of another package. It knows nothing of what a command does:
that is in `server`, `client`, `bench` and `access`.
"""

import sys
from typing import Any, Final

import click

from .. import settings
from ..errors import PlainmqError
from ..messages.control_characters import escape_line
from ..version import __version__
from . import actions, completion, copies, health, load, messages, operations, serve, tokens
from .terminal import exit_with_error, open_closed_streams

COMMANDS: Final = (
    serve.serve,
    serve.echo,
    messages.publish,
    messages.subscribe,
    operations.topics,
    operations.topic,
    operations.groups,
    operations.group,
    operations.peek,
    actions.redrive,
    actions.release,
    actions.skip,
    actions.purge,
    actions.scheduled,
    actions.subscribers,
    health.status,
    health.top,
    health.check,
    load.bench,
    messages.export,
    messages.import_,
    copies.backup,
    copies.restore,
    tokens.make_token,
    tokens.list_tokens,
    completion.completion,
)


class Group(click.Group):
    """Our own errors end the program with their sentence, without a traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        open_closed_streams()
        _hide("httpx._main")
        try:
            return super().main(*args, **{"complete_var": completion.VARIABLE} | kwargs)
        except OSError as error:
            exit_with_error(error)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            settings.check_environment()
            return super().invoke(ctx)
        except PlainmqError as error:
            raise click.ClickException(escape_line(str(error))) from error


def _hide(module: str) -> None:
    """Make imports of the module fail. httpx imports its own command line if rich and pygments are installed, which
    takes a third of the time of `plainmq publish`. It works the same without."""
    sys.modules.setdefault(module, None)  # type: ignore[arg-type]


@click.group(cls=Group, context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="plainmq")
def main() -> None:
    """A message queue that needs no client library: curl publishes, EventSource subscribes, telnet does both."""


for command in COMMANDS:
    main.add_command(command)
