"""The log in a SQLite file: it survives the process. One thread does everything with the file, in the order of asking.

    verb ─▶ queue ─▶ writer thread: all that waits, in ONE transaction ─▶ COMMIT ─▶ event loop: deliver, then answer

What comes while a commit is under way makes up the next one, so that many publishers share the disk's time. Nothing is
delivered or answered before the disk has it; if it fails, all that was in the transaction is refused and undone.
"""

import sqlite3
import sys
from asyncio import Future, get_running_loop
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from errno import ENOSPC
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any, Final, Literal, Self, TypeVar

from ..core import Accepted, Core, Outbox
from ..disk.file import Synchronous
from ..disk.store import Store
from ..errors import Draining, LogFull, PlainmqError, StorageFailed
from ..groups import Works
from ..message import Draft, Receipt, Scheduled
from ..topiclog import Limits
from .base import Deliver
from .local import LocalEngine, Question

T = TypeVar("T")
Kind = Literal["append", "read", "other"]

TOGETHER: Final = 1_000  # verbs in one transaction: more would gain little, and the first would wait long
LONGEST_WAIT: Final = 60.0  # seconds without looking at what is due
SWITCH: Final = 0.0005  # seconds: how soon one thread lets another go on, or a statement would wait for the event loop
TIDY: Final = 1.0  # seconds between two looks at what may be given back to the disk
COOL: Final = 1.0  # seconds without another attempt to write, after the disk failed


class Verb:
    """A question to the core, and who waits for the answer."""

    __slots__ = ("_error", "_future", "_question", "_value", "kind")

    def __init__(self, question: Question[Any], future: "Future[Any] | None" = None, kind: Kind = "other") -> None:
        self.kind = kind
        self._question = question
        self._future = future
        self._value: Any = None
        self._error: BaseException | None = None

    def ask(self, core: Core, now: float) -> None:
        try:
            self._value, self._error = self._question(core, now), None
        except PlainmqError as error:
            self._error = error

    def fail(self, error: BaseException) -> None:
        self._error = error

    def answer(self, readers: Mapping[int, int]) -> Accepted | None:
        """Tell who waits, when it is known to how many each message (by seq) was handed. Returns what was accepted."""
        future, value = self._future, self._value
        if future is None or future.done():
            return None
        if self._error is not None:
            future.set_exception(self._error)
            return None
        accepted = isinstance(value, Accepted)
        future.set_result(value.receipt(readers) if accepted else value)
        return value if accepted else None


