"""The activity of all workers, those that have ended included."""

from collections.abc import Hashable

import msgspec

from ...broker.activity import Activity


class MergedActivity:
    def __init__(self) -> None:
        self._last: dict[Hashable, Activity] = {}  # by worker
        self._ended = Activity()

    def answered(self, worker: Hashable, data: bytes) -> None:
        self._last[worker] = msgspec.msgpack.decode(data, type=Activity)

    def ended(self, worker: Hashable) -> None:
        """What it has counted stays, as far as it was told."""
        self._ended += Activity(self._last.pop(worker, Activity()).counts)

    def merged(self) -> bytes:
        return msgspec.msgpack.encode(sum(self._last.values(), self._ended))
