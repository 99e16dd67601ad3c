"""The replicated engine: the log is a journal that many nodes share.

    commands of one turn of the event loop ─▶ ONE entry ─▶ journal ─▶ every node: fold, deliver ─▶ this node: answer

Questions are answered by this node alone. One that was asked behind commands of this node is answered behind them. If
something is due, a Tick goes first, since nothing may change here that does not change everywhere.
"""

import asyncio
from asyncio import Future, TimerHandle
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Self, TypeVar

from ...errors import Behind, PlainmqError, StorageFailed
from ...log.accepted import DEFERRED
from ...log.commands.command import Command
from ...log.commands.delivery import GiveBack
from ...log.commands.publishing import SetResult
from ...log.commands.tick import Tick
from ...log.epochs import new_epoch
from ...log.groups.events import GroupObserver
from ...log.groups.listing import JobPage, JobQuery
from ...log.groups.state import GroupState
from ...log.level import LEVEL
from ...log.reading import Page, Reading
from ...log.run import Run
from ...log.schedule import ScheduledPublish
from ...log.slices import Slices
from ...log.state import LogStateMachine, Outbox
from ...log.topic_log import Limits, TopicState
from ...messages.attendance import NOBODY, Attendance
from ...messages.message import ONE, Id, Message, Receipt
from ...messages.position import Cursor, Start
from ...messages.scheduled_id import ScheduledId
from ...messages.topic import TopicFilter
from ...telemetry.histogram import Histogram
from ...telemetry.journal import JournalState
from ..clock import Clock
from ..engine import Deliver, ignore_unclaimed
from ..local import LocalEngine
from ..timer import DeadlineTimer
from ..turns import Operation, Turns
from .batch import lost_batch, new_link
from .contents import TicketNote, Writer
from .fold import Fold
from .follower import Follower
from .freshness import Freshness
from .journal import Entry, Journal, JournalLost
from .limits_in_force import LimitsInForce
from .other_nodes import OtherNodes
from .outgoing import Outgoing
from .sessions import SESSION
from .shared_tickets import SharedTickets
from .taking import take_from

TICK_PAUSE: Final = 0.05  # seconds between two Ticks of this node, while the first is on its way
TICK_SPREAD: Final = 0.05  # seconds: nodes that wait for the same deadline do not all append a Tick
RENEWALS: Final = 5  # in the time after which a session ends: some may be late
BYE_TIMEOUT: Final = 1.0  # seconds for the last entry: without it, others wait for the end of the session

_TOO_NEW: Final = (
    "a server on this log is of an earlier version of plainmq, which does not know this request: nothing was stored; "
    "update all servers first"
)

T = TypeVar("T")


