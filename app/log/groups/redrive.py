"""Redriving: dead messages return to the group that gave them up, and to no other.

In one decision the dead letters are removed from the dead-letter topic, and their copies are accepted in the topic of
the group, where they are jobs from the start: streams, pages and other groups never see them.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from ...errors import Refused, TopicPaused
from ...messages.message import Draft, Envelope, Id, Message, Redrive, republished
from ..log import Log
from ..slices import LOOK_EFFORT, Slices, sliced
from ..topic_log import TopicLog
from ..trimmer import Trimmer
from .groups import Groups
from .job import JOB_COST

REDRIVE_BATCH: Final = 50  # messages of one slice: each is accepted and removed, a few milliseconds with a file


class RedriveTarget(msgspec.Struct, frozen=True):
    """The group that gets its dead letters back from the topic `place`, and how many of them become ready in a second
    (None: all at once)."""

    topic: str
    group: str
    place: str
    rate: float | None = None

    def due(self, now: float, number: int) -> float:
        """When the message with this number, from 0, is ready."""
        return now if self.rate is None else now + number / self.rate


class Redriven(msgspec.Struct, frozen=True):
    """`seqs`: the dead letters that are back in their group. `left`: how many are still in the dead-letter topic.
    `sources`: ids of messages that died, of these dead letters, by which they were named."""

    seqs: list[int]
    left: int
    sources: frozenset[str] = frozenset()


class Redriving:
    def __init__(self, log: Log, trimmer: Trimmer, groups: Groups) -> None:
        self._log = log
        self._trimmer = trimmer
        self._groups = groups

    def some(self, target: RedriveTarget, ids: Sequence[Id], now: float) -> Slices[Redriven]:
        """Return those of the dead letters that are there: all of them, or none. `ids`: of the dead letters, or of the
        messages that died. Raises NotFound, LogFull, MessageTooLarge, TopicPaused."""
        dead = self._dead(target)
        chosen = {id.seq for id in ids if self._log.epochs.knows(id)}
        there = chosen.intersection(dead)
        sources = {str(id) for id in ids if id.seq not in there}
        found = (yield from self._find(dead, sources)) if sources else {}
        seqs = [seq for seq in self._dead(target) if seq in chosen or seq in found]  # some may have left meanwhile
        self._move(target, seqs, now, now)
        return Redriven(seqs, self._left(target), frozenset(found[seq] for seq in seqs if seq in found))

    def _find(self, dead: Sequence[int], sources: set[str]) -> Slices[dict[int, str]]:
        """The dead letters of these messages, each with the id of the message that died."""
        found: dict[int, str] = {}
        for part in sliced(dead, LOOK_EFFORT):
            for seq in part:
                letter = self._log.messages.get(seq)
                if letter is not None and letter.death is not None and letter.death.id in sources:
                    found[seq] = letter.death.id
            yield
        return found

    def all(self, target: RedriveTarget, now: float) -> Slices[Redriven]:
        """Return all dead letters that are there now, in slices. If there is no room for all of them, or the topic is
        paused meanwhile, some stay. Raises NotFound; LogFull, MessageTooLarge or TopicPaused if none could return."""
        waiting, moved = self._dead(target), list[int]()
        for begin in range(0, len(waiting), REDRIVE_BATCH):
            part = [seq for seq in waiting[begin : begin + REDRIVE_BATCH] if self._is_dead(target, seq)]
            try:
                self._move(target, part, now, target.due(now, begin))
            except (Refused, TopicPaused):
                if not moved:
                    raise
                break
            moved += part
            yield
        return Redriven(moved, self._left(target))

    def _left(self, target: RedriveTarget) -> int:
        return self._groups.dead_in((target.topic, target.group), target.place)

    def _is_dead(self, target: RedriveTarget, seq: int) -> bool:
        """Whether the dead letter is still there. Raises NotFound."""
        self._groups.existing(target.topic, target.group)
        place = self._log.topics.get(target.place)
        return place is not None and place.unacked is not None and seq in place.unacked.dead

    def _dead(self, target: RedriveTarget) -> list[int]:
        """The seqs of the group's dead letters. Raises NotFound."""
        self._groups.existing(target.topic, target.group)
        place = self._log.topics.get(target.place)
        return [] if place is None or place.unacked is None else [*place.unacked.dead.of((target.topic, target.group))]

    def _move(self, target: RedriveTarget, seqs: Sequence[int], now: float, begin: float) -> None:
        """`begin`: when the first is ready."""
        if not seqs:
            return
        place, topic = self._log.existing(target.place), self._log.existing(target.topic)
        letters = [message for message in map(place.messages.get, seqs) if message is not None]
        drafts = [Draft(_envelope(target, letter), (letter.data,)) for letter in letters]
        self._log.check_room(drafts)
        self._log.memory.check(JOB_COST * len(drafts))
        self._accept(target, topic, drafts, now, begin)
        for letter in letters:
            self._log.remove(letter)
        self._groups.settled.redriven += len(letters)
        self._log.schedule_check(place)

    def _accept(
        self, target: RedriveTarget, topic: TopicLog, drafts: Sequence[Draft], now: float, begin: float
    ) -> None:
        group = self._groups.existing(target.topic, target.group)
        for number, run in enumerate(self._log.accept(drafts, now)):
            group.redrive(run.seq, target.due(begin, number), now)
        self._trimmer.trim(topic, len(drafts))
        self._groups.refresh(target.topic, target.group, group)


def _envelope(target: RedriveTarget, letter: Message) -> Envelope:
    original = letter.death.id if letter.death else letter.id
    return republished(letter, target.topic, redrive=Redrive(target.group, original))
