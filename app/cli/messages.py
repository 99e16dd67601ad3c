"""The commands `plainmq publish`, `subscribe`, `export` and `import`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from .completion import topic_argument, topics_argument
from .options import (
    FILE,
    duration,
    exit_status,
    header,
    raw_option,
    retry_for,
    retry_publish_option,
    server_options,
    whole,
)
from .terminal import end_on_signals, terminal

if TYPE_CHECKING:
    from ..client.commands import Server
    from ..client.publishing import Options


@click.command()
@topic_argument
@click.argument("message", required=False)
@click.option("--file", type=FILE, help="Publish this file as one message; - is standard input.")
@click.option("--lines", is_flag=True, help="Publish each line of --file or standard input as a message.")
@click.option(
    "--ndjson", is_flag=True, help="As --lines, but in batches: faster. Each line is stored as application/json."
)
@click.option("--event", metavar="NAME", help="The event name that an EventSource sees.")
@click.option(
    "--delivery", type=click.Choice(["all", "one"]), help="Deliver to all subscribers, or to exactly one.  [all]"
)
@click.option("--no-retain", is_flag=True, help="Deliver to current subscribers only, and store nothing.")
@click.option("--ttl", metavar="DURATION", help="The message expires after this time.")
@click.option("--delay", metavar="DURATION", help="The message is delivered after this time.")
@click.option("--at", metavar="TIME", help="The message is delivered at this time, such as 2026-12-24T18:00:00Z.")
@click.option(
    "--key", "idempotency_key", metavar="TEXT", help="The Idempotency-Key of a single message.  [a random one]"
)
@click.option(
    "--content-type",
    metavar="TYPE",
    help="The content type.  [text/plain if it is UTF-8, else application/octet-stream]",
)
@click.option(
    "--header", "headers", multiple=True, type=header, metavar="NAME=TEXT",
    help="A header to keep with the message, such as title=Hello; can be given several times.",
)  # fmt: skip
@click.option("--priority", type=whole(0, 9), metavar="0..9", help="Groups hand out a higher priority first.  [0]")
@click.option(
    "--order-key", metavar="TEXT",
    help="Of the messages with this key, a group hands out one at a time, in order.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the server's answers, one JSON object a line.")
@retry_publish_option
@server_options
@exit_status({0: "published", 3: "the server cannot be reached; the last message may have been stored"})
def publish(
    *, topic: str, message: str | None, file: Path | None, lines: bool, ndjson: bool, server: "Server",
    delay: str | None, at: str | None, no_retain: bool, retry_for: float, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Publish MESSAGE, a file or standard input to TOPIC.

    Without MESSAGE and --file, each line of standard input is published as soon as it is read, as in `tail -f log |
    plainmq publish logs`. Lines end in LF or CRLF; empty lines are skipped. The server acknowledges each message before
    the next is sent, so they keep their order. The id of a single message is printed; for lines nothing is.

    A message that gets no answer is sent again with the same Idempotency-Key, so that it is stored once.
    """
    end_on_signals()
    from ..client import commands

    one_by_line = lines or ndjson or (message is None and file is None)
    if message is not None and (file or one_by_line):
        raise click.UsageError("MESSAGE cannot be combined with --file, --lines or --ndjson")
    if message is None and file is None and not (lines or ndjson) and sys.stdin.isatty():
        raise click.UsageError("MESSAGE is missing: give it, --file, or standard input (--lines to type lines)")
    if one_by_line and options["idempotency_key"]:
        raise click.UsageError("--key is for a single message: only one message with a key is stored")
    if ndjson and options["content_type"]:
        raise click.UsageError("--content-type cannot be combined with --ndjson: a batch is stored as application/json")
    options["retain"] = not no_retain
    options["headers"] = dict(options["headers"])
    outgoing = commands.Outgoing(server, topic, cast("Options", options), delay, at, retry_for, as_json)
    if one_by_line:
        sys.exit(commands.publish_lines(outgoing, file or Path("-"), ndjson, terminal()))
    source = file if message is None else os.fsencode(message)
    assert source is not None
    sys.exit(commands.publish_one(outgoing, source, terminal()))


