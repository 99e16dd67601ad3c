"""Many rows in one statement: each statement lets go of the interpreter's lock, and may wait long to have it back."""

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

_ROWS: Final = (256, 128, 64, 32, 16, 8, 4, 3, 2, 1)  # of one statement: there are few, and each is prepared once

T = TypeVar("T")


def parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items, in parts of those lengths."""
    place = 0
    while place < len(items):
        length = next(length for length in _ROWS if length <= len(items) - place)
        yield items[place : place + length]
        place += length
