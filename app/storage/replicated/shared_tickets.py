"""The tickets of servers that share a log: they tell each other which are spent."""

from collections.abc import Callable

from .contents import Contents, TicketNote
from .follower import Follower


class SharedTickets:
    """The log as tickets see it (app/access/tickets.py)."""

    def __init__(self, follower: Follower, node: str, tell: Callable[[TicketNote], None]) -> None:
        self._follower = follower
        self._node = node
        self._tell = tell
        self.on_ticket: Callable[[int, bool], None] = lambda _number, _spent: None
        self.now = follower.now

    @property
    def origin(self) -> str:
        return self._follower.fold.core.log.epochs.first

    def tell_ticket(self, number: int, spent: bool) -> None:
        self._tell(TicketNote(number, spent))

    def hear(self, contents: Contents) -> None:
        """Of an entry that was carried out."""
        for note in contents.tickets if contents.node != self._node else ():
            self.on_ticket(note.number, note.spent)
