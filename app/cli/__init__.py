"""The command line: arguments only; each command calls one function."""

import sys
from typing import Any, Final

import click

from .. import settings
from ..errors import PlainmqError
from ..messages.control_characters import escape_line
from ..version import __version__
from . import copies, load, messages, serve, tokens
from .terminal import give_up, hold_streams

COMMANDS: Final = (
    serve.serve,
    serve.echo,
    messages.publish,
    messages.subscribe,
    load.bench,
    messages.export,
    messages.import_,
    copies.backup,
    copies.restore,
    tokens.make_token,
)


class Group(click.Group):
    """Ends with a sentence, not a traceback, when one of our errors says what is wrong."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        hold_streams()
        _skip("httpx._main")
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            give_up(error)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            settings.check_environment()
            return super().invoke(ctx)
        except PlainmqError as error:
            raise click.ClickException(escape_line(str(error))) from error


def _skip(module: str) -> None:
    """Let it be missing. httpx imports a command line of its own, and rich and pygments with it, wherever they are
    installed: a third of the time of a publish. Without it httpx is the same library."""
    sys.modules.setdefault(module, None)  # type: ignore[arg-type]


@click.group(cls=Group, context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="plainmq")
def main() -> None:
    """A message queue that needs no client library: curl publishes, EventSource subscribes, telnet does both."""


for command in COMMANDS:
    main.add_command(command)
