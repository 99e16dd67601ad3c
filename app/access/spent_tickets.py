"""The numbers of tickets that are spent, for as long as they would be valid."""

from typing import Final

LIFETIME: Final = 30.0  # seconds of a ticket
MAX_SPENT: Final = 50_000  # in one LIFETIME: far more streams than a server opens in that time; 80 bytes each


class SpentTickets:
    def __init__(self, now: float) -> None:
        self._rotated = now
        self._numbers: tuple[set[int], set[int]] = set(), set()  # of the current and of the last LIFETIME

    def has(self, number: int, now: float) -> bool:
        self._forget(now)
        return any(number in numbers for numbers in self._numbers)

    def add(self, number: int, now: float) -> None:
        self._forget(now)
        self._numbers[0].add(number)

    def discard(self, number: int) -> None:
        for numbers in self._numbers:
            numbers.discard(number)

    def __len__(self) -> int:
        """Of the current LIFETIME."""
        return len(self._numbers[0])

    def _forget(self, now: float) -> None:
        if now >= self._rotated + LIFETIME:
            self._numbers, self._rotated = (set(), self._numbers[0]), now
