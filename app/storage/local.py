"""The base of engines whose state machine is in this process. A change is a command, which one function carries out;
anything else is a question, which changes nothing. Engines differ in where and when they do both."""

from abc import abstractmethod
from asyncio import Future
from collections.abc import Mapping, Sequence, Set
from typing import Any

from ..log.commands.command import Command
from ..log.commands.delivery import GiveBack, Take, Taken
from ..log.commands.groups import (
    Claim,
    ConfigureGroup,
    DropGroup,
    Join,
    Operate,
    PauseGroup,
    Redrive,
    Seek,
    Settle,
)
from ..log.commands.publishing import Append, AppendEach, CancelScheduled, PublishScheduled
from ..log.commands.topics import Configure, Drop, Pause, Purge
from ..log.directory import ListPage, ListQuery
from ..log.groups.listing import JobPage, JobQuery
from ..log.groups.redrive import Redriven, RedriveTarget
from ..log.groups.state import GroupState
from ..log.groups.troubles import NONE_SERVED
from ..log.reading import Page
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
from .turns import Operation


class LocalEngine(Engine):
    _server_run: str
    """Names this run of the server: leases that are bound to a connection end with it."""

    @abstractmethod
    def _do(self, command: Command) -> "Future[Any]":
        """Carry out a command. The future has its result (the receipt, if it is DEFERRED) or its PlainmqError."""

    @abstractmethod
    def _ask(self, question: Operation[Any]) -> "Future[Any]":
        """Answer a question, also while nothing can be stored."""

    @abstractmethod
    def _ask_in_slices(self, question: Operation[Slices[Any]]) -> "Future[Any]":
        """Answer a question that may take long, as _ask() does: other tasks run between its slices."""

    # Publishing

    def append(self, drafts: Sequence[Draft]) -> Future[Receipt | Scheduled]:
        return self._do(Append(drafts))

    def append_each(self, drafts: Sequence[Draft]) -> Future[PublishResult]:
        return self._do(AppendEach(drafts))

    def schedule(self, match: TopicFilter | None, after: str | None, limit: int) -> Future[SchedulePage]:
        return self._ask_in_slices(lambda core, _now: core.schedule.page(match, after, limit))

    def scheduled(self, id: ScheduledId) -> Future[ScheduledPublish]:
        return self._ask(lambda core, _now: core.schedule.get(id))

    def cancel_scheduled(self, id: ScheduledId) -> Future[None]:
        return self._do(CancelScheduled(id))

    def publish_scheduled(self, id: ScheduledId) -> Future[Receipt]:
        return self._do(PublishScheduled(id))

    def caught_up(self) -> Future[None]:
        return self._ask(lambda _core, _now: None)

    # Reading

    def locate(self, topic_filter: TopicFilter, start: Start) -> Future[Cursor]:
        return self._ask_in_slices(lambda core, now: core.reading.locate(topic_filter, start, now))

    def read(self, topic_filter: TopicFilter, cursor: Cursor, *, limit: int, nbytes: int, take: bool) -> Future[Page]:
        def read(core: LogStateMachine, now: float) -> Slices[Page]:
            page = yield from core.reading.read(topic_filter, cursor, now, limit=limit, nbytes=nbytes, take=take)
            wanted = page.for_one
            return page.without_others(Take(wanted).carry_out(core, now)) if wanted else page

        return self._ask_in_slices(read)

    def taken(self, seqs: Sequence[int]) -> None:
        self._do(Taken(seqs))

    def give_back(self, seqs: Sequence[int]) -> Future[None]:
        return self._do(GiveBack(seqs))

    def get(self, id: Id) -> Future[Message | None]:
        return self._ask(lambda core, now: core.get(id, now))

    # Topics

    def topics(self, query: ListQuery) -> Future[ListPage[TopicState]]:
        return self._ask_in_slices(lambda core, now: core.directory.topics(query, now))

    def groups(self, query: ListQuery) -> Future[ListPage[GroupState]]:
        return self._ask_in_slices(lambda core, now: core.directory.groups(query, now))

    def topic(self, name: str) -> Future[TopicState]:
        return self._ask(lambda core, now: core.topics.state(name, now))

    def configure(self, name: str, changes: Mapping[str, float]) -> Future[None]:
        return self._do(Configure(name, {**changes}))

    def pause(self, name: str, paused: bool) -> Future[None]:
        return self._do(Pause(name, paused))

    def drop(self, name: str) -> Future[None]:
        return self._do(Drop(name))

    def purge(self, name: str, before: tuple[str, Start] | None = None) -> Future[int]:
        return self._do(Purge(name, before))

    def totals(self, served: Set[tuple[str, str]] = NONE_SERVED) -> Future[Totals]:
        return self._ask_in_slices(lambda core, _now: core.totals(served))

    # Groups

    def join(self, topic: str, group: str, make: bool = True) -> Future[Gap | None]:
        return self._do(Join(topic, group, make))

    def claim(
        self, topic: str, group: str, *, count: int, nbytes: int, seconds: float | None, bound: bool = False,
        holder: str = "",
    ) -> Future[list[Lease]]:  # fmt: skip
        return self._do(Claim(topic, group, count, nbytes, seconds, self._server_run if bound else "", holder))

    def settle(
        self, topic: str, group: str, action: Action, ids: Sequence[LeaseId], seconds: float | None = None, *,
        reason: str | None = None,
    ) -> Future[list[Outcome]]:  # fmt: skip
        if action in OPERATORS:
            return self._do(Operate(topic, group, action, ids))
        return self._do(Settle(topic, group, action, ids, seconds, reason))

    def jobs(self, query: JobQuery) -> Future[JobPage]:
        return self._ask_in_slices(lambda core, now: core.jobs.page(query, now))

    def group(self, topic: str, group: str) -> Future[GroupState]:
        return self._ask(lambda core, now: core.figures.state(topic, group, now))

    def configure_group(
        self, topic: str, group: str, changes: Mapping[str, Any], start: tuple[str, Start] | None = None,
        make: bool = True,
    ) -> Future[None]:  # fmt: skip
        return self._do(ConfigureGroup(topic, group, {**changes}, start, make))

    def redrive(self, target: RedriveTarget, ids: Sequence[Id] | None = None) -> Future[Redriven]:
        return self._do(Redrive(target, ids))

    def seek(self, topic: str, group: str, to: tuple[str, Start]) -> Future[None]:
        return self._do(Seek(topic, group, to))

    def pause_group(self, topic: str, group: str, paused: bool) -> Future[None]:
        return self._do(PauseGroup(topic, group, paused))

    def drop_group(self, topic: str, group: str) -> Future[None]:
        return self._do(DropGroup(topic, group))
