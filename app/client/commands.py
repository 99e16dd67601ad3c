"""`plainmq publish` and `plainmq subscribe`. They write through a Terminal and return an exit status."""

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Final, Self

import msgspec

from .aio.client import AsyncClient
from .answers.messages import Gap, Published
from .answers.scheduled import Scheduled
from .errors import ClientError, MessagesLost, RequestRefused, Unauthorised, Unreachable, Untrusted
from .publishing import Options
from .table import Table

READ_SIZE: Final = 1 << 20  # bytes of input at once
MAX_BATCH: Final = 5_000  # lines; the default of a server is 10,000
MAX_MESSAGE: Final = 16 << 20  # bytes: no server accepts a longer message
HINTS: Final = {
    Unauthorised: ": give a valid one with --token or PLAINMQ_TOKEN",
    Untrusted: "; name its certificate authority with --ca or PLAINMQ_CA",
}
SHORTEST_WAIT: Final = 10.0  # seconds for the answer to a publish: a disk that is busy may take some
PROGRESS_FROM: Final = 1_000  # messages: longer input gets a progress bar

Progress = Callable[[int, int], None]  # called with the bytes and messages done so far


class Exit(IntEnum):
    """The exit statuses, which scripts can rely on; `--help` lists them."""

    DONE = 0
    REFUSED = 1
    UNREACHABLE = 3
    GAP = 4
    TIMEOUT = 5
    ATTENTION = 6


class Terminal(msgspec.Struct, frozen=True):
    """The output of a command: `out` writes results, `tell` sentences for people. `progress` opens a bar over so many
    bytes (None: not known); it is None if nobody would see it. `fileno` is the file that `out` writes to. `show` writes
    a table. `people`: a person sees the output. `ask` puts a question and returns what was typed; None: there is nobody
    to ask."""

    out: Callable[[bytes], None]
    tell: Callable[[str], None]
    fileno: int
    progress: Callable[[int | None], AbstractContextManager[Progress]] | None
    show: Callable[[Table], None]
    people: bool
    ask: Callable[[str], str] | None


class Server(msgspec.Struct, frozen=True):
    """The URL of a server, the file of certificates to trust (None: the system's), and the token."""

    url: str
    ca: Path | None
    token: str | None

    def client(self, terminal: Terminal, retry_for: float = 10.0, timeout: float = 60.0) -> AsyncClient:
        """Raises ClientError."""
        try:
            return AsyncClient(
                self.url, token=self.token, ca=self.ca, retry_for=retry_for, timeout=timeout, tell=terminal.tell
            )
        except ValueError as error:
            raise ClientError(str(error)) from None

    def publisher(self, terminal: Terminal, retry_for: float) -> AsyncClient:
        """A client that only publishes: each answer is short, so it waits no longer for one than it retries. Raises
        ClientError."""
        return self.client(terminal, retry_for, max(retry_for, SHORTEST_WAIT))


class Outgoing(msgspec.Struct, frozen=True):
    """The topic to publish to, and the options."""

    server: Server
    topic: str
    options: Options
    delay: str | None
    at: str | None
    retry_for: float
    as_json: bool


class StreamRequest(msgspec.Struct, frozen=True):
    """What to subscribe to, and when to end. Durations are in seconds; None is without end."""

    server: Server
    topics: tuple[str, ...]
    since: str
    count: int | None
    timeout: float | None
    retry_for: float | None
    as_json: bool
    strict: bool


class InputUnreadable(ClientError):
    """The input cannot be read."""


def publish_one(outgoing: Outgoing, message: bytes | Path, terminal: Terminal) -> Exit:
    """Publish the bytes, or the whole file (`-` is standard input), as one message."""
    try:
        data = message if isinstance(message, bytes) else _whole(message)
    except ClientError as error:
        return failed(error, str(error), terminal)
    return asyncio.run(_publish_one(outgoing, data, terminal))


