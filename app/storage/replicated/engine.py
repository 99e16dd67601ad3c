"""The replicated engine: the log is a journal that many nodes share.

    commands of one turn of the event loop ─▶ ONE entry ─▶ journal ─▶ every node: fold, deliver ─▶ this node: answer

Questions are answered by this node alone. One that was asked behind commands of this node is answered behind them. If
something is due, a Tick goes first, since nothing may change here that does not change everywhere.
"""

import asyncio
from asyncio import Future, Task, TimerHandle
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from logging import WARNING
from time import monotonic
from typing import Any, Final, Self, TypeVar

from ...errors import Behind, PlainmqError
from ...log.accepted import DEFERRED
from ...log.commands.begin_epoch import BeginEpoch
from ...log.commands.command import Command
from ...log.commands.delivery import GiveBack
from ...log.commands.publishing import SetResult
from ...log.commands.tick import Tick
from ...log.epochs import Epochs, new_epoch
from ...log.groups.events import GroupObserver
from ...log.groups.listing import JobPage, JobQuery
from ...log.groups.state import GroupState
from ...log.reading import Page, Reading
from ...log.run import Run
from ...log.schedule import ScheduledPublish
from ...log.slices import Slices
from ...log.snapshot.snapshot import SnapshotInvalid
from ...log.state import LogStateMachine, Outbox
from ...log.store import MemoryMessageStore
from ...log.topic_log import Limits, TopicState
from ...messages.attendance import NOBODY, Attendance
from ...messages.message import ONE, Id, Message, Receipt
from ...messages.position import Cursor, Start
from ...messages.scheduled_id import ScheduledId
from ...messages.topic import TopicFilter
from ...telemetry.histogram import Histogram
from ...telemetry.log import log_event
from ..clock import Clock
from ..engine import Deliver, ignore_unclaimed
from ..local import LocalEngine
from ..timer import DeadlineTimer
from ..turns import TURN_SECONDS, Operation, Turns
from ..unusable import StoreUnusable
from .batch import new_link
from .contents import encode
from .fold import Fold, Fork
from .fold_snapshot import FoldLoader
from .freshness import Freshness
from .journal import Entry, Journal, JournalLost
from .other_nodes import OtherNodes
from .outgoing import Outgoing
from .sessions import SESSION
from .snapshots import Snapshots
from .taking import take_from

TICK_PAUSE: Final = 0.05  # seconds between two Ticks of this node, while the first is on its way
TICK_SPREAD: Final = 0.05  # seconds: nodes that wait for the same deadline do not all append a Tick
RENEWALS: Final = 5  # in the time after which a session ends: some may be late
BYE_TIMEOUT: Final = 1.0  # seconds for the last entry: without it, others wait for the end of the session
RECONNECT: Final = 0.2  # seconds between attempts to reach the journal

T = TypeVar("T")