class ReplicatedEngine(LocalEngine):
    is_shared = True

    def __init__(self, limits: Limits, clock: Clock, journal: Journal, known_level: int = LEVEL) -> None:
        """`known_level`: the newest level that it knows (app/log/level.py)."""
        self.durability = journal.durability
        self.commits = Histogram()
        self._journal = journal
        self._server_run = new_epoch()
        self._writer = Writer(self._server_run, known_level)
        self._follower = Follower(journal, limits, clock.steady, self._writer)
        self._freshness = Freshness(journal)
        self.elsewhere = self._others = OtherNodes(lambda: self._fold.sessions, self._server_run)
        self._now = self._follower.now
        self._turns = Turns(lambda slice, _reads: slice(self._core, self._now()))
        self.tickets = SharedTickets(self._follower, self._server_run, self._tell_ticket)
        self._timer = DeadlineTimer(self._now, self._on_due, TICK_SPREAD)
        self._renewal: TimerHandle | None = None
        self._limits = LimitsInForce(limits, self._do)

    @property
    def epoch(self) -> str:  # type: ignore[override]
        return self._core.log.epochs.current

    @property
    def _fold(self) -> Fold:
        return self._follower.fold

    @property
    def _core(self) -> LogStateMachine:
        return self._follower.fold.core

    async def open(
        self, deliver: Deliver, group_observer: GroupObserver, offer_unclaimed: Callable[[str], None] = ignore_unclaimed
    ) -> Self:
        self._loop = asyncio.get_running_loop()
        self._deliver, self._group_observer, self._offer_unclaimed = deliver, group_observer, offer_unclaimed
        self._outgoing = Outgoing(self._loop, self._journal.append, self._writer, lambda: self._fold.check.position)
        await self._follower.start(self)
        return self

    async def close(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            await self._say_bye()
        await self._follower.stop()
        self._timer.stop()
        self._outgoing.close()
        self._freshness.close()
        self._turns.close()
        await self._journal.close()

    async def _say_bye(self) -> None:
        """End the session, so that other nodes need not wait for its end."""
        if not self._outgoing.lost:
            bye = self._writer.encode([], bye=True)
            with suppress(JournalLost, PlainmqError, TimeoutError):
                await asyncio.wait_for(self._journal.append(new_link(), bye), BYE_TIMEOUT)

    # What the follower calls

    def on_carried_out(self, entry: Entry, results: Sequence[Any]) -> None:
        self._freshness.carried_out(entry.number)
        batch = self._outgoing.arrived(entry.link)  # not before: after a Fork, lose() fails what is on its way
        outbox = self._core.take_outbox()
        self.tickets.hear(self._fold.contents)
        if self.unready:
            return
        self._limits.check(self._core.log.limits)
        own = self._fold.contents.node == self._server_run
        receivers = self._deliver(_own_part(outbox, own=own))
        outbox.group_events.notify(self._group_observer)
        for topic in outbox.unclaimed:
            self._offer_unclaimed(topic)
        if own and (undelivered := outbox.undelivered(receivers)):
            self._do(GiveBack(undelivered))
        if own:
            self._others.add_to(receivers, outbox.runs)
            answers = [self._answer(result, receivers) for result in results]
            self._outgoing.carried_out(batch or lost_batch(self._fold.contents.commands), answers)
        self._timer.set(self._fold.deadline)

    def on_current(self, replaced: bool) -> None:
        self._freshness.carried_out(self._fold.number)  # it may be from a snapshot
        self._outgoing.resume()
        if replaced:
            self.head = self._core.log.head
            self.on_replaced()
            if mine := self._core.log.single_delivery.of_node(self._server_run):  # of before a loss
                self._do(GiveBack(mine))
        if self._renewal is None:
            self._renew()
        self._limits.begin(self._core.log.limits)
        self._timer.set(self._fold.deadline)

    def on_lost(self) -> None:
        self._outgoing.lose()

    def _answer(self, result: Any, receivers: Mapping[int, int]) -> Any:
        if not isinstance(result, DEFERRED):
            return result
        receipt = result.receipt(receivers)
        if isinstance(receipt, Receipt) and result.idempotency_key is not None:
            self._do(SetResult(receipt, result.idempotency_key))
        return receipt

    # How it does

    @property
    def failures(self) -> int:
        return self._follower.connection.losses

    @property
    def unready(self) -> str:
        return self._follower.unready

    @property
    def failed(self) -> str:
        return self._follower.failed

    @property
    def journal(self) -> JournalState:
        follower, outgoing = self._follower, self._outgoing
        return JournalState(
            node=self._server_run, connected=follower.connection.connected, entry=self._fold.number,
            nodes=self._fold.sessions.alive, appends=outgoing.appends, lag_entries=follower.lag_entries,
            lag_seconds=outgoing.lag(), forks=follower.forks, resyncs=follower.resyncs,
            healed_entries=self._journal.healed_entries, digest_mismatches=follower.mismatches, level=self._core.level,
            other_limits=self._limits.others(self._core.log.limits),
        )  # fmt: skip

    # Commands and questions

    def _do(self, command: Command) -> "Future[Any]":
        if command.level > self._core.level:
            return self._too_new()
        return self._outgoing.add(command)

    def _too_new(self) -> "Future[Any]":
        future: Future[Any] = self._loop.create_future()
        future.set_exception(StorageFailed(_TOO_NEW))
        return future

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

    def _tell_ticket(self, note: TicketNote) -> None:
        self._outgoing.tickets.append(note)
        self._tick()

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
