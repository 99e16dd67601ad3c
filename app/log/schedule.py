"""The schedule: delayed publishes as clients see them."""

from collections.abc import Sequence

import msgspec

from ..errors import NotFound
from ..messages.message import Draft, count_messages
from ..messages.scheduled_id import ScheduledId
from ..messages.topic import TopicFilter
from .delayed import Delayed, Postponed
from .log import Log
from .selection import Selection
from .slices import Slices, sliced


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

    def page(self, match: TopicFilter | None, after: str | None, limit: int) -> Slices[SchedulePage]:
        """Those of the topics that match (None: all). Raises OptionInvalid."""
        selection = Selection(after, limit)
        for numbers in sliced([*self._delayed], 1 if match is None else match.effort):
            found = ((number, self._delayed.record(number)) for number in numbers)
            selection.add(
                [
                    (publish.due, f"{number:018}")
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
            publish.due + self._log.ahead,
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
