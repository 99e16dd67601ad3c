"""The schedule: delayed publishes with the memory and the figures of their topics, and as clients see them."""

from collections.abc import Mapping, Sequence

import msgspec

from ..errors import NotFound
from ..messages.message import Draft, Scheduled, count_messages
from ..messages.scheduled_id import ScheduledId
from ..messages.topic import TopicFilter
from .changes import Key
from .delayed import Delayed, Postponed
from .log import Log
from .selection import Selection
from .slices import Slices, sliced
from .topic_log import weigh


class ScheduledPublish(msgspec.Struct, frozen=True):
    """A delayed publish: `count` messages of the same kind (`first` is a draft of the first one), with bodies of `size`
    bytes together, that enter the log at `due` (Unix seconds). `drafts`: all of them."""

    id: ScheduledId
    due: float
    count: int
    size: int
    first: Draft
    drafts: Sequence[Draft]


class SchedulePage(msgspec.Struct, frozen=True):
    """Delayed publishes by their due time. `next`: after which the next page begins; None if this is the last one."""

    publishes: list[ScheduledPublish]
    next: str | None


class Schedule:
    def __init__(self, log: Log, delayed: Delayed) -> None:
        self._log = log
        self._delayed = delayed

    def restore(self, publishes: Mapping[Key, Postponed]) -> None:
        """The log must have been restored before."""
        self._delayed.restore(publishes)
        self._log.scheduled = max(self._log.scheduled, self._delayed.last)  # a file of before does not know the number
        self._log.memory.find_delayed(self._delayed.drafts())
        for topic, count in self._delayed.counters().items():
            self._log.count_delayed(topic, count, 0.0)

    def add(self, drafts: Sequence[Draft], due: float, now: float) -> Scheduled:
        """`due`: by the log's clock. check_room() must have been called before. Raises LogFull."""
        self._log.memory.check(weigh(drafts).memory)
        self._log.count_delayed(drafts[0].envelope.topic, count_messages(drafts), now)
        self._log.memory.reserve(drafts)
        self._log.scheduled += 1
        number, epoch = self._log.scheduled, self._log.epochs.current
        self._delayed.add(number, Postponed(list(drafts), due, epoch))
        return Scheduled(count_messages(drafts), due + self._log.clock.ahead, id=str(ScheduledId(epoch, number)))

    def remove(self, number: int, now: float) -> None:
        """Nothing, if it was removed before."""
        if (publish := self._delayed.record(number)) is not None:
            self._delayed.remove(number)
            self._log.memory.release(publish.drafts)
            self._log.count_delayed(publish.topic, -count_messages(publish.drafts), now)

    def page(self, match: TopicFilter | None, after: str | None, limit: int) -> Slices[SchedulePage]:
        """Those of the topics that match (None: all). Raises OptionInvalid."""
        selection = Selection(after, limit)
        for numbers in sliced([*self._delayed], 1 if match is None else match.effort):
            found = ((number, self._delayed.record(number)) for number in numbers)
            selection.add(
                [
                    (publish.wall_due(self._log.clock.ahead), f"{number:018}")
                    for number, publish in found
                    if publish is not None and (match is None or match.matches(publish.topic))
                ]
            )
            yield
        numbers_of_page, following = selection.page()
        there = ((int(number), self._delayed.record(int(number))) for number in numbers_of_page)
        return SchedulePage([self._state(number, known) for number, known in there if known is not None], following)

    def get(self, id: ScheduledId) -> ScheduledPublish:
        """Raises NotFound."""
        return self._state(id.number, self.existing(id))

    def existing(self, id: ScheduledId) -> Postponed:
        """Raises NotFound."""
        publish = self._delayed.record(id.number)
        if publish is None or self._epoch(publish) != id.epoch:
            raise missing(id)
        return publish

    def _epoch(self, publish: Postponed) -> str:
        return publish.epoch or self._log.epochs.current

    def _state(self, number: int, publish: Postponed) -> ScheduledPublish:
        first, drafts = publish.drafts[0], publish.drafts
        return ScheduledPublish(
            ScheduledId(self._epoch(publish), number),
            publish.wall_due(self._log.clock.ahead),
            count_messages(drafts),
            _size(drafts),
            Draft(first.envelope, first.bodies[:1]),
            drafts,
        )


def missing(id: ScheduledId) -> NotFound:
    """The error for a publish that is not scheduled, and for one that a client may not know of."""
    return NotFound(f"there is no scheduled publish {id} any more, or this token has no right to it")


def _size(drafts: Sequence[Draft]) -> int:
    return sum(len(body) for draft in drafts for body in draft.bodies)
