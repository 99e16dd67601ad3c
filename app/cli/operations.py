"""The commands for operators: `plainmq topics`, `topic`, `groups`, `group` and `peek`."""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from .completion import group_argument, pattern_argument, topic_argument
from .options import duration, exit_status, server_options, whole
from .terminal import end_on_signals, terminal

if TYPE_CHECKING:
    from ..client.commands import Server

ON_A_SCREEN: Final = 100  # records that a person sees, unless more are asked for
MAX_PEEK: Final = 100_000  # messages, which the command keeps in memory
_TOPIC_SORTS: Final = ("name", "messages", "bytes", "delayed", "rate")
_GROUP_SORTS: Final = ("name", "lag", "leased", "delayed", "dead", "rate")
_STATES: Final = ("ready", "leased", "delayed", "dead")

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the server's records, one JSON object a line."
)


def pause_option(meaning: str) -> Callable[[F], F]:
    """`meaning`: of the pause."""
    return click.option("--pause/--resume", "paused", default=None, help=meaning)


create_option = click.option("--create", is_flag=True, help="Create it if there is none.")


limit_option = click.option(
    "--limit", type=whole(1), metavar="N", help=f"At most N.  [{ON_A_SCREEN} on a terminal; otherwise all]"
)


def list_options(sorts: tuple[str, ...]) -> Callable[[F], F]:
    def with_options(command: F) -> F:
        for option in (
            click.option(
                "--sort", type=click.Choice(sorts), default="name", show_default=True,
                help="By name, or with the greatest figure first.",
            ),
            limit_option,
            json_option,
            server_options,
        ):  # fmt: skip
            command = option(command)
        return command

    return with_options


def show_list(
    server: "Server", as_json: bool, operation: Callable[..., Any], match: str | None, limit: int | None, *,
    sort: str = "name",
) -> NoReturn:  # fmt: skip
    """Show what the operation lists, and exit."""
    from ..client.operations import Listing, Request, run

    screen = terminal()
    most = ON_A_SCREEN if limit is None and screen.people and not as_json else limit
    listing = Listing(match, sort if sort == "name" else f"-{sort}", most)
    sys.exit(run(Request(server, as_json), partial(operation, listing=listing), screen))


@click.command(short_help="List topics with their figures.")
@pattern_argument
@list_options(_TOPIC_SORTS)
@exit_status({0: "done, or the output was closed"})
def topics(*, pattern: str | None, sort: str, limit: int | None, as_json: bool, server: "Server") -> None:
    """List all topics, or those that PATTERN matches: messages, size, rate (messages a second), delayed messages,
    groups and subscribers.

    On a terminal that is a table. Otherwise each line has these values, separated by tabs and without headings. It
    needs the right to view or admin.
    """
    end_on_signals()
    from ..client import operations

    show_list(server, as_json, operations.topics, pattern, limit, sort=sort)


@click.command(short_help="List consumer groups of all topics with their figures.")
@pattern_argument
@list_options(_GROUP_SORTS)
@exit_status({0: "done, or the output was closed"})
def groups(*, pattern: str | None, sort: str, limit: int | None, as_json: bool, server: "Server") -> None:
    """List the consumer groups of all topics, or of those that PATTERN matches: messages that are ready, leased,
    delayed, dead and acked, acks a second, workers, and the age of the oldest message that is not acked.

    On a terminal that is a table. Otherwise each line has these values, separated by tabs and without headings. It
    needs the right to view or admin.
    """
    end_on_signals()
    from ..client import operations

    show_list(server, as_json, operations.groups, pattern, limit, sort=sort)


@click.command(short_help="Show a topic, or change what it retains.")
@topic_argument
@click.option("--max-messages", type=whole(1), metavar="N", help="Retain at most N messages.")
@click.option("--max-bytes", type=whole(1), metavar="BYTES", help="Retain at most so many bytes.")
@click.option("--max-age", metavar="DURATION", help="Retain messages for this time.")
@pause_option("Refuse publishes, until it is resumed.")
@create_option
@json_option
@server_options
@exit_status()
def topic(*, topic: str, create: bool, paused: bool | None, as_json: bool, server: "Server", **settings: Any) -> None:
    """Show the state of TOPIC, after changing what the options say."""
    end_on_signals()
    from ..client import operations

    request = operations.Request(server, as_json, topic)
    change = operations.Change(_given(settings), paused, create)
    sys.exit(operations.run(request, partial(operations.topic, name=topic, change=change), terminal()))


@click.command(short_help="Show a consumer group, or change its settings.")
@topic_argument
@group_argument()
@click.option("--start", metavar="POSITION", help="Where a new group begins: earliest, latest, or a time.  [earliest]")
@click.option("--ack-timeout", type=duration, metavar="DURATION", help="How long a lease lasts.")
@click.option("--max-deliveries", type=whole(1, 1_000), metavar="N", help="A message is dead after N attempts.")
@click.option("--dead-letter", metavar="TOPIC", help="The topic that gets dead messages.")
@click.option(
    "--seek", metavar="POSITION",
    help="Hand out the messages after this id or time, earliest for all again, or latest for only new ones.",
)  # fmt: skip
@pause_option("Hand out nothing, until it is resumed.")
@create_option
@json_option
@server_options
@exit_status()
def group(
    *, topic: str, group: str, create: bool, paused: bool | None, seek: str | None, as_json: bool, server: "Server",
    **settings: Any,
) -> None:  # fmt: skip
    """Show the state of GROUP on TOPIC, after changing what the options say."""
    end_on_signals()
    from ..client import operations

    request = operations.Request(server, as_json, topic, group)
    change = operations.Change(_given(settings), paused, create, seek)
    sys.exit(operations.run(request, partial(operations.group, topic=topic, name=group, change=change), terminal()))


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


@click.command(short_help="Show messages of a topic or a group without taking them.")
@topic_argument
@group_argument(required=False)
@click.option(
    "--state", type=click.Choice(_STATES), help="Of GROUP: messages in this state.  [ready]",
)  # fmt: skip
@click.option(
    "--since", metavar="POSITION",
    help="Messages after an id; without GROUP also since earliest, last:10, a duration such as 10m, or a time."
    "  [the newest; of GROUP the oldest]",
)  # fmt: skip
@click.option("--limit", type=whole(1, MAX_PEEK), default=10, show_default=True, metavar="N", help="At most N.")
@json_option
@server_options
@exit_status({0: "done, or the output was closed"})
def peek(
    *, topic: str, group: str | None, state: Any, since: str | None, limit: int, as_json: bool, server: "Server"
) -> None:
    """Show messages of TOPIC, or the messages of its consumer GROUP that are ready, leased, delayed or dead. Nothing is
    taken: workers get the messages as if nobody had looked.

    On a terminal that is a table with the beginning of each body. Otherwise each line has these values, separated by
    tabs. In both, control characters and tabs are escaped; --json prints records with the exact bodies (of a group, the
    first 64 KiB).

    Messages of a topic need the right to subscribe; those of a group the right to view or consume, and without
    subscribe they come without their bodies.
    """
    end_on_signals()
    from ..client import operations

    if state and group is None:
        raise click.UsageError("--state is of a group: give TOPIC and GROUP")
    request = operations.Request(server, as_json, topic, group)
    operation = (
        partial(operations.peek_topic, topic=topic, since=since, limit=limit)
        if group is None
        else partial(
            operations.peek_group, topic=topic, group=group, state=state or "ready", after=since, limit=limit
        )
    )  # fmt: skip
    sys.exit(operations.run(request, operation, terminal()))
