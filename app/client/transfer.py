"""`plainmq export` and `plainmq import`: messages to lines, and lines to messages."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from ..errors.wording import in_words
from .aio.client import AsyncClient
from .answers.messages import Gap, Line, Message, Published
from .commands import Bar, Exit, InputUnreadable, Server, Terminal, failed, opened, read_lines
from .errors import UNREADABLE, ClientError
from .reading import number

MAX_LINE: Final = 128 << 20  # bytes: the longest message, in JSON


class LineInvalid(ClientError):
    """A line that `plainmq export` cannot have written."""


class Source(msgspec.Struct, frozen=True):
    """The messages to export, and their server. `retry_for` is in seconds."""

    server: Server
    topics: Sequence[str]
    since: str
    retry_for: float


def export(source: Source, terminal: Terminal) -> Exit:
    """Write all messages that the topics and patterns retain, one per line, in the order of the log."""
    return asyncio.run(_export(source, terminal))


async def _export(source: Source, terminal: Terminal) -> Exit:
    reasons: set[str] = set()

    def show(gap: Gap) -> None:
        """Show the first gap of each reason: every page may begin with the same gap."""
        if gap.reason not in reasons:
            reasons.add(gap.reason)
            terminal.tell(f"Gap: {gap.sentence}")

    try:
        async with source.server.client(terminal, source.retry_for) as client:
            exports = [client.export(topic, since=source.since, on_gap=show) for topic in source.topics]
            async for item in _merged(exports):
                terminal.out(item.text + b"\n")
    except BrokenPipeError:
        pass
    except ClientError as error:
        return failed(error, str(error), terminal)
    return Exit.DONE


async def _merged(sources: Sequence[AsyncIterator[Line]]) -> AsyncIterator[Line]:
    """The lines of all sources, in the order of the log, each once."""
    heads = [(line, source) for source in sources if (line := await anext(source, None))]
    written = ""
    while heads:
        oldest = min(range(len(heads)), key=lambda index: number(heads[index][0].id))
        line, source = heads.pop(oldest)
        if line.id != written:
            yield line
        written = line.id
        if following := await anext(source, None):
            heads.append((following, source))


def import_(server: Server, file: Path, retry_for: float, terminal: Terminal) -> Exit:
    """Publish the messages of an export in order, and report how many there were."""
    try:
        with opened(file) as source:
            return asyncio.run(_import(server, source, retry_for, terminal))
    except InputUnreadable as error:
        return failed(error, str(error), terminal)


async def _import(server: Server, file: int, retry_for: float, terminal: Terminal) -> Exit:
    done = 0  # lines
    known: Counter[bool] = Counter()
    try:
        with Bar(terminal, file) as bar:
            async with server.publisher(terminal, retry_for) as client:
                async for lines in read_lines(file, MAX_LINE):
                    for line in lines:
                        if line:
                            known[(await _publish(client, line)).duplicate] += 1
                        done += 1
                        bar.show(done, len(line) + 1)
    except ClientError as error:
        return failed(error, f"line {done + 1}: {error}", terminal)
    finally:
        terminal.tell(f"messages stored: {known[False]}, known already: {known[True]}")
    return Exit.DONE


async def _publish(client: AsyncClient, line: bytes) -> Published:
    """The idempotency key is made from the id: a line that was published a moment ago is not stored again."""
    message = _message(line)
    key = f"import {message.id}"
    return await client.publish(
        message.topic, message.data, event=message.event, content_type=message.content_type, idempotency_key=key,
        headers=message.headers, priority=message.priority or None, order_key=message.key,
    )  # fmt: skip


def _message(line: bytes) -> Message:
    try:
        message = msgspec.json.decode(line, type=Message)
    except UNREADABLE as error:
        raise LineInvalid(f"this is not a message as export writes it: {in_words(error)}") from None
    if (message.text is None) == (message.binary is None):
        raise LineInvalid("this is not a message as export writes it: expected either `data` or `data_base64`")
    return message
