"""Groups that need attention: they have dead messages, or messages that are ready and that nobody takes."""

from enum import StrEnum
from heapq import heappush, heapreplace
from typing import Final

import msgspec

from .group import Group

MAX_TROUBLES: Final = 20  # the most urgent ones are kept: more than a person reads at a time
NONE_SERVED: Final[frozenset[tuple[str, str]]] = frozenset()


class TroubleKind(StrEnum):
    """The most urgent first."""

    DEAD_WAITING = "dead_waiting"  # dead messages wait for room in the dead-letter topic
    DEAD = "dead"  # dead messages can be redriven
    PAUSED = "paused"  # messages are ready, and the group is paused
    NO_WORKERS = "no_workers"  # messages are ready; nobody works for the group, or holds a lease


_URGENCY: Final = {kind: -rank for rank, kind in enumerate(TroubleKind)}


class Trouble(msgspec.Struct, frozen=True):
    """`count`: of messages. `place`: where the dead messages wait for room."""

    kind: TroubleKind
    count: int
    topic: str
    group: str
    place: str


class Troubles:
    """The most urgent troubles, and the number of all."""

    def __init__(self) -> None:
        self.total = 0
        self._heap: list[tuple[int, int, int, Trouble]] = []  # the least urgent is the first

    def add_group(self, topic: str, name: str, group: Group, *, ready: int, dead: int, served: bool) -> None:
        """Examine a group. `dead`: its messages in the dead-letter topic. `served`: it has consumers."""
        if group.jobs.postponed:
            self._add(TroubleKind.DEAD_WAITING, len(group.jobs.postponed), topic, name, group)
        if dead:
            self._add(TroubleKind.DEAD, dead, topic, name, group)
        if ready and group.paused:
            self._add(TroubleKind.PAUSED, ready, topic, name, group)
        elif ready and not served and not group.jobs.leased:
            self._add(TroubleKind.NO_WORKERS, ready, topic, name, group)

    def _add(self, kind: TroubleKind, count: int, topic: str, name: str, group: Group) -> None:
        self.total += 1
        rank = _URGENCY[kind], count, -self.total
        if len(self._heap) < MAX_TROUBLES:
            heappush(self._heap, (*rank, Trouble(kind, count, topic, name, group.settings.dead_letter)))
        elif rank > self._heap[0][:3]:
            heapreplace(self._heap, (*rank, Trouble(kind, count, topic, name, group.settings.dead_letter)))

    @property
    def most_urgent(self) -> list[Trouble]:
        return [trouble for *_, trouble in sorted(self._heap, reverse=True)]
