"""The command line: arguments only; each command calls one function."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from . import __version__, settings
from .errors import OptionInvalid, PlainmqError
from .units import parse_duration

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import ProgressColumn

    from .claims import Rights
    from .client import Options
    from .commands import Progress, Server, Terminal

SHORT = 3_600.0  # seconds that a signed token is good, which nobody can take back

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

    server.serve(settings.load(flags))


@main.command()
@click.argument("port", type=click.IntRange(0, 65535), default=7777)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def echo(port: int, host: str) -> None:
    """Send every line back on PORT: check that a port can be reached before you blame the queue."""
    from . import server

    server.echo(host, port, _tell)


# Publishing and subscribing


def duration(text: str) -> float:
    """`30s` → 30.0 seconds."""
    try:
        return float(parse_duration(text))
    except OptionInvalid as error:
        raise click.BadParameter(str(error)) from None


def url(text: str) -> str:
    from .client import server_url

    try:
        return str(server_url(text))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


FILE = click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True, path_type=Path)


def ca(path: str) -> Path:
    from .client import trusted

    try:
        trusted(path)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return Path(path)


def token(text: str) -> str:
    from .client import checked_token

    try:
        return checked_token(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


url_option = click.option(
    "--url", type=url, default="http://127.0.0.1:8000", show_default=True, envvar="PLAINMQ_URL", show_envvar=True,
    help="The server's HTTP door.",
)  # fmt: skip
token_option = click.option(
    "--token", type=token, metavar="TOKEN", envvar="PLAINMQ_TOKEN", show_envvar=True,
    help="Whose rights count. As a variable nobody sees it in the list of processes.",
)  # fmt: skip


def server_options(command: F) -> F:
    """Which server is meant; the command gets it as `server`."""

    @url_option
    @click.option(
        "--ca", type=ca, envvar="PLAINMQ_CA", show_envvar=True, metavar="FILE",
        help="Certificates (PEM) that may vouch for the server's.  [those that the system trusts]",
    )  # fmt: skip
    @token_option
    @wraps(command)
    def with_server(*, url: str, ca: Path | None, token: str | None, **options: Any) -> Any:
        from .commands import Server

        return command(server=Server(url, ca, token), **options)

    return cast(F, with_server)


def _retry_for(help: str) -> Callable[[F], F]:
    return click.option("--retry-for", type=duration, default="10s", show_default=True, help=help)


retry_publish_option = _retry_for("How long to try without an answer; below 2m, or the server has forgotten the key.")


@main.command()
@click.argument("topic")
@click.argument("message", required=False)
@click.option("--file", type=FILE, help="Publish this file as one message; - is standard input.")
@click.option("--lines", is_flag=True, help="A line a message, from --file or standard input.")
@click.option("--ndjson", is_flag=True, help="As --lines, but in batches: faster, and stored as application/json.")
@click.option("--event", metavar="NAME", help="The event name that an EventSource sees.")
@click.option("--delivery", type=click.Choice(["all", "one"]), help="To all subscribers, or to exactly one.  [all]")
@click.option("--no-retain", is_flag=True, help="To those who listen now; never stored.")
@click.option("--ttl", metavar="DURATION", help="Nobody gets it later than this.")
@click.option("--delay", metavar="DURATION", help="Nobody gets it earlier than this.")
@click.option("--key", metavar="TEXT", help="The Idempotency-Key of a single message.  [one is made up]")
@click.option("--content-type", metavar="TYPE", help="[text/plain if it is UTF-8, else application/octet-stream]")
@click.option("--json", "as_json", is_flag=True, help="Print the server's answers, a JSON object a line.")
@retry_publish_option
@server_options
def publish(
    *, topic: str, message: str | None, file: Path | None, lines: bool, ndjson: bool, server: "Server",
    delay: str | None, no_retain: bool, retry_for: float, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Publish MESSAGE, a file or standard input to TOPIC.

    Without MESSAGE and --file, standard input is read as it comes, a line a message, as in `tail -f log | plainmq
    publish logs`. Lines end in LF or CRLF; empty ones are skipped. Each is acknowledged before the next is sent, so
    they keep their order. For a single message its id is printed; for lines nothing.

    What gets no answer is sent again with the same Idempotency-Key, so that it is stored once.

    \b
    Exit status:
      0    published
      1    refused by the server, or the output cannot be written; the sentence says why
      2    wrong usage
      3    the server cannot be reached; whether the last message was stored is not known
      130  Ctrl-C
      143  SIGTERM
    """
    _end_on_signals()
    from . import commands

    one_by_line = lines or ndjson or (message is None and file is None)
    if message is not None and (file or one_by_line):
        raise click.UsageError("MESSAGE cannot be combined with --file, --lines or --ndjson")
    if message is None and file is None and not (lines or ndjson) and sys.stdin.isatty():
        raise click.UsageError("there is no MESSAGE: give one, --file, or standard input (--lines to type it)")
    if one_by_line and options["key"]:
        raise click.UsageError("--key is for a single message: of several with the same key only one is stored")
    if ndjson and options["content_type"]:
        raise click.UsageError("--content-type cannot be combined with --ndjson: a batch is stored as application/json")
    options["retain"] = not no_retain
    outgoing = commands.Outgoing(server, topic, cast("Options", options), delay, retry_for, as_json)
    if one_by_line:
        sys.exit(commands.publish_lines(outgoing, file or Path("-"), ndjson, _terminal()))
    source = file if message is None else os.fsencode(message)
    assert source is not None
    sys.exit(commands.publish_one(outgoing, source, _terminal()))


