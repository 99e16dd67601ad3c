"""The terminal: the only place that prints."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import ProgressColumn

    from ..client.commands import Progress, Terminal


def end_on_signals() -> None:
    """Ctrl-C and SIGTERM end the command at once, without a traceback, also while it waits in a write."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))


def terminal() -> "Terminal":
    from ..client.commands import Terminal

    return Terminal(write, tell, sys.stdout.fileno(), _progress if sys.stderr.isatty() else None)


def write(data: bytes) -> None:
    """Straight to the file: nothing is left to flush when nobody reads it any more."""
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(sys.stdout.fileno(), rest) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        raise click.ClickException(f"the output cannot be written: {error.strerror}") from None


@contextmanager
def _progress(total: int | None) -> "Iterator[Progress]":
    from rich.progress import TextColumn

    with _bar(TextColumn("{task.fields[messages]} messages")) as bar:
        task = bar.add_task("", total=total, messages=0)
        yield lambda octets, messages: bar.update(task, completed=octets, messages=messages)


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
def measuring(work: str) -> Iterator[Callable[[str, int, float], None]]:
    """A bar that is told what is counted, how many, and which part of the work is over."""
    if not sys.stderr.isatty():
        yield lambda _what, _done, _part: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[done]:,} {task.fields[what]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(work, total=1.0, done=0, what="")
        yield lambda what, done, part: bar.update(task, completed=part, done=done, what=what)


def _bar(*columns: "ProgressColumn") -> "Bar":
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    return Progress(BarColumn(), DownloadColumn(), *columns, TimeRemainingColumn(), console=Console(stderr=True))


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
