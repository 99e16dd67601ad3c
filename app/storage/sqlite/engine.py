"""The SQLite engine: the log survives the process. One thread does everything with the file, in the order of requests.

    requests ─▶ writer thread: all that wait, in ONE transaction ─▶ COMMIT ─▶ event loop: deliver, then answer

Requests that arrive during a commit form the next transaction (group commit). It waits a moment for the clients that
were answered last, which often publish again at once. So many publishers share the time of the disk, and subscribers
get many messages in one write. Nothing is delivered or answered before the disk has it. If the commit fails, everything
in the transaction is refused and undone.
"""

import sqlite3
import sys
from asyncio import Future, TimerHandle, get_running_loop
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from errno import ENOSPC
from functools import partial
from logging import ERROR
from math import inf
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any, Final, Literal, Self, TypeVar

from ...errors import Draining, LogFull, PlainmqError, StorageFailed
from ...log.groups.events import GroupObserver
from ...log.slices import Slices
from ...log.state import DEFERRED, Accepted, LogStateMachine, Outbox, PartialResult
from ...log.topic_log import Limits
from ...messages.message import Draft, Receipt, count_messages
from ...telemetry.histogram import Histogram
from ...telemetry.log import log_event
from ..clock import Clock, LogClock
from ..engine import Deliver
from ..local import LocalEngine, Operation, SlicedOperation, take_turns
from .file import Synchronous
from .file_lock import FileReplaced
from .transactions import Store

T = TypeVar("T")
Kind = Literal["append", "read", "owed", "other"]
"""`owed`: it records what has happened already, so it is never refused, and written as soon as the disk accepts it."""

MAX_BATCH: Final = 1_000  # requests in one transaction: more would gain little, and the first ones wait
COMMIT_WINDOW: Final = 0.004  # seconds to wait for the clients that were answered last; skipped after it brought nobody
SWITCH_INTERVAL: Final = 0.0005  # seconds between switches of threads: by default each statement waits for the loop
VACUUM_AFTER: Final = 1.0  # seconds between attempts to give space back to the disk
VACUUM_UNTIL: Final = 0.1  # likewise while there is more to give back: the time between is for requests
DISK_CHECK_INTERVAL: Final = 0.05  # seconds between checks of the disk and the names: one costs as much as a message
NAMES_CHECK_INTERVAL: Final = 1.0  # seconds between checks of the names while there is no request
BACKOFF: Final = 1.0  # seconds without another attempt to write after a failure


class StorageHealth:
    """Whether the disk can be written. It is logged once when that fails and once when it recovers."""

    def __init__(self) -> None:
        self._since: float | None = None

    def begins(self, why: str) -> None:
        if self._since is None:
            self._since = monotonic()
            log_event("storage failed", ERROR, why=why)

    def is_over(self, full: bool) -> None:
        """A transaction was written. `full`: publishes are refused nevertheless, so the failure is not over."""
        if self._since is not None and not full:
            log_event("storage recovered", seconds=monotonic() - self._since)
            self._since = None


class Request:
    """An operation on the state machine, and the future of its result."""

    __slots__ = ("_error", "_future", "_question", "_value", "kind", "size")

    def __init__(
        self, operation: Operation[Any], future: "Future[Any] | None" = None, kind: Kind = "other", size: int = 1
    ) -> None:
        """`size`: the number of publishes, if several are joined."""
        self.kind = kind
        self.size = size
        self._question = operation
        self._future = future
        self._value: Any = None
        self._error: BaseException | None = None

    def ask(self, core: LogStateMachine, now: float) -> None:
        try:
            self._value, self._error = self._question(core, now), None
        except PlainmqError as error:
            self._error = error

    def fail(self, error: BaseException) -> None:
        self._error = error

    def answer(self, receivers: Mapping[int, int]) -> Accepted | PartialResult | None:
        """Set the result. `receivers`: their number for each message, by seq. Returns what was accepted, if
        anything."""
        future, value = self._future, self._value
        if future is None or future.done():
            return None
        if self._error is not None:
            if self.kind != "owed":  # such a request is repeated
                future.set_exception(self._error)
            return None
        accepted = isinstance(value, DEFERRED)
        future.set_result(value.receipt(receivers) if accepted else value)
        return value if accepted else None


