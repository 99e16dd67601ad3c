"""Dead letters: messages that are out of attempts in a group move to the group's dead-letter topic."""

from collections.abc import Iterator
from itertools import islice
from typing import Final

import msgspec

from ...messages.message import Death, Draft, Message, republished
from ..changes import OnChange, ignore_change
from ..log import Log
from ..trimmer import Trimmer
from .group import Group
from .groups import Groups

DEAD_LETTER_BATCH: Final = 25  # messages that die in one call: each is published to another topic


class DeadLetter(msgspec.Struct, frozen=True):
    """A message that is out of attempts, and the draft for the group's dead-letter topic."""

    topic: str
    group: str
    seq: int
    draft: Draft


class DeadLetters:
    """Removes messages that are out of attempts from their groups. The caller publishes their drafts."""

    def __init__(self, log: Log, trimmer: Trimmer, groups: Groups, on_change: OnChange = ignore_change) -> None:
        self._log = log
        self._trimmer = trimmer
        self._groups = groups
        self._on_change = on_change

    def pending(self, now: float) -> Iterator[DeadLetter]:
        """Some of the messages that are out of attempts. The caller must pass each to published() or postpone() before
        it asks for the next."""
        groups = self._groups
        for topic, name in [*islice(groups.dead_letter_pending, 1)]:
            group = groups.existing(topic, name)
            for seq in [*islice(group.jobs.dead_letter_pending, DEAD_LETTER_BATCH)]:
                if message := groups.message(topic, seq, now):
                    yield DeadLetter(topic, name, seq, self._draft(name, group, message))
                else:
                    group.forget(seq)
            if not group.jobs.dead_letter_pending:
                groups.dead_letter_pending.pop((topic, name), None)

    def _draft(self, name: str, group: Group, message: Message) -> Draft:
        job = group.jobs.by_seq[message.seq]
        first = job.last_failure if job.first_failure is None else job.first_failure
        ahead = self._log.clock.ahead
        original = message.redrive.original if message.redrive else message.id
        death = Death(
            original, message.topic, name, job.tries, job.reason, first + ahead, job.last_failure + ahead
        )  # fmt: skip
        return Draft(republished(message, group.settings.dead_letter, death=death), [message.data])

    def published(self, letter: DeadLetter) -> None:
        """The draft is in the dead-letter topic: the message is dead in its group."""
        group = self._groups.existing(letter.topic, letter.group)
        self._groups.settled.dead += 1
        for seq in (letter.seq, group.dead_letter(letter.seq)):
            if seq is not None:
                self._on_change("buried", (letter.topic, letter.group, seq))
        self._groups.refresh(letter.topic, letter.group, group)
        self._trimmer.settled(self._log.existing(letter.topic), [letter.seq])

    def postpone(self, letter: DeadLetter, until: float) -> None:
        """The dead-letter topic has no room: try again at `until`. No consumer gets the message in between."""
        group = self._groups.existing(letter.topic, letter.group)
        group.jobs.postpone(letter.seq, until)
        self._groups.refresh(letter.topic, letter.group, group)
