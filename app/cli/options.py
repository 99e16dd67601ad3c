"""Options that several commands share, and the types of their values."""

import inspect
import re
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import click

from ..errors import OptionInvalid
from ..messages.units import parse_duration
from ..settings.hosts import is_address, is_port
from ..settings.paths import unreachable

_HEADER_NAME = re.compile(r"[A-Za-z0-9._-]+")

F = TypeVar("F", bound=Callable[..., Any])

_STATUSES: Final[Mapping[int, str | None]] = {
    0: "done",
    1: "refused by the server, or the output cannot be written; a sentence says why",
    2: "wrong usage",
    3: "the server cannot be reached",
    130: "Ctrl-C",
    143: "SIGTERM",
}


def exit_status(others: Mapping[int, str | None] | None = None) -> Callable[[F], F]:
    """The help of the command ends with its exit statuses: `others` where they are not the usual ones, and None for one
    that it has not."""
    statuses = sorted({**_STATUSES, **(others or {})}.items())
    rows = [f"  {status:<5}{meaning}" for status, meaning in statuses if meaning is not None]

    def decorate(command: F) -> F:
        command.__doc__ = "\n".join([inspect.getdoc(command) or "", "", "\b", "Exit status:", *rows])
        return command

    return decorate


def duration(text: str) -> float:
    """`30s` → 30.0 seconds."""
    try:
        return float(parse_duration(text))
    except OptionInvalid as error:
        raise click.BadParameter(str(error)) from None


def path(text: str) -> Path:
    if why := unreachable(text):
        raise click.BadParameter(why)
    return Path(text)


def header(text: str) -> tuple[str, str]:
    """`title=Hello` → name and text. The server says which names and texts there can be."""
    name, equals, value = text.partition("=")
    if not (equals and _HEADER_NAME.fullmatch(name)):
        raise click.BadParameter(f"{text!r} is not a header: expected NAME=TEXT, such as title=Hello")
    if not value.isprintable():
        raise click.BadParameter(f"{text!r} has control characters: expected text")
    return name, value


def url(text: str) -> str:
    from ..client.address import server_url

    try:
        return str(server_url(text))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


FILE = click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True, path_type=Path)


def ca(path: str) -> Path:
    from ..client.address import trusted

    try:
        trusted(path)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return Path(path)


def token(text: str) -> str:
    from ..client.address import checked_token

    try:
        return checked_token(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


url_option = click.option(
    "--url", type=url, default="http://127.0.0.1:8000", show_default=True, envvar="PLAINMQ_URL", show_envvar=True,
    help="The server's HTTP address; `.env` is not read.",
)  # fmt: skip
token_option = click.option(
    "--token", type=token, metavar="TOKEN", envvar="PLAINMQ_TOKEN", show_envvar=True,
    help="The token to present. In the variable it does not show in the list of processes.",
)  # fmt: skip


_WHOLE: Final = re.compile(r"[0-9]{1,18}")
_DECIMAL: Final = re.compile(r"[0-9]{1,18}(\.[0-9]{1,9})?")


def _checked(value: Any, form: re.Pattern[str]) -> Any:
    """Python reads more texts as numbers, such as `1_000` and `nan`. A default is a number already."""
    if isinstance(value, str) and not form.fullmatch(value):
        raise click.BadParameter(value)
    return value


class Whole(click.IntRange):
    """A whole number within bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(_checked(value, _WHOLE), param, ctx)
        except click.BadParameter:
            return self.fail(f"{value!r} is not a whole number {_bounds(self.min, self.max)}", param, ctx)


class Decimal(click.FloatRange):
    """A number within bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(_checked(value, _DECIMAL), param, ctx)
        except click.BadParameter:
            return self.fail(f"{value!r} is not a number {_bounds(self.min, self.max)}", param, ctx)


def _bounds(lowest: float | None, highest: float | None) -> str:
    return f"of at least {lowest:g}" if highest is None else f"from {lowest:g} to {highest:.9g}"


def whole(lowest: int, highest: int | None = None) -> click.IntRange:
    return Whole(lowest, highest)


def address(text: str) -> tuple[str, int]:
    """`localhost:7777` → host and port."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if not is_address(host) or not is_port(port):
        raise click.BadParameter(f"{text!r} is not an address: expected one such as 127.0.0.1:7777")
    return host, int(port)


def short_duration(text: str) -> float:
    """A duration of at most ten minutes, so that no load runs for ever."""
    seconds = duration(text)
    if not 0 < seconds <= 600:
        raise click.BadParameter(f"{text!r} is not between 0 and 10m")
    return seconds


def server_options(command: F) -> F:
    """Options that select a server, which the command gets as `server`."""

    @url_option
    @click.option(
        "--ca", type=ca, envvar="PLAINMQ_CA", show_envvar=True, metavar="FILE",
        help="Certificates (PEM) of authorities to trust.  [those that the system trusts]",
    )  # fmt: skip
    @token_option
    @wraps(command)
    def with_server(*, url: str, ca: Path | None, token: str | None, **options: Any) -> Any:
        from ..client.commands import Server

        return command(server=Server(url, ca, token), **options)

    return cast(F, with_server)


raw_option = click.option(
    "--raw",
    is_flag=True,
    help="On a terminal, do not escape control characters. A pipe always gets the bytes.",
)


def retry_for(help: str) -> Callable[[F], F]:
    return click.option("--retry-for", type=duration, default="10s", show_default=True, help=help)


retry_publish_option = retry_for(
    "How long to try without an answer. Below 2m: the server remembers keys no longer. One request may take 10s in any "
    "case."
)
