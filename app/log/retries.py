"""Retries: what found no room in a topic, or found it paused, is tried again at once when an operator has changed that.

Otherwise it is tried again after RETRY_INTERVAL (app/log/state.py).
"""

from .delayed import Delayed
from .groups.groups import Groups
from .log import Log
from .slices import Slices, sliced


class Retries:
    def __init__(self, log: Log, delayed: Delayed, groups: Groups) -> None:
        self._log = log
        self._delayed = delayed
        self._groups = groups

    def of_topic(self, topic: str, now: float) -> Slices[None]:
        """Its delayed publishes that are due, and the dead letters that wait for it in their groups."""
        for numbers in sliced(self._delayed.of_topic(topic)):
            for number in numbers:
                self._delayed.retry(number)
            yield
        for sources in sliced([*self._log.topics]):
            waiting = [
                (source, name)
                for source in sources
                for name, group in self._groups.of(source).items()
                if group.jobs.postponed and group.settings.dead_letter == topic
            ]
            for source, name in waiting:
                yield from self.of_group(source, name, now)
            yield

    def of_group(self, topic: str, name: str, now: float) -> Slices[None]:
        """The dead letters that wait in the group."""
        group = self._groups.of(topic).get(name)
        if group is None:
            return
        for seqs in sliced([*group.jobs.postponed]):
            if not self._groups.exists(topic, name):
                return
            for seq in seqs:
                group.jobs.retry(seq, now)
            self._groups.refresh(topic, name, group)
            yield
