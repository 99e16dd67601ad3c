"""Tickets: what an EventSource shows in place of a token, since it can send no header. A ticket stands in a URL, where
logs and histories keep it: so it is good once, and for a short time.
"""

from collections import Counter
from collections.abc import Collection
from hashlib import sha256
from secrets import token_urlsafe
from typing import Final

import msgspec

from ..errors import TicketLimit, Unauthorised
from .grant import Grant

LIFE: Final = 30.0  # seconds
MAX_TICKETS: Final = 10_000  # that are open at once, as many as there may be subscribers; each costs some hundred bytes
MAX_EACH: Final = 1_000  # of one grant's name, so that nobody can take all of them

_RANDOM: Final = 32  # bytes


class Ticket(msgspec.Struct, frozen=True):
    """`expires` is in Unix seconds."""

    ticket: str
    expires: float


class Tickets:
    def __init__(self) -> None:
        self._open: dict[bytes, tuple[Grant, float]] = {}  # by the ticket's hash, the oldest first
        self._of: Counter[str] = Counter()

    def make(self, grant: Grant, now: float) -> Ticket:
        """Raises TicketLimit."""
        self._forget_old(now)
        if len(self._open) >= MAX_TICKETS or self._of[grant.name] >= MAX_EACH:
            raise TicketLimit(f"there are {self._of[grant.name]} tickets of yours, or {MAX_TICKETS} of all: wait a bit")
        ticket = Ticket(token_urlsafe(_RANDOM), now + LIFE)
        self._open[_hash(ticket.ticket)] = grant, ticket.expires
        self._of[grant.name] += 1
        return ticket

    def take(self, ticket: str, now: float) -> Grant:
        """Whose it was; nobody can take it again. Raises Unauthorised."""
        self._forget_old(now)
        found = _hash(ticket)
        if found not in self._open:
            raise Unauthorised(f"the ticket is not good: each is for one stream, begun within {LIFE:.0f} seconds")
        return self._remove(found)

    def forget(self, gone: Collection[Grant]) -> None:
        """Those of these grants are good no more."""
        for ticket in [ticket for ticket, (grant, _) in self._open.items() if grant in gone]:
            self._remove(ticket)

    def _forget_old(self, now: float) -> None:
        while self._open and next(iter(self._open.values()))[1] <= now:
            self._remove(next(iter(self._open)))

    def _remove(self, ticket: bytes) -> Grant:
        grant, _ = self._open.pop(ticket)
        self._of[grant.name] -= 1
        if not self._of[grant.name]:
            del self._of[grant.name]
        return grant


def _hash(ticket: str) -> bytes:
    return sha256(ticket.encode()).digest()
