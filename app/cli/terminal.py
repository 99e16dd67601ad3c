"""Standard input, output and error. Nothing else in the program prints."""

import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Final, NoReturn

import click

from ..messages.control_characters import escape, escape_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import ProgressColumn

    from ..client.commands import Progress, Terminal
    from ..client.table import Table


STDIN, STDOUT, STDERR = 0, 1, 2
_CLOSED_MODES: Final = {STDIN: os.O_WRONLY, STDOUT: os.O_RDONLY, STDERR: os.O_WRONLY}
"""How closed streams are opened on /dev/null: reading input and writing output fail; error output is lost."""


def open_closed_streams() -> None:
    """Open /dev/null for closed standard streams: otherwise the next file or socket would get their number."""
    for number, mode in _CLOSED_MODES.items():
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)  # takes the lowest free number, which is this one
    sys.stdin = sys.stdin or os.fdopen(STDIN, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(STDOUT, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(STDERR, "w", closefd=False)


def exit_with_error(error: OSError) -> NoReturn:
    """Exit with status 1 and a sentence, if standard error can be written."""
    report(f"Error: {error.filename or 'input or output'}: {error.strerror}")
    null = os.open(os.devnull, os.O_WRONLY)
    for number in (STDOUT, STDERR):  # so that Python's flush at exit does not fail too
        os.dup2(null, number)
    sys.exit(1)


def end_on_signals() -> None:
    """Make Ctrl-C and SIGTERM exit at once, without a traceback, even during a blocking write."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))


def terminal(raw: bool = False) -> "Terminal":
    """The streams of a command. On a terminal, control characters are escaped unless `raw`; a pipe gets the bytes."""
    from ..client.commands import Terminal

    people = sys.stdout.isatty()
    out = write if raw or not people else write_escaped
    progress = _progress if sys.stderr.isatty() else None
    ask = _ask if sys.stdin.isatty() and sys.stderr.isatty() else None
    return Terminal(out, report, STDOUT, progress, _draw if people else _list, people, ask)


def screen() -> "Console | None":
    """Standard output, if it is a terminal that can be redrawn. Characters that it does not have become `?`."""
    from rich.console import Console

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    console = Console()
    return None if console.is_dumb_terminal or not console.is_terminal else console


def _draw(table: "Table") -> None:
    from .tables import drawn

    write(drawn(table, get_terminal_size().columns))


def _list(table: "Table") -> None:
    from .tables import tab_separated

    write(tab_separated(table))


def _ask(question: str) -> str:
    """Put the question on standard error, and return the line that is typed; an empty one at the end of the input."""
    _write(STDERR, f"{escape_line(question)} ".encode(errors="backslashreplace"))
    return sys.stdin.readline().rstrip("\n")


def write_escaped(data: bytes) -> None:
    write(escape(data.decode("utf-8", "backslashreplace")).encode())


def write(data: bytes) -> None:
    """Write to standard output without a buffer, so that nothing is left to flush when the reader closes it."""
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
        except BlockingIOError:  # another process made the pipe non-blocking
            select.select([], [number], [])


@contextmanager
def _progress(total: int | None) -> "Iterator[Progress]":
    from rich.progress import TextColumn

    with _bar(TextColumn("{task.fields[messages]} messages")) as bar:
        task = bar.add_task("", total=total, messages=0)
        yield lambda nbytes, messages: bar.update(task, completed=nbytes, messages=messages)


@contextmanager
def copy_progress() -> Iterator[Callable[[int, int], None]]:
    """A progress bar: yields a function of the amount copied and the total. It shows nothing without a terminal, nor
    before there is progress."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    bar = _bar()
    task = bar.add_task("", total=None)

    def show(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield show
    finally:
        bar.stop()


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


def report(text: str) -> None:
    """Write a sentence to standard error. It may quote a client: control characters are escaped. Errors are ignored."""
    with suppress(OSError):
        _write(STDERR, f"{escape_line(text)}\n".encode(errors="backslashreplace"))