class SlicedRequest(Request):
    """A request that runs in slices."""

    __slots__ = ("_sliced",)

    def __init__(self, operation: Operation[Slices[Any]], future: "Future[Any]", kind: Kind) -> None:
        self._sliced = SlicedOperation(operation)
        super().__init__(self._sliced.step, future, kind)

    def step(self, core: LogStateMachine, now: float) -> bool:
        """Run one slice. True if it was the last."""
        try:
            self.ask(core, now)
        except sqlite3.Error:
            raise
        except Exception as error:  # a fault of the server: the other requests go on
            self._error = error
        if self._error is None and not self._value:
            return False
        self._value = None if self._error else self._sliced.value
        return True


class SqliteEngine(LocalEngine):
    def __init__(
        self, limits: Limits, clock: Clock, path: Path, synchronous: Synchronous = "full", min_free_disk: int = 0
    ) -> None:
        """`min_free_disk`: in bytes; with less on the disk, publishes are refused."""
        self.durability = "disk" if synchronous == "full" else "disk:relaxed"
        self.epoch = ""  # known once the log is open
        self._limits = limits
        self._machine_clock = clock
        self._clock = LogClock(clock)  # replaced once the file is read
        self._path = path
        self._synchronous = synchronous
        self._min_free_disk = min_free_disk
        self._queued: list[Request] = []  # requests that the writer does not have yet
        self._queued_size = 0  # publishes in _queued
        self._expected_size = 0  # publishes to wait for before the next transaction
        self._window_wasted = False  # the last commit window brought nobody
        self._committing = False  # the writer has a transaction
        self._turn_scheduled = False  # _end_turn() will be called
        self._commit_window: TimerHandle | None = None
        self._queue: SimpleQueue[list[Request] | None] = SimpleQueue()  # None: stop
        self._thread: Thread | None = None
        self._open = False
        self._closed: Exception = Draining("the log is closed")
        self._retry_at = 0.0  # on the monotonic clock
        self._vacuum_at = 0.0  # likewise
        self._disk_check_at = 0.0  # likewise
        self._needs_vacuum = False  # there may be space to give back to the disk
        self._write_failed = False  # the last transaction failed
        self._deferred: list[Request] = []
        self._sliced: deque[SlicedRequest] = deque()
        self._finished: list[SlicedRequest] = []  # those that finished in this transaction
        self._full = False  # less than min_free_disk is left
        self.commits = Histogram()
        self._health = StorageHealth()
        self._failure: PlainmqError = StorageFailed("the disk did not take it")

    # In the event loop

    async def open(self, deliver: Deliver, group_observer: GroupObserver) -> Self:
        self._loop = get_running_loop()
        self._deliver, self._group_observer = deliver, group_observer
        opened: Future[tuple[str, int]] = self._loop.create_future()
        self._thread = Thread(target=self._run_writer, args=(opened,), name="sqlite", daemon=True)
        self._thread.start()
        self.epoch, self.head = await opened
        self._open = True
        return self

    async def close(self) -> None:
        if self._open:
            self._open = False
            while self._queued:
                self._send_to_writer()
            self._queue.put(None)
        if self._thread is not None:
            thread, self._thread = self._thread, None
            await self._loop.run_in_executor(None, thread.join)

    def _ask(self, operation: Operation[Any], reads: bool = False) -> "Future[Any]":
        return self._ask_now(operation, "read" if reads else "other")

    def _apply_eventually(self, operation: Operation[Any]) -> "Future[Any]":
        """The future is done once the disk has it, however long that takes."""
        future: Future[Any] = self._loop.create_future()
        if self._open:
            self._enqueue(Request(operation, future, "owed", 0))
        return future

    def _ask_in_slices(self, operation: Operation[Slices[Any]], reads: bool = False) -> "Future[Any]":
        future: Future[Any] = self._loop.create_future()
        return self._submit(SlicedRequest(operation, future, "read" if reads else "other"), future)

    def _ask_now(self, operation: Operation[Any], kind: Kind, size: int = 1) -> "Future[Any]":
        future: Future[Any] = self._loop.create_future()
        return self._submit(Request(operation, future, kind, size), future)

    def _submit(self, request: Request, future: "Future[Any]") -> "Future[Any]":
        if self._open:
            self._enqueue(request)
        else:
            future.set_exception(self._closed)
        return future

    def _enqueue(self, request: Request) -> None:
        self._queued.append(request)
        self._queued_size += request.size
        if not (self._committing or self._turn_scheduled):
            self._turn_scheduled = True
            self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        """Send the queued requests to the writer, unless more are expected within the commit window."""
        self._turn_scheduled = False
        if self._committing or not self._queued:
            return
        if self._queued_size >= self._expected_size or len(self._queued) >= MAX_BATCH:
            self._send_to_writer()
        elif self._commit_window is None:
            self._commit_window = self._loop.call_later(COMMIT_WINDOW, self._end_commit_window)

    def _end_commit_window(self) -> None:
        self._window_wasted = True
        self._send_to_writer()

    def _send_to_writer(self) -> None:
        if self._commit_window is not None:
            self._commit_window.cancel()
            self._commit_window = None
        requests, self._queued = self._queued[:MAX_BATCH], self._queued[MAX_BATCH:]
        self._queued_size -= _total_size(requests)
        self._committing = True
        self._queue.put(requests)

    def _on_writer_free(self, requests: Sequence[Request]) -> None:
        """The writer is free. The clients of these requests may publish again soon, so that many are expected."""
        self._committing = False
        self._expected_size = self._queued_size + (0 if self._window_wasted else _total_size(requests))
        self._window_wasted = False
        self._end_turn()

    def _carry_out(self, asked: Sequence[Request], requests: Sequence[Request], outbox: Outbox) -> None:
        """The transaction is on the disk: deliver, and answer the `requests`. `asked`: all that the writer had."""
        if asked:
            self._on_writer_free(asked)
        receivers = self._deliver(outbox.runs)
        if for_one := outbox.for_one:
            self._apply_eventually(lambda core, _now: core.resolved(receivers, for_one))
        for request in requests:
            accepted = request.answer(receivers)
            if accepted is not None and accepted.key is not None:
                self._apply_eventually(partial(_set_result, accepted.receipt(receivers), accepted.key))
        outbox.group_events.notify(self._group_observer)

    def _on_writer_failed(self, error: BaseException, requests: list[Request]) -> None:
        """The writer thread has failed by a fault of the server: refuse all requests, waiting and future ones."""
        self._open = False
        self.failures += 1
        self.unready = "the log has failed; the server must be restarted"
        self._closed = StorageFailed(self.unready)
        self._loop.call_exception_handler({"message": "the log has failed", "exception": error})
        while not self._queue.empty():
            requests += self._queue.get() or []
        for request in [*requests, *self._sliced, *self._finished, *self._queued]:
            request.fail(self._closed)
            request.answer({})

    def _publish(self, operation: Operation[Any], drafts: Sequence[Draft]) -> "Future[Any]":
        return self._ask_now(partial(self._unless_full, operation), "append", count_messages(drafts))

    def _unless_full(self, operation: Operation[T], core: LogStateMachine, now: float) -> T:
        if self._full:
            raise LogFull(f"the disk has less than {self._min_free_disk} bytes left, which min_free_disk keeps free")
        return operation(core, now)

    # In the writer thread

    def _run_writer(self, opened: "Future[tuple[str, int]]") -> None:
        try:
            sys.setswitchinterval(SWITCH_INTERVAL)
            store = Store(self._path, self._synchronous, self._limits)
        except BaseException as error:
            self._call_loop(_resolve, opened, None, error)
            return
        self._clock = LogClock(self._machine_clock, store.core.log.moment, store.newest_time())
        self._call_loop(_resolve, opened, (store.epochs.current, store.core.log.head), None)
        requests: list[Request] | None = []
        try:
            while (requests := self._next(store)) is not None:
                self._commit(store, requests)
            if self._deferred:
                self._commit(store, [])
            for request in self._sliced:
                request.fail(self._closed)
            self._call_carry_out([], [*self._sliced], store)
        except BaseException as error:
            self._call_loop(self._on_writer_failed, error, requests or [])
        finally:
            store.close()

    def _next(self, store: Store) -> list[Request] | None:
        """The next requests; an empty list if something is due; None to stop."""
        while True:
            wait = max(self._seconds_until_due(store), 0.0)
            try:
                return self._queue.get(timeout=min(wait, NAMES_CHECK_INTERVAL))
            except Empty:
                if wait <= NAMES_CHECK_INTERVAL or self._clock_has_stepped():
                    return []
            with suppress(FileReplaced):
                self._check_names(store)

    def _clock_has_stepped(self) -> bool:
        """True if the wall clock was set. It is recorded then, or the next start would take the step for elapsed
        time."""
        before = self._clock.ahead
        self._clock.read()
        return self._clock.ahead != before

    def _seconds_until_due(self, store: Store) -> float:
        """Seconds until something is due without a request."""
        if self._sliced:
            return 0.0
        due = 0.0 if store.stale else store.core.deadline - self._now()
        return max(min(due, self._vacuum_at - monotonic() if self._may_vacuum else inf), self._retry_at - monotonic())

    def _commit(self, store: Store, requests: list[Request]) -> None:
        now = self._clock.read()
        if monotonic() < self._retry_at:
            self._serve_reads_only(store, requests, now)
            return
        requests, self._deferred = [*self._deferred, *requests], []
        try:
            begun = monotonic()
            self._check_disk(store)
            tidily = self._may_vacuum and begun > self._vacuum_at
            written = store.commit(partial(self._decide, requests, now), tidily)
        except (sqlite3.Error, OSError) as error:
            self.failures += 1
            self._write_failed = True
            self._health.begins(str(error))
            self._retry_at = monotonic() + BACKOFF
            self._failure = _refusal(error)
            self._serve_reads_only(store, requests, now)
        except Exception as error:
            self._reset_sliced(requests)
            self._commit_one_by_one(store, requests, error)
        else:
            self._report_done(store, requests)
            self.commits.add(monotonic() - begun)
            if written:
                self._write_failed = False
                self._health.is_over(self._full)
            self._needs_vacuum = self._needs_vacuum or bool(requests) or store.needs_vacuum
            if tidily:
                self._vacuum(store)

    def _report_done(self, store: Store, asked: list[Request]) -> None:
        answered: list[Request] = [request for request in asked if not isinstance(request, SlicedRequest)]
        answered += self._finished
        self._finished = []
        self._call_carry_out(asked, answered, store)

    def _call_carry_out(self, asked: Sequence[Request], requests: Sequence[Request], store: Store) -> None:
        """The callbacks of earlier answers run before it: a reader of all that was there has missed nothing."""
        self._call_loop(self._loop.call_soon, self._carry_out, asked, requests, store.core.take_outbox())

    def _take_turns(self, core: LogStateMachine, now: float) -> None:
        # A slice that changes something still has to be written, so it takes a whole turn.
        take_turns(self._sliced, lambda request: self._step(request, core, now), lambda request: request.kind != "read")

    def _begin_sliced(self, request: SlicedRequest, core: LogStateMachine, now: float) -> None:
        """Start a sliced request. One that changes something runs its first slice in order with the others."""
        if request.kind == "read" or not self._step(request, core, now):
            self._sliced.append(request)

    def _step(self, request: SlicedRequest, core: LogStateMachine, now: float) -> bool:
        try:
            done = request.step(core, now)
        except sqlite3.Error:
            self._sliced.appendleft(request)
            raise
        if done:
            self._finished.append(request)
        return done

    def _reset_sliced(self, requests: list[Request]) -> None:
        """Discard partial results: all sliced requests, those in `requests` too, begin again."""
        sliced = [request for request in requests if isinstance(request, SlicedRequest)]
        slow = [*self._finished, *self._sliced, *sliced]
        self._sliced, self._finished = deque(dict.fromkeys(slow)), []

    def _commit_one_by_one(self, store: Store, requests: list[Request], error: Exception) -> None:
        """One request fails by a fault of the server: commit the others."""
        if not requests:
            raise error
        if len(requests) > 1:
            for request in requests:
                if not isinstance(request, SlicedRequest):
                    self._commit(store, [request])
        else:
            requests[0].fail(error)
            self._report_done(store, requests)

    @property
    def _may_vacuum(self) -> bool:
        """False while writing fails: each attempt would reload the state machine."""
        return self._needs_vacuum and not self._write_failed

    def _vacuum(self, store: Store) -> None:
        self._needs_vacuum = False
        with suppress(sqlite3.Error):  # it is tried again later
            self._needs_vacuum = store.file.vacuum()
        self._vacuum_at = monotonic() + (VACUUM_UNTIL if self._needs_vacuum else VACUUM_AFTER)

    def _decide(self, requests: list[Request], now: float, core: LogStateMachine) -> None:
        core.log.set_time(self._clock.ahead, self._clock.moment())
        if core.deadline <= now:
            core.pass_time(now)
        for request in requests:
            if request.kind != "append":  # consecutive appends are trimmed once
                core.trim()
            if isinstance(request, SlicedRequest):
                self._begin_sliced(request, core, now)
            else:
                request.ask(core, now)
        core.trim()
        self._take_turns(core, now)
        core.trim()

    def _check_disk(self, store: Store) -> None:
        if monotonic() >= self._disk_check_at:
            self._disk_check_at = monotonic() + DISK_CHECK_INTERVAL
            self._check_names(store)
            self._full = store.file.free_disk() < self._min_free_disk
            if self._full:
                self._health.begins(f"the disk has less than {self._min_free_disk} bytes left (min_free_disk)")

    def _check_names(self, store: Store) -> None:
        """Raises FileReplaced if the file has been moved or replaced: what is confirmed now would be in a lost file."""
        try:
            store.file.lock.check()
        except FileReplaced as error:
            self.unready = str(error)
            self._health.begins(self.unready)
            raise
        self.unready = ""

    def _serve_reads_only(self, store: Store, requests: list[Request], now: float) -> None:
        """The disk cannot be written: answer reads, and refuse everything else."""
        self._reset_sliced(requests)
        store.core.trimmer.frozen, store.core.log.ahead = True, self._clock.ahead
        for request in requests:
            if not isinstance(request, SlicedRequest):
                self._refuse(request)
                if request.kind == "read" and not store.stale:
                    with suppress(Exception):  # the failure of the disk is what is reported
                        request.ask(store.core, now)
        self._refuse_slow(store.stale)
        try:
            self._take_turns(store.core, now)
        except sqlite3.Error:
            self._refuse_slow(stale=True)
        store.core.trimmer.frozen = False
        self._deferred += [request for request in requests if request.kind == "owed"]
        self._report_done(store, requests)

    def _refuse(self, request: Request) -> None:
        request.fail(StorageFailed("the log cannot be read now") if request.kind == "read" else self._failure)

    def _refuse_slow(self, stale: bool) -> None:
        """Refuse the sliced requests that cannot go on; all of them if the state is `stale`."""
        for request in [request for request in self._sliced if stale or request.kind != "read"]:
            self._refuse(request)
            self._sliced.remove(request)
            self._finished.append(request)

    def _now(self) -> float:
        return self._clock.now()

    def _call_loop(self, act: Callable[..., object], *values: object) -> None:
        with suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(act, *values)


def _total_size(requests: Sequence[Request]) -> int:
    return sum([request.size for request in requests])


def _resolve(future: "Future[T]", value: T, error: BaseException | None) -> None:
    if not future.done():
        future.set_result(value) if error is None else future.set_exception(error)


def _set_result(receipt: Receipt, key: str, core: LogStateMachine, _now: float) -> None:
    core.deferred_result(receipt, key)


def _refusal(error: Exception) -> PlainmqError:
    """The error that clients get for a failure of the disk."""
    full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL or getattr(error, "errno", None) == ENOSPC
    if isinstance(error, FileReplaced):
        return StorageFailed(f"{error}; nothing was stored")
    if full:
        return LogFull(f"the disk is full ({error}): nothing was stored")
    return StorageFailed(f"the disk did not take it ({error}): nothing was stored; try again in a few seconds")
