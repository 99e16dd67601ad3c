"""The interface of storage engines: an ordered log, which knows nothing of its subscribers.

All engines keep the same promise, and one test suite checks it: every accepted message is passed to `deliver` once, in
log order, and only when it is as durable as its receipt says. Methods return futures, because a disk or another machine
may have to be asked. An engine that knows the answer returns a future that is done.
"""

from abc import ABC, abstractmethod
from asyncio import Future, get_running_loop
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, Final, Self, TypeVar

from ..log.directory import ListPage, ListQuery
from ..log.groups.events import GroupObserver
from ..log.groups.listing import JobPage, JobQuery
from ..log.groups.redrive import Redriven, RedriveTarget
from ..log.groups.state import GroupState
from ..log.groups.troubles import NONE_SERVED
from ..log.reading import Page
from ..log.run import Run
from ..log.schedule import ScheduledPublish, SchedulePage
from ..log.topic_log import TopicState
from ..log.totals import Totals
from ..messages.attendance import Attendance
from ..messages.lease import Action, Lease, LeaseId, Outcome
from ..messages.message import Draft, Id, Message, PublishResult, Receipt, Scheduled
from ..messages.position import Cursor, Gap, Start
from ..messages.scheduled_id import ScheduledId
from ..messages.topic import TopicFilter
from ..telemetry.histogram import Histogram
from ..telemetry.journal import JournalState
from .elsewhere import Elsewhere

T = TypeVar("T")

PAGE_BYTES: Final = 1 << 20  # of bodies in one page or pull that a client requests

Deliver = Callable[[Sequence[Run]], dict[int, int]]
"""Delivers messages in log order. Returns the number of receivers by seq, without messages that have none. A message of
`delivery=one` that has a receiver is resolved later, by taken() or give_back(). Raises nothing."""


def ignore_unclaimed(_topic: str) -> None:
    """For an engine without subscribers."""


class Queries(ABC):
    """The log as anybody may ask it: nothing changes."""

    durability: str
    """What a receipt promises: `memory`, `disk` or `disk:relaxed`."""

    epoch: str
    """The first half of the log's ids. It changes whenever a confirmed message may have been lost."""

    commits: Histogram
    """The duration of each transaction on the disk; empty for an engine without a disk."""

    @property
    def unready(self) -> str:
        """Why no messages are accepted until an operator helps; empty while they are."""
        return ""

    @property
    def failed(self) -> str:
        """Why nothing will ever be accepted by this process again; empty while it may be."""
        return ""

    @property
    def failures(self) -> int:
        """How often storing has failed."""
        return 0

    @property
    def journal(self) -> JournalState | None:
        """The journal that this log is shared through; None without one."""
        return None

    @abstractmethod
    def schedule(self, match: TopicFilter | None, after: str | None, limit: int) -> Future[SchedulePage]:
        """A page of the delayed publishes, by their due time. Fails with OptionInvalid."""

    @abstractmethod
    def scheduled(self, id: ScheduledId) -> Future[ScheduledPublish]:
        """Fails with NotFound."""

    @abstractmethod
    def totals(self, served: Set[tuple[str, str]] = NONE_SERVED) -> Future[Totals]:
        """What the log holds. `served`: groups that have consumers, by topic and name; they must not change."""

    @abstractmethod
    def jobs(self, query: JobQuery) -> Future[JobPage]:
        """A page of a group's messages in one state; nothing is taken. Fails with NotFound."""


class Changes(ABC):
    """Changes of topics, delayed publishes and groups: a server that is stopping refuses them."""

    @abstractmethod
    def cancel_scheduled(self, id: ScheduledId) -> Future[None]:
        """Fails with NotFound."""

    @abstractmethod
    def publish_scheduled(self, id: ScheduledId) -> Future[Receipt]:
        """Publish at once what is scheduled. Fails with NotFound, MessageTooLarge or LogFull."""

    @abstractmethod
    def configure(self, name: str, changes: Mapping[str, float]) -> Future[None]:
        """Change fields of a topic's Retention. A topic that does not exist is made. Fails with TopicLimit."""

    @abstractmethod
    def pause(self, name: str, paused: bool) -> Future[None]:
        """Refuse publishes to the topic with TopicPaused, or accept them again. Fails with NotFound."""

    @abstractmethod
    def drop(self, name: str) -> Future[None]:
        """Delete a topic, its messages and its groups. A subscriber that resumes there gets a gap. Fails with
        NotFound."""

    @abstractmethod
    def purge(self, name: str, before: tuple[str, Start] | None = None) -> Future[int]:
        """Delete the messages of a topic that are before a position, as written and as parsed (None: all), also those
        that groups hold; its settings and its groups stay. The result is their number. A subscriber that resumes there
        gets a gap. Fails with NotFound or OptionInvalid."""

    @abstractmethod
    def join(self, topic: str, group: str, make: bool = True) -> Future[Gap | None]:
        """Make sure that the group exists; with `make`, it and its topic are made if need be, and it begins at the
        earliest message. The result is the gap before its first message, until it has handed something out. Fails with
        NotFound, TopicLimit, GroupLimit, LogFull or OptionInvalid."""

    @abstractmethod
    def configure_group(
        self, topic: str, group: str, changes: Mapping[str, Any], start: tuple[str, Start] | None = None,
        make: bool = True,
    ) -> Future[None]:  # fmt: skip
        """Change fields of a group's settings; with `make`, the topic and the group are made if need be. `start` (as
        written, and as parsed) says where a new group begins. Fails with NotFound, OptionInvalid, DeadLettersLeft,
        TopicLimit, GroupLimit or LogFull."""

    @abstractmethod
    def redrive(self, target: RedriveTarget, ids: Sequence[Id] | None = None) -> Future[Redriven]:
        """Return dead letters to their group: those with these ids that are there, all or none; or all that there are
        (None), as far as there is room. Fails with NotFound, LogFull, MessageTooLarge or TopicPaused; then none has
        returned."""

    @abstractmethod
    def seek(self, topic: str, group: str, to: tuple[str, Start]) -> Future[None]:
        """Hand out exactly the messages after a position (as written, and as parsed) from now on. What is leased or
        delayed after it stays so. Fails with NotFound, OptionInvalid or LogFull."""

    @abstractmethod
    def pause_group(self, topic: str, group: str, paused: bool) -> Future[None]:
        """While a group is paused it hands out nothing, also after a restart. Fails with NotFound."""

    @abstractmethod
    def drop_group(self, topic: str, group: str) -> Future[None]:
        """Delete a group and its leases. Fails with NotFound."""


