"""The base of engines whose state machine is in this process. Each method is an operation on it; engines differ in
where and when operations run."""

from abc import abstractmethod
from asyncio import Future
from collections import deque
from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from ..log.directory import ListPage, ListQuery
from ..log.groups.groups import Groups
from ..log.groups.listing import JobPage, JobQuery
from ..log.groups.redrive import Redriven, RedriveTarget
from ..log.groups.state import GroupState
from ..log.groups.troubles import NONE_SERVED
from ..log.reading import Page, Reading
from ..log.schedule import ScheduledPublish, SchedulePage
from ..log.slices import Slices
from ..log.state import LogStateMachine
from ..log.topic_log import TopicState
from ..log.totals import Totals
from ..messages.lease import OPERATORS, Action, Lease, LeaseId, Outcome
from ..messages.message import Draft, Id, Message, PublishResult, Receipt, Scheduled
from ..messages.position import Cursor, Gap, Start
from ..messages.scheduled_id import ScheduledId
from ..messages.topic import TopicFilter
from .engine import Engine

T = TypeVar("T")

Operation = Callable[[LogStateMachine, float], T]
"""What to do with the state machine at a time. An operation that only reads may change nothing except what is due."""


TURN_SECONDS: Final = 0.002  # of slices, and one more; then other tasks run


class SlicedOperation(Generic[T]):
    """An operation that runs in slices."""

    def __init__(self, operation: Operation[Slices[T]]) -> None:
        self._question = operation
        self._slices: Slices[T] | None = None
        self._core: LogStateMachine | None = None
        self.value: T

    def step(self, core: LogStateMachine, now: float) -> bool:
        """Run one slice. True once `value` is there. With another core than last time, the operation begins again.
        Raises what the operation does."""
        if self._slices is None or self._core is not core:
            self._core, self._slices = core, self._question(core, now)
        try:
            next(self._slices)
        except StopIteration as end:
            self.value = end.value
            return True
        return False


def take_turns(
    waiting: "deque[T]", step: Callable[[T], bool], is_long: Callable[[T], bool] = lambda _first: False
) -> None:
    """Run a slice of each in turn until the time is over. Those that are not done go to the end. `is_long`: one slice
    of this takes a whole turn."""
    end = monotonic() + TURN_SECONDS
    while waiting:
        first = waiting.popleft()
        if not step(first):
            waiting.append(first)
        if monotonic() >= end or is_long(first):
            break


