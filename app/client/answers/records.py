"""The base of answers that list records."""

from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class Records(msgspec.Struct, Generic[T], frozen=True):
    """An answer to iterate over: its first field has the records."""

    @property
    def _records(self) -> list[T]:
        records: list[T] = getattr(self, self.__struct_fields__[0])
        return records

    def __iter__(self) -> Iterator[T]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)
