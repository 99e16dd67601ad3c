"""What operators do from a command line: they look at topics and groups, and change them. Each operation returns what
is to be shown; `run` shows it, and returns an exit status."""

import asyncio
import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from . import columns
from .aio.client import AsyncClient
from .answers.jobs import JobState
from .answers.messages import Message
from .commands import Exit, Server, Terminal, failed, json_line
from .errors import ClientError, Forbidden, NotFound, RequestRefused, Unreachable, not_plainmq
from .reading import MAX_PAGE
from .table import Column, Table, table

TIMEOUT: Final = 10.0  # seconds for one answer: a person waits for it
LONG_TIMEOUT: Final = 300.0  # for an answer after which thousands of messages have moved
MAX_RECORDS: Final = 1_000_000  # of a list: a hundred times as many topics as a server has unless told otherwise
MAX_COMPARED: Final = 10_000  # names: half a second
MAX_NAME: Final = 200  # characters of a name that is compared with others: the time grows with their product
IMPOSSIBLE: Final = "this is not an answer of plainmq: it has a number that is too great"
HINTS: Final[Mapping[type[ClientError], str]] = {
    Forbidden: "; `plainmq check` shows what the token may do",
    Unreachable: "; start a server with `plainmq serve`, or give its address with --url or PLAINMQ_URL",
}


class Request(msgspec.Struct, frozen=True):
    """The server to ask, and how to show its answer. `topic` and `group` are those that the operation needs."""

    server: Server
    as_json: bool
    topic: str | None = None
    group: str | None = None
    timeout: float = TIMEOUT


class Listing(msgspec.Struct, frozen=True):
    """What to list: at most `limit` (None: all) of those that the pattern matches."""

    match: str | None
    sort: Any
    limit: int | None


class Outcome(NamedTuple):
    """`records` are for a program, as JSON. `note`: a sentence for a person. `advice`: what a person at a terminal may
    type next."""

    records: Sequence[Any]
    table: Table
    note: str | None = None
    exit: Exit = Exit.DONE
    advice: str | None = None


Operation = Callable[[AsyncClient], Awaitable[Outcome]]


def run(request: Request, operation: Operation, terminal: Terminal) -> Exit:
    return asyncio.run(_run(request, operation, terminal))


async def _run(request: Request, operation: Operation, terminal: Terminal) -> Exit:
    try:
        async with request.server.client(terminal, retry_for=0, timeout=request.timeout) as client:
            try:
                outcome = await operation(client)
            except NotFound as error:
                return failed(error, f"{error}{await _suggestion(client, request)}", terminal)
        with suppress(BrokenPipeError):
            _show(outcome, request.as_json, terminal)
    except OverflowError:
        return failed(not_plainmq(IMPOSSIBLE), IMPOSSIBLE, terminal)
    except ClientError as error:
        return failed(error, f"{error}{hint(error)}{_remedy(error, request)}", terminal)
    return outcome.exit


def _show(outcome: Outcome, as_json: bool, terminal: Terminal) -> None:
    if as_json:
        terminal.out(b"".join(map(json_line, outcome.records)))
    elif outcome.table.rows:
        terminal.show(outcome.table)
    if outcome.note:
        terminal.tell(outcome.note)
    if outcome.advice and terminal.people and not as_json:
        terminal.tell(outcome.advice)


def _remedy(error: ClientError, request: Request) -> str:
    """The end of a sentence: what to type."""
    if not (isinstance(error, RequestRefused) and error.code == "topic_paused"):
        return ""
    return f"; `plainmq {shlex.join(('topic', request.topic or 'TOPIC', '--resume'))}` resumes it"


def hint(error: ClientError) -> str:
    return next((hint for kind, hint in HINTS.items() if isinstance(error, kind)), "")


async def _suggestion(client: AsyncClient, request: Request) -> str:
    """The end of a sentence: the name that was probably meant, if the server tells its names."""
    if request.topic is None:
        return ""
    with suppress(ClientError):
        try:
            state = await client.topic(request.topic)
        except NotFound:
            known, _ = await every_page(client.topic_page, MAX_COMPARED)
            return _nearest(request.topic, [state.topic for state in known], "plainmq topics")
        if request.group is None or request.group in state.groups:
            return HINTS[Forbidden]  # it is there, so the token has no right to it
        maker = shlex.join(("plainmq", "group", request.topic, request.group, "--create"))
        return _nearest(request.group, state.groups, "plainmq groups") or f"; `{maker}` makes it"
    return ""


def _nearest(missing: str, names: Sequence[str], command: str) -> str:
    similar = get_close_matches(missing[:MAX_NAME], [name for name in names if len(name) <= MAX_NAME], n=1)
    if similar:
        return f"; did you mean {similar[0]!r}?"
    return f"; `{command}` lists what there is" if names else ""


# Lists


async def topics(client: AsyncClient, listing: Listing) -> Outcome:
    fetch = partial(client.topic_page, listing.match, sort=listing.sort)
    return await _list(fetch, listing, columns.TOPICS, "topic")


