"""Idempotency keys: a publish that repeats a remembered key gets the answer of the first publish.

A key outlives its message, whether retention, a ttl or a subscriber removed it, and its topic if that went because it
was idle: to store the message again would duplicate it. Deleting a topic removes its keys, purging messages removes
theirs, and cancelling a delayed publish removes its key.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from ..messages.message import Receipt, Scheduled, parse_id
from .changes import Key, OnChange, ignore_change

Answer = Receipt | Scheduled

WINDOW: Final = 120.0  # seconds: longer than any client's retries take
MAX_KEYS: Final = 10_000  # which bounds the memory of keys


class Remembered(msgspec.Struct, frozen=True):
    """When a key was first used, and the answer: either a receipt or a Scheduled."""

    time: float
    receipt: Receipt | None = None
    scheduled: Scheduled | None = None

    def is_before(self, end: int) -> bool:
        """Whether all its messages have seqs up to `end`. False for a delayed publish."""
        return self.receipt is not None and parse_id(self.receipt.last).seq <= end


class IdempotencyStore:
    """The answers for the newest keys. Each topic has its own keys."""

    def __init__(self, on_change: OnChange = ignore_change) -> None:
        self._seen: dict[tuple[str, str], Remembered] = {}  # oldest first
        self._on_change = on_change

    def restore(self, seen: Mapping[Key, Remembered]) -> None:
        for (topic, key), known in sorted(seen.items(), key=lambda item: item[1].time):
            self._seen[str(topic), str(key)] = known

    def __iter__(self) -> Iterator[tuple[str, str, Remembered]]:
        """Topic, key and answer, oldest first."""
        return ((topic, key, known) for (topic, key), known in self._seen.items())

    def record(self, topic: str, key: str) -> Remembered | None:
        return self._seen.get((topic, key))

    def find(self, topic: str, key: str, now: float) -> Answer | None:
        """The answer to the first publish with this key, marked as a duplicate; None when the key is new."""
        known = self._seen.get((topic, key))
        if known is None or known.time + WINDOW <= now:
            return None
        answer = known.receipt or known.scheduled
        return None if answer is None else msgspec.structs.replace(answer, duplicate=True)

    def remember(self, topic: str, key: str, answer: Answer, now: float) -> None:
        self._forget((topic, key))
        self._seen[topic, key] = _remembered(answer, now)
        self._on_change("key", (topic, key))
        while len(self._seen) > MAX_KEYS or next(iter(self._seen.values())).time + WINDOW <= now:
            self._forget(next(iter(self._seen)))

    def set_result(self, key: str, receipt: Receipt) -> None:
        """Replace the provisional receipt of a publish, unless its topic was deleted and the key used anew since."""
        known = self._seen.get((receipt.topic, key))
        if known is not None and known.receipt is not None and known.receipt.id == receipt.id:
            self._seen[receipt.topic, key] = _remembered(receipt, known.time)

    def drop(self, topic: str) -> None:
        """Remove a topic's keys."""
        for key in [key for key in self._seen if key[0] == topic]:
            self._forget(key)

    def purge(self, topic: str, end: int) -> None:
        """Remove the keys of a topic's messages up to that seq. The key of a batch goes with its last message."""
        for key in [key for key, known in self._seen.items() if key[0] == topic and known.is_before(end)]:
            self._forget(key)

    def cancel(self, topic: str, key: str, scheduled_id: str) -> None:
        """Remove the key of a delayed publish, unless the key was used anew since."""
        known = self._seen.get((topic, key))
        if known is not None and known.scheduled is not None and known.scheduled.id == scheduled_id:
            self._forget((topic, key))

    def _forget(self, key: tuple[str, str]) -> None:
        if self._seen.pop(key, None):
            self._on_change("key", key)


def _remembered(answer: Answer, time: float) -> Remembered:
    return Remembered(time, answer) if isinstance(answer, Receipt) else Remembered(time, None, answer)
