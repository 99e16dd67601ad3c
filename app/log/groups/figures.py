"""The figures of groups: the state of one as clients see it, and the totals of all."""

from collections.abc import Set
from operator import attrgetter

from ...messages.message import Message
from ..log import Log
from ..topic_log import TopicLog
from ..totals import Totals
from .group import Group
from .groups import Groups
from .state import DeadLetterTopic, GroupState

_seq = attrgetter("seq")


class GroupFigures:
    def __init__(self, log: Log, groups: Groups) -> None:
        self._log = log
        self._groups = groups

    def state(self, topic: str, name: str, now: float) -> GroupState:
        """Raises NotFound."""
        group = self._groups.existing(topic, name)
        oldest = self._oldest(topic, group, now)
        return GroupState(
            topic, name,
            ready=self._groups.ready_in(self._log.existing(topic), group),
            leased=group.jobs.leased,
            delayed=group.jobs.delayed,
            acked=group.acked,
            dead=self._groups.dead_in((topic, name), group.settings.dead_letter),
            dead_total=group.dead_total,
            skipped=group.skipped,
            position=f"{self._log.epochs.of(group.cursor)}-{group.cursor}",
            paused=group.paused,
            oldest=oldest.id if oldest else None,
            oldest_time=oldest.time if oldest else None,
            gap=group.gap,
            dead_letters=self._dead_letters(group),
            settings=group.settings,
            rate=group.acks.rate(now, group.acked),
        )  # fmt: skip

    def _oldest(self, topic: str, group: Group, now: float) -> Message | None:
        """The oldest message that is not acked."""
        seq = group.jobs.oldest
        job = None if seq is None else self._log.existing(topic).messages.get(seq)
        if seq is not None and seq <= group.cursor:
            return job
        fresh = self._groups.fresh(topic, group)
        first = next((message for message in fresh if not message.expired(now)), None)
        return min((message for message in (job, first) if message is not None), key=_seq, default=None)

    def _dead_letters(self, group: Group) -> DeadLetterTopic:
        topic = self._log.topics.get(group.settings.dead_letter)
        retention = topic.retention if topic else self._log.limits.retention
        unacked = topic.unacked if topic else None
        kept, nbytes = (unacked.count, unacked.bytes) if unacked else (0, 0)
        return DeadLetterTopic(kept, nbytes, retention.max_messages, retention.max_bytes, len(group.jobs.postponed))

    def count(self, topic: TopicLog, totals: Totals, served: Set[tuple[str, str]]) -> None:
        """Add the topic's groups and its dead messages to the totals. `served`: groups that have consumers."""
        totals.dead += len(topic.unacked.dead) if topic.unacked else 0
        for name, group in topic.unacked.groups.items() if topic.unacked else ():
            if group.closing:
                continue
            ready = self._groups.ready_in(topic, group)
            totals.groups += 1
            totals.paused_groups += group.paused
            totals.ready += ready
            totals.leased += group.jobs.leased
            totals.delayed += group.jobs.delayed
            totals.postponed += len(group.jobs.postponed)
            origin = topic.name, name
            dead = self._groups.dead_in(origin, group.settings.dead_letter)
            totals.troubles.add_group(*origin, group, ready=ready, dead=dead, served=origin in served)
