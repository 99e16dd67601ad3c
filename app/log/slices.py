"""Slices: a question that may take long is a generator, and each of its steps is a slice. Other work runs between two
slices and may change the log, so a question must not rely on what it saw in an earlier slice.
"""

from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

T = TypeVar("T")
U = TypeVar("U")

LOOK_EFFORT: Final = 8  # a message that is looked up counts as this many items of a slice: it may be in a file
SLICE: Final = 500  # items per slice, some of them in a file: a few milliseconds

Slices = Generator[None, None, T]


def sliced(items: Iterable[U], effort: int = 1) -> Iterator[list[U]]:
    """Divide items into parts of one slice each. `effort`: how many items one of these counts as."""
    every = iter(items)
    while part := [*islice(every, max(SLICE // effort, 1))]:
        yield part
