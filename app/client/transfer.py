"""What `plainmq export` and `plainmq import` do: a log as lines, and lines as messages again."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Final

import msgspec

from ..errors.wording import in_words
from .client import UNREADABLE, Client, ClientError, Gap, Line, Published, Record, number
from .commands import Bar, Exit, InputUnreadable, Server, Terminal, failed, opened, read_lines

LONGEST: Final = 128 << 20  # bytes of a line: the longest message, in JSON


class LineInvalid(ClientError):
    """A line that no export has written."""


class Source(msgspec.Struct, frozen=True):
    """Which messages to write, and of which server. `retry_for` is seconds."""

    server: Server
    topics: Sequence[str]
    since: str
    retry_for: float


def export(source: Source, terminal: Terminal) -> Exit:
    """Write what the topics and patterns retain, a message a line, in the order of the log."""
    return asyncio.run(_export(source, terminal))


async def _export(source: Source, terminal: Terminal) -> Exit:
    reasons: set[str] = set()
    try:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(source.server.client(terminal, source.retry_for))
            exports = [client.export(topic, source.since) for topic in source.topics]
            for one in exports:
                await stack.enter_async_context(aclosing(one))
            async for item in _merged([_lines(one, reasons, terminal) for one in exports]):
                terminal.out(item.text + b"\n")
    except BrokenPipeError:
        pass
    except ClientError as error:
        return failed(error, str(error), terminal)
    return Exit.DONE


async def _lines(items: AsyncGenerator[Line | Gap, None], reasons: set[str], terminal: Terminal) -> AsyncIterator[Line]:
    """The messages; of gaps the first of each reason is told, for every page may begin with the same one."""
    async for item in items:
        if isinstance(item, Line):
            yield item
        elif item.reason not in reasons:
            reasons.add(item.reason)
            terminal.tell(f"Gap: {item.sentence}")


async def _merged(sources: Sequence[AsyncIterator[Line]]) -> AsyncIterator[Line]:
    """What they have, in the order of the log, each once."""
    heads = [(line, source) for source in sources if (line := await anext(source, None))]
    written = ""
    while heads:
        place = min(range(len(heads)), key=lambda place: number(heads[place][0].id))
        line, source = heads.pop(place)
        if line.id != written:
            yield line
        written = line.id
        if following := await anext(source, None):
            heads.append((following, source))


def import_(server: Server, file: Path, retry_for: float, terminal: Terminal) -> Exit:
    """Publish the messages that an export has written, in order, and say how many there were."""
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
            async with server.client(terminal, retry_for) as client:
                async for lines in read_lines(file, LONGEST):
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


async def _publish(client: Client, line: bytes) -> Published:
    """Its key is made from its id: a line that was published a moment ago is not stored again."""
    record = _record(line)
    return await client.publish(
        record.topic, record.data, event=record.event, content_type=record.content_type, key=f"import {record.id}"
    )


def _record(line: bytes) -> Record:
    try:
        record = msgspec.json.decode(line, type=Record)
    except UNREADABLE as error:
        raise LineInvalid(f"this is not a message as export writes it: {in_words(error)}") from None
    if (record.text is None) == (record.binary is None):
        raise LineInvalid("this is not a message as export writes it: expected either `data` or `data_base64`")
    return record