@main.command()
@click.argument("topics", nargs=-1, required=True, metavar="TOPIC...")
@click.option(
    "--since", default="latest", show_default=True, metavar="PLACE",
    help="An id, latest, earliest, last:10, a duration such as 10m, or an RFC 3339 time.",
)  # fmt: skip
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N messages.")
@click.option("--timeout", type=duration, help="End after this time.")
@click.option("--json", "as_json", is_flag=True, help="Print whole messages, a JSON object a line.")
@click.option("--strict", is_flag=True, help="End with status 4 when messages are gone.")
@click.option("--retry-for", type=duration, help="How long to try to reach the server.  [for ever]")
@server_options
def subscribe(
    *, topics: tuple[str, ...], since: str, count: int | None, timeout: float | None, as_json: bool, strict: bool,
    retry_for: float | None, server: "Server",
) -> None:  # fmt: skip
    """Print what is published to these topics and patterns, a message a line, in the order of the log.

    When the connection breaks or the server restarts it goes on where it was. If messages are gone by then, a sentence
    on standard error says so; with --json also a line {"gap": ...} on standard output. A message that holds line feeds
    takes several lines; with --json it is always one.

    \b
    Exit status:
      0    --count or --timeout reached, or nobody reads the output any more
      1    refused by the server, or the output cannot be written; the sentence says why
      2    wrong usage
      3    the server could not be reached for --retry-for
      4    messages are gone, and --strict was given
      5    --timeout came before --count
      130  Ctrl-C
      143  SIGTERM
    """
    _end_on_signals()
    from . import commands

    wanted = commands.Wanted(server, topics, since, count, timeout, retry_for, as_json, strict)
    sys.exit(commands.subscribe(wanted, _terminal()))


# Load


def _whole(lowest: int, highest: int) -> click.IntRange:
    return click.IntRange(lowest, highest)


