"""Sessions: which nodes are alive. What clients have through a node returns when its session ends.

Each entry of a node renews its session, so nothing tells a node that is gone from one that was stopped for as long.
"""

from collections.abc import Mapping
from itertools import islice
from typing import Final

import msgspec

from ...log.deadlines import Deadlines
from ...log.state import LogStateMachine
from ...messages.attendance import Attendance

SESSION: Final = 15.0  # seconds without an entry of the node: longer than a failover of a journal takes in most cases
RENEWED: Final = 1.0  # seconds: a session that has grown older by less is as good as new
LEASE_BATCH: Final = 200  # leases that one call ends: a few milliseconds


class SessionsRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Each node with the time at which its session was renewed and ends, the nodes that may still have leases, who
    listens at each, and the newest level that each knows; in order."""

    nodes: list[tuple[str, float, float | None]]
    over: list[str]
    attendance: dict[str, Attendance] = {}
    levels: dict[str, int] = {}


class Sessions:
    def __init__(self, core: LogStateMachine) -> None:
        self._core = core
        self._ends: Deadlines[str] = Deadlines()  # by node
        self._renewed: dict[str, float] = {}  # when, by node
        self._over: dict[str, None] = {}  # nodes that may still have leases
        self._levels: dict[str, int] = {}  # the newest that it knows, by node
        self.lowest_level = 0
        self.attendance: Mapping[str, Attendance] = {}  # by node, as it last said; never changed, but replaced

    def record(self) -> SessionsRecord:
        nodes = [(node, renewed, self._ends.get(node)) for node, renewed in self._renewed.items()]
        return SessionsRecord(nodes, [*self._over], {**self.attendance}, {**self._levels})

    def restore(self, record: SessionsRecord) -> None:
        for node, renewed, ends in record.nodes:
            self._renewed[node] = renewed
            if ends is not None:
                self._ends.set(node, ends)
        self._over = dict.fromkeys(record.over)
        self.attendance = record.attendance
        self._levels = record.levels
        self._find_lowest_level()

    @property
    def alive(self) -> list[str]:
        """Nodes, by when they came."""
        return [*self._renewed]

    @property
    def deadline(self) -> float:
        """When the next pass_time() has work."""
        return 0.0 if self._over else self._ends.next()

    def renew(self, node: str, level: int, now: float) -> None:
        """`level`: the newest that it knows."""
        if node not in self._levels:
            self._levels[node] = level
            self._find_lowest_level()
        if now >= self._renewed.get(node, -RENEWED) + RENEWED:
            self._renewed[node] = now
            self._ends.set(node, now + SESSION)

    def _find_lowest_level(self) -> None:
        self.lowest_level = min(self._levels.values(), default=0)

    def attend(self, node: str, attendance: Attendance) -> None:
        self.attendance = {**self.attendance, node: attendance}

    def end(self, node: str) -> None:
        """What the node has in transit is unclaimed again, and leases of its connections are about to end."""
        self._renewed.pop(node, None)
        self._levels.pop(node, None)
        self._find_lowest_level()
        self._ends.discard(node)
        self._over[node] = None
        self.attendance = {name: said for name, said in self.attendance.items() if name != node}
        single = self._core.log.single_delivery
        before, single.node = single.node, node
        self._core.give_back(single.of_node(node))
        single.node = before

    def pass_time(self, now: float) -> None:
        for node in self._ends.due(now):
            self.end(node)
        left = LEASE_BATCH
        for node in [*self._over]:
            leases = [*islice(self._core.groups.bound_to(node), left)]
            for lease in leases:
                self._core.groups.excuse(*lease)
            left -= len(leases)
            if not left:
                break
            del self._over[node]
