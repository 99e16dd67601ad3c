"""Seeking: a group goes back to an earlier position, or leaps forward.

Everything up to the position is done for the group, and everything after it is to be handed out. What is leased or
delayed after it stays so. Each slice leaves the group in a state that it could have had anyway, so a seek that is cut
short is only unfinished.
"""

from itertools import islice, takewhile

from ...messages.position import Cursor, Earliest, Start
from ...messages.topic import TopicFilter
from ..changes import OnChange, ignore_change
from ..log import Log
from ..reading import Reading, check_position
from ..slices import SLICE, Slices
from ..topic_log import TopicLog
from ..trimmer import Trimmer
from .admin import GroupAdmin
from .group import Group
from .groups import Groups


class Seeking:
    def __init__(
        self, log: Log, trimmer: Trimmer, reading: Reading, groups: Groups, admin: GroupAdmin, *,
        on_change: OnChange = ignore_change,
    ) -> None:  # fmt: skip
        self._log = log
        self._trimmer = trimmer
        self._reading = reading
        self._groups = groups
        self._admin = admin
        self._on_change = on_change

    def seek(self, topic: str, name: str, to: tuple[str, Start], now: float) -> Slices[None]:
        """`to`: as the client wrote it and parsed. Raises NotFound, OptionInvalid, LogFull."""
        word, start = to
        self._groups.existing(topic, name)
        cursor = yield from self._reading.locate(TopicFilter([topic]), start, now)
        check_position(word, cursor)
        if isinstance(start, Earliest):  # before the topic's first message ever, so that removed messages are a gap
            cursor = Cursor(0, 0, "earliest")
        if cursor.seq < self._groups.existing(topic, name).cursor:
            yield from self._back(topic, name, cursor)
        else:
            self._groups.existing(topic, name).restart(self._reading.missing(topic, cursor))
        yield from self._forward(topic, name, cursor.seq)

    def _back(self, topic: str, name: str, cursor: Cursor) -> Slices[None]:
        counting = yield from self._admin.count(topic, cursor.seq)
        topic_log, group = self._log.existing(topic), self._groups.existing(topic, name)
        self._log.hold_again(topic_log, counting)
        assert topic_log.unacked is not None
        for seq in [seq for seq in group.recent_dead if seq > cursor.seq]:  # they may be acked yet
            del group.recent_dead[seq]
            self._on_change("buried", (topic, name, seq))
        group.rewind(cursor.seq, topic_log.unacked.accepted - counting.count, self._reading.missing(topic, cursor))
        self._groups.refresh(topic, name, group)
        self._groups.wake(topic, name)

    def _forward(self, topic: str, name: str, end: int) -> Slices[None]:
        """Release the undelivered messages up to that seq, and then the jobs: a worker that loses one does not get
        another that it would lose too."""
        while True:
            topic_log, group = self._log.existing(topic), self._groups.existing(topic, name)
            passed, over = self._pass(topic_log, group, end)
            jobs = [*islice((seq for seq in group.jobs.by_seq if seq <= end), SLICE)] if over else []
            for seq in jobs:
                group.forget(seq)
            self._trimmer.settled(topic_log, passed + jobs)
            self._groups.refresh(topic, name, group)
            self._on_change("group", (topic, name))
            if over and len(jobs) < SLICE:
                return
            yield

    @staticmethod
    def _pass(topic: TopicLog, group: Group, end: int) -> tuple[list[int], bool]:
        """Move the cursor past a slice of messages. Returns those for all, and whether that was the last slice."""
        begin = group.cursor
        follow = ((run, seq) for run in topic.messages.after(begin) for seq in run.seqs if seq > begin)
        part = [*islice(takewhile(lambda one: one[1] <= end, follow), SLICE)]
        passed = [seq for run, seq in part if run.for_all]
        for seq in passed:
            group.forget(seq)
        over = len(part) < SLICE
        group.cursor = max(end, begin) if over else part[-1][1]
        return passed, over
