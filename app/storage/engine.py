"""The seam behind which the log lives: an ordered log, and nothing about who listens to it.

The promise, the same for every engine and held by one test suite: every message accepted anywhere reaches `deliver`
once, in log order, and only when it is as durable as its receipt says. Verbs answer with futures, because a disk or
another machine may have to be asked; an engine that knows the answer returns a future that is done.
"""

from abc import ABC, abstractmethod
from asyncio import Future, get_running_loop
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self, TypeVar

from ..log.groups.events import GroupObserver
from ..log.groups.group import GroupState
from ..log.reading import Page
from ..log.run import Run
from ..log.topic_log import TopicState
from ..log.totals import Totals
from ..messages.lease import Action, Lease, LeaseId, Outcome
from ..messages.message import Draft, Id, Message, PublishResult, Receipt, Scheduled
from ..messages.position import Cursor, Gap, Start
from ..messages.topic import TopicFilter
from ..telemetry.histogram import Histogram

T = TypeVar("T")

PAGE_BYTES: Final = 1 << 20  # of bodies in a page or a pull that is asked for
BURST: Final = 256 << 10  # likewise in one write to who cannot say no: enough for throughput, short for the rest

Deliver = Callable[[Sequence[Run]], Mapping[int, int]]
"""Hands messages, in log order, to who listens here; answers how many that are, by seq, where there is anybody. Of what
is for one: whether somebody is given it; then what became of that is told by taken() or give_back(). Raises nothing."""


class Engine(ABC):
    durability: str
    """What a receipt promises: `memory`, `disk` or `disk:relaxed`."""

    epoch: str
    """One life of the log. It changes whenever an acknowledged message may be gone."""

    head: int = 0
    """The newest seq there was when the log was opened; what follows is delivered."""

    unready: str = ""
    """Why it takes no messages until somebody comes to help; empty as long as it does."""

    failures: int = 0
    """How often it could not store what it was given."""

    commits: Histogram
    """How long the disk took for each transaction; an engine without one has none."""

    @abstractmethod
    async def open(self, deliver: Deliver, works: GroupObserver) -> Self:
        """Make the log ready; from now on what it accepts goes to `deliver`, and `works` hears of work."""

    @abstractmethod
    async def close(self) -> None:
        """Give everything back. Idempotent."""

    @abstractmethod
    def append(self, drafts: Sequence[Draft]) -> Future[Receipt | Scheduled]:
        """Accept drafts for one topic and with the same key and delay, all or none. Those with a delay are Scheduled.
        Fails with MessageTooLarge, TopicLimit or LogFull."""

    @abstractmethod
    def append_each(self, drafts: Sequence[Draft]) -> Future[PublishResult]:
        """Accept drafts for one topic, without a key or a delay: all of them, or if they are refused together, those
        that are not refused by themselves; then each is answered for. What is asked later comes behind them either way.
        Fails when the same is to be said of all."""

    @abstractmethod
    def caught_up(self) -> Future[None]:
        """Done when everything that was asked before has been delivered and answered."""

    def waits(self, topic_filter: TopicFilter) -> bool:  # noqa: ARG002
        """Whether something may be kept there for a first subscriber: False only if that is known at once."""
        return True

    @abstractmethod
    def locate(self, topic_filter: TopicFilter, start: Start) -> Future[Cursor]:
        """The cursor from which a reader of the selection finds what it asked for."""

    @abstractmethod
    def read(
        self, topic_filter: TopicFilter, cursor: Cursor, *, upto: int, limit: int, nbytes: int, take: bool
    ) -> Future[Page]:
        """A page of the log after the cursor, to place `upto`, at most `limit` messages and about `nbytes`
        bytes of bodies; with `take`, also what was kept for one subscriber: nobody else gets that until it is said to
        be taken(), or given back. If the server ends before, it waits as it did."""

    @abstractmethod
    def taken(self, seqs: Sequence[int]) -> None:
        """Each of these was delivered, or read, for one subscriber, who has it: it is gone for good, soon."""

    @abstractmethod
    def give_back(self, seqs: Sequence[int]) -> Future[None]:
        """Likewise, but nobody has it: when the future is done, it waits for somebody else."""

    @abstractmethod
    def get(self, id: Id) -> Future[Message | None]:
        """The retained message with this id."""

    @abstractmethod
    def topics(self, topic_filter: TopicFilter | None) -> Future[list[TopicState]]:
        """The topics that are selected (None: every one), by name."""

    @abstractmethod
    def topic(self, name: str) -> Future[TopicState]:
        """Fails with NotFound."""

    @abstractmethod
    def configure(self, name: str, changes: Mapping[str, float]) -> Future[None]:
        """Change fields of a topic's Retention; the topic is made if there is none. Fails with TopicLimit."""

    @abstractmethod
    def drop(self, name: str) -> Future[None]:
        """Forget a topic, its messages and groups; who resumes there is told of a gap. Fails with NotFound."""

    @abstractmethod
    def totals(self) -> Future[Totals]:
        """What the log holds."""

    # Groups (app/log/groups/group.py): a topic shared out among workers

    @abstractmethod
    def join(self, topic: str, group: str, make: bool = True) -> Future[Gap | None]:
        """The group is there; if `make`, it and its topic are made, from the earliest message on. Its result is what is
        gone of what the group was to begin with, until it has handed something out. Fails with NotFound, TopicLimit,
        GroupLimit, LogFull or OptionInvalid."""

    @abstractmethod
    def claim(
        self, topic: str, group: str, *, count: int, nbytes: int, seconds: float | None, bound: bool = False
    ) -> Future[list[Lease]]:
        """Lease at most `count` messages, and no more after `nbytes` bytes of bodies, each for `seconds` (None: the
        group's ack_timeout). `bound`: to a connection to this server, so that the lease ends with it in whatever way
        it ends. None at all when there is nothing to hand out now. Fails with NotFound."""

    @abstractmethod
    def settle(
        self, topic: str, group: str, action: Action, ids: Sequence[LeaseId], seconds: float | None = None
    ) -> Future[list[Outcome]]:
        """What became of each lease. `seconds`: a nack's delay (None: the backoff), an extension's length (None: the
        group's ack_timeout). Fails with NotFound."""

    @abstractmethod
    def group(self, topic: str, group: str) -> Future[GroupState]:
        """Fails with NotFound."""

    @abstractmethod
    def configure_group(
        self, topic: str, group: str, changes: Mapping[str, Any], start: tuple[str, Start] | None = None,
        make: bool = True,
    ) -> Future[None]:  # fmt: skip
        """Change fields of a group's settings; if `make`, the topic and the group are made if they are not there.
        `start` (the word, and what it means) says where a new group begins. Fails with NotFound, OptionInvalid,
        TopicLimit, GroupLimit or LogFull."""

    @abstractmethod
    def drop_group(self, topic: str, group: str) -> Future[None]:
        """Forget a group and its leases. Fails with NotFound."""


def done(value: T) -> Future[T]:
    """A future that has its result."""
    future: Future[T] = get_running_loop().create_future()
    future.set_result(value)
    return future


def attempt(action: Callable[[], T]) -> Future[T]:
    """A future that has the action's result or its error."""
    future: Future[T] = get_running_loop().create_future()
    try:
        future.set_result(action())
    except Exception as error:
        future.set_exception(error)
    return future
