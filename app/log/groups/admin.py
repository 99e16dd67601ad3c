"""Creating, configuring and dropping groups."""

from collections.abc import Mapping
from itertools import chain, islice, takewhile
from typing import Any, Final
from urllib.parse import quote

import msgspec

from ...errors import DeadLettersLeft, GroupLimit, NotFound, OptionInvalid
from ...messages.position import EARLIEST, Cursor, Earliest, Gap, Start
from ...messages.topic import TopicFilter, dead_letter_of
from ..changes import OnChange, ignore_change
from ..log import Log
from ..reading import Reading, check_position
from ..slices import SLICE, Slices
from ..topic_log import TopicLog
from ..trimmer import Trimmer
from .group import Group
from .groups import Groups
from .records import GroupSettings
from .unacked import Counting

RELEASE_BATCH: Final = SLICE  # messages that one slice of dropping a group releases


class GroupAdmin:
    def __init__(
        self, log: Log, trimmer: Trimmer, reading: Reading, groups: Groups,
        on_change: OnChange = ignore_change,
    ) -> None:  # fmt: skip
        """`on_change` is called for each change that an engine may have to store."""
        self._log = log
        self._trimmer = trimmer
        self._reading = reading
        self._groups = groups
        self._on_change = on_change

    def join(self, topic: str, name: str, now: float, *, make: bool) -> Slices[Gap | None]:
        """Make sure that the group exists; if `make`, create it and its topic. Returns the messages that the group
        could not begin with since they are gone, until it has handed out a message. Raises NotFound, TopicLimit,
        GroupLimit, LogFull, OptionInvalid."""
        yield from self._finish_dropping(topic, name)
        if name not in self._groups.of(topic):
            yield from self.configure(topic, name, {}, None, now, make=make)
        return self._groups.existing(topic, name).unreported_gap

    def configure(
        self, topic: str, name: str, changes: Mapping[str, Any], start: tuple[str, Start] | None, now: float, *,
        make: bool = True,
    ) -> Slices[None]:  # fmt: skip
        """Change fields of the group's settings; if `make`, create a missing group and topic. `start`: where a new
        group begins, as the client wrote it and parsed. Raises NotFound, OptionInvalid, DeadLettersLeft, TopicLimit,
        GroupLimit, LogFull."""
        yield from self._finish_dropping(topic, name)
        word, position = start or ("", EARLIEST)
        begin = yield from self._reading.locate(TopicFilter([topic]), position, now)
        if isinstance(position, Earliest):  # from the topic's first message ever, so that removed messages are a gap
            begin = Cursor(0, 0, "earliest")
        counting = Counting(begin.seq)
        if make and name not in self._groups.of(topic):
            counting = yield from self.count(topic, begin.seq)
        group = self._groups.of(topic).get(name)
        if group is None and not make:
            raise NotFound(
                f"topic {topic!r} has no group {name!r} yet: PUT /topics/{quote(topic)}/groups/{name}, or a first POST "
                f"to its /pull, makes one; that takes the right to admin on the topic and on its dead-letter topic"
            )
        settings = self._settings(topic, name, group, changes, word)
        self._on_change("group", (topic, name))
        if group is not None:
            group.configure(settings)
            self._groups.refresh(topic, name, group)
        else:
            self._make(topic, name, settings, begin, counting, now=now)

    def _settings(
        self, topic: str, name: str, group: Group | None, changes: Mapping[str, Any], start: str
    ) -> GroupSettings:
        """The settings after the changes; `start` is empty if the client named none. Raises OptionInvalid,
        DeadLettersLeft."""
        known = group.settings if group else GroupSettings(changes.get("dead_letter") or dead_letter_of(topic))
        start = start or known.start
        if group is not None and start != known.start:
            raise OptionInvalid(
                f"group {name!r} of {topic!r} began at {known.start!r}, which cannot be changed: "
                f"delete the group and make it anew"
            )
        settings = msgspec.structs.replace(known, start=start, **changes)
        if group is None or settings.dead_letter != known.dead_letter:
            self._check_dead_letter(topic, name, known.dead_letter if group else "", settings.dead_letter)
        return settings

    def _check_dead_letter(self, topic: str, name: str, before: str, after: str) -> None:
        """`before`: the present dead-letter topic; empty for a new group. Raises OptionInvalid, DeadLettersLeft."""
        if left := self._groups.dead_in((topic, name), before):
            raise DeadLettersLeft(
                f"{before!r} has {left} dead messages of the group {name!r}, which the group would no longer know if "
                f"its dead_letter became {after!r}: redrive or delete them first"
            )
        if self._is_cycle(topic, after):
            raise OptionInvalid(
                f"dead_letter {after!r} leads back to {topic!r}: dead messages would circulate for ever"
            )

    def _is_cycle(self, topic: str, dead_letter: str) -> bool:
        """Whether a dead message that dies again in each dead-letter topic could return to the topic."""
        reached, ahead = {dead_letter}, [dead_letter]
        while ahead and topic not in reached:
            further = {group.settings.dead_letter for group in self._groups.of(ahead.pop()).values()} - reached
            reached |= further
            ahead += further
        return topic in reached

    def count(self, topic: str, begin: int) -> Slices[Counting]:
        """Count the messages of a group that is to begin there."""
        while topic_log := self._log.topics.get(topic):
            counting, holders = Counting(begin), self._holders(topic)
            counters = self._log.counters.setdefault(topic, [])
            counters.append(counting)
            try:
                while not counting.count_on(topic_log.messages, topic_log.unacked):
                    yield
            finally:
                counters.remove(counting)
                if not counters:
                    self._log.counters.pop(topic, None)
            if self._log.topics.get(topic) is topic_log and self._holders(topic) == holders:
                return counting
        return Counting(begin)

    def _holders(self, topic: str) -> tuple[int, list[Group]]:
        """What decides which messages are held, besides messages that are released: the groups, and how often one of
        them went back."""
        unacked = self._log.existing(topic).unacked
        return (0, []) if unacked is None else (unacked.rewinds, [*unacked.groups.values()])

    def _make(
        self, topic: str, name: str, settings: GroupSettings, cursor: Cursor, counting: Counting, *, now: float
    ) -> None:
        check_position(settings.start, cursor)
        topic_log = self._log.make(topic, now)
        groups = self._groups.of(topic)
        if len(groups) >= self._log.limits.groups:
            raise GroupLimit(f"topic {topic!r} has {len(groups)} groups, as many as a topic may have")
        group = Group(settings, cursor.seq, self._reading.missing(topic, cursor))
        self._log.add_group(topic_log, name, group, counting)

    # Dropping: clients no longer see a closing group; its messages are released in slices, after a restart too

    def drop(self, topic: str, name: str) -> Slices[None]:
        """Raises NotFound."""
        self._groups.close(topic, name, self._groups.existing(topic, name))
        yield from self._finish_dropping(topic, name)

    def drop_all(self, topic: str) -> Slices[None]:
        """Drop all groups of a topic that is about to be dropped."""
        names = [*self._groups.of(topic)]
        for name in names:
            self._groups.close(topic, name, self._groups.of(topic)[name])
        for name in names:
            yield from self._finish_dropping(topic, name)

    def continue_dropping(self) -> None:
        """One slice for the oldest of the groups that are being dropped. After a restart, nothing else drops them."""
        for topic, name in [*islice(self._groups.closing, 1)]:
            self._release(topic, name)

    def _finish_dropping(self, topic: str, name: str) -> Slices[None]:
        """Finish dropping the group, if it is being dropped."""
        while not self._release(topic, name):
            yield

    def _release(self, topic: str, name: str) -> bool:
        """One slice of dropping the group. True when the group is gone, or is not being dropped."""
        if (topic, name) not in self._groups.closing:
            return True
        topic_log, group = self._log.existing(topic), self._groups.of(topic)[name]
        jobs = [*islice(chain(group.jobs.by_seq, group.ahead), RELEASE_BATCH)]
        for seq in jobs:
            group.forget(seq)
        self._trimmer.settled(topic_log, jobs)
        for seq in [*islice(group.recent_dead, RELEASE_BATCH)]:
            del group.recent_dead[seq]
            self._on_change("buried", (topic, name, seq))
        self._groups.refresh(topic, name, group)
        if group.jobs.by_seq or group.ahead or group.recent_dead or not self._release_undelivered(topic_log, group):
            return False
        del self._groups.closing[topic, name]
        self._on_change("group", (topic, name))
        self._log.remove_group(topic_log, name)
        self._trimmer.trim(topic_log)
        return True

    def _release_undelivered(self, topic_log: TopicLog, group: Group) -> bool:
        """Release some of the messages that were never handed out, up to the other groups' cursors: the other groups
        hold the messages after these. True when none is left."""
        end = min([other.cursor for other in self._groups.of(topic_log.name).values() if other is not group], default=0)
        begin = group.cursor
        follow = ((run, seq) for run in topic_log.messages.after(begin) for seq in run.seqs if seq > begin)
        part = [*islice(takewhile(lambda one: one[1] <= end, follow), RELEASE_BATCH)]
        released = [seq for run, seq in part if run.for_all]
        if part:
            group.cursor = part[-1][1]
            group.passed += len(released)
            self._trimmer.settled(topic_log, released)
        return len(part) < RELEASE_BATCH
