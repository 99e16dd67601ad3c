"""The writer: the one thread that uses the file. It decides the requests of a batch, and commits them together."""

import sqlite3
import sys
from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import Final, TypeVar

from ...errors import Draining, StorageFailed
from ...log.state import LogStateMachine, Outbox
from ...log.topic_log import Limits
from ...telemetry.histogram import Histogram
from ..clock import Clock, LogClock
from ..turns import take_turns
from .disk_health import DiskHealth
from .file import Synchronous
from .file_lock import ForeignChange
from .request import Request, SlicedRequest
from .transactions import Store, Unconfirmed

T = TypeVar("T")

SWITCH_INTERVAL: Final = 0.0005  # seconds between switches of threads: by default each statement waits for the loop
VACUUM_INTERVAL: Final = 1.0  # seconds between attempts to give space back to the disk
NEXT_VACUUM: Final = 0.1  # likewise while there is more to give back: the time between is for requests
NAMES_CHECK_INTERVAL: Final = 1.0  # seconds between checks of the names while there is no request

OnCommitted = Callable[[Sequence[Request], Sequence[Request], Outbox], None]
"""Called in the event loop after a commit, with the batch that the writer got, the requests that have results, and the
effects to carry out."""
OnFailed = Callable[[BaseException, list[Request]], None]
"""Called in the event loop when the thread has failed by a bug, with all requests that have no results."""


