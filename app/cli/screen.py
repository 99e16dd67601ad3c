"""The screen of `plainmq top`."""

import asyncio
import os
import re
import signal
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ..client import columns
from ..client.answers.server import Sample
from ..client.table import Kind
from ..client.top import Frame
from . import tables
from .terminal import STDIN

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

QUIT: Final = frozenset(b"qQ\x04")  # also Ctrl-D
ESCAPE: Final = b"\x1b"  # by itself: arrows and other keys begin with it
_OTHER_KEYS: Final = re.compile(rb"\x1b[\[O][0-?]*[@-~]")  # ECMA-48, section 5.4
MOST_WARNINGS: Final = 5  # lines: the groups need some too
WIDE: Final = 70  # columns from which two figures stand side by side
BARS: Final = "▁▂▃▄▅▆▇█"
ASCII_BARS: Final = "_.-=+*%#"  # for a terminal that has no others
LEAST_SCALE: Final = 1e-9  # so that a row of zeros has no greatest value to divide by

Figure = tuple[str, Callable[[Sample], float], Callable[[float], str]]
FIGURES: Final[Sequence[Figure]] = (
    ("published", lambda sample: sample.published, lambda value: f"{tables.rate(value)}/s"),
    ("delivered", lambda sample: sample.delivered, lambda value: f"{tables.rate(value)}/s"),
    ("acked", lambda sample: sample.acked, lambda value: f"{tables.rate(value)}/s"),
    ("refused", lambda sample: sample.refused, lambda value: f"{tables.rate(value)}/s"),
    ("subscribers", lambda sample: sample.subscribers, tables.count),
    ("lag", lambda sample: sample.ready + sample.leased + sample.delayed, tables.count),
    ("memory", lambda sample: sample.memory / max(sample.memory_limit, 1), tables.part),
    ("loop delay", lambda sample: sample.loop_delay, tables.seconds),
)


class TerminalScreen:
    """Draws on the alternate screen of the terminal, and restores what was there before. Keys close it, and a
    resize draws it anew."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._quit = asyncio.Event()
        self._status = 0
        self._frame: Frame | None = None
        self._live: Live | None = None

    async def closed(self) -> int:
        await self._quit.wait()
        return self._status

    @contextmanager
    def open(self) -> Iterator[None]:
        from rich.live import Live

        loop = asyncio.get_running_loop()
        with _keys_at_once(), Live(console=self._console, screen=True, auto_refresh=False) as self._live:
            if os.isatty(STDIN):
                loop.add_reader(STDIN, self._read_keys)
            loop.add_signal_handler(signal.SIGWINCH, self._redraw)
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._close, 128 + number)
            try:
                yield
            finally:
                loop.remove_reader(STDIN)

    def draw(self, frame: Frame) -> None:
        self._frame = frame
        self._redraw()

    def _redraw(self) -> None:
        if self._live is not None and self._frame is not None:
            self._live.update(_drawing(self._frame, self._console), refresh=True)

    def _read_keys(self) -> None:
        try:
            keys = os.read(STDIN, 64)
        except OSError:  # the terminal is gone
            keys = b""
        plain = _OTHER_KEYS.sub(b"", keys)
        if not keys or plain.endswith(ESCAPE) or QUIT & {*plain}:
            self._close(0)

    def _close(self, status: int) -> None:
        self._status = status
        self._quit.set()


@contextmanager
def _keys_at_once() -> Iterator[None]:
    """Keys are read without Enter and without an echo. Ctrl-C stays a signal; Ctrl-Z does nothing, because the shell
    would get a terminal in this mode."""
    if not os.isatty(STDIN):
        yield
        return
    before = termios.tcgetattr(STDIN)
    tty.setcbreak(STDIN)
    mode = termios.tcgetattr(STDIN)
    mode[6][termios.VSUSP] = b"\0"
    termios.tcsetattr(STDIN, termios.TCSADRAIN, mode)
    try:
        yield
    finally:
        termios.tcsetattr(STDIN, termios.TCSADRAIN, before)


def _drawing(frame: Frame, console: "Console") -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    width, height = console.size
    bars = BARS if console.encoding.startswith("utf") else ASCII_BARS
    above: list[RenderableType] = [_line(_title(frame), "bold"), _line(frame.trouble or "", "bold red")]
    figures = _figures(frame, width, bars)
    warnings = [_line(f"! {item.text}", "red") for item in frame.attention[:MOST_WARNINGS]]
    if more := frame.attention_total - len(warnings):
        warnings.append(_line(f"! and {more} more: plainmq status", "red"))
    used = len(above) + figures.row_count + 1 + len(warnings) + 1
    rows = max(height - used - 2, 0)  # the heading, and the last line
    parts = [*above, figures, Text(""), *warnings, *([Text("")] if warnings else []), _groups(frame, rows)]
    return Group(*parts, _line("q ends", "dim"))


def _line(text: str, style: str) -> "Text":
    from rich.text import Text

    return Text(tables.one_line(text), style=style, no_wrap=True, overflow="ellipsis")


def _title(frame: Frame) -> str:
    server = frame.server
    try:
        started = datetime.fromisoformat(server.started)
        up = tables.seconds((datetime.now(UTC) - started).total_seconds())
    except (ValueError, TypeError, OverflowError):
        up = "?"
    return f"plainmq {server.version} at {frame.url}  {server.durability}  up {up}"


def _figures(frame: Frame, width: int, bars: str) -> "Table":
    beside = 2 if width >= WIDE else 1
    length = max(width // beside - 28, 0)  # of a chart, beside its name and value
    grid = tables.empty_drawing(show_header=False)
    for _ in range(beside):
        grid.add_column(no_wrap=True, style="bold", width=11)
        grid.add_column(no_wrap=True, justify="right", width=9)
        grid.add_column(no_wrap=True, style="cyan", width=length)
    cells = [_figure(figure, frame, length, bars) for figure in FIGURES]
    for row in zip(*(cells[start::beside] for start in range(beside)), strict=True):
        grid.add_row(*(text for cell in row for text in cell))
    return grid


def _figure(figure: Figure, frame: Frame, length: int, bars: str) -> tuple[str, str, str]:
    name, value, text = figure
    values = [value(sample) for sample in frame.samples]
    return name, text(values[-1]) if values else tables.NOTHING, sparkline(values[-length:] if length else [], bars)


def sparkline(values: Sequence[float], bars: str) -> str:
    """A bar for each value; the greatest has the highest."""
    greatest = max((*values, LEAST_SCALE))
    return "".join(bars[min(round(value / greatest * (len(bars) - 1)), len(bars) - 1)] for value in values)


def _groups(frame: Frame, most: int) -> "Table":
    shown = [column for column in columns.GROUPS if column.heading not in {"acked", "state"}]
    drawing = tables.empty_drawing(expand=True)
    for column in shown:
        tables.add_column(drawing, column.heading, Kind.BODY if column.kind is Kind.TEXT else column.kind)
    for group in frame.groups[:most]:
        drawing.add_row(*(tables.cell(column.kind, column.value(group)) for column in shown))
    return drawing
