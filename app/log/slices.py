"""Slices: a question that may have to look at a great deal is a generator, and each of its steps is a slice. Others get
their turn in between, so what it knows must hold though the log changes meanwhile.
"""

from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

T = TypeVar("T")
U = TypeVar("U")

SLICE: Final = 500  # things that are looked at in a slice, some of them in a file: a few milliseconds

Slices = Generator[None, None, T]


def sliced(items: Iterable[U], effort: int = 1) -> Iterator[list[U]]:
    """The items, in parts that are a slice each. `effort`: as how many things each counts."""
    every = iter(items)
    while part := [*islice(every, max(SLICE // effort, 1))]:
        yield part
