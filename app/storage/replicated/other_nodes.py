"""Who listens at the other nodes, as they last said. It decides nothing: clients are told these numbers."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from ...log.run import Run
from ...messages.attendance import NOBODY, Attendance
from ...messages.filter_index import FilterIndex
from ...messages.message import ONE
from ...messages.topic import TopicFilter
from ..elsewhere import Elsewhere
from .sessions import Sessions


class Share(msgspec.Struct, eq=False):
    """Subscribers of one node that have asked for the same."""

    topic_filter: TopicFilter
    count: int


class OtherNodes(Elsewhere):
    def __init__(self, sessions: Callable[[], Sessions], own: str) -> None:
        """`sessions`: of now. `own`: the name of this node."""
        self._sessions = sessions
        self._own = own
        self._counted: Mapping[str, Attendance] = {}  # below, by node
        self._shares: dict[str, list[Share]] = {}  # by node
        self._index: FilterIndex[Share] = FilterIndex()
        self._consumers: Counter[tuple[str, str]] = Counter()  # by topic and group

    def subscribers(self, topic: str) -> int:
        self._refresh()
        return sum([share.count for share in self._index.find(topic)])

    def consumers(self, topic: str, group: str) -> int:
        self._refresh()
        return self._consumers[topic, group]

    @property
    def served(self) -> frozenset[tuple[str, str]]:
        self._refresh()
        return frozenset(self._consumers)

    def add_to(self, receivers: dict[int, int], runs: Sequence[Run]) -> None:
        """Count them as receivers of messages that are for all."""
        self._refresh()
        for run in runs:
            shares = () if run.envelope.delivery is ONE else self._index.matching(run.envelope.topic)
            if count := sum([share.count for share in shares]):
                for seq in range(run.first, run.seq + 1):
                    receivers[seq] = receivers.get(seq, 0) + count

    def _refresh(self) -> None:
        attendance = self._sessions().attendance
        if attendance is self._counted:
            return
        before, self._counted = self._counted, attendance
        for node in {*before, *attendance} - {self._own}:
            if before.get(node) is not attendance.get(node):
                self._replace(node, before.get(node, NOBODY), attendance.get(node, NOBODY))

    def _replace(self, node: str, before: Attendance, now: Attendance) -> None:
        for share in self._shares.pop(node, ()):
            self._index.discard(share)
        self._shares[node] = [Share(TopicFilter(one.names), one.count) for one in now.subscriptions]
        for share in self._shares[node]:
            self._index.add(share)
        self._consumers = self._consumers - _counts(before) + _counts(now)


def _counts(attendance: Attendance) -> Counter[tuple[str, str]]:
    return Counter({(one.topic, one.group): one.count for one in attendance.consumers})
