"""The command that loads a server."""

import sys
from typing import Any

import click

from .options import Decimal, address, span, token_option, url_option, whole
from .terminal import end_on_signals, measuring, tell, write


@click.command(
    short_help="Load a server that runs already, and say what that costs it.",
    context_settings={"show_default": True},
)
@click.argument("works", nargs=-1, type=click.Choice(["publish", "fan-out", "latency", "connect", "idle"]))
@click.option(
    "--line-port", type=address, metavar="HOST:PORT",
    help="Load the line port at this address, in JSON, instead of the HTTP door.",
)  # fmt: skip
@click.option("--topic", default="bench", help="What it publishes stays there as long as the server retains it.")
@click.option("--size", type=whole(20, 1 << 20), default=64, help="Bytes in a message.")
@click.option("--readers", type=whole(1, 100_000), help="[200; connect and idle: 1000]")
@click.option("--publishers", type=whole(1, 1_000), default=16, help="Connections that publish.")
@click.option("--messages", type=whole(1, 100_000_000), default=1_000_000, help="The most that are published.")
@click.option("--seconds", type=span, default="5s", metavar="DURATION", help="The longest time to publish, up to 10m.")
@click.option("--rate", type=Decimal(0.1, 1_000_000), default=100, help="Messages a second of latency.")
@click.option("--window", type=whole(1, 100_000), default=64, help="Messages on the way to the readers of fan-out.")
@click.option(
    "--at-once", type=whole(1, 10_000), default=1,
    help="Messages in a batch, or lines that a connection sends before it waits for an answer.",
)  # fmt: skip
@click.option("--processes", type=whole(1, 64), help="That make the load.  [a core less than there are, up to 4]")
@click.option("--pid", type=whole(1, 1 << 22), help="The server's process.  [found, where it is on this machine]")
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
    end_on_signals()
    from ..bench import command

    host, port = line_port or _plain_http(url)
    name = url.partition("://")[2].partition("/")[0]
    plan = command.Plan(host, port, name, bool(line_port), **options)
    screen = command.Screen(lambda text: write(text.encode() + b"\n"), tell, measuring)
    try:
        sys.exit(command.bench(works, plan, as_json, screen))
    except command.NotLoopback as error:
        raise click.UsageError(str(error)) from None


def _plain_http(url: str) -> tuple[str, int]:
    from ..client.address import server_url

    parsed = server_url(url)
    if parsed.scheme != "http":
        raise click.UsageError("only http:// can be loaded: TLS would be measured with it")
    return parsed.host, parsed.port or 80
