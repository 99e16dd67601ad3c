"""What was written to readers that did not take it: of all of them together, so that it has an end.

A reader's socket that is full has taken the reader out of what is live; what was written to it last is still here. When
all of that is too much, who has been in debt longest is cut off first, and comes back with its last id.
"""

from asyncio import AbstractEventLoop
from collections.abc import Iterable
from typing import Any, Protocol

from ..errors import Overloaded


class Debtor(Protocol):
    def evict(self) -> None: ...


class OutboundBudget:
    def __init__(self, most: int, loop: AbstractEventLoop) -> None:
        """`most`: bytes."""
        self.held = 0  # bytes
        self._most = most
        self._loop = loop
        self._debts: dict[Debtor, int] = {}  # the oldest first

    def owe(self, debtor: Debtor, nbytes: int) -> None:
        """It was given so many bytes and is full."""
        self._debts[debtor] = self._debts.get(debtor, 0) + nbytes
        self.held += nbytes
        while self.held > self._most:
            oldest = next(iter(self._debts))
            self.drained(oldest)
            self._loop.call_soon(oldest.evict)  # not now: somebody may be in the middle of a delivery

    def drained(self, debtor: Debtor) -> None:
        """It has taken all of it, or is gone. Idempotent."""
        self.held -= self._debts.pop(debtor, 0)


class InboundBudget:
    def __init__(self, most: int) -> None:
        """`most`: bytes."""
        self.held = 0
        self._most = most

    def grow(self, before: int, now: int) -> None:
        """A body or a line that had so many bytes has so many now. Raises Overloaded, and then it is as before."""
        more = now - before
        if more > 0 and self.held + more > self._most:
            raise Overloaded(
                f"clients have sent {self.held} bytes of what is not whole yet: try again in a few seconds"
            )
        self.held += more


class Client(Protocol):
    transport: Any

    def unsent(self) -> int:
        """Bytes of answers that it has not taken."""
        ...


def shed_slow_clients(clients: Iterable[Client], most: int) -> None:
    """Cut off who has taken least of his answers, until at most so many bytes are not taken."""
    owing = [(unsent, client) for client in clients if (unsent := client.unsent())]
    total = sum(unsent for unsent, _ in owing)
    for unsent, client in sorted(owing, key=lambda owed: -owed[0]):
        if total <= most:
            break
        client.transport.abort()
        total -= unsent
