"""The commands that act on messages: `plainmq redrive`, `release`, `skip`, `purge`, `scheduled` and `subscribers`."""

import shlex
import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from .completion import group_argument, pattern_argument, topic_argument
from .operations import json_option, limit_option, show_list
from .options import exit_status, server_options, whole
from .terminal import end_on_signals, terminal

if TYPE_CHECKING:
    from ..client.commands import Server


@click.command(short_help="Return dead messages to their consumer group.")
@topic_argument
@group_argument()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All dead messages of the group.")
@click.option(
    "--rate",
    type=whole(1),
    metavar="N",
    help="So many of them become ready in a second, at most 1,000.  [all at once]",
)
@json_option
@server_options
@exit_status(
    {
        0: "all have returned",
        1: "an id is unknown, or there is no room for all; or refused by the server; a sentence says why",
    }
)
def redrive(
    *, topic: str, group: str, ids: tuple[str, ...], everything: bool, rate: int | None, as_json: bool, server: "Server"
) -> None:
    """Return dead messages to GROUP, and to no other group or subscriber. Their attempts begin anew.

    An ID is that of a dead letter or of the message that died: `plainmq peek TOPIC GROUP --state dead` shows both. To
    repeat the command does
    nothing twice: an id that has returned is `unknown`. It needs the right to admin on TOPIC and on the dead-letter
    topic.
    """
    end_on_signals()
    from ..client import actions, operations

    if bool(ids) is everything:
        names = shlex.join((topic, group))
        raise click.UsageError(f"give ids of dead messages or --all; `plainmq peek {names} --state dead` shows the ids")
    request = operations.Request(server, as_json, topic, group, operations.LONG_TIMEOUT)
    operation = partial(actions.redrive, topic=topic, group=group, ids=ids, rate=rate)
    sys.exit(operations.run(request, operation, terminal()))


@click.command(short_help="Make leased or delayed messages of a group ready at once.")
@topic_argument
@group_argument()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@json_option
@server_options
@exit_status(
    {0: "all are ready", 1: "a message is unknown or settled already; or refused by the server; a sentence says why"}
)
def release(*, topic: str, group: str, ids: tuple[str, ...], as_json: bool, server: "Server") -> None:
    """Make messages of GROUP ready at once: those that a worker has leased, and those that wait for their next attempt.
    No attempt counts as failed. It needs the right to consume or admin on TOPIC.
    """
    end_on_signals()
    from ..client import actions, operations

    request = operations.Request(server, as_json, topic, group)
    sys.exit(operations.run(request, partial(actions.release, topic=topic, group=group, ids=ids), terminal()))


@click.command(short_help="Never hand messages out again in a group.")
@topic_argument
@group_argument()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@json_option
@server_options
@exit_status(
    {0: "all are skipped", 1: "a message is unknown or settled already; or refused by the server; a sentence says why"}
)
def skip(*, topic: str, group: str, ids: tuple[str, ...], as_json: bool, server: "Server") -> None:
    """Never hand these messages out again in GROUP: ready, leased or delayed ones. The topic and its other groups keep
    them. It needs the right to admin on TOPIC.
    """
    end_on_signals()
    from ..client import actions, operations

    request = operations.Request(server, as_json, topic, group)
    sys.exit(operations.run(request, partial(actions.skip, topic=topic, group=group, ids=ids), terminal()))


@click.command(short_help="Delete the messages of a topic, or what a group has not acked.")
@topic_argument
@click.option("--group", metavar="GROUP", help="Delete nothing: only GROUP will never get what it has not acked.")
@click.option("--before", metavar="POSITION", help="Only messages before an id or a time.")
@click.option("--yes", is_flag=True, help="Do not ask. Needed where no terminal is.")
@json_option
@server_options
@exit_status(
    {
        0: "deleted",
        1: "another name was typed; or refused by the server; a sentence says why",
        2: "wrong usage, such as no --yes where no terminal is",
    }
)
def purge(*, topic: str, group: str | None, before: str | None, yes: bool, as_json: bool, server: "Server") -> None:
    """Delete the messages of TOPIC, also those that groups have not acked. Its settings and groups stay, and so does
    what is scheduled. The command asks for the name first. It needs the right to admin on TOPIC.
    """
    end_on_signals()
    from ..client import actions, operations

    screen = terminal()
    if group is not None and before is not None:
        raise click.UsageError("--before is of a topic: for a group use `plainmq group TOPIC GROUP --seek POSITION`")
    if not yes and screen.ask is None:
        raise click.UsageError("there is no terminal to ask for the name: give --yes to delete without a question")
    asked = None if yes else screen
    request = operations.Request(server, as_json, topic, group, operations.LONG_TIMEOUT)
    operation = (
        partial(actions.purge_topic, topic=topic, before=before, terminal=asked)
        if group is None
        else partial(actions.purge_group, topic=topic, group=group, terminal=asked)
    )
    sys.exit(operations.run(request, operation, screen))


@click.command(short_help="List, cancel or publish what is scheduled.")
@pattern_argument
@click.option("--show", metavar="ID", help="List the messages of this one: a batch has several.")
@click.option("--cancel", multiple=True, metavar="ID", help="Never publish it; can be given several times.")
@click.option("--now", multiple=True, metavar="ID", help="Publish it now; can be given several times.")
@limit_option
@json_option
@server_options
@exit_status(
    {
        0: "done, or the output was closed",
        1: "an id is unknown; or refused by the server, or the output cannot be written; a sentence says why",
    }
)
def scheduled(
    *, pattern: str | None, show: str | None, cancel: tuple[str, ...], now: tuple[str, ...], limit: int | None,
    as_json: bool, server: "Server",
) -> None:  # fmt: skip
    """List what was published with --delay or --at and is not due yet, of all topics or of those that PATTERN matches:
    by its due time, with the number of messages and their size. Bodies need the right to subscribe.

    To list needs the right to view or admin; to cancel or publish, admin.
    """
    end_on_signals()
    from ..client import actions, operations

    if sum(map(bool, (pattern, show, cancel, now))) > 1:
        raise click.UsageError("give one of PATTERN, --show, --cancel and --now")
    if show:
        show_list(server, as_json, partial(operations.scheduled_messages, id=show), None, limit)
    if not (cancel or now):
        show_list(server, as_json, operations.scheduled, pattern, limit)
    operation = partial(actions.cancel, ids=cancel) if cancel else partial(actions.publish_now, ids=now)
    sys.exit(operations.run(operations.Request(server, as_json), operation, terminal()))


@click.command(short_help="List who listens and works at a server.")
@pattern_argument
@limit_option
@json_option
@server_options
@exit_status({0: "done, or the output was closed"})
def subscribers(*, pattern: str | None, limit: int | None, as_json: bool, server: "Server") -> None:
    """List who listens and works: the token's name or the address, the kind (stream, line, read or worker), since when,
    topics, group and messages leased. PATTERN: only those that get messages of these topics. It needs the right to view
    or admin.
    """
    end_on_signals()
    from ..client import operations

    show_list(server, as_json, operations.subscribers, pattern, limit)
