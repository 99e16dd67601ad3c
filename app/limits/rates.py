"""Rate limits: a token bucket for each key, computed from the time that the caller passes."""

from typing import Final

MAX_BUCKETS: Final = 10_000  # above it, the least recently used bucket is dropped, and so is full again
_TOLERANCE: Final = 1e-9  # seconds: sums of floats are not exact


class Buckets:
    """A bucket holds `burst` and gains `rate` a second. Each key has its own bucket, which starts full.

    A bucket is stored as the time at which it is full again. A bucket that is full need not be stored.
    """

    def __init__(self, rate: float, burst: int, most: int = MAX_BUCKETS) -> None:
        self._rate = rate
        self._burst = burst
        self._most = most
        self._full_at: dict[str, float] = {}  # seconds; the least recently used first

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str, count: int, now: float) -> float:
        """Take `count`, all or none. Returns 0, or the seconds until there are enough.

        If `count` is more than a bucket holds, a full bucket gives it and goes below zero. Otherwise a large batch,
        though allowed, could never be published.
        """
        wait = self.wait(key, count, now)
        full_at = max(self._full_at.pop(key, now), now)
        self._full_at[key] = full_at if wait else full_at + count / self._rate
        if len(self._full_at) > self._most:
            del self._full_at[next(iter(self._full_at))]
        return wait

    def wait(self, key: str, count: int, now: float) -> float:
        """The result that take() would have; takes nothing."""
        until_full = max(self._full_at.get(key, now) - now, 0.0)
        wait = until_full - (self._burst - min(count, self._burst)) / self._rate
        return wait if wait > _TOLERANCE else 0.0