class Engine(Queries, Changes):
    head: int = 0
    """The newest seq when the log was opened. All later messages are delivered."""

    on_replaced: Callable[[], None] = staticmethod(lambda: None)
    """Called when the log has lost messages that were delivered: what subscribers and consumers have of it may be gone.
    `head` is that of the log as it is now."""

    is_shared: bool = False
    """Other servers may use the same log."""

    elsewhere: Elsewhere = Elsewhere()
    """Who listens at the other servers."""

    def attend(self, attendance: Attendance) -> None:
        """Tell the other servers who listens at this one."""

    @abstractmethod
    async def open(
        self, deliver: Deliver, group_observer: GroupObserver, offer_unclaimed: Callable[[str], None] = ignore_unclaimed
    ) -> Self:
        """Open the log. From now on accepted messages are passed to `deliver`, events of groups to the observer, and
        topics in which messages of `delivery=one` are unclaimed again to `offer_unclaimed`."""

    @abstractmethod
    async def close(self) -> None:
        """Release all resources. Idempotent."""

    @abstractmethod
    def append(self, drafts: Sequence[Draft]) -> Future[Receipt | Scheduled]:
        """Accept drafts for one topic, with the same key and delay, all or none. Drafts with a delay are Scheduled.
        Fails with MessageTooLarge, TopicLimit or LogFull."""

    @abstractmethod
    def append_each(self, drafts: Sequence[Draft]) -> Future[PublishResult]:
        """Accept drafts for one topic, without keys and delays. If they cannot all be accepted, each is tried by
        itself, and the result has one outcome per draft. Later requests come after them either way. Fails if all have
        the same error."""

    @abstractmethod
    def caught_up(self) -> Future[None]:
        """Done once all earlier requests have been delivered and answered."""

    def has_unclaimed(self, topic_filter: TopicFilter) -> bool:  # noqa: ARG002
        """True if an unclaimed message of `delivery=one` may be stored; False only if none is known at once."""
        return True

    @abstractmethod
    def locate(self, topic_filter: TopicFilter, start: Start) -> Future[Cursor]:
        """The cursor at which reading from `start` begins."""

    @abstractmethod
    def read(self, topic_filter: TopicFilter, cursor: Cursor, *, limit: int, nbytes: int, take: bool) -> Future[Page]:
        """A page of the log after the cursor, of at most `limit` messages and about `nbytes` bytes of bodies. When the
        future's callbacks run, all of its messages have been delivered; if it reaches the head, nothing else has. With
        `take`, it also claims unclaimed messages of `delivery=one`: no other subscriber gets them until taken() or
        give_back() resolves them. If the server ends before, they are unclaimed again."""

    @abstractmethod
    def taken(self, seqs: Sequence[int]) -> None:
        """The receivers of these messages of `delivery=one` have them: remove them soon."""

    @abstractmethod
    def give_back(self, seqs: Sequence[int]) -> Future[None]:
        """The receivers of these messages of `delivery=one` did not get them: once the future is done, they are
        unclaimed again."""

    @abstractmethod
    def get(self, id: Id) -> Future[Message | None]:
        """The retained message with this id."""

    @abstractmethod
    def topics(self, query: ListQuery) -> Future[ListPage[TopicState]]:
        """Fails with OptionInvalid."""

    @abstractmethod
    def groups(self, query: ListQuery) -> Future[ListPage[GroupState]]:
        """Fails with OptionInvalid."""

    @abstractmethod
    def topic(self, name: str) -> Future[TopicState]:
        """Fails with NotFound."""

    # Consumer groups (app/log/groups/group.py)

    @abstractmethod
    def claim(
        self, topic: str, group: str, *, count: int, nbytes: int, seconds: float | None, bound: bool = False,
        holder: str = "",
    ) -> Future[list[Lease]]:  # fmt: skip
        """Lease at most `count` messages, and no more after `nbytes` bytes of bodies, each for `seconds` (None: the
        group's ack_timeout). `bound`: the leases end with their connection to this server, however it ends. `holder`:
        the consumer, for people. Empty if no message is ready. Fails with NotFound."""

    @abstractmethod
    def settle(
        self, topic: str, group: str, action: Action, ids: Sequence[LeaseId], seconds: float | None = None, *,
        reason: str | None = None,
    ) -> Future[list[Outcome]]:  # fmt: skip
        """Settle leases. `seconds`: the delay of a nack (None: the backoff), or the length of an extension (None: the
        group's ack_timeout). `reason`: why the work failed, for people. Fails with NotFound."""

    @abstractmethod
    def group(self, topic: str, group: str) -> Future[GroupState]:
        """Fails with NotFound."""


def done(value: T) -> Future[T]:
    """A future that has its result."""
    future: Future[T] = get_running_loop().create_future()
    future.set_result(value)
    return future
