"""The level that all nodes decide by: one that all of them know.

It rises when no node of a lower level has been alive for a while, and never falls. The entries alone say when, so all
nodes go over at the same entry; a node that does not know the next level stops there.
"""

from math import inf
from typing import Final

from ...log.state import LogStateMachine
from .contents import NewerVersion

PAUSE: Final = 60.0  # seconds without a node of the present level: all sessions may end while the journal is away


class LevelInUse:
    def __init__(self, core: LogStateMachine, known: int) -> None:
        """`known`: the newest level that this node knows."""
        self._core = core
        self._known = known
        self.above_since: float | None = -inf  # since when all nodes that are alive know a higher level

    def check(self, lowest: int, now: float) -> None:
        """`lowest`: of the nodes that are alive. Raises NewerVersion if this node does not know the level that is in
        use from now on."""
        if lowest <= self._core.level:
            self.above_since = None
        elif self._is_over(now):
            self.above_since, self._core.level = None, lowest
            self.check_known()
        elif self.above_since is None:
            self.above_since = now

    def _is_over(self, now: float) -> bool:
        return self.above_since is not None and now >= self.above_since + PAUSE

    def check_known(self) -> None:
        """Raises NewerVersion."""
        if self._core.level > self._known:
            raise NewerVersion(
                f"the servers on this log have gone over to level {self._core.level} of what commands mean, and this "
                f"version of plainmq knows level {self._known}: update this server"
            )