class SqliteEngine(LocalEngine):
    def __init__(
        self, limits: Limits, clock: Callable[[], float], path: Path, synchronous: Synchronous = "full",
        min_free_disk: int = 0,
    ) -> None:  # fmt: skip
        """`clock` answers Unix seconds and never steps back while this runs. Below `min_free_disk` bytes on the disk,
        publishes are refused."""
        self.durability = "disk" if synchronous == "full" else "disk:relaxed"
        self.epoch = ""  # until it is opened
        self._limits = limits
        self._clock = clock
        self._path = path
        self._synchronous = synchronous
        self._min_free_disk = min_free_disk
        self._queue: SimpleQueue[Verb | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._offset = 0.0  # seconds that our clock is behind the newest message
        self._open = False
        self._closed: Exception = Draining("the log is closed")
        self._cool_until = 0.0  # on the monotonic clock
        self._tidy_at = 0.0  # likewise
        self._full = False  # the disk, to its floor
        self._failure: PlainmqError = StorageFailed("the disk did not take it")

    # The event loop's side

    async def open(self, deliver: Deliver, works: Works) -> Self:
        self._loop = get_running_loop()
        self._deliver, self._works = deliver, works
        opened: Future[Store] = self._loop.create_future()
        self._thread = Thread(target=self._run, args=(opened,), name="sqlite", daemon=True)
        self._thread.start()
        store = await opened
        self.epoch, self.head = store.epochs.current, store.core.log.head
        self._open = True
        return self

    async def close(self) -> None:
        if self._open:
            self._open = False
            self._queue.put(None)
        if self._thread is not None:
            thread, self._thread = self._thread, None
            await self._loop.run_in_executor(None, thread.join)

    def _ask(self, question: Question[Any], reads: bool = False) -> "Future[Any]":
        return self._put(question, "read" if reads else "other")

    def _put(self, question: Question[Any], kind: Kind) -> "Future[Any]":
        future: Future[Any] = self._loop.create_future()
        if self._open:
            self._queue.put(Verb(question, future, kind))
        else:
            future.set_exception(self._closed)
        return future

    def _carry_out(self, verbs: Sequence[Verb], outbox: Outbox) -> None:
        """It is on the disk: what was decided happens."""
        readers = {message.seq: self._deliver(message) for message in outbox.messages}
        if for_one := outbox.for_one:
            self._queue.put(Verb(lambda core, _now: core.handed(readers, for_one)))
        for verb in verbs:
            accepted = verb.answer(readers)
            if accepted is not None and accepted.key is not None:
                self._queue.put(Verb(partial(_told, accepted.receipt(readers), accepted.key)))
        outbox.news.tell(self._works)

    def _died(self, error: BaseException) -> None:
        """The writer thread has a fault: nothing more can be asked, and who asked is told."""
        self._open = False
        self._closed = StorageFailed("the log has failed; the server must be started anew")
        self._loop.call_exception_handler({"message": "the log has failed", "exception": error})
        with suppress(Empty):
            while True:
                if verb := self._queue.get_nowait():
                    verb.fail(self._closed)
                    verb.answer({})

    def append(self, drafts: Sequence[Draft]) -> Future[Receipt | Scheduled]:
        return self._put(partial(self._append, drafts), "append")

    def _append(self, drafts: Sequence[Draft], core: Core, now: float) -> Accepted | Receipt | Scheduled:
        if self._full:
            raise LogFull(f"the disk has less than {self._min_free_disk} bytes left, which min_free_disk keeps free")
        return core.append(drafts, now)

    # The writer thread's side

    def _run(self, opened: "Future[Store]") -> None:
        try:
            sys.setswitchinterval(SWITCH)
            store = Store(self._path, self._synchronous, self._limits)
        except BaseException as error:
            self._tell(_resolve, opened, None, error)
            return
        self._offset = max(store.newest_time() - self._clock(), 0.0)
        self._tell(_resolve, opened, store, None)
        try:
            while (verbs := self._next(store)) is not None:
                self._do(store, verbs)
        except BaseException as error:
            self._tell(self._died, error)
        finally:
            store.close()

    def _next(self, store: Store) -> list[Verb] | None:
        """All that waits, once something does or is due; None at the end."""
        verbs: list[Verb] = []
        try:
            wait = min(max(store.core.deadline - self._now(), self._cool_until - monotonic(), 0.0), LONGEST_WAIT)
            verb = self._queue.get(timeout=wait)
            while verb is not None:
                verbs.append(verb)
                if len(verbs) == TOGETHER:
                    return verbs
                verb = self._queue.get_nowait()
        except Empty:
            return verbs
        if verbs:  # the end comes after them
            self._queue.put(None)
        return verbs or None

    def _do(self, store: Store, verbs: list[Verb]) -> None:
        now = self._now()
        if monotonic() < self._cool_until:
            self._do_what_reads(store, verbs, now)
            return
        try:
            store.commit(partial(self._decide, store, verbs, now))
        except (sqlite3.Error, OSError) as error:
            self._cool_until = monotonic() + COOL
            self._failure = _refusal(error)
            self._do_what_reads(store, verbs, now)
        except Exception as error:
            for verb in verbs:
                verb.fail(error)
            self._tell(self._carry_out, verbs, store.core.take_outbox())
        else:
            self._tell(self._carry_out, verbs, store.core.take_outbox())
            self._tidy(store)

    def _tidy(self, store: Store) -> None:
        if monotonic() > self._tidy_at:
            self._tidy_at = monotonic() + TIDY
            with suppress(sqlite3.Error):  # another time, then
                store.file.vacuum()

    def _decide(self, store: Store, verbs: list[Verb], now: float, core: Core) -> None:
        self._full = store.file.free_disk() < self._min_free_disk
        if core.deadline <= now:
            core.pass_time(now)
        for verb in verbs:
            if verb.kind != "append":  # topics are held to their retention once for all appends in a row
                core.trim()
            verb.ask(core, now)
        core.trim()

    def _do_what_reads(self, store: Store, verbs: list[Verb], now: float) -> None:
        """The disk takes nothing: what can be read is, and all else is refused."""
        store.core.log.frozen = True
        for verb in verbs:
            try:
                if store.stale or verb.kind != "read":
                    raise self._failure
                verb.ask(store.core, now)
            except (sqlite3.Error, PlainmqError):
                verb.fail(self._failure)
        store.core.log.frozen = False
        self._tell(self._carry_out, verbs, store.core.take_outbox())

    def _now(self) -> float:
        return self._clock() + self._offset

    def _tell(self, act: Callable[..., None], *values: object) -> None:
        with suppress(RuntimeError):  # the event loop is closed: nobody listens
            self._loop.call_soon_threadsafe(act, *values)


def _resolve(future: "Future[T]", value: T, error: BaseException | None) -> None:
    if not future.done():
        future.set_result(value) if error is None else future.set_exception(error)


def _told(receipt: Receipt, key: str, core: Core, _now: float) -> None:
    core.told(receipt, key)


def _refusal(error: Exception) -> PlainmqError:
    """What a failure of the disk means to who asked."""
    full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL or getattr(error, "errno", None) == ENOSPC
    if full:
        return LogFull(f"the disk is full ({error}): nothing was stored")
    return StorageFailed(f"the disk did not take it ({error}): nothing was stored; try again in a few seconds")