class Writer:
    def __init__(
        self, limits: Limits, clock: Clock, path: Path, synchronous: Synchronous, health: DiskHealth, *,
        server_run: str,
    ) -> None:  # fmt: skip
        self.commits = Histogram()
        self._limits = limits
        self._machine_clock = clock
        self._clock = LogClock(clock)  # replaced once the file is read
        self._path = path
        self._synchronous = synchronous
        self._health = health
        self._server_run = server_run
        self._queue: SimpleQueue[list[Request] | None] = SimpleQueue()  # None: stop
        self._thread: Thread | None = None
        self._vacuum_at = 0.0  # on the monotonic clock
        self.needs_vacuum = False  # there may be space to give back to the disk
        self._effects: list[Request] = []  # requests of this kind that are not stored yet
        self._sliced: deque[SlicedRequest] = deque()
        self._finished: list[SlicedRequest] = []  # those that finished in this transaction

    # In the event loop

    def start(
        self, loop: AbstractEventLoop, on_committed: OnCommitted, on_failed: OnFailed
    ) -> "Future[tuple[str, int]]":
        """Open the file. The future has the epoch and the newest seq."""
        self._loop, self._on_committed, self._on_failed = loop, on_committed, on_failed
        opened: Future[tuple[str, int]] = loop.create_future()
        self._thread = Thread(target=self._run, args=(opened,), name="sqlite", daemon=True)
        self._thread.start()
        return opened

    def put(self, requests: list[Request] | None) -> None:
        """Process these requests; None: stop after those before."""
        self._queue.put(requests)

    async def join(self) -> None:
        """Wait until the thread has ended."""
        if self._thread is not None:
            thread, self._thread = self._thread, None
            await self._loop.run_in_executor(None, thread.join)

    def unanswered(self) -> list[Request]:
        """The requests that the thread left behind when it failed."""
        requests: list[Request] = [*self._sliced, *self._finished]
        while not self._queue.empty():
            requests += self._queue.get() or []
        return requests

    # In the thread

    def _run(self, opened: "Future[tuple[str, int]]") -> None:
        try:
            sys.setswitchinterval(SWITCH_INTERVAL)
            store = Store(self._path, self._synchronous, self._limits, self._server_run)
        except BaseException as error:
            self._call_loop(_resolve, opened, None, error)
            return
        self._clock = LogClock(self._machine_clock, store.core.log.clock.moment, store.newest_time())
        self._call_loop(_resolve, opened, (store.epochs.current, store.core.log.head), None)
        requests: list[Request] | None = []
        try:
            while (requests := self._next(store)) is not None:
                self._commit(store, requests)
            if self._effects:
                self._commit(store, [])
            for request in self._sliced:
                request.refuse(Draining("the log is closed"), "the server stopped")
            self._call_on_committed([], [*self._sliced], store)
        except BaseException as error:
            self._call_loop(self._on_failed, error, requests or [])
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
            with suppress(ForeignChange):
                self._health.check_files(store)

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
        core = store.core
        unknown = core.delayed.follows_wall_clock and core.log.clock.ahead != self._clock.ahead  # which of them are due
        due = 0.0 if store.stale or unknown else core.deadline - self._clock.now()
        vacuum = self._vacuum_at - monotonic() if self._may_vacuum else inf
        return max(min(due, vacuum), self._health.retry_at - monotonic())

    def _commit(self, store: Store, requests: list[Request]) -> None:
        now = self._clock.read()
        if monotonic() < self._health.retry_at:
            self._serve_reads_only(store, requests, now)
            return
        requests, self._effects = [*self._effects, *requests], []
        try:
            begun = monotonic()
            self._health.check(store)
            tidily = self._may_vacuum and begun > self._vacuum_at
            written = store.commit(partial(self._decide, requests, now), tidily)
        except Unconfirmed as error:
            self._mark_committed(requests)
            self._health.failed(error.change)
            self._serve_reads_only(store, requests, now)
        except (sqlite3.Error, OSError) as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_FSYNC:
                self._mark_committed(requests)  # after a crash, SQLite finds the whole transaction in the -wal
            self._health.failed(error)
            self._serve_reads_only(store, requests, now)
        except Exception as error:
            self._reset_sliced(requests)
            self._commit_one_by_one(store, requests, error)
        else:
            self._mark_committed([])
            self._report_done(store, requests)
            self.commits.add(monotonic() - begun)
            if written:
                self._health.written()
            self.needs_vacuum = self.needs_vacuum or bool(requests) or store.needs_vacuum
            if tidily:
                self._vacuum(store)

    def _mark_committed(self, requests: list[Request]) -> None:
        """These, and all sliced requests, of which at least one slice was committed."""
        for request in (*requests, *self._sliced, *self._finished):
            request.committed = True

    def _decide(self, requests: list[Request], now: float, core: LogStateMachine) -> None:
        core.log.clock.set(self._clock.ahead, self._clock.moment())
        core.catch_up(now)
        for request in requests:
            if request.kind != "append":  # consecutive appends are trimmed once
                core.trim()
                core.catch_up(now)
            if isinstance(request, SlicedRequest):
                self._begin_sliced(request, core, now)
            else:
                request.run(core, now)
        core.trim()
        core.catch_up(now)
        self._take_turns(core, now)
        core.trim()

    def _commit_one_by_one(self, store: Store, requests: list[Request], error: Exception) -> None:
        """One request has failed by a bug: commit the others."""
        if not requests:
            raise error
        if len(requests) > 1:
            for request in requests:
                if not isinstance(request, SlicedRequest):
                    self._commit(store, [request])
        else:
            requests[0].fail(error)
            self._report_done(store, requests)

    def _report_done(self, store: Store, batch: list[Request]) -> None:
        answered: list[Request] = [request for request in batch if not isinstance(request, SlicedRequest)]
        answered += self._finished
        self._finished = []
        self._call_on_committed(batch, answered, store)

    def _call_on_committed(self, batch: Sequence[Request], answered: Sequence[Request], store: Store) -> None:
        """The callbacks of earlier answers run before it: a subscriber that has read the whole log has missed
        nothing."""
        self._call_loop(self._loop.call_soon, self._on_committed, batch, answered, store.core.take_outbox())

    def _call_loop(self, act: Callable[..., object], *values: object) -> None:
        with suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(act, *values)

    # Sliced requests

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
        unfinished = [*self._finished, *self._sliced, *sliced]
        self._sliced, self._finished = deque(dict.fromkeys(unfinished)), []

    # While the disk cannot be written

    def _serve_reads_only(self, store: Store, requests: list[Request], now: float) -> None:
        """Answer reads, and refuse everything else."""
        self._reset_sliced(requests)
        store.core.log.clock.ahead = self._clock.ahead
        for request in requests:
            if not isinstance(request, SlicedRequest):
                self._refuse(request)
                if request.kind == "read" and not store.stale:
                    with suppress(Exception):  # the failure of the disk is what is reported
                        request.run(store.core, now)
        self._refuse_sliced(store.stale)
        try:
            self._take_turns(store.core, now)
        except sqlite3.Error:
            self._refuse_sliced(stale=True)
        self._effects += [request for request in requests if request.kind == "effect"]
        self._report_done(store, requests)

    def _refuse(self, request: Request) -> None:
        reads = request.kind == "read"
        unread = StorageFailed(self._health.unready or "the log cannot be read now")
        request.refuse(unread if reads else self._health.failure, self._health.why)

    def _refuse_sliced(self, stale: bool) -> None:
        """Refuse the sliced requests that cannot go on; all of them if the state is `stale`."""
        for request in [request for request in self._sliced if stale or request.kind != "read"]:
            self._refuse(request)
            self._sliced.remove(request)
            self._finished.append(request)

    # Vacuum

    @property
    def _may_vacuum(self) -> bool:
        """False while writing fails: each attempt would reload the state machine."""
        return self.needs_vacuum and not self._health.write_failed

    def _vacuum(self, store: Store) -> None:
        self.needs_vacuum = False
        with suppress(sqlite3.Error, ForeignChange):  # it is tried again later, or the next commit fails
            self.needs_vacuum = store.file.vacuum()
        self._vacuum_at = monotonic() + (NEXT_VACUUM if self.needs_vacuum else VACUUM_INTERVAL)


def _resolve(future: "Future[T]", value: T, error: BaseException | None) -> None:
    if not future.done():
        future.set_result(value) if error is None else future.set_exception(error)