class ReplicatedEngine(LocalEngine):
    is_shared = True

    def __init__(self, limits: Limits, clock: Clock, journal: Journal) -> None:
        self.durability = journal.durability
        self.commits = Histogram()
        self._limits = limits
        self._journal = journal
        self._snapshots = Snapshots(journal)
        self._steady = clock.steady
        self._freshness = Freshness(journal)
        self._fold = Fold(LogStateMachine(limits, Epochs(""), MemoryMessageStore()))
        self._server_run = new_epoch()
        self.elsewhere = self._others = OtherNodes(lambda: self._fold.sessions, self._server_run)
        self._offset = 0.0  # of the journal's clock to this node's steady one
        self._turns = Turns(lambda slice, _reads: slice(self._core, self._now()))
        self._timer = DeadlineTimer(self._now, self._on_due, TICK_SPREAD)
        self._follower: Task[None] | None = None
        self._ready: Future[None] | None = None
        self._renewal: TimerHandle | None = None
        self._failures = 0

    @property
    def epoch(self) -> str:  # type: ignore[override]
        return self._core.log.epochs.current

    @property
    def _core(self) -> LogStateMachine:
        return self._fold.core

    async def open(
        self, deliver: Deliver, group_observer: GroupObserver, offer_unclaimed: Callable[[str], None] = ignore_unclaimed
    ) -> Self:
        self._loop = asyncio.get_running_loop()
        self._deliver, self._group_observer, self._offer_unclaimed = deliver, group_observer, offer_unclaimed
        self._outgoing = Outgoing(self._loop, self._journal.append, self._server_run)
        self._ready = self._loop.create_future()
        self._follower = self._loop.create_task(self._follow())
        self._follower.add_done_callback(self._on_follower_ended)
        await self._ready
        return self

    async def close(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
        if self._follower is not None:
            await self._say_bye()
            self._follower.cancel()
            await asyncio.wait([self._follower])
            self._follower = None
        await self._snapshots.close()
        self._timer.stop()
        self._outgoing.lose()
        self._freshness.close()
        self._turns.close()
        await self._journal.close()

    async def _say_bye(self) -> None:
        """End the session, so that other nodes need not wait for its end."""
        if not self._outgoing.lost:
            bye = encode(self._server_run, [], bye=True)
            with suppress(JournalLost, PlainmqError, TimeoutError):
                await asyncio.wait_for(self._journal.append(new_link(), bye), BYE_TIMEOUT)

    # Following the journal

    async def _follow(self) -> None:
        """Carry out all entries, for ever."""
        while True:
            try:
                await self._follow_once()
            except JournalLost:
                self._failures += not self._outgoing.lost
                self._outgoing.lose()
            except Fork:
                self._outgoing.lose()
                self._start_again()
            await asyncio.sleep(RECONNECT)

    async def _follow_once(self) -> None:
        head = await self._journal.open()
        if not head.begun:
            await self._journal.begin(head, new_link(), encode(self._server_run, [BeginEpoch(new_epoch())]))
            head = await self._journal.open()
        if not self._fold.number:
            await self._load_snapshot()
        if self._fold.is_ahead_of(head):
            raise Fork(f"the journal ends with entry {head.number}, and entry {self._fold.number} was carried out")
        if self._fold.number == head.number:
            self._become_ready()
        async for entries in self._journal.tail(self._fold.number):
            for entry in entries:
                await self._carry_out(entry)
            if self._outgoing.lost and self._fold.number >= head.number:
                self._become_ready()

    async def _load_snapshot(self) -> None:
        """Raises JournalLost, StoreUnusable."""
        if (snapshot := await self._journal.load_snapshot()) is None:
            return
        loader = FoldLoader(self._limits)
        try:
            async for chunk in snapshot.chunks:
                await self._whole(loader.feed(chunk))
            self._fold = loader.finish()
        except SnapshotInvalid as error:
            raise StoreUnusable(f"the log cannot be read from the journal: {error}") from error

    def _become_ready(self) -> None:
        self._outgoing.resume()
        if self._ready is not None and not self._ready.done():
            self.head = self._core.log.head
            self._ready.set_result(None)
            self.on_replaced()
        if self._renewal is None:
            self._renew()
        self._timer.set(self._fold.deadline)

    def _start_again(self) -> None:
        """The journal does not go on from what was carried out here: entries were lost. Carry out all that it has."""
        log_event("the journal has lost entries that this server had carried out", WARNING, entry=self._fold.number)
        self._timer.stop()
        self._fold = Fold(LogStateMachine(self._limits, Epochs(""), MemoryMessageStore()))
        if self._ready is None or self._ready.done():
            self._ready = self._loop.create_future()

    @property
    def failures(self) -> int:
        return self._failures

    @property
    def unready(self) -> str:
        return "" if self._ready is None or self._ready.done() else "the log is read again after a loss"

    def _on_follower_ended(self, task: "Task[None]") -> None:
        """A fault in the fold: this node can never go on."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._outgoing.lose()
            if self._ready is not None and not self._ready.done():
                self._ready.set_exception(error)
            else:
                self._loop.call_exception_handler({"message": "the log has failed", "exception": error})

    async def _carry_out(self, entry: Entry) -> None:
        self._offset = entry.time - self._steady()
        results = await self._whole(self._fold.carry_out(entry))
        self._freshness.carried_out(entry.number)
        batch = self._outgoing.arrived(entry.link)  # not before: after a Fork, lose() fails what is on its way
        outbox = self._core.take_outbox()
        self._snapshots.count(entry)
        if self._ready is None or not self._ready.done():
            return
        receivers = self._deliver(_own_part(outbox, own=batch is not None))
        outbox.group_events.notify(self._group_observer)
        for topic in outbox.unclaimed:
            self._offer_unclaimed(topic)
        if batch is not None:
            if undelivered := outbox.undelivered(receivers):
                self._do(GiveBack(undelivered))
            self._others.add_to(receivers, outbox.runs)
            batch.results = [self._answer(result, receivers) for result in results]
            batch.answer()
            batch.ask()
        if self._snapshots.is_due:
            await self._snapshots.make(self._fold)
        self._timer.set(self._fold.deadline)

    def _answer(self, result: Any, receivers: Mapping[int, int]) -> Any:
        if not isinstance(result, DEFERRED):
            return result
        receipt = result.receipt(receivers)
        if isinstance(receipt, Receipt) and result.key is not None:
            self._do(SetResult(receipt, result.key))
        return receipt

    async def _whole(self, slices: Slices[T]) -> T:
        end = monotonic() + TURN_SECONDS
        while True:
            try:
                next(slices)
            except StopIteration as done:
                value: T = done.value
                return value
            if monotonic() >= end:
                await asyncio.sleep(0)
                end = monotonic() + TURN_SECONDS

    # Commands and questions

    def _now(self) -> float:
        return max(self._fold.time, self._steady() + self._offset)

    def _do(self, command: Command) -> "Future[Any]":
        return self._outgoing.add(command)

    def _ask(self, question: Operation[Any]) -> "Future[Any]":
        if self.unready:
            return self._unready_future()
        future: Future[Any] = self._loop.create_future()
        self._when_current(lambda: _set_result(future, lambda: question(self._core, self._now())))
        return future

    def _ask_in_slices(self, question: Operation[Slices[Any]]) -> "Future[Any]":
        if self.unready:
            return self._unready_future()
        future: Future[Any] = self._loop.create_future()
        self._when_current(lambda: self._turns.begin(question, future, reads=True))
        return future

    def _unready_future(self) -> "Future[Any]":
        future: Future[Any] = self._loop.create_future()
        future.set_exception(Behind(f"{self.unready}: try again in a few seconds"))
        return future

    def _when_current(self, ask: Callable[[], None]) -> None:
        """Ask behind all that this node has asked, and when nothing is due."""
        if self._fold.is_due(self._now()):
            self._tick()
        if not self._outgoing.ask_behind(ask):
            ask()

    def has_unclaimed(self, topic_filter: TopicFilter) -> bool:
        return self._core.log.single_delivery.may_have_unclaimed(topic_filter)

    def read(self, topic_filter: TopicFilter, cursor: Cursor, *, limit: int, nbytes: int, take: bool) -> "Future[Page]":
        """Messages for one subscriber are in the page if this node was the first to take them."""
        read = partial(Reading.read, limit=limit, nbytes=nbytes, take=take)
        page = self._ask_in_slices(lambda core, now: read(core.reading, topic_filter, cursor, now))
        return take_from(page, self._do) if take else page

    # What another node may have, and this one not yet

    def locate(self, topic_filter: TopicFilter, start: Start) -> "Future[Cursor]":
        ask = partial(super().locate, topic_filter, start)
        known = self.unready or self._core.reading.knows(topic_filter, start)
        return ask() if known else self._freshness.when_level(ask)

    def get(self, id: Id) -> "Future[Message | None]":
        ask = partial(super().get, id)
        known = self.unready or self._core.reading.knows_id(id)
        return ask() if known else self._freshness.when_level(ask)

    def scheduled(self, id: ScheduledId) -> "Future[ScheduledPublish]":
        return self._freshness.find(partial(super().scheduled, id))

    def topic(self, name: str) -> "Future[TopicState]":
        return self._freshness.find(partial(super().topic, name))

    def group(self, topic: str, group: str) -> "Future[GroupState]":
        return self._freshness.find(partial(super().group, topic, group))

    def jobs(self, query: JobQuery) -> "Future[JobPage]":
        return self._freshness.find(partial(super().jobs, query))

    # Who listens

    def attend(self, attendance: Attendance) -> None:
        if attendance != self._fold.sessions.attendance.get(self._server_run, NOBODY):
            self._outgoing.attendance = attendance
            self._tick()

    # Time

    def _renew(self) -> None:
        """Renew the session of this node: any entry does."""
        if self._outgoing.is_quiet:
            self._tick()
        self._renewal = self._loop.call_later(SESSION / RENEWALS, self._renew)

    def _on_due(self) -> None:
        if self._fold.deadline <= self._now():
            self._tick()
        self._timer.set(max(self._fold.deadline, self._now() + TICK_PAUSE))

    def _tick(self) -> None:
        if not self._outgoing.lost:
            self._do(Tick())


def _own_part(outbox: Outbox, *, own: bool) -> Sequence[Run]:
    """What this node delivers: a message for one subscriber is delivered by the node that published it."""
    return outbox.runs if own else [run for run in outbox.runs if run.envelope.delivery is not ONE]


def _set_result(future: "Future[Any]", ask: Callable[[], Any]) -> None:
    try:
        future.set_result(ask())
    except Exception as error:
        future.set_exception(error)
