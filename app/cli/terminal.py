"""The terminal: the only place that prints."""

import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NoReturn

import click

from ..messages.control_characters import escape, escape_line

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import ProgressColumn

    from ..client.commands import Progress, Terminal


STDIN, STDOUT, STDERR = 0, 1, 2
_HELD: Final = {STDIN: os.O_WRONLY, STDOUT: os.O_RDONLY, STDERR: os.O_WRONLY}
"""How a closed stream is opened: to read from nothing, or write to it, fails as it should; complaints go nowhere."""


def hold_streams() -> None:
    """Standard streams that are closed are open from now on, or the next file or socket would have their number."""
    for number, mode in _HELD.items():
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)  # the lowest number that is free is this one
    sys.stdin = sys.stdin or os.fdopen(STDIN, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(STDOUT, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(STDERR, "w", closefd=False)


def give_up(error: OSError) -> NoReturn:
    """End with a sentence, if anybody can be told."""
    tell(f"Error: {error.filename or 'input or output'}: {error.strerror}")
    null = os.open(os.devnull, os.O_WRONLY)
    for number in (STDOUT, STDERR):  # what is left in their buffers cannot be written at the end either
        os.dup2(null, number)
    sys.exit(1)


def end_on_signals() -> None:
    """Ctrl-C and SIGTERM end the command at once, without a traceback, also while it waits in a write."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))


def terminal(raw: bool = False) -> "Terminal":
    """A person's terminal is shown nothing that steers it, unless that is wanted (`raw`); a pipe gets the bytes."""
    from ..client.commands import Terminal

    out = write if raw or not sys.stdout.isatty() else show
    return Terminal(out, tell, STDOUT, _progress if sys.stderr.isatty() else None)


def show(data: bytes) -> None:
    write(escape(data.decode("utf-8", "backslashreplace")).encode())


def write(data: bytes) -> None:
    """Straight to the file: nothing is left to flush when nobody reads it any more."""
    try:
        _write(STDOUT, data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise click.ClickException(f"the output cannot be written: {error.strerror}") from None


def _write(number: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(number, rest) :]
        except BlockingIOError:  # somebody else has made the pipe so
            select.select([], [number], [])


@contextmanager
def _progress(total: int | None) -> "Iterator[Progress]":
    from rich.progress import TextColumn

    with _bar(TextColumn("{task.fields[messages]} messages")) as bar:
        task = bar.add_task("", total=total, messages=0)
        yield lambda nbytes, messages: bar.update(task, completed=nbytes, messages=messages)


@contextmanager
def copying() -> Iterator[Callable[[int, int], None]]:
    """A bar that is told how much is copied, and of how much; nothing where nobody would see it."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    with _bar() as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def workload_progress(workload: str) -> Iterator[Callable[[str, int, float], None]]:
    """A progress bar: yields a function of the noun that is counted, the count, and the part that is done."""
    if not sys.stderr.isatty():
        yield lambda _noun, _count, _part: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]:,} {task.fields[noun]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(workload, total=1.0, count=0, noun="")
        yield lambda noun, count, part: bar.update(task, completed=part, count=count, noun=noun)


def _bar(*columns: "ProgressColumn") -> "Bar":
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    return Progress(BarColumn(), DownloadColumn(), *columns, TimeRemainingColumn(), console=Console(stderr=True))


def tell(text: str) -> None:
    """A sentence, in which a stranger's words may stand. That it cannot be told is no reason to end."""
    with suppress(OSError):
        _write(STDERR, f"{escape_line(text)}\n".encode(errors="backslashreplace"))
