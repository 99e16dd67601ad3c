"""Attendance: how many subscribers and consumers a server has, for the other servers of the same log."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

import msgspec

MAX_ENTRIES: Final = 512  # filters, and as many groups: each node of the log keeps those of all
MAX_BYTES: Final = 64 << 10  # of names: a filter may have 64 of them

T = TypeVar("T")


class Subscriptions(msgspec.Struct, frozen=True, array_like=True):
    """`names`: topics and patterns that these subscribers have asked for."""

    names: tuple[str, ...]
    count: int


class Consumers(msgspec.Struct, frozen=True, array_like=True):
    topic: str
    group: str
    count: int


class Attendance(msgspec.Struct, frozen=True, array_like=True):
    subscriptions: list[Subscriptions] = []
    consumers: list[Consumers] = []


NOBODY: Final = Attendance()


def attendance(subscriptions: Iterable[Subscriptions], consumers: Iterable[Consumers]) -> Attendance:
    """Of the first ones, as many as are told to others."""
    return Attendance(
        [*_first(subscriptions, lambda one: one.names)], [*_first(consumers, lambda one: (one.topic, one.group))]
    )


def _first(all: Iterable[T], names: Callable[[T], Iterable[str]]) -> Iterator[T]:
    left = MAX_BYTES
    for one in islice(all, MAX_ENTRIES):
        left -= sum(map(len, names(one)))
        if left < 0:
            return
        yield one
