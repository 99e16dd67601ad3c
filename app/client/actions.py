"""What operators do with messages from a command line: put them back, skip, delete, cancel or publish them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec

from . import columns
from .aio.client import AsyncClient
from .answers.jobs import Redriven
from .commands import Exit, Terminal
from .errors import ClientError, LeaseExpired, NotFound
from .operations import Outcome
from .table import Column, Kind, table
from .working import Ids

MAX_IDS: Final = 1_000  # in one request, from the server

Settle = Callable[[str, str, Ids], Awaitable[Mapping[str, str]]]


class Result(msgspec.Struct, frozen=True):
    """What became of an id: `done`, `expired` or `unknown`."""

    id: str
    result: str


class Purged(msgspec.Struct, frozen=True):
    """What was deleted: messages of a topic, or what a group had not acked."""

    topic: str
    group: str | None
    purged: int


class NotConfirmed(ClientError):
    """Something else was typed than the name."""


_PURGED: Final[Sequence[Column[Purged]]] = (Column("purged", Kind.COUNT, lambda answer: answer.purged),)


async def release(client: AsyncClient, topic: str, group: str, ids: Sequence[str]) -> Outcome:
    return await _settle(client.release, topic, group, ids)


async def skip(client: AsyncClient, topic: str, group: str, ids: Sequence[str]) -> Outcome:
    return await _settle(client.skip, topic, group, ids)


async def _settle(verb: Settle, topic: str, group: str, ids: Sequence[str]) -> Outcome:
    results: dict[str, str] = {}
    for first in range(0, len(ids), MAX_IDS):
        try:
            results |= await verb(topic, group, ids[first : first + MAX_IDS])
        except LeaseExpired as error:
            results |= error.results
    return _results(results)


def _results(results: Mapping[str, str]) -> Outcome:
    """The exit status says whether all are done."""
    exit = Exit.DONE if all(result == "done" for result in results.values()) else Exit.REFUSED
    records = [Result(id, result) for id, result in results.items()]
    return Outcome(records, table(columns.RESULTS, [*results.items()]), exit=exit)


async def redrive(client: AsyncClient, topic: str, group: str, ids: Sequence[str], rate: int | None) -> Outcome:
    """Put these dead messages back, or all of them if there are no ids."""
    if not ids:
        answer = await client.redrive(topic, group, rate=rate)
        note = "some are left: there is no room for them" if answer.left else None
        exit = Exit.REFUSED if answer.left else Exit.DONE
        return Outcome([answer], table(columns.REDRIVEN, [answer], upright=True), note, exit)
    results: dict[str, str] = {}
    for first in range(0, len(ids), MAX_IDS):
        part: Redriven = await client.redrive(topic, group, ids[first : first + MAX_IDS], rate=rate)
        results |= part.results
    return _results(results)


async def purge_topic(client: AsyncClient, topic: str, before: str | None, terminal: Terminal | None) -> Outcome:
    """Delete the messages of a topic. `terminal`: where the name must be typed first; None: it need not be."""
    state = await client.topic(topic)
    some = f"messages before {before}" if before else _counted(state.messages, "message")
    _confirm(f"This deletes {some} of the topic {topic}.", topic, terminal)
    answer = Purged(topic, None, await client.purge(topic, before=before))
    return Outcome([answer], table(_PURGED, [answer], upright=True))


async def purge_group(client: AsyncClient, topic: str, group: str, terminal: Terminal | None) -> Outcome:
    """Drop what a group has not acked: the topic and its other groups keep it."""
    state = await client.group(topic, group)
    _confirm(f"The group {group} of {topic} will never get {_counted(state.lag, 'message')}.", group, terminal)
    after = await client.seek(topic, group, "latest")
    answer = Purged(topic, group, max(state.lag - after.lag, 0))
    return Outcome([answer], table(_PURGED, [answer], upright=True))


def _confirm(sentence: str, name: str, terminal: Terminal | None) -> None:
    """Raises NotConfirmed unless the name is typed."""
    if terminal is None:
        return
    assert terminal.ask is not None
    if terminal.ask(f"{sentence} Type its name to go on:") != name:
        raise NotConfirmed("that is not its name: nothing was deleted")


async def cancel(client: AsyncClient, ids: Sequence[str]) -> Outcome:
    """Cancel what is scheduled."""
    return await _each(client.cancel_scheduled, ids)


async def publish_now(client: AsyncClient, ids: Sequence[str]) -> Outcome:
    """Publish what is scheduled."""
    return await _each(client.publish_scheduled, ids)


async def _each(act: Callable[[str], Awaitable[object]], ids: Sequence[str]) -> Outcome:
    results = {}
    for id in ids:
        try:
            await act(id)
            results[id] = "done"
        except NotFound:
            results[id] = "unknown"
    return _results(results)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
