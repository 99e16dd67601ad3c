"""The directory: lists of topics and of groups, in pages and in slices."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec

from ..messages.topic import TopicFilter
from .groups.figures import GroupFigures
from .groups.group import Group
from .groups.groups import Groups
from .groups.state import GroupState
from .log import Log
from .selection import Selection
from .slices import Slices, sliced
from .topic_log import TopicLog, TopicState

STATE_EFFORT: Final = 16  # as many items of a slice as a state counts: its messages may have to be found in a file
BY_NAME: Final = "name"

T = TypeVar("T")


class ListQuery(msgspec.Struct, frozen=True):
    """Which topics, or the groups of which topics (None: all), what their names contain (in small letters), how they
    are sorted, after which item a page begins (`next` of the page before), and how many items it has at most (None:
    all)."""

    match: TopicFilter | None = None
    search: str = ""
    sort: str = BY_NAME
    after: str | None = None
    limit: int | None = None

    @property
    def effort(self) -> int:
        return 1 if self.match is None else self.match.effort

    def finds(self, name: str) -> bool:
        """Whether the name, of a topic or of a group as `topic/group`, contains what is searched for."""
        return self.search in name.lower()

    def selects(self, topic: str) -> bool:
        return self.match is None or self.match.matches(topic)


class ListPage(msgspec.Struct, Generic[T], frozen=True):
    """`next`: after which item the next page begins; None if this is the last one. `total`: how many items all pages
    have together."""

    items: list[T]
    next: str | None
    total: int


TOPIC_SORTS: Final[Mapping[str, Callable[[TopicLog, float], float]]] = {
    BY_NAME: lambda _topic, _now: 0,
    "-messages": lambda topic, _now: -topic.messages.live,
    "-bytes": lambda topic, _now: -topic.bytes,
    "-delayed": lambda topic, _now: -topic.delayed,
    "-rate": lambda topic, now: -topic.rate(now),
}


class ListedGroup(NamedTuple):
    topic: TopicLog
    name: str
    group: Group

    @property
    def path(self) -> str:
        return f"{self.topic.name}/{self.name}"

    def dead(self, groups: Groups) -> int:
        return groups.dead_in((self.topic.name, self.name), self.group.settings.dead_letter)


def _lag(listed: ListedGroup) -> int:
    return Groups.ready_in(listed.topic, listed.group) + listed.group.jobs.leased + listed.group.jobs.delayed


GROUP_SORTS: Final[Mapping[str, Callable[[Groups, ListedGroup, float], float]]] = {
    BY_NAME: lambda _groups, _listed, _now: 0,
    "-lag": lambda _groups, listed, _now: -_lag(listed),
    "-leased": lambda _groups, listed, _now: -listed.group.jobs.leased,
    "-delayed": lambda _groups, listed, _now: -listed.group.jobs.delayed,
    "-dead": lambda groups, listed, _now: -listed.dead(groups),
    "-rate": lambda _groups, listed, now: -listed.group.acks.rate(now, listed.group.acked),
}


class Directory:
    def __init__(self, log: Log, groups: Groups, figures: GroupFigures) -> None:
        self._log = log
        self._groups = groups
        self._figures = figures

    def topics(self, query: ListQuery, now: float) -> Slices[ListPage[TopicState]]:
        """Raises OptionInvalid."""
        topics, figure, selection = self._log.topics, TOPIC_SORTS[query.sort], _selection(query)
        for part in sliced([*topics.values()], query.effort):
            selection.add(
                [
                    (figure(topic, now), topic.name)
                    for topic in part
                    if query.finds(topic.name) and query.selects(topic.name)
                ]
            )
            yield
        names, following = selection.page()
        found: list[TopicState] = []
        for chosen in sliced(names, STATE_EFFORT):
            found += [topics[name].state(now) for name in chosen if name in topics]
            yield
        return ListPage(found, following, selection.total)

    def groups(self, query: ListQuery, now: float) -> Slices[ListPage[GroupState]]:
        """The names that they are sorted by are those of the topic and the group, with a `/` between. Raises
        OptionInvalid."""
        figure, selection = GROUP_SORTS[query.sort], _selection(query)
        for part in sliced(self._all_groups(query), query.effort):
            selection.add([(figure(self._groups, listed, now), listed.path) for listed in part])
            yield
        names, following = selection.page()
        found: list[GroupState] = []
        for chosen in sliced(names, STATE_EFFORT):
            for topic, _, name in (each.rpartition("/") for each in chosen):
                if self._groups.exists(topic, name):
                    found.append(self._figures.state(topic, name, now))
            yield
        return ListPage(found, following, selection.total)

    def _all_groups(self, query: ListQuery) -> Iterator[ListedGroup]:
        """Groups that come into being meanwhile may be left out."""
        for topic in [topic for topic in self._log.topics.values() if topic.unacked is not None]:
            if topic.unacked is not None and query.selects(topic.name):
                for name, group in [*topic.unacked.groups.items()]:
                    listed = ListedGroup(topic, name, group)
                    if not group.closing and query.finds(listed.path):
                        yield listed


def _selection(query: ListQuery) -> Selection:
    """Raises OptionInvalid."""
    return Selection(query.after, query.limit, by_name=query.sort == BY_NAME)