def _whole(file: Path) -> bytes:
    """Raises InputUnreadable, RequestRefused."""
    parts, size = [], 0
    with opened(file) as source:
        while part := _read_now(source):
            parts.append(part)
            size += len(part)
            if size > MAX_MESSAGE:
                raise RequestRefused("message_too_large", 413, f"the message has more than {MAX_MESSAGE} bytes")
    return b"".join(parts)


async def _publish_one(outgoing: Outgoing, data: bytes, terminal: Terminal) -> Exit:
    options = outgoing.options
    if not options.get("content_type") and not _is_text(data):
        options = {**options, "content_type": "application/octet-stream"}
    try:
        async with outgoing.server.publisher(terminal, outgoing.retry_for) as client:
            answer = await client.publish(outgoing.topic, data, delay=outgoing.delay, at=outgoing.at, **options)
    except ClientError as error:
        return failed(error, str(error), terminal)
    with _done_anyway(f"The message is {_name(answer)}", terminal):
        terminal.out(json_line(answer) if outgoing.as_json else _summary(answer))
    return Exit.DONE


@contextmanager
def _done_anyway(what: str, terminal: Terminal) -> Iterator[None]:
    """If printing the result fails, tell the user that the request was done, or it might be repeated."""
    try:
        yield
    except Exception:
        terminal.tell(what)
        raise


def publish_lines(outgoing: Outgoing, file: Path, batches: bool, terminal: Terminal) -> Exit:
    """Publish every line of the file (`-` is standard input) that is not empty, in order. With `batches`, lines that
    can be read at once are sent together."""
    try:
        with opened(file) as source:
            return asyncio.run(_publish_lines(outgoing, source, batches, terminal))
    except InputUnreadable as error:
        return failed(error, str(error), terminal)


@contextmanager
def opened(file: Path) -> Iterator[int]:
    """The file to read from; `-` is standard input. Raises InputUnreadable."""
    if file == Path("-"):
        yield sys.stdin.fileno()
        return
    try:
        source = file.open("rb", buffering=0)
    except OSError as error:
        raise InputUnreadable(f"{file} cannot be read: {error.strerror}") from None
    with source:
        yield source.fileno()


async def _publish_lines(outgoing: Outgoing, file: int, batches: bool, terminal: Terminal) -> Exit:
    """One request at a time: concurrent requests may overtake each other."""
    step = MAX_BATCH if batches else 1
    done = 0
    try:
        with Bar(terminal, file) as bar:
            async with outgoing.server.publisher(terminal, outgoing.retry_for) as client:
                async for lines in _without_empty(read_lines(file)):
                    for first in range(0, len(lines), step):
                        part = lines[first : first + step]
                        answer = await _publish_part(client, outgoing, part, batches)
                        done += len(part)
                        bar.show(done, sum(map(len, part)) + len(part))
                        if outgoing.as_json:
                            with _done_anyway(f"Messages published: {done}", terminal):
                                terminal.out(json_line(answer))
    except ClientError as error:
        return failed(error, f"{error} ({done} messages before it were accepted)", terminal)
    return Exit.DONE


async def _publish_part(
    client: AsyncClient, outgoing: Outgoing, part: list[bytes], batch: bool
) -> Published | Scheduled:
    if batch:
        return await client.publish_batch(
            outgoing.topic, part, delay=outgoing.delay, at=outgoing.at, **outgoing.options
        )
    return await client.publish(outgoing.topic, part[0], delay=outgoing.delay, at=outgoing.at, **outgoing.options)


class Bar:
    """A progress bar that opens when the input turns out to be long, if a user can see it."""

    def __init__(self, terminal: Terminal, file: int) -> None:
        status = os.fstat(file)
        self._total = status.st_size if stat.S_ISREG(status.st_mode) else None
        self._open = None if os.isatty(file) else terminal.progress
        self._stack = ExitStack()
        self._bar: Progress | None = None
        self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def show(self, messages: int, nbytes: int) -> None:
        """`messages`: how many are done; `nbytes`: the size of those that are done since the last call."""
        self._bytes += nbytes
        if self._bar is None and self._open is not None and messages > PROGRESS_FROM:
            self._bar = self._stack.enter_context(self._open(self._total))
        if self._bar is not None:
            self._bar(self._bytes, messages)


