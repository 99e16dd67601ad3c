"""Answers that clients do not take: of all of them together, so that they have an end."""

from collections.abc import Iterable
from typing import Any, Protocol


class Client(Protocol):
    transport: Any

    def unsent(self) -> int:
        """Bytes of answers that it has not taken."""
        ...


def relieve(clients: Iterable[Client], most: int) -> None:
    """Cut off who has taken least of his answers, until at most so many bytes are not taken."""
    owing = [(unsent, client) for client in clients if (unsent := client.unsent())]
    total = sum(unsent for unsent, _ in owing)
    for unsent, client in sorted(owing, key=lambda owed: -owed[0]):
        if total <= most:
            break
        client.transport.abort()
        total -= unsent
