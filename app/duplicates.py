"""Idempotency keys: a publish that is repeated within the memory of its key is told what the first one was told."""

from typing import Final

import msgspec

from .message import Receipt, Scheduled

Answer = Receipt | Scheduled

WINDOW: Final = 120.0  # seconds: longer than any client's retries take
MOST: Final = 10_000  # keys, so that memory is bounded


class Duplicates:
    """The receipts of the newest keys. Keys of different topics are different keys."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[float, Answer]] = {}  # oldest first

    def find(self, topic: str, key: str, now: float) -> Answer | None:
        """What the first publish with this key was told, marked as a duplicate's; None when the key is new."""
        time, receipt = self._seen.get((topic, key), _NEVER)
        if receipt is None or time + WINDOW <= now:
            return None
        return msgspec.structs.replace(receipt, duplicate=True)

    def remember(self, topic: str, key: str, receipt: Answer, now: float) -> None:
        self._seen.pop((topic, key), None)
        self._seen[topic, key] = (now, receipt)
        while len(self._seen) > MOST or next(iter(self._seen.values()))[0] + WINDOW <= now:
            del self._seen[next(iter(self._seen))]


_NEVER: tuple[float, None] = (0.0, None)