async def _without_empty(parts: AsyncIterator[list[bytes]]) -> AsyncIterator[list[bytes]]:
    async for lines in parts:
        yield [line for line in lines if line]


async def read_lines(file: int, longest: int = MAX_MESSAGE) -> AsyncIterator[list[bytes]]:
    """The lines of the file as they arrive: complete ones, without their ends (LF or CRLF)."""
    parts: list[bytes] = []
    while chunk := await _read(file):
        head, end, rest = chunk.partition(b"\n")
        parts.append(head)
        if end:
            lines = [b"".join(parts), *rest.split(b"\n")]
            parts = [lines.pop()]
            yield _without_ends(lines)
        elif sum(map(len, parts)) > longest:
            raise RequestRefused("message_too_large", 413, f"a line has more than {longest} bytes")
    yield _without_ends([b"".join(parts)])


def _without_ends(lines: list[bytes]) -> list[bytes]:
    return [line.removesuffix(b"\r") for line in lines]


async def _read(file: int) -> bytes:
    """Read what is available, waiting if nothing is. No thread waits in read(2), so a signal ends the command at
    once."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(file, ready.set)
    except OSError:  # epoll: a regular file is always ready
        return _read_now(file)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(file)
    return _read_now(file)


def _read_now(file: int) -> bytes:
    """Raises InputUnreadable."""
    try:
        return os.read(file, READ_SIZE)
    except OSError as error:
        raise InputUnreadable(f"the input cannot be read: {error.strerror}") from None


def subscribe(request: StreamRequest, terminal: Terminal) -> Exit:
    """Write messages as they are published, one per line, until the count or the time is reached."""
    return asyncio.run(_subscribe(request, terminal))


async def _subscribe(request: StreamRequest, terminal: Terminal) -> Exit:
    if stat.S_ISFIFO(os.fstat(terminal.fileno).st_mode):  # if the reader of our output has left, end at once
        asyncio.get_running_loop().add_reader(terminal.fileno, sys.exit)
    try:
        async with asyncio.timeout(request.timeout):
            return await _receive(request, terminal)
    except BrokenPipeError:
        return Exit.DONE
    except TimeoutError:
        return Exit.DONE if request.count is None else Exit.TIMEOUT
    except MessagesLost:
        return Exit.GAP
    except ClientError as error:
        return failed(error, str(error), terminal)


async def _receive(request: StreamRequest, terminal: Terminal) -> Exit:
    def show(gap: Gap) -> None:
        terminal.tell(f"Gap: {gap.sentence}")
        if request.as_json:
            terminal.out(json_line({"gap": gap}))
        if request.strict:
            raise MessagesLost(gap)

    async with request.server.client(terminal) as client:
        items = client.subscribe(
            request.topics, since=request.since, limit=request.count, retry_for=request.retry_for, on_gap=show
        )
        async for message in items:
            terminal.out(json_line(message) if request.as_json else message.data + b"\n")
    return Exit.DONE


def failed(error: ClientError, sentence: str, terminal: Terminal) -> Exit:
    terminal.tell(f"Error: {sentence}{next((hint for kind, hint in HINTS.items() if isinstance(error, kind)), '')}")
    return Exit.UNREACHABLE if isinstance(error, Unreachable) else Exit.REFUSED


def _summary(answer: Published | Scheduled) -> bytes:
    return (answer.id if isinstance(answer, Published) else f"scheduled {answer.id} {answer.due}").encode() + b"\n"


def _name(answer: Published | Scheduled) -> str:
    return f"published: {answer.id}" if isinstance(answer, Published) else f"scheduled: {answer.due}"


def json_line(answer: object) -> bytes:
    return msgspec.json.encode(answer) + b"\n"


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
