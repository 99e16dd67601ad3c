"""How often something may be done, for each of many who do it: a token bucket each, as plain functions of the time."""

from typing import Final

MOST: Final = 10_000  # buckets; of those beyond, the ones that were asked longest ago begin anew, full
_TOLERANCE: Final = 1e-9  # seconds: sums of floats are not exact


class Buckets:
    """A bucket holds `burst` and gains `rate` a second. Each key has its own, which begins full.

    Of a bucket only the time is kept at which it is full again: one that is full is as good as none.
    """

    def __init__(self, rate: float, burst: int, most: int = MOST) -> None:
        self._rate = rate
        self._burst = burst
        self._most = most
        self._full_at: dict[str, float] = {}  # those asked longest ago first

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str, count: int, now: float) -> float:
        """Take so many, all or none. Answers 0, or else the seconds until there are enough.

        More than a bucket holds are given when it is full, and what was too much is owed: so nothing that is lawful in
        itself, such as a large batch, can never be done.
        """
        wait = self.wait(key, count, now)
        full_at = max(self._full_at.pop(key, now), now)
        self._full_at[key] = full_at if wait else full_at + count / self._rate
        if len(self._full_at) > self._most:
            del self._full_at[next(iter(self._full_at))]
        return wait

    def wait(self, key: str, count: int, now: float) -> float:
        """What take() would answer; nothing is taken."""
        owed = max(self._full_at.get(key, now) - now, 0.0)
        wait = owed - (self._burst - min(count, self._burst)) / self._rate
        return wait if wait > _TOLERANCE else 0.0
