"""Agreement: whether this node is in the same state as the others, of which each entry says where its node was.

Who differs from the others reads the log again. It stays if more than half of the nodes that are alive, with itself,
are in its state; of two nodes, both read it again.
"""

from logging import ERROR

from ...telemetry.log import log_event
from .sessions import Sessions


class Agreement:
    def __init__(self, own: str) -> None:
        """`own`: the name of this node."""
        self._own = own
        self._since: int | None = None  # the number of the entry at which a node differed
        self._votes: dict[str, bool] = {}  # whether a node agrees, at that entry or later
        self._reported: set[str] = set()

    def heard(self, node: str, number: int, agrees: bool | None, sessions: Sessions) -> bool | None:
        """`node` was in the same state at this entry, or not; None: that is not known.
        Returns False if this node must read the log again; True if another one has to, and it is the first time that
        this is known."""
        if agrees is None or node == self._own or (agrees and self._since is None):
            return None
        if self._since is None:
            self._since = number
        if number >= self._since:
            self._votes[node] = agrees
        return self._verdict({*sessions.alive, self._own})

    def _verdict(self, alive: set[str]) -> bool | None:
        votes = {node: agrees for node, agrees in self._votes.items() if node in alive}
        others = {node for node, agrees in votes.items() if not agrees}
        if 2 * len(others) >= len(alive):
            log_event("the state of this server is not that of the others: it reads the log again", ERROR)
            return False
        if 2 * (1 + len(votes) - len(others)) <= len(alive):
            return None  # some have said nothing since
        if not others:
            self._since, self._votes, self._reported = None, {}, set()
        new = others - self._reported
        for node in sorted(new):
            log_event(
                "the state of another server is not that of the others: it has to read the log again", ERROR, node=node
            )
        self._reported |= new
        return True if new else None
