"""The commands `plainmq serve` and `plainmq echo`."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from .. import settings
from .options import whole
from .terminal import report

F = TypeVar("F", bound=Callable[..., Any])


def _settings_options(command: F) -> F:
    for option in reversed(settings.OPTIONS):
        variable = settings.variable(option.name)
        allowed = option.metadata["values"].allowed.replace("`", "")
        text = f"{option.metadata['help']}  [{'; '.join(filter(None, (str(option.default), allowed, variable)))}]"
        command = click.option(settings.flag(option.name), metavar=settings.kind(option.name), help=text)(command)
    return command


@click.command()
@_settings_options
def serve(**flags: str | None) -> None:
    """Run the server until Ctrl-C or SIGTERM.

    Each option can also be set by the environment variable in its brackets, in the environment or in a file `.env`.
    """
    from ..server import run

    run.serve(settings.load_with_sources(flags))


@click.command(short_help="Echo every line, to check that a port can be reached.")
@click.argument("port", type=whole(0, 65535), default=7777)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def echo(port: int, host: str) -> None:
    """Echo every line that PORT receives, to check that clients can reach a port of this machine."""
    from ..server import run

    run.echo(host, port, report)