def address(text: str) -> tuple[str, int]:
    """`localhost:7777` → host and port."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit():
        raise click.BadParameter(f"{text!r} is not an address: expected one such as 127.0.0.1:7777")
    return host.strip("[]"), int(port)


def span(text: str) -> float:
    """A duration of at most ten minutes: nothing here runs without an end."""
    seconds = duration(text)
    if not 0 < seconds <= 600:
        raise click.BadParameter(f"{text!r} is not between 0 and 10m")
    return seconds


@main.command(context_settings={"show_default": True})
@click.argument("works", nargs=-1, type=click.Choice(["publish", "fan-out", "latency", "connect", "idle"]))
@click.option(
    "--line-port", type=address, metavar="HOST:PORT",
    help="Load the line port at this address, in JSON, instead of the HTTP door.",
)  # fmt: skip
@click.option("--topic", default="bench", help="What it publishes stays there as long as the server retains it.")
@click.option("--size", type=_whole(20, 1 << 20), default=64, help="Bytes in a message.")
@click.option("--readers", type=_whole(1, 100_000), help="[200; connect and idle: 1000]")
@click.option("--publishers", type=_whole(1, 1_000), default=16, help="Connections that publish.")
@click.option("--messages", type=_whole(1, 100_000_000), default=1_000_000, help="The most that are published.")
@click.option("--seconds", type=span, default="5s", metavar="DURATION", help="The longest time to publish, up to 10m.")
@click.option("--rate", type=click.FloatRange(0.1, 1_000_000), default=100, help="Messages a second of latency.")
@click.option("--window", type=_whole(1, 100_000), default=64, help="Messages on the way to the readers of fan-out.")
@click.option(
    "--at-once", type=_whole(1, 10_000), default=1,
    help="Messages in a batch, or lines that a connection sends before it waits for an answer.",
)  # fmt: skip
@click.option("--processes", type=_whole(1, 64), help="That make the load.  [a core less than there are, up to 4]")
@click.option("--pid", type=_whole(1, 1 << 22), help="The server's process.  [found, where it is on this machine]")
@click.option("--remote", is_flag=True, show_default=False, help="Allow to load a server on another machine.")
@click.option("--json", "as_json", is_flag=True, show_default=False, help="Print results as JSON, an object a line.")
@token_option
@url_option
def bench(
    *, works: tuple[str, ...], url: str, line_port: tuple[str, int] | None, as_json: bool, **options: Any
) -> None:
    """Load a server that runs already, and say what it does and what that costs it: all of WORKS, or some.

    \b
    publish   as fast as it goes; nobody reads
    fan-out   as fast as it goes to many readers
    latency   at a fixed rate; counted from when a message was due, however late it could be sent
    connect   readers that come all at once, and the time to their first byte
    idle      what a reader that waits costs in memory

    Percentiles are exact: of all deliveries, or of those to 20 readers where they are many. It says when it had no CPU
    time to spare itself. If the server is on this machine, its CPU time and memory are read as well.

    \b
    Exit status:
      0    done
      1    refused by the server, or deliveries are missing; the sentence says why
      2    wrong usage, such as a server on another machine without --remote
      3    the server cannot be reached
      130  Ctrl-C
      143  SIGTERM
    """
    _end_on_signals()
    from .bench import command

    host, port = line_port or _plain_http(url)
    name = url.partition("://")[2].partition("/")[0]
    plan = command.Plan(host, port, name, bool(line_port), **options)
    screen = command.Screen(lambda text: _write(text.encode() + b"\n"), _tell, _measuring)
    try:
        sys.exit(command.bench(works, plan, as_json, screen))
    except command.NotLoopback as error:
        raise click.UsageError(str(error)) from None


def _plain_http(url: str) -> tuple[str, int]:
    from .client import server_url

    parsed = server_url(url)
    if parsed.scheme != "http":
        raise click.UsageError("only http:// can be loaded: TLS would be measured with it")
    return parsed.host, parsed.port or 80


# Copies


@main.command()
@click.option(
    "--topic", "topics", multiple=True, default=("**",), show_default=True, metavar="PATTERN",
    help="Only these topics and patterns; can be given several times.",
)  # fmt: skip
@click.option(
    "--since", default="earliest", show_default=True, metavar="PLACE",
    help="An id, earliest, last:10 (of each --topic), a duration such as 10m, or an RFC 3339 time.",
)  # fmt: skip
@_retry_for("How long to try without an answer.")
@server_options
def export(*, topics: tuple[str, ...], since: str, retry_for: float, server: "Server") -> None:
    """Print the messages that a running server retains, a JSON object a line, in the order of the log.

    It ends with the message that was the newest when it began, and takes nothing away from anybody. What waits for one
    subscriber or is delayed is not shown, nor are groups. If messages may be gone before they were read, a sentence on
    standard error says so.

    \b
    Exit status:
      0    done, or nobody reads the output any more
      1    refused by the server, or the output cannot be written; the sentence says why
      2    wrong usage
      3    the server cannot be reached
      130  Ctrl-C
      143  SIGTERM
    """
    _end_on_signals()
    from . import transfer

    sys.exit(transfer.export(transfer.Source(server, topics, since, retry_for), _terminal()))


@main.command("import")
@click.argument("file", type=FILE, default="-")
@retry_publish_option
@server_options
def import_(*, file: Path, retry_for: float, server: "Server") -> None:
    """Publish the messages of FILE, or of standard input, which `plainmq export` has written.

    Each keeps its topic, event, content type and bytes; its id, index and time are new. They are published one after
    the other, so they keep their order. An import that was broken off can be repeated at once: for two minutes, or
    10,000 messages, the server knows what it has stored. Later, leave out the lines that were stored.

    \b
    Exit status:
      0    all are stored
      1    a line is not a message, or was refused by the server; the sentence says which and why
      2    wrong usage
      3    the server cannot be reached; whether the last message was stored is not known
      130  Ctrl-C
      143  SIGTERM
    """
    _end_on_signals()
    from . import transfer

    sys.exit(transfer.import_(server, file, retry_for, _terminal()))


engine_option = click.option(
    "--engine", metavar="ENGINE", help="The server's, such as sqlite:///var/lib/plainmq/log.db.  [PLAINMQ_ENGINE]"
)


@main.command()
@click.argument("copy", type=click.Path(path_type=Path))
@engine_option
def backup(copy: Path, engine: str | None) -> None:
    """Copy the file of the engine sqlite to COPY, while the server runs or not.

    It is a whole log of one moment, checked, in one file; publishing goes on meanwhile. What is there already is not
    overwritten.

    \b
    Exit status:
      0    copied
      1    not copied; the sentence says why
      2    wrong usage
      130  Ctrl-C
      143  SIGTERM
    """
    _end_on_signals()
    from .disk.backup import backup

    with _copying() as progress:
        count = backup(_store(engine), copy, progress)
    _tell(f"messages copied to {copy}: {count}")


@main.command()
@click.argument("copy", type=click.Path(path_type=Path))
@engine_option
@click.option("--replace", is_flag=True, help="Also where there is a log already, which is lost then.")
def restore(copy: Path, engine: str | None, replace: bool) -> None:
    """Put COPY, which `plainmq backup` has made, in the place of the engine's file.

    The server must be stopped. When it starts again, a new epoch begins, because what came after the copy is gone: the
    ids up to there stay good, and who comes back with a later one is told of a gap.

    \b
    Exit status:
      0    it is in its place
      1    nothing was changed; the sentence says why
      2    wrong usage
      130  Ctrl-C
      143  SIGTERM
    """
    _end_on_signals()
    from .disk.backup import restore

    path = _store(engine)
    with _copying() as progress:
        count = restore(copy, path, replace, progress)
    _tell(f"messages restored to {path}: {count}")


def _store(engine: str | None) -> Path:
    """The file of this engine, or of the one that `plainmq serve` would take."""
    from . import server

    return server.store_path(settings.load({"engine": engine}).engine)


# Tokens


def _right(name: str, what: str) -> Callable[[F], F]:
    return click.option(f"--{name}", multiple=True, metavar="PATTERN", help=f"{what}; can be given several times.")


@main.command("token")
@click.argument("name")
@_right("publish", "Topics to publish to")
@_right("subscribe", "Topics to subscribe to and to read")
@_right("consume", "Topics in whose groups to work")
@_right("admin", "Topics to list, to change and to delete")
@click.option("--all", "everything", is_flag=True, help="Every right on every topic.")
@click.option("--expires", type=duration, help="How long it is good.  [for ever; 1h with --key]")
@click.option("--key", metavar="ALGORITHM:PATH", help="Sign a JSON Web Token with this secret or private key instead.")
@click.option("--tokens", metavar="PATH", help="The server's file of tokens.  [PLAINMQ_TOKENS]")
@click.option("--data-dir", metavar="PATH", help="The server's data directory.  [PLAINMQ_DATA_DIR]")
@click.option("--engine", metavar="ENGINE", help="The server's engine, in whose folder they are.  [PLAINMQ_ENGINE]")
@click.option("--jwt-audience", metavar="TEXT", help="Whom the JSON Web Token is for.  [PLAINMQ_JWT_AUDIENCE]")
@click.option("--jwt-issuer", metavar="TEXT", help="Whom it is from.  [PLAINMQ_JWT_ISSUER]")
def make_token(*, name: str, everything: bool, expires: float | None, key: str | None, **given: Any) -> None:
    """Make a token for NAME, and print it this one time.

    The server's file of tokens gets its hash, as a line; take the line out, and the token is no longer good. A server
    that has tokens reads the file anew by itself; one that was started without any must be started again.

    With --key nothing is stored: the token says itself what it is worth, to every server that has the same secret, or
    the public key, in --jwt-keys.

    \b
    Exit status:
      0    made
      1    not made; the sentence says why
      2    wrong usage
      130  Ctrl-C
      143  SIGTERM
    """
    _end_on_signals()
    from . import access, claims

    rights = claims.Rights(**{right: list(given.pop(right)) for right in access.Right})
    if everything:
        rights = claims.every_right()
    if rights == claims.Rights():
        raise click.UsageError("it would have no right: give --publish, --subscribe, --consume, --admin or --all")
    chosen = settings.load(given)
    text = _signed(key, name, rights, expires, chosen) if key else _stored(name, rights, expires, chosen)
    _write(text.encode() + b"\n")


def _stored(name: str, rights: "Rights", expires: float | None, chosen: settings.Settings) -> str:
    from . import server, tokens

    path = server.token_path(chosen)
    text = tokens.make_token(path, name, rights, None if expires is None else time() + expires)
    _tell(f"its hash is in {path}")
    return text


def _signed(key: str, name: str, rights: "Rights", expires: float | None, chosen: settings.Settings) -> str:
    from . import signed

    expected = signed.Expected(chosen.jwt_audience, chosen.jwt_issuer)
    return signed.sign(signed.read_key(key, private=True), name, rights, time() + (expires or SHORT), expected)


def _end_on_signals() -> None:
    """Ctrl-C and SIGTERM end the command at once, without a traceback, also while it waits in a write."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))


