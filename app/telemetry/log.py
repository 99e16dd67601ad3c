"""What the server tells whoever watches it: records, on standard error, each a line.

    tell() ─┐
            ├─▶ logging ─▶ Journal: a bounded queue ─▶ its thread: format, redact, write ─▶ fd 2
    others ─┘                └── full: dropped, counted, and told when there is room again

Others are uvicorn, asyncio, warnings, threads that died: whatever says something with the standard library's logging
comes out in the same form. Nobody who tells waits: not for a pipe that is not read, nor for a disk that is full.
Logging belongs to the process, so there is one JOURNAL; until it is opened, records go where logging sends them.
"""

import atexit
import logging
import os
import select
import sys
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import ERROR, INFO, WARNING
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, Literal

from .records import FIELDS, FORMATS, Format, spoken

Level = Literal["debug", "info", "warning", "error"]

STDERR: Final = 2
MOST: Final = 4_096  # records that wait to be written, 2 KiB each at most: a second of the busiest log
AT_ONCE: Final = 64  # of them in one write
GRACE: Final = 2.0  # seconds that the end waits for what is left to be written: a pipe may not be read at all

_LOG: Final = logging.getLogger("plainmq")


def log_event(message: str, level: int = INFO, error: BaseException | None = None, **fields: Any) -> None:
    """Make a record. Fields of None are left out; the traceback of the error comes with it. Never waits."""
    if _LOG.isEnabledFor(level):
        info = None if error is None else (type(error), error, error.__traceback__)
        record = logging.LogRecord(_LOG.name, level, "", 0, message, None, info)
        setattr(record, FIELDS, fields)
        _LOG.handle(record)


def on_loop_error(_loop: AbstractEventLoop, context: dict[str, Any]) -> None:
    """An event loop's exception handler: what nobody else was told."""
    what = {name: _kind(context[name]) for name in ("future", "task", "handle", "transport") if name in context}
    log_event(context["message"], ERROR, context.get("exception"), code="internal_error", **what)


def _kind(thing: object) -> str:
    """What stands in a callback's arguments is a client's."""
    return type(thing).__name__


class LogWriter(logging.Handler):
    """The handler that all records come to, once it is open."""

    def __init__(self) -> None:
        super().__init__()
        self.human = True
        self._queue: SimpleQueue[logging.LogRecord | str | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._dropped = 0  # there was no room
        self._lost = 0  # they could not be written
        self._told = 0  # of the dropped ones

    @property
    def dropped(self) -> int:
        """Records that nobody can have read."""
        return self._dropped + self._lost

    @contextmanager
    def writing(self, format: Format, level: Level) -> Iterator[None]:
        """Open meanwhile; at the end everything is written that somebody reads."""
        self.open(format, level)
        try:
            yield
        finally:
            self.close()

    def open(self, format: Format, level: Level) -> None:
        """Take over all of the process's logging."""
        _keep_stderr()
        self.human = format == "human"
        self.setFormatter(FORMATS[format]())
        logging.raiseExceptions = False
        logging.basicConfig(level=level.upper(), handlers=[self], force=True)
        for name in tuple(logging.root.manager.loggerDict):
            logger = logging.getLogger(name)
            logger.handlers.clear()
            logger.propagate = True
        logging.getLogger("uvicorn.access").propagate = False  # app/access/grant.py has a record of its own
        logging.captureWarnings(True)
        threading.excepthook = lambda args: log_event("a thread died", ERROR, args.exc_value)
        sys.unraisablehook = lambda args: log_event(
            args.err_msg or "an error had no place to go", ERROR, args.exc_value
        )
        self._thread = Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def close(self) -> None:
        """Write what is left; give up if nobody takes it. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join(GRACE)
        super().close()

    def show(self, text: str) -> None:
        """Words for whoever starts the server: nothing in them is redacted."""
        self._queue.put(text if self.human else spoken(text))

    @property
    def terminal(self) -> Callable[[str], None] | None:
        """What shows words to a person at a terminal, and to nobody else; None where there is none."""
        return self.show if self.human and os.isatty(STDERR) else None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            record.msg, record.args = record.getMessage(), None  # now: what the arguments are may change
        except Exception as error:  # whoever made it has a fault; that is no reason for us to have one
            record.msg, record.args = f"{record.msg} ({type(error).__name__})", None
        if self._queue.qsize() >= MOST:
            self._dropped += 1  # logging holds this handler's lock
        else:
            self._queue.put(record)

    # The thread's side

    def _run(self) -> None:
        items: list[logging.LogRecord | str | None] = []
        while None not in items:
            items = [self._queue.get()]
            while len(items) < AT_ONCE and not self._queue.empty():
                items.append(self._queue.get())
            lines = [line for item in items if item is not None for line in self._lines(item)]
            if not _write("".join(lines).encode("utf-8", "backslashreplace")):
                self._lost += len(lines)

    def _lines(self, item: logging.LogRecord | str) -> Iterator[str]:
        if self._dropped > self._told:
            count, self._told = self._dropped - self._told, self._dropped
            record = logging.LogRecord(_LOG.name, WARNING, "", 0, "records were dropped", None, None)
            setattr(record, FIELDS, {"count": count, "why": "standard error was not read fast enough"})
            yield self._line(record)
        yield self._line(item)

    def _line(self, item: logging.LogRecord | str) -> str:
        try:
            return f"{item if isinstance(item, str) else self.format(item)}\n"
        except Exception as error:  # a fault of ours; the log goes on
            return f"a record could not be written: {type(error).__name__}\n"


def _keep_stderr() -> None:
    """If standard error is closed, no file that is opened later shall get its number, and our lines with it."""
    try:
        os.fstat(STDERR)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        if null != STDERR:
            os.dup2(null, STDERR)
            os.close(null)


def _write(data: bytes) -> bool:
    """Whether all of it was taken; waits as long as that takes."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(STDERR, rest) :]
        except BlockingIOError:  # somebody else made the pipe so
            select.select([], [STDERR], [])
        except OSError:  # nobody reads it any more, or its disk is full
            return False
    return True


LOG_WRITER: Final = LogWriter()