@click.command(short_help="Print the messages of topics and patterns as they are published.")
@topics_argument
@click.option(
    "--since", default="latest", show_default=True, metavar="POSITION",
    help="Start after an id, or at latest, earliest, last:10, a duration such as 10m, or an RFC 3339 time.",
)  # fmt: skip
@click.option("--count", type=whole(1), metavar="N", help="End after N messages.")
@click.option("--timeout", type=duration, help="End after this time.")
@click.option("--json", "as_json", is_flag=True, help="Print messages with all their fields, one JSON object a line.")
@click.option("--strict", is_flag=True, help="End with status 4 if messages were lost.")
@click.option("--retry-for", type=duration, help="How long to try to reach the server.  [for ever]")
@raw_option
@server_options
@exit_status(
    {
        0: "--count or --timeout was reached, or the output was closed",
        3: "the server could not be reached for --retry-for",
        4: "messages were lost, and --strict was given",
        5: "--timeout was reached before --count",
    }
)
def subscribe(
    *, topics: tuple[str, ...], since: str, count: int | None, timeout: float | None, as_json: bool, strict: bool,
    retry_for: float | None, raw: bool, server: "Server",
) -> None:  # fmt: skip
    """Print the messages of these topics and patterns, one a line, in the order of the log.

    After a lost connection or a restart of the server it resumes after the last message. If messages are no longer
    retained by then, a sentence on standard error says so; with --json also a line {"gap": ...} on standard output. A
    message with line feeds takes several lines; with --json always one. On a terminal, control characters are escaped,
    as in \\u001b.
    """
    end_on_signals()
    from ..client import commands

    request = commands.StreamRequest(server, topics, since, count, timeout, retry_for, as_json, strict)
    sys.exit(commands.subscribe(request, terminal(raw)))


@click.command(short_help="Print the messages that a server retains, one JSON object a line.")
@click.option(
    "--topic", "topics", multiple=True, default=("**",), show_default=True, metavar="PATTERN",
    help="Only these topics and patterns; can be given several times.",
)  # fmt: skip
@click.option(
    "--since", default="earliest", show_default=True, metavar="POSITION",
    help="Start after an id, or at earliest, last:10 (of each --topic), a duration such as 10m, or an RFC 3339 time.",
)  # fmt: skip
@retry_for("How long to try without an answer.")
@raw_option
@server_options
@exit_status({0: "done, or the output was closed"})
def export(*, topics: tuple[str, ...], since: str, retry_for: float, raw: bool, server: "Server") -> None:
    """Print the messages that a running server retains, one JSON object a line, in the order of the log.

    The export ends with the message that was the newest when it began, and removes nothing. Delayed messages, messages
    for one subscriber (--delivery one) and consumer groups are left out. If messages may have been trimmed before they
    were read, a sentence on standard error says so.
    """
    end_on_signals()
    from ..client import transfer

    sys.exit(transfer.export(transfer.Source(server, topics, since, retry_for), terminal(raw)))


@click.command("import", short_help="Publish the messages that `plainmq export` wrote.")
@click.argument("file", type=FILE, default="-")
@retry_publish_option
@server_options
@exit_status(
    {
        0: "all are stored",
        1: "a line is not a message, or was refused by the server; the sentence says which and why",
        3: "the server cannot be reached; the last message may have been stored",
    }
)
def import_(*, file: Path, retry_for: float, server: "Server") -> None:
    """Publish the messages of FILE, or of standard input, as `plainmq export` wrote them.

    A message keeps its topic, event, content type, headers, priority, key and bytes; its id, index and time are new.
    The messages are published one after the other, so they keep their order. An interrupted import can be repeated at
    once: for two minutes, or 10,000 messages, the server recognises messages that it has stored. Later, leave out the
    lines that were stored.
    """
    end_on_signals()
    from ..client import transfer

    sys.exit(transfer.import_(server, file, retry_for, terminal()))
