"""What was written to readers that did not take it: of all of them together, so that it has an end.

A reader's socket that is full has taken the reader out of what is live; what was written to it last is still here. When
all of that is too much, who has been in debt longest is cut off first, and comes back with its last id.
"""

from asyncio import AbstractEventLoop
from typing import Protocol


class Debtor(Protocol):
    def evict(self) -> None: ...


class Outflow:
    def __init__(self, most: int, loop: AbstractEventLoop) -> None:
        """`most`: bytes."""
        self.held = 0  # bytes
        self._most = most
        self._loop = loop
        self._debts: dict[Debtor, int] = {}  # the oldest first

    def add(self, debtor: Debtor, octets: int) -> None:
        """It was given so many bytes and is full."""
        self._debts[debtor] = self._debts.get(debtor, 0) + octets
        self.held += octets
        while self.held > self._most:
            oldest = next(iter(self._debts))
            self.settle(oldest)
            self._loop.call_soon(oldest.evict)  # not now: somebody may be in the middle of a delivery

    def settle(self, debtor: Debtor) -> None:
        """It has taken all of it, or is gone. Idempotent."""
        self.held -= self._debts.pop(debtor, 0)
