"""An engine whose core is in this process: each verb is a question to it. Engines differ in who asks, and when."""

from abc import abstractmethod
from asyncio import Future
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from ..log.groups.group import GroupState
from ..log.groups.groups import Groups
from ..log.reading import Page, Reading
from ..log.slices import Slices
from ..log.state import LogStateMachine
from ..log.topic_log import TopicState
from ..log.totals import Totals
from ..messages.lease import Action, Lease, LeaseId, Outcome
from ..messages.message import Draft, Id, Message, PublishResult, Receipt, Scheduled
from ..messages.position import Cursor, Gap, Start
from ..messages.topic import TopicFilter
from .engine import Engine

T = TypeVar("T")

Question = Callable[[LogStateMachine, float], T]
"""What to do with the core, as of a time. Whoever reads only, promises to change nothing but what is due."""


TURN: Final = 0.002  # seconds of slices, and one more, then others get their turn


class Sliced(Generic[T]):
    """A question that is answered in slices."""

    def __init__(self, question: Question[Slices[T]]) -> None:
        self._question = question
        self._slices: Slices[T] | None = None
        self._core: LogStateMachine | None = None
        self.value: T

    def step(self, core: LogStateMachine, now: float) -> bool:
        """One slice; whether the value is there. It begins anew with a core that is not the last one. Raises what the
        question does."""
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
    """A slice of the first, then of the next one, until the turn is over. Who has not done comes again. `is_long`: one
    slice of it is as much as a turn."""
    end = monotonic() + TURN
    while waiting:
        first = waiting.popleft()
        if not step(first):
            waiting.append(first)
        if monotonic() >= end or is_long(first):
            break


class LocalEngine(Engine):
    @abstractmethod
    def _ask(self, question: Question[Any], reads: bool = False) -> "Future[Any]":
        """The answer, or the PlainmqError that was raised; of one that is TOLD_LATER, its receipt. `reads`: it changes
        nothing, so it can also be answered when nothing can be stored."""

    @abstractmethod
    def _ask_in_slices(self, question: Question[Slices[Any]], reads: bool = False) -> "Future[Any]":
        """The same of a question that may take long: others get their turn meanwhile."""

    def append(self, drafts: Sequence[Draft]) -> Future[Receipt | Scheduled]:
        return self._publish(lambda core, now: core.append(drafts, now), drafts)

    def append_each(self, drafts: Sequence[Draft]) -> Future[PublishResult]:
        return self._publish(lambda core, now: core.append_each(drafts, now), drafts)

    def _publish(self, question: Question[Any], drafts: Sequence[Draft]) -> "Future[Any]":  # noqa: ARG002
        """Ask it about these drafts."""
        return self._ask(question)

    def caught_up(self) -> Future[None]:
        return self._ask(lambda _core, _now: None, reads=True)

    # Reading

    def locate(self, topic_filter: TopicFilter, start: Start) -> Future[Cursor]:
        return self._ask_in_slices(lambda core, now: core.reading.locate(topic_filter, start, now), reads=True)

    def read(
        self, topic_filter: TopicFilter, cursor: Cursor, *, upto: int, limit: int, nbytes: int, take: bool
    ) -> Future[Page]:
        read = partial(Reading.read, upto=upto, limit=limit, nbytes=nbytes, take=take)
        return self._ask_in_slices(lambda core, now: read(core.reading, topic_filter, cursor, now), reads=True)

    @abstractmethod
    def _owe(self, question: Question[Any]) -> "Future[Any]":
        """Ask what must be done sooner or later, since something has happened already."""

    def taken(self, seqs: Sequence[int]) -> None:
        self._owe(lambda core, _now: core.taken(seqs))

    def give_back(self, seqs: Sequence[int]) -> Future[None]:
        return self._owe(lambda core, _now: core.give_back(seqs))

    def get(self, id: Id) -> Future[Message | None]:
        return self._ask(lambda core, now: core.get(id, now), reads=True)

    # Topics

    def topics(self, topic_filter: TopicFilter | None) -> Future[list[TopicState]]:
        return self._ask_in_slices(lambda core, now: core.topics.states(topic_filter, now), reads=True)

    def topic(self, name: str) -> Future[TopicState]:
        return self._ask(lambda core, now: core.topics.state(name, now), reads=True)

    def configure(self, name: str, changes: Mapping[str, float]) -> Future[None]:
        return self._ask(lambda core, now: core.topics.configure(name, changes, now))

    def drop(self, name: str) -> Future[None]:
        return self._work_in_slices(lambda core, now: core.drop(name, now))

    def totals(self) -> Future[Totals]:
        return self._ask_in_slices(lambda core, _now: core.totals(), reads=True)

    # Groups

    def _work(self, question: Question[Any]) -> "Future[Any]":
        """Ask it when time has passed, and do what follows from it."""

        def work(core: LogStateMachine, now: float) -> Any:
            core.pass_time(now)
            try:
                return question(core, now)
            finally:
                core.follow_up(now)

        return self._ask(work)

    def _work_in_slices(self, question: Question[Slices[Any]]) -> "Future[Any]":
        def work(core: LogStateMachine, now: float) -> Slices[Any]:
            core.pass_time(now)
            try:
                return (yield from question(core, now))
            finally:
                core.follow_up(now)

        return self._ask_in_slices(work)

    def join(self, topic: str, group: str, make: bool = True) -> Future[Gap | None]:
        return self._work_in_slices(lambda core, now: core.group_admin.join(topic, group, now, make=make))

    def claim(
        self, topic: str, group: str, *, count: int, nbytes: int, seconds: float | None, bound: bool = False
    ) -> Future[list[Lease]]:
        claim = partial(Groups.claim, count=count, nbytes=nbytes, seconds=seconds, bound=bound)
        return self._work(lambda core, now: claim(core.groups, topic, group, now=now))

    def settle(
        self, topic: str, group: str, action: Action, ids: Sequence[LeaseId], seconds: float | None = None
    ) -> Future[list[Outcome]]:
        return self._work(lambda core, now: core.groups.settle(topic, group, action, ids, seconds=seconds, now=now))

    def group(self, topic: str, group: str) -> Future[GroupState]:
        return self._work(lambda core, now: core.groups.state(topic, group, now))

    def configure_group(
        self, topic: str, group: str, changes: Mapping[str, Any], start: tuple[str, Start] | None = None,
        make: bool = True,
    ) -> Future[None]:  # fmt: skip
        return self._work_in_slices(
            lambda core, now: core.group_admin.configure(topic, group, changes, start, now, make=make)
        )

    def drop_group(self, topic: str, group: str) -> Future[None]:
        return self._work_in_slices(lambda core, _now: core.group_admin.drop(topic, group))
