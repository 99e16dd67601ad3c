"""Selections: the keys of one page of a sorted list, collected from any number of items."""

from collections.abc import Sequence
from heapq import nsmallest

from ..errors import OptionInvalid
from .slices import SLICE

Key = tuple[float, str]  # the figure that the list is sorted by, and a name that no two items share


class Selection:
    """The first keys after a given one. No more are kept than may be needed."""

    def __init__(self, after: str | None, limit: int | None, *, by_name: bool = False) -> None:
        """`after`: `next` of the page before. `by_name`: the figure is the same for all, and not in `next`. Raises
        OptionInvalid."""
        self._limit = limit
        self._by_name = by_name
        self._after = None if after is None else self._parse(after)
        self._keys: list[Key] = []
        self.total = 0  # items that were added, of all pages

    def add(self, keys: Sequence[Key]) -> None:
        self.total += len(keys)
        self._keys += keys if self._after is None else [key for key in keys if key > self._after]
        if self._limit is not None and len(self._keys) > self._limit + SLICE:
            self._keys = nsmallest(self._limit + 1, self._keys)

    def page(self) -> tuple[list[str], str | None]:
        """The names, and `next`: None if this is the last page."""
        keys = sorted(self._keys)
        if self._limit is None or len(keys) <= self._limit:
            return [name for _, name in keys], None
        return [name for _, name in keys[: self._limit]], self._text(keys[self._limit - 1])

    def _text(self, key: Key) -> str:
        figure, name = key
        return name if self._by_name else f"{figure!r}:{name}"

    def _parse(self, text: str) -> Key:
        if self._by_name:
            return 0, text
        figure, _, name = text.partition(":")
        try:
            return float(figure), name
        except ValueError:
            raise OptionInvalid(f"after={text[:60]!a}: expected `next` of the page before") from None
