"""The log in a SQLite file: it survives the process. One thread does everything with the file, in the order of asking.

    verbs ─▶ writer thread: all that wait, in ONE transaction ─▶ COMMIT ─▶ event loop: deliver, then answer

What comes while a commit is under way makes up the next one, together with those who were answered last if they are
back in a moment: so many publishers share the disk's time, and readers get many messages in one write. Nothing is
delivered or answered before the disk has it; if it fails, all that was in the transaction is refused and undone.
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
from ..local import LocalEngine, Question, Sliced, take_turns
from .file import Synchronous
from .file_lock import Displaced
from .transactions import Store

T = TypeVar("T")
Kind = Literal["append", "read", "owed", "other"]
"""`owed`: what has happened already, so that it is written as soon as the disk takes it, and never refused."""

MAX_BATCH: Final = 1_000  # verbs after which a transaction takes no more: it would gain little, and the first waits
COMMIT_WINDOW: Final = 0.004  # seconds to wait for those who were answered last, not twice running in vain
SWITCH: Final = 0.0005  # seconds: how soon one thread lets another go on, or a statement would wait for the event loop
VACUUM_AFTER: Final = 1.0  # seconds between two looks at what may be given back to the disk
VACUUM_UNTIL: Final = 0.1  # likewise when there was something: the rest of the time is for others
LOOK: Final = 0.05  # seconds between two looks at the disk and at the file's names: each takes as long as a message
WATCH: Final = 1.0  # likewise at the names when nobody asks for anything
BACKOFF: Final = 1.0  # seconds without another attempt to write, after the disk failed


class StorageHealth:
    """The disk takes nothing: told once when that begins, and once when it is over."""

    def __init__(self) -> None:
        self._since: float | None = None

    def begins(self, why: str) -> None:
        if self._since is None:
            self._since = monotonic()
            log_event("storage failed", ERROR, why=why)

    def is_over(self, full: bool) -> None:
        """A transaction was written; `full`: what is published is refused all the same."""
        if self._since is not None and not full:
            log_event("storage recovered", seconds=monotonic() - self._since)
            self._since = None


class Request:
    """A question to the core, and who waits for the answer."""

    __slots__ = ("_error", "_future", "_question", "_value", "kind", "size")

    def __init__(
        self, question: Question[Any], future: "Future[Any] | None" = None, kind: Kind = "other", size: int = 1
    ) -> None:
        """`size`: how many ask, if they asked together."""
        self.kind = kind
        self.size = size
        self._question = question
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

    def answer(self, readers: Mapping[int, int]) -> Accepted | PartialResult | None:
        """Tell who waits, when it is known to how many each message (by seq) was handed. Returns what was accepted."""
        future, value = self._future, self._value
        if future is None or future.done():
            return None
        if self._error is not None:
            if self.kind != "owed":  # then it is asked again
                future.set_exception(self._error)
            return None
        accepted = isinstance(value, DEFERRED)
        future.set_result(value.receipt(readers) if accepted else value)
        return value if accepted else None


class SlowVerb(Request):
    """One that is answered in slices."""

    __slots__ = ("_sliced",)

    def __init__(self, question: Question[Slices[Any]], future: "Future[Any]", kind: Kind) -> None:
        self._sliced = Sliced(question)
        super().__init__(self._sliced.step, future, kind)

    def step(self, core: LogStateMachine, now: float) -> bool:
        """Whether that was the last slice."""
        try:
            self.ask(core, now)
        except sqlite3.Error:
            raise
        except Exception as error:  # a fault of ours: the others shall not suffer
            self._error = error
        if self._error is None and not self._value:
            return False
        self._value = None if self._error else self._sliced.value
        return True


class SqliteEngine(LocalEngine):
    def __init__(
        self, limits: Limits, clock: Clock, path: Path, synchronous: Synchronous = "full", min_free_disk: int = 0
    ) -> None:
        """Below `min_free_disk` bytes on the disk, publishes are refused."""
        self.durability = "disk" if synchronous == "full" else "disk:relaxed"
        self.epoch = ""  # until it is opened
        self._limits = limits
        self._machine = clock
        self._clock = LogClock(clock)  # until it is known where the log's own was
        self._path = path
        self._synchronous = synchronous
        self._min_free_disk = min_free_disk
        self._asked: list[Request] = []  # and not with the writer yet
        self._askers = 0  # in there
        self._hoped = 0  # how many are worth a transaction now
        self._in_vain = False  # who was hoped for did not come
        self._busy = False  # the writer is with a transaction
        self._turn = False  # at its end somebody looks at what was asked
        self._patience: TimerHandle | None = None
        self._queue: SimpleQueue[list[Request] | None] = SimpleQueue()  # None: the end
        self._thread: Thread | None = None
        self._open = False
        self._closed: Exception = Draining("the log is closed")
        self._cool_until = 0.0  # on the monotonic clock
        self._tidy_at = 0.0  # likewise
        self._look_at = 0.0  # likewise
        self._untidy = False  # there may be something to give back
        self._refused = False  # the disk did not take what was written last
        self._owed: list[Request] = []
        self._slow: deque[SlowVerb] = deque()
        self._answered: list[SlowVerb] = []  # among them, in this transaction
        self._full = False  # the disk, to its floor
        self.commits = Histogram()
        self._trouble = StorageHealth()
        self._failure: PlainmqError = StorageFailed("the disk did not take it")

    # The event loop's side

    async def open(self, deliver: Deliver, works: GroupObserver) -> Self:
        self._loop = get_running_loop()
        self._deliver, self._works = deliver, works
        opened: Future[tuple[str, int]] = self._loop.create_future()
        self._thread = Thread(target=self._run, args=(opened,), name="sqlite", daemon=True)
        self._thread.start()
        self.epoch, self.head = await opened
        self._open = True
        return self

    async def close(self) -> None:
        if self._open:
            self._open = False
            while self._asked:
                self._hand_over()
            self._queue.put(None)
        if self._thread is not None:
            thread, self._thread = self._thread, None
            await self._loop.run_in_executor(None, thread.join)

    def _ask(self, question: Question[Any], reads: bool = False) -> "Future[Any]":
        return self._ask_now(question, "read" if reads else "other")

    def _owe(self, question: Question[Any]) -> "Future[Any]":
        """The future is done when the disk has taken it, however long that takes."""
        future: Future[Any] = self._loop.create_future()
        if self._open:
            self._add(Request(question, future, "owed", 0))
        return future

    def _ask_in_slices(self, question: Question[Slices[Any]], reads: bool = False) -> "Future[Any]":
        future: Future[Any] = self._loop.create_future()
        return self._put(SlowVerb(question, future, "read" if reads else "other"), future)

    def _ask_now(self, question: Question[Any], kind: Kind, size: int = 1) -> "Future[Any]":
        future: Future[Any] = self._loop.create_future()
        return self._put(Request(question, future, kind, size), future)

    def _put(self, verb: Request, future: "Future[Any]") -> "Future[Any]":
        if self._open:
            self._add(verb)
        else:
            future.set_exception(self._closed)
        return future

    def _add(self, verb: Request) -> None:
        self._asked.append(verb)
        self._askers += verb.size
        if not (self._busy or self._turn):
            self._turn = True
            self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        """Give the writer what was asked, unless more askers are worth a moment of patience."""
        self._turn = False
        if self._busy or not self._asked:
            return
        if self._askers >= self._hoped or len(self._asked) >= MAX_BATCH:
            self._hand_over()
        elif self._patience is None:
            self._patience = self._loop.call_later(COMMIT_WINDOW, self._hope_no_more)

    def _hope_no_more(self) -> None:
        self._in_vain = True
        self._hand_over()

    def _hand_over(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        verbs, self._asked = self._asked[:MAX_BATCH], self._asked[MAX_BATCH:]
        self._askers -= _size(verbs)
        self._busy = True
        self._queue.put(verbs)

    def _done(self, verbs: Sequence[Request]) -> None:
        """The writer is free. Who asked these may be back soon, unless they were not the last time."""
        self._busy = False
        self._hoped = self._askers + (0 if self._in_vain else _size(verbs))
        self._in_vain = False
        self._end_turn()

    def _carry_out(self, asked: Sequence[Request], verbs: Sequence[Request], outbox: Outbox) -> None:
        """It is on the disk: what was decided happens, and `verbs` are answered. `asked`: all that the writer had."""
        if asked:
            self._done(asked)
        readers = self._deliver(outbox.runs)
        if for_one := outbox.for_one:
            self._owe(lambda core, _now: core.resolved(readers, for_one))
        for verb in verbs:
            accepted = verb.answer(readers)
            if accepted is not None and accepted.key is not None:
                self._owe(partial(_told, accepted.receipt(readers), accepted.key))
        outbox.group_events.notify(self._works)

    def _died(self, error: BaseException, verbs: list[Request]) -> None:
        """The writer thread has a fault: nothing more can be asked, and who asked is told."""
        self._open = False
        self.failures += 1
        self.unready = "the log has failed; the server must be started anew"
        self._closed = StorageFailed(self.unready)
        self._loop.call_exception_handler({"message": "the log has failed", "exception": error})
        while not self._queue.empty():
            verbs += self._queue.get() or []
        for verb in [*verbs, *self._slow, *self._answered, *self._asked]:
            verb.fail(self._closed)
            verb.answer({})

    def _publish(self, question: Question[Any], drafts: Sequence[Draft]) -> "Future[Any]":
        return self._ask_now(partial(self._unless_full, question), "append", count_messages(drafts))

    def _unless_full(self, question: Question[T], core: LogStateMachine, now: float) -> T:
        if self._full:
            raise LogFull(f"the disk has less than {self._min_free_disk} bytes left, which min_free_disk keeps free")
        return question(core, now)

    # The writer thread's side

    def _run(self, opened: "Future[tuple[str, int]]") -> None:
        try:
            sys.setswitchinterval(SWITCH)
            store = Store(self._path, self._synchronous, self._limits)
        except BaseException as error:
            self._tell(_resolve, opened, None, error)
            return
        self._clock = LogClock(self._machine, store.core.log.moment, store.newest_time())
        self._tell(_resolve, opened, (store.epochs.current, store.core.log.head), None)
        verbs: list[Request] | None = []
        try:
            while (verbs := self._next(store)) is not None:
                self._do(store, verbs)
            if self._owed:
                self._do(store, [])
            for verb in self._slow:
                verb.fail(self._closed)
            self._tell(self._carry_out, [], [*self._slow], store.core.take_outbox())
        except BaseException as error:
            self._tell(self._died, error, verbs or [])
        finally:
            store.close()

    def _next(self, store: Store) -> list[Request] | None:
        """What waits, once something does; nothing when something is due; None at the end."""
        while True:
            wait = max(self._due(store), 0.0)
            try:
                return self._queue.get(timeout=min(wait, WATCH))
            except Empty:
                if wait <= WATCH or self._clock_has_stepped():
                    return []
            with suppress(Displaced):
                self._look_at_names(store)

    def _clock_has_stepped(self) -> bool:
        """Then it is noted, or the next life might take the step for time that has passed."""
        before = self._clock.ahead
        self._clock.look()
        return self._clock.ahead != before

    def _due(self, store: Store) -> float:
        """Seconds until there is something to do that nobody asks for."""
        if self._slow:
            return 0.0
        due = 0.0 if store.stale else store.core.deadline - self._now()
        return max(min(due, self._tidy_at - monotonic() if self._vacuums else inf), self._cool_until - monotonic())

    def _do(self, store: Store, verbs: list[Request]) -> None:
        now = self._clock.look()
        if monotonic() < self._cool_until:
            self._do_what_reads(store, verbs, now)
            return
        verbs, self._owed = [*self._owed, *verbs], []
        try:
            begun = monotonic()
            self._look_at_disk(store)
            tidily = self._vacuums and begun > self._tidy_at
            written = store.commit(partial(self._decide, verbs, now), tidily)
        except (sqlite3.Error, OSError) as error:
            self.failures += 1
            self._refused = True
            self._trouble.begins(str(error))
            self._cool_until = monotonic() + BACKOFF
            self._failure = _refusal(error)
            self._do_what_reads(store, verbs, now)
        except Exception as error:
            self._take_back(verbs)
            self._do_one_by_one(store, verbs, error)
        else:
            self._tell_done(store, verbs)
            self.commits.add(monotonic() - begun)
            if written:
                self._refused = False
                self._trouble.is_over(self._full)
            self._untidy = self._untidy or bool(verbs) or store.needs_vacuum
            if tidily:
                self._vacuum(store)

    def _tell_done(self, store: Store, asked: list[Request]) -> None:
        answered: list[Request] = [verb for verb in asked if not isinstance(verb, SlowVerb)]
        answered += self._answered
        self._answered = []
        self._tell(self._carry_out, asked, answered, store.core.take_outbox())

    def _take_turns(self, core: LogStateMachine, now: float) -> None:
        # What changes something has yet to be written when its slice is over.
        take_turns(self._slow, lambda verb: self._step(verb, core, now), lambda verb: verb.kind != "read")

    def _begin(self, verb: SlowVerb, core: LogStateMachine, now: float) -> None:
        """What changes something does so at its place among the others."""
        if verb.kind == "read" or not self._step(verb, core, now):
            self._slow.append(verb)

    def _step(self, verb: SlowVerb, core: LogStateMachine, now: float) -> bool:
        try:
            done = verb.step(core, now)
        except sqlite3.Error:
            self._slow.appendleft(verb)
            raise
        if done:
            self._answered.append(verb)
        return done

    def _take_back(self, verbs: list[Request]) -> None:
        """What was found out counts for nothing: the slow ones, of these too, begin anew."""
        slow = [*self._answered, *self._slow, *(verb for verb in verbs if isinstance(verb, SlowVerb))]
        self._slow, self._answered = deque(dict.fromkeys(slow)), []

    def _do_one_by_one(self, store: Store, verbs: list[Request], error: Exception) -> None:
        """One of them has a fault of ours: the others shall not suffer."""
        if not verbs:
            raise error
        if len(verbs) > 1:
            for verb in verbs:
                if not isinstance(verb, SlowVerb):
                    self._do(store, [verb])
        else:
            verbs[0].fail(error)
            self._tell_done(store, verbs)

    @property
    def _vacuums(self) -> bool:
        """Not while the disk takes nothing: each attempt would make the core anew."""
        return self._untidy and not self._refused

    def _vacuum(self, store: Store) -> None:
        self._untidy = False
        with suppress(sqlite3.Error):  # another time, then
            self._untidy = store.file.vacuum()
        self._tidy_at = monotonic() + (VACUUM_UNTIL if self._untidy else VACUUM_AFTER)

    def _decide(self, verbs: list[Request], now: float, core: LogStateMachine) -> None:
        core.log.set_time(self._clock.ahead, self._clock.moment())
        if core.deadline <= now:
            core.pass_time(now)
        for verb in verbs:
            if verb.kind != "append":  # topics are held to their retention once for all appends in a row
                core.trim()
            if isinstance(verb, SlowVerb):
                self._begin(verb, core, now)
            else:
                verb.ask(core, now)
        core.trim()
        self._take_turns(core, now)
        core.trim()

    def _look_at_disk(self, store: Store) -> None:
        if monotonic() >= self._look_at:
            self._look_at = monotonic() + LOOK
            self._look_at_names(store)
            self._full = store.file.free_disk() < self._min_free_disk
            if self._full:
                self._trouble.begins(f"the disk has less than {self._min_free_disk} bytes left (min_free_disk)")

    def _look_at_names(self, store: Store) -> None:
        """Raises Displaced; then what would be confirmed now might be in a file that nobody finds again."""
        try:
            store.file.held.look()
        except Displaced as error:
            self.unready = str(error)
            self._trouble.begins(self.unready)
            raise
        self.unready = ""

    def _do_what_reads(self, store: Store, verbs: list[Request], now: float) -> None:
        """The disk takes nothing: what can be read is, and all else is refused."""
        self._take_back(verbs)
        store.core.trimmer.frozen, store.core.log.ahead = True, self._clock.ahead
        for verb in verbs:
            if not isinstance(verb, SlowVerb):
                self._refuse(verb)
                if verb.kind == "read" and not store.stale:
                    with suppress(Exception):  # whatever it is, the disk is the first thing to see to
                        verb.ask(store.core, now)
        self._refuse_slow(store.stale)
        try:
            self._take_turns(store.core, now)
        except sqlite3.Error:
            self._refuse_slow(stale=True)
        store.core.trimmer.frozen = False
        self._owed += [verb for verb in verbs if verb.kind == "owed"]
        self._tell_done(store, verbs)

    def _refuse(self, verb: Request) -> None:
        verb.fail(StorageFailed("the log cannot be read now") if verb.kind == "read" else self._failure)

    def _refuse_slow(self, stale: bool) -> None:
        """Those that cannot go on: `stale`, that is all."""
        for verb in [verb for verb in self._slow if stale or verb.kind != "read"]:
            self._refuse(verb)
            self._slow.remove(verb)
            self._answered.append(verb)

    def _now(self) -> float:
        return self._clock.now()

    def _tell(self, act: Callable[..., None], *values: object) -> None:
        with suppress(RuntimeError):  # the event loop is closed: nobody listens
            self._loop.call_soon_threadsafe(act, *values)


def _size(verbs: Sequence[Request]) -> int:
    return sum([verb.size for verb in verbs])


def _resolve(future: "Future[T]", value: T, error: BaseException | None) -> None:
    if not future.done():
        future.set_result(value) if error is None else future.set_exception(error)


def _told(receipt: Receipt, key: str, core: LogStateMachine, _now: float) -> None:
    core.deferred_result(receipt, key)


def _refusal(error: Exception) -> PlainmqError:
    """What a failure of the disk means to who asked."""
    full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL or getattr(error, "errno", None) == ENOSPC
    if isinstance(error, Displaced):
        return StorageFailed(f"{error}; nothing was stored")
    if full:
        return LogFull(f"the disk is full ({error}): nothing was stored")
    return StorageFailed(f"the disk did not take it ({error}): nothing was stored; try again in a few seconds")
