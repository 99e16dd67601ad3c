"""Budgets for the bytes that are buffered for all clients together: unread output, and unfinished input.

A subscriber whose socket is full is paused, and gets no more writes; the bytes written last are still buffered. When
the sum over all subscribers exceeds the budget, the one that has been slow longest is disconnected first. It resumes
from its last event id when it reconnects.
"""

from asyncio import AbstractEventLoop
from collections.abc import Iterable
from typing import Any, Protocol

from ..errors import Overloaded


class SlowClient(Protocol):
    def evict(self) -> None: ...


class OutboundBudget:
    def __init__(self, most: int, loop: AbstractEventLoop) -> None:
        """`most`: bytes."""
        self.held = 0  # bytes
        self._most = most
        self._loop = loop
        self._pending: dict[SlowClient, int] = {}  # bytes; the client that has been slow longest first

    def add(self, client: SlowClient, nbytes: int) -> None:
        """So many more bytes are buffered for a client that is full. Evicts the oldest ones above the budget."""
        self._pending[client] = self._pending.get(client, 0) + nbytes
        self.held += nbytes
        while self.held > self._most:
            oldest = next(iter(self._pending))
            self.drained(oldest)
            self._loop.call_soon(oldest.evict)  # not now: a delivery may be under way

    def drained(self, client: SlowClient) -> None:
        """The client has read all of it, or has disconnected. Idempotent."""
        self.held -= self._pending.pop(client, 0)


class InboundBudget:
    def __init__(self, most: int) -> None:
        """`most`: bytes."""
        self.held = 0
        self._most = most

    def grow(self, before: int, now: int) -> None:
        """An unfinished body or line has grown from `before` to `now` bytes, or has shrunk. Raises Overloaded, and then
        counts nothing."""
        more = now - before
        if more > 0 and self.held + more > self._most:
            raise Overloaded(f"clients have sent {self.held} bytes of unfinished input: try again in a few seconds")
        self.held += more


class Client(Protocol):
    transport: Any

    def unsent(self) -> int:
        """Bytes of responses that the client has not read."""
        ...


def shed_slow_clients(clients: Iterable[Client], most: int) -> None:
    """Disconnect the clients with the most unread bytes, until at most `most` bytes are unread in all."""
    slow = [(unsent, client) for client in clients if (unsent := client.unsent())]
    total = sum(unsent for unsent, _ in slow)
    for unsent, client in sorted(slow, key=lambda item: -item[0]):
        if total <= most:
            break
        client.transport.abort()
        total -= unsent
