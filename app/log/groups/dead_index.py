"""The dead messages that one topic keeps, and which group gave up each."""

from collections.abc import Iterable

import msgspec

Origin = tuple[str, str]
"""The topic and the group that gave a message up."""


class DeadIndex(msgspec.Struct, gc=False, eq=False):
    """Each dead message by its seq: the bytes of its body, and by its origin, oldest first."""

    _sizes: dict[int, int] = msgspec.field(default_factory=dict)
    _of: dict[Origin, dict[int, None]] = msgspec.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._sizes)

    def __contains__(self, seq: int) -> bool:
        return seq in self._sizes

    @property
    def nbytes(self) -> int:
        return sum(self._sizes.values())

    def of(self, origin: Origin) -> Iterable[int]:
        """The seqs of an origin's messages, oldest first."""
        return self._of.get(origin, ())

    def count(self, origin: Origin) -> int:
        return len(self._of.get(origin, ()))

    def add(self, seq: int, nbytes: int, origin: Origin) -> None:
        self._sizes[seq] = nbytes
        self._of.setdefault(origin, {})[seq] = None

    def remove(self, seq: int, origin: Origin) -> None:
        del self._sizes[seq]
        of_it = self._of[origin]
        del of_it[seq]
        if not of_it:
            del self._of[origin]
