"""The log: records on standard error, one a line.

    log_event() ─┐
                 ├─▶ logging ─▶ LogWriter: a bounded queue ─▶ its thread: format, redact, write ─▶ fd 2
    others ──────┘                └── full: the record is dropped and counted, and the count is logged later

Others are uvicorn, asyncio, warnings and uncaught errors in threads: all records of the standard library's logging are
written in the same format. Logging never blocks the caller, even if the pipe is not read or the disk is full.
Processes that share standard error write their records in turn.
Logging is global to the process, so there is one LOG_WRITER. Until it is opened, logging's own handlers are in force.
"""

import atexit
import fcntl
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
from threading import Event, Thread
from typing import Any, Final, Literal

from .records import FIELDS, FORMATS, Format, spoken

Level = Literal["debug", "info", "warning", "error"]

STDERR: Final = 2
MAX_QUEUED: Final = 4_096  # records not written yet, of 2 KiB each at most: a second of the busiest log
WRITE_BATCH: Final = 64  # records in one write
CLOSE_TIMEOUT: Final = 2.0  # seconds for the last records to be written: the pipe may not be read at all

_Item = logging.LogRecord | str | Event | None
"""What the writer's thread is given: a record or a text to write, what to set once all before it is written, or None as
the last one."""

_LOG: Final = logging.getLogger("plainmq")


def log_event(message: str, level: int = INFO, error: BaseException | None = None, **fields: Any) -> None:
    """Log a record. Fields that are None are left out; the error is logged with its traceback. Never blocks."""
    if _LOG.isEnabledFor(level):
        info = None if error is None else (type(error), error, error.__traceback__)
        record = logging.LogRecord(_LOG.name, level, "", 0, message, None, info)
        setattr(record, FIELDS, fields)
        _LOG.handle(record)


def on_loop_error(_loop: AbstractEventLoop, context: dict[str, Any]) -> None:
    """The event loop's exception handler: log errors that no other code handled."""
    what = {name: _kind(context[name]) for name in ("future", "task", "handle", "transport") if name in context}
    log_event(context["message"], ERROR, context.get("exception"), code="internal_error", **what)


def _kind(thing: object) -> str:
    """The type alone: the repr of a callback shows its arguments, which may hold a client's data."""
    return type(thing).__name__


class LogWriter(logging.Handler):
    """The logging handler that writes all records, once it is open."""

    def __init__(self) -> None:
        super().__init__()
        self.human = True
        self._queue: SimpleQueue[_Item] = SimpleQueue()
        self._thread: Thread | None = None
        self._turns: int | None = None  # a file that is locked while this process writes
        self._dropped = 0  # records: the queue was full
        self._lost = 0  # lines: the write failed
        self._reported = 0  # dropped records that a record has reported

    @property
    def dropped(self) -> int:
        """Records that were not written: the queue was full, or the write failed."""
        return self._dropped + self._lost

    @contextmanager
    def writing(self, format: Format, level: Level, **always: int) -> Iterator[None]:
        """Open within the block; at its end the last records are written, within CLOSE_TIMEOUT. `always`: fields of
        every record."""
        self.open(format, level, **always)
        try:
            yield
        finally:
            self.close()

    def open(self, format: Format, level: Level, **always: int) -> None:
        """Replace the handlers of all loggers of the process by this one."""
        _keep_stderr()
        self.human = format == "human"
        self.setFormatter(FORMATS[format](always))
        logging.raiseExceptions = False
        logging.basicConfig(level=level.upper(), handlers=[self], force=True)
        for name in tuple(logging.root.manager.loggerDict):
            logger = logging.getLogger(name)
            logger.handlers.clear()
            logger.propagate = True
        logging.getLogger("uvicorn.access").propagate = False  # app/web/middleware/access_log.py writes these records
        logging.captureWarnings(True)
        threading.excepthook = lambda args: log_event("a thread died", ERROR, args.exc_value)
        sys.unraisablehook = lambda args: log_event(
            args.err_msg or "an error had no place to go", ERROR, args.exc_value
        )
        self._thread = Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @contextmanager
    def taking_turns(self, file: int) -> Iterator[None]:
        """Write in turn with other processes that have the same file, open for writing."""
        self._turns = file
        try:
            yield
        finally:
            self.flush()
            self._turns = None

    def close(self) -> None:
        """Write the last records; give up after CLOSE_TIMEOUT. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join(CLOSE_TIMEOUT)
        super().close()

    def flush(self) -> None:
        """Return when all records until now are written, or after CLOSE_TIMEOUT. For a process that may end at once."""
        if self._thread is not None:
            written = Event()
            self._queue.put(written)
            written.wait(CLOSE_TIMEOUT)

    def show(self, text: str) -> None:
        """Write text for the person who starts the server. It is not redacted."""
        self._queue.put(text if self.human else spoken(text))

    @property
    def terminal(self) -> Callable[[str], None] | None:
        """`show` if standard error is a terminal and the format is `human`; otherwise None."""
        return self.show if self.human and os.isatty(STDERR) else None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            record.msg, record.args = (
                record.getMessage(),
                None,
            )  # formatted now, since the arguments may change before the thread writes them
        except Exception as error:  # a wrong format string must not raise in the code that logs
            record.msg, record.args = f"{record.msg} ({type(error).__name__})", None
        if self._queue.qsize() >= MAX_QUEUED:
            self._dropped += 1  # safe: logging holds this handler's lock
        else:
            self._queue.put(record)

    # Called in the writer's thread

    def _run(self) -> None:
        items: list[_Item] = []
        while None not in items:
            items = [self._queue.get()]
            while len(items) < WRITE_BATCH and not self._queue.empty():
                items.append(self._queue.get())
            records = [item for item in items if isinstance(item, logging.LogRecord | str)]
            lines = [line for record in records for line in self._lines(record)]
            with self._turn():
                if not _write("".join(lines).encode("utf-8", "backslashreplace")):
                    self._lost += len(lines)
            for item in items:
                if isinstance(item, Event):
                    item.set()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """No other process writes within the block: a write to a full pipe is not atomic. The system unlocks the file
        of a process that dies."""
        if self._turns is None:
            yield
            return
        fcntl.lockf(self._turns, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._turns, fcntl.LOCK_UN)

    def _lines(self, item: logging.LogRecord | str) -> Iterator[str]:
        if self._dropped > self._reported:
            count, self._reported = self._dropped - self._reported, self._dropped
            record = logging.LogRecord(_LOG.name, WARNING, "", 0, "records were dropped", None, None)
            setattr(record, FIELDS, {"count": count, "why": "standard error was not read fast enough"})
            yield self._line(record)
        yield self._line(item)

    def _line(self, item: logging.LogRecord | str) -> str:
        try:
            return f"{item if isinstance(item, str) else self.format(item)}\n"
        except Exception as error:  # a defect of the formatter must not end the thread
            return f"a record could not be written: {type(error).__name__}\n"


def _keep_stderr() -> None:
    """If standard error is closed, open /dev/null as fd 2: otherwise the next file opened would get it, and the log."""
    try:
        os.fstat(STDERR)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        if null != STDERR:
            os.dup2(null, STDERR)
            os.close(null)


def _write(data: bytes) -> bool:
    """Write all of it, however long that blocks. False if that is impossible."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(STDERR, rest) :]
        except BlockingIOError:  # another process set the pipe to non-blocking
            select.select([], [STDERR], [])
        except OSError:  # the pipe is closed, or the disk is full
            return False
    return True


LOG_WRITER: Final = LogWriter()
