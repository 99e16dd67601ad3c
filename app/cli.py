"""The command line: arguments only; each command calls one function."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from . import __version__, settings
from .errors import PlainmqError

F = TypeVar("F", bound=Callable[..., Any])


class Group(click.Group):
    """Ends with a sentence, not a traceback, when one of our errors says what is wrong."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PlainmqError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Group, context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="plainmq")
def main() -> None:
    """A message queue that needs no client library: curl publishes, EventSource subscribes, telnet does both."""


def _settings_options(command: F) -> F:
    for option in reversed(settings.OPTIONS):
        variable = settings.variable(option.name)
        text = f"{option.metadata['help']}  [{option.default}; {variable}]"
        command = click.option(settings.flag(option.name), metavar=settings.kind(option.name), help=text)(command)
    return command


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@main.command()
@_settings_options
def serve(**flags: str | None) -> None:
    """Run the server until Ctrl-C or SIGTERM.

    Each option can also be given as the environment variable behind it, or in a file `.env`.
    """
    from . import server

    server.serve(settings.load(flags), _tell)


@main.command()
@click.argument("port", type=click.IntRange(0, 65535), default=7777)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def echo(port: int, host: str) -> None:
    """Send every line back on PORT: check that a port can be reached before you blame the queue."""
    from . import server

    server.echo(host, port, _tell)