async def groups(client: AsyncClient, listing: Listing) -> Outcome:
    fetch = partial(client.group_page, listing.match, sort=listing.sort)
    return await _list(fetch, listing, columns.GROUPS, "group")


async def scheduled(client: AsyncClient, listing: Listing) -> Outcome:
    fetch = partial(client.scheduled_page, listing.match)
    return await _list(fetch, listing, columns.SCHEDULED, "scheduled message")


async def scheduled_messages(client: AsyncClient, listing: Listing, id: str) -> Outcome:
    """The messages of one scheduled publish."""
    return await _list(partial(client.scheduled_messages, id), listing, columns.SCHEDULED_MESSAGES, "message")


async def subscribers(client: AsyncClient, listing: Listing) -> Outcome:
    fetch = partial(client.subscribers, listing.match)
    return await _list(fetch, listing, columns.SUBSCRIBERS, "subscriber")


async def _list(
    fetch: Callable[..., Awaitable[Any]], listing: Listing, headings: Sequence[Column[Any]], noun: str
) -> Outcome:
    records, after = await every_page(fetch, listing.limit)
    return Outcome(records, table(headings, records), _note(records, after, noun, listing.match))


async def every_page(
    fetch: Callable[..., Awaitable[Any]], limit: int | None, after: Any = None
) -> tuple[list[Any], Any]:
    """The records of as many pages as are needed, and where there are more (None: there are no more). Raises
    RequestRefused if the pages do not go on."""
    records: list[Any] = []
    most = MAX_RECORDS if limit is None else limit
    while len(records) < most:
        page = await fetch(after=after, limit=min(MAX_PAGE, most - len(records)))
        records += page
        if page.next is None:
            return records, None
        if page.next == after or not page:
            raise not_plainmq("the pages of the server's answer do not go on")
        after = page.next
    return records, after


def _note(records: Sequence[Any], after: Any, noun: str, match: str | None = None) -> str | None:
    if after is not None:
        return f"the first {len(records)} are shown; --limit shows more"
    if not records:
        return f"there are no {noun}s" + (f" that {match} matches" if match else "")
    return None


# One topic, one group


class Change(msgspec.Struct, frozen=True):
    """What to change: settings by their names, whether it is paused (None: as it is), and of a group the position.
    `create`: also if there is no such topic or group."""

    settings: Mapping[str, Any]
    paused: bool | None
    create: bool
    seek: str | None = None


async def topic(client: AsyncClient, name: str, change: Change) -> Outcome:
    """Change a topic, and show it. Raises NotFound."""
    state = None if change.create else await client.topic(name)
    if change.settings or state is None:
        state = await client.set_topic(name, **change.settings)
    if change.paused is not None:
        state = await (client.pause_topic(name) if change.paused else client.resume_topic(name))
    return Outcome([state], table(columns.TOPIC, [state], upright=True))


async def group(client: AsyncClient, topic: str, name: str, change: Change) -> Outcome:
    """Change a group, and show it. Raises NotFound."""
    state = None if change.create else await client.group(topic, name)
    if change.settings or state is None:
        state = await client.set_group(topic, name, **change.settings)
    if change.seek is not None:
        state = await client.seek(topic, name, change.seek)
    if change.paused is not None:
        state = await (client.pause_group(topic, name) if change.paused else client.resume_group(topic, name))
    return Outcome([state], table(columns.GROUP, [state], upright=True))


# Messages


async def peek_topic(client: AsyncClient, topic: str, since: str | None, limit: int) -> Outcome:
    """Messages of a topic or pattern: the newest, or those since a position."""
    found: list[Message] = []
    position, gap = since or f"last:{limit}", None
    while len(found) < limit:
        page = await client.messages(topic, since=position, limit=min(limit - len(found), MAX_PAGE))
        found += page
        gap = gap or page.gap
        position = page.next
        if not page:
            break
    note = f"gap: {gap.sentence}" if gap else None if found else f"{topic} has no messages there"
    advice = _return_dead({(message.dead.topic, message.dead.group) for message in found if message.dead})
    return Outcome(found, table(columns.MESSAGES, found), note, advice=advice)


async def peek_group(
    client: AsyncClient, topic: str, group: str, *, state: JobState, after: str | None, limit: int
) -> Outcome:
    """Messages of a group that are in this state."""
    records, after = await every_page(partial(client.jobs, topic, group, state), limit, after)
    note = f"there are more: --since {records[-1].id}" if after is not None else None
    note = note or _note(records, None, f"{state} message")
    advice = _return_dead({(topic, group)}) if records and state == "dead" else None
    return Outcome(records, table(columns.JOBS[state], records), note, advice=advice)


def _return_dead(groups: set[tuple[str, str]]) -> str | None:
    """How to return dead messages that were seen, if they are of one group."""
    if len(groups) != 1:
        return None
    names = shlex.join(groups.pop())
    return f"to return them to their group: plainmq redrive {names} ID..., or --all"