def _terminal() -> "Terminal":
    from .commands import Terminal

    return Terminal(_write, _tell, sys.stdout.fileno(), _progress if sys.stderr.isatty() else None)


def _write(data: bytes) -> None:
    """Straight to the file: nothing is left to flush when nobody reads it any more."""
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(sys.stdout.fileno(), rest) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        raise click.ClickException(f"the output cannot be written: {error.strerror}") from None


@contextmanager
def _progress(total: int | None) -> "Iterator[Progress]":
    from rich.progress import TextColumn

    with _bar(TextColumn("{task.fields[messages]} messages")) as bar:
        task = bar.add_task("", total=total, messages=0)
        yield lambda octets, messages: bar.update(task, completed=octets, messages=messages)


@contextmanager
def _copying() -> Iterator[Callable[[int, int], None]]:
    """A bar that is told how much is copied, and of how much; nothing where nobody would see it."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    with _bar() as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _measuring(work: str) -> Iterator[Callable[[str, int, float], None]]:
    """A bar that is told what is counted, how many, and which part of the work is over."""
    if not sys.stderr.isatty():
        yield lambda _what, _done, _part: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[done]:,} {task.fields[what]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(work, total=1.0, done=0, what="")
        yield lambda what, done, part: bar.update(task, completed=part, done=done, what=what)


def _bar(*columns: "ProgressColumn") -> "Bar":
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    return Progress(BarColumn(), DownloadColumn(), *columns, TimeRemainingColumn(), console=Console(stderr=True))