class LocalEngine(Engine):
    @abstractmethod
    def _ask(self, operation: Operation[Any], reads: bool = False) -> "Future[Any]":
        """Run an operation. The future has its result (the receipt, if it is DEFERRED) or its PlainmqError. `reads`: it
        changes nothing, so it can also run while nothing can be stored."""

    @abstractmethod
    def _ask_in_slices(self, operation: Operation[Slices[Any]], reads: bool = False) -> "Future[Any]":
        """Run an operation that may take long, as _ask() does: other tasks run between its slices."""

    def append(self, drafts: Sequence[Draft]) -> Future[Receipt | Scheduled]:
        return self._publish(lambda core, now: core.append(drafts, now), drafts)

    def append_each(self, drafts: Sequence[Draft]) -> Future[PublishResult]:
        return self._publish(lambda core, now: core.append_each(drafts, now), drafts)

    def _publish(self, operation: Operation[Any], drafts: Sequence[Draft]) -> "Future[Any]":  # noqa: ARG002
        """Run an operation that publishes these drafts."""
        return self._ask(operation)

    def schedule(self, match: TopicFilter | None, after: str | None, limit: int) -> Future[SchedulePage]:
        return self._ask_in_slices(lambda core, _now: core.schedule.page(match, after, limit), reads=True)

    def scheduled(self, id: ScheduledId) -> Future[ScheduledPublish]:
        return self._ask(lambda core, _now: core.schedule.get(id), reads=True)

    def cancel_scheduled(self, id: ScheduledId) -> Future[None]:
        return self._ask(lambda core, now: core.cancel_scheduled(id, now))

    def publish_scheduled(self, id: ScheduledId) -> Future[Receipt]:
        return self._publish(lambda core, now: core.publish_scheduled(id, now), ())

    def caught_up(self) -> Future[None]:
        return self._ask(lambda _core, _now: None, reads=True)

    # Reading

    def locate(self, topic_filter: TopicFilter, start: Start) -> Future[Cursor]:
        return self._ask_in_slices(lambda core, now: core.reading.locate(topic_filter, start, now), reads=True)

    def read(self, topic_filter: TopicFilter, cursor: Cursor, *, limit: int, nbytes: int, take: bool) -> Future[Page]:
        read = partial(Reading.read, limit=limit, nbytes=nbytes, take=take)
        return self._ask_in_slices(lambda core, now: read(core.reading, topic_filter, cursor, now), reads=True)

    @abstractmethod
    def _apply_eventually(self, operation: Operation[Any]) -> "Future[Any]":
        """Run an operation that must not be refused, because what it records has happened already."""

    def taken(self, seqs: Sequence[int]) -> None:
        self._apply_eventually(lambda core, _now: core.taken(seqs))

    def give_back(self, seqs: Sequence[int]) -> Future[None]:
        return self._apply_eventually(lambda core, _now: core.give_back(seqs))

    def get(self, id: Id) -> Future[Message | None]:
        return self._ask(lambda core, now: core.get(id, now), reads=True)

    # Topics

    def topics(self, query: ListQuery) -> Future[ListPage[TopicState]]:
        return self._ask_in_slices(lambda core, now: core.directory.topics(query, now), reads=True)

    def groups(self, query: ListQuery) -> Future[ListPage[GroupState]]:
        return self._ask_in_slices(lambda core, now: core.directory.groups(query, now), reads=True)

    def topic(self, name: str) -> Future[TopicState]:
        return self._ask(lambda core, now: core.topics.state(name, now), reads=True)

    def configure(self, name: str, changes: Mapping[str, float]) -> Future[None]:
        return self._ask_in_slices(lambda core, now: core.configure(name, changes, now))

    def pause(self, name: str, paused: bool) -> Future[None]:
        return self._ask_in_slices(lambda core, now: core.pause(name, paused, now))

    def drop(self, name: str) -> Future[None]:
        return self._work_in_slices(lambda core, now: core.drop(name, now))

    def purge(self, name: str, before: tuple[str, Start] | None = None) -> Future[int]:
        return self._work_in_slices(lambda core, now: core.purge(name, before, now))

    def totals(self, served: Set[tuple[str, str]] = NONE_SERVED) -> Future[Totals]:
        return self._ask_in_slices(lambda core, _now: core.totals(served), reads=True)

    # Groups

    def _work(self, operation: Operation[Any]) -> "Future[Any]":
        """Run an operation after everything that is due, and do what follows from it."""

        def work(core: LogStateMachine, now: float) -> Any:
            core.pass_time(now)
            try:
                return operation(core, now)
            finally:
                core.follow_up(now)

        return self._ask(work)

    def _work_in_slices(self, operation: Operation[Slices[Any]]) -> "Future[Any]":
        def work(core: LogStateMachine, now: float) -> Slices[Any]:
            core.pass_time(now)
            try:
                return (yield from operation(core, now))
            finally:
                core.follow_up(now)

        return self._ask_in_slices(work)

    def join(self, topic: str, group: str, make: bool = True) -> Future[Gap | None]:
        return self._work_in_slices(lambda core, now: core.group_admin.join(topic, group, now, make=make))

    def claim(
        self, topic: str, group: str, *, count: int, nbytes: int, seconds: float | None, bound: bool = False,
        holder: str = "",
    ) -> Future[list[Lease]]:  # fmt: skip
        claim = partial(Groups.claim, count=count, nbytes=nbytes, seconds=seconds, bound=bound, holder=holder)
        return self._work(lambda core, now: claim(core.groups, topic, group, now=now))

    def settle(
        self, topic: str, group: str, action: Action, ids: Sequence[LeaseId], seconds: float | None = None, *,
        reason: str | None = None,
    ) -> Future[list[Outcome]]:  # fmt: skip
        if action in OPERATORS:
            return self._work_in_slices(lambda core, now: core.operating.settle(topic, group, action, ids, now))
        settle = partial(Groups.settle, seconds=seconds, reason=reason)
        return self._work(lambda core, now: settle(core.groups, topic, group, action, ids, now=now))

    def jobs(self, query: JobQuery) -> Future[JobPage]:
        return self._ask_in_slices(lambda core, now: core.jobs.page(query, now), reads=True)

    def group(self, topic: str, group: str) -> Future[GroupState]:
        return self._work(lambda core, now: core.figures.state(topic, group, now))

    def configure_group(
        self, topic: str, group: str, changes: Mapping[str, Any], start: tuple[str, Start] | None = None,
        make: bool = True,
    ) -> Future[None]:  # fmt: skip
        return self._work_in_slices(
            lambda core, now: core.configure_group(topic, group, changes, start, now, make=make)
        )

    def redrive(self, target: RedriveTarget, ids: Sequence[Id] | None = None) -> Future[Redriven]:
        if ids is None:
            return self._work_in_slices(lambda core, now: core.redriving.all(target, now))
        return self._work_in_slices(lambda core, now: core.redriving.some(target, ids, now))

    def seek(self, topic: str, group: str, to: tuple[str, Start]) -> Future[None]:
        return self._work_in_slices(lambda core, now: core.seeking.seek(topic, group, to, now))

    def pause_group(self, topic: str, group: str, paused: bool) -> Future[None]:
        return self._work(lambda core, _now: core.groups.pause(topic, group, paused))

    def drop_group(self, topic: str, group: str) -> Future[None]:
        return self._work_in_slices(lambda core, _now: core.group_admin.drop(topic, group))
