"""A table: what a command shows, before it is known whether a person or a program reads it."""

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

T = TypeVar("T")


class Kind(Enum):
    """What the values of a column are. Each of them may be None."""

    TEXT = auto()  # may be broken over lines
    WARNING = auto()  # such a text, if something is wrong
    ID = auto()  # a text that stays on one line
    BODY = auto()  # of a message: a person sees the beginning
    COUNT = auto()
    ALARM = auto()  # a count that should be 0
    BYTES = auto()
    RATE = auto()  # a second
    PART = auto()  # of 1.0
    SECONDS = auto()
    TIME = auto()  # RFC 3339


class Column(NamedTuple, Generic[T]):
    """`value`: of a record."""

    heading: str
    kind: Kind
    value: Callable[[T], Any]


class Table(msgspec.Struct, frozen=True):
    """`upright`: one record, with a line for each of its values."""

    headings: Sequence[str]
    kinds: Sequence[Kind]
    rows: Sequence[Sequence[Any]]
    upright: bool = False


def table(columns: Sequence[Column[T]], records: Sequence[T], upright: bool = False) -> Table:
    rows = [[column.value(record) for column in columns] for record in records]
    return Table([column.heading for column in columns], [column.kind for column in columns], rows, upright)
