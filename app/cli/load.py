"""The command `plainmq bench`."""

import sys
from typing import Any

import click

from .options import Decimal, address, exit_status, short_duration, token_option, url_option, whole
from .terminal import end_on_signals, report, workload_progress, write


@click.command(
    short_help="Load a running server, and measure it.",
    context_settings={"show_default": True},
)
@click.argument(
    "workloads", nargs=-1, metavar="[WORKLOAD]...",
    type=click.Choice(["publish", "fan-out", "latency", "connect", "idle"]),
)  # fmt: skip
@click.option(
    "--line-port", type=address, metavar="HOST:PORT",
    help="Load the line port at this address, in JSON, instead of HTTP.",
)  # fmt: skip
@click.option("--topic", default="bench", help="The topic to publish to. The server retains the messages.")
@click.option("--size", type=whole(20, 1 << 20), default=64, help="Bytes in a message.")
@click.option("--readers", type=whole(1, 100_000), help="Subscribers.  [200; connect and idle: 1000]")
@click.option("--publishers", type=whole(1, 1_000), default=16, help="Connections that publish.")
@click.option("--messages", type=whole(1, 100_000_000), default=1_000_000, help="The most to publish.")
@click.option(
    "--seconds", type=short_duration, default="5s", metavar="DURATION", help="The longest time to publish, up to 10m."
)
@click.option("--rate", type=Decimal(0.1, 1_000_000), default=100, help="latency: messages a second.")
@click.option(
    "--window", type=whole(1, 100_000), default=64,
    help="fan-out: messages that are published and not delivered to all subscribers yet, at most.",
)  # fmt: skip
@click.option(
    "--at-once", type=whole(1, 10_000), default=1,
    help="HTTP: messages in a batch. Line port: lines that a connection sends before it waits for an answer.",
)  # fmt: skip
@click.option(
    "--processes", type=whole(1, 64), help="Processes that make the load.  [one less than there are cores, up to 4]"
)
@click.option(
    "--pid", type=whole(1, 1 << 22), help="The server's process.  [the one that listens at the port on this machine]"
)
@click.option("--remote", is_flag=True, show_default=False, help="Allow a server on another machine.")
@click.option("--json", "as_json", is_flag=True, show_default=False, help="Print results as JSON, one object a line.")
@token_option
@url_option
@exit_status(
    {
        1: "refused by the server, or deliveries are missing; a sentence says why",
        2: "wrong usage, such as a server on another machine without --remote",
    }
)
def bench(
    *, workloads: tuple[str, ...], url: str, line_port: tuple[str, int] | None, as_json: bool, **options: Any
) -> None:
    """Load a running server, and measure its speed, CPU time and memory. Without a WORKLOAD all of them run.

    \b
    publish   publish as fast as possible, without subscribers
    fan-out   publish as fast as possible to many subscribers
    latency   publish at a fixed rate; latency counts from when a message was due
    connect   open many subscriptions at once; time to their first byte
    idle      memory of an idle subscription

    Percentiles are exact: of all deliveries, or of those to 20 subscribers if there are more than 50,000 deliveries.
    The report says so if the load generator had no CPU time to spare. The server's CPU time and memory are measured
    if it is on this machine.
    """
    end_on_signals()
    from .bench import command

    host, port = line_port or _plain_http(url)
    name = url.partition("://")[2].partition("/")[0]
    bench_options = command.Options(host, port, name, bool(line_port), **options)
    output = command.Output(lambda text: write(text.encode() + b"\n"), report, workload_progress)
    try:
        sys.exit(command.bench(workloads, bench_options, as_json, output))
    except command.NotLoopback as error:
        raise click.UsageError(str(error)) from None


def _plain_http(url: str) -> tuple[str, int]:
    from ..client.address import server_url

    parsed = server_url(url)
    if parsed.scheme != "http":
        raise click.UsageError("only http:// can be loaded: with https:// the cost of TLS would be measured too")
    return parsed.host, parsed.port or 80
