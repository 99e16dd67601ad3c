"""Topics in a snapshot, in the order in which the log has them."""

from collections.abc import Iterator

from ...messages.message import Envelope
from ..groups.unacked import UnackedIndex, UnackedRecord
from ..state import LogStateMachine
from ..topic_log import Retention, TopicLog
from ..trims import TrimMark
from .record import Record, Restored


class TopicRecord(Record, frozen=True, array_like=True, gc=False, tag="topic"):
    """The fields are those of TopicLog. `check`: when it has to be trimmed or dropped."""

    name: str
    retention: Retention
    trim_mark: TrimMark
    nbytes: int
    delayed: int
    next_index: int
    last_used: float
    paused: bool
    pinned: bool
    check: float | None
    unacked: UnackedRecord | None

    @classmethod
    def all(cls, core: LogStateMachine) -> "Iterator[TopicRecord]":
        for topic in core.log.topics.values():
            yield cls(
                topic.name, topic.retention, topic.trim_mark, topic.bytes, topic.delayed, topic.next_index,
                topic.last_used, topic.paused, topic.pinned, core.log.check_times.get(topic.name),
                None if topic.unacked is None else topic.unacked.record(),
            )  # fmt: skip

    def restore(self, restored: Restored) -> None:
        log, default = restored.core.log, restored.core.log.limits.retention
        retention = default if self.retention == default else self.retention  # most topics share the default
        log.topics[self.name] = TopicLog(
            self.name, retention, self.trim_mark, log.store.of_topic(self.name), bytes=self.nbytes,
            delayed=self.delayed, next_index=self.next_index, last_used=self.last_used, paused=self.paused,
            pinned=self.pinned, unacked=None if self.unacked is None else UnackedIndex.from_record(self.unacked),
        )  # fmt: skip
        if self.check is not None:
            log.check_times.set(self.name, self.check)
        restored.topics.append(log.topics[self.name])
        restored.envelopes.append(Envelope(self.name))
