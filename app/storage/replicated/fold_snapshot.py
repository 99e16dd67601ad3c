"""The snapshot of a fold: the state that it has led to, and the entry after which it goes on."""

from collections.abc import Iterator

import msgspec

from ...log.level import LEVEL
from ...log.slices import Slices
from ...log.snapshot import snapshot
from ...log.snapshot.snapshot import Loader
from ...log.topic_log import Limits
from .fold import Fold
from .sessions import SessionsRecord
from .state_check import StateCheck


class FoldRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The fields are those of Fold. `check`: its value. `above_since`: of LevelInUse."""

    number: int
    link: bytes
    time: float
    sessions: SessionsRecord
    check: int = 0
    above_since: float | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(FoldRecord).decode


def take(fold: Fold) -> Iterator[bytes]:
    """The chunks of a snapshot. Nothing may be carried out before the last; the outbox must have been taken."""
    return snapshot.take(fold.core, _record(fold))


def digest(fold: Fold) -> str:
    """Equal for all nodes that have carried out the same entries."""
    return snapshot.digest(fold.core, _record(fold))


def _record(fold: Fold) -> bytes:
    sessions, check = fold.sessions.record(), fold.check.value
    return _encode(FoldRecord(fold.number, fold.link, fold.time, sessions, check, fold.level.above_since))


class FoldLoader:
    """Restores a fold chunk by chunk."""

    def __init__(self) -> None:
        self._loader = Loader(Limits())

    def feed(self, chunk: bytes) -> Slices[None]:
        """Raises SnapshotInvalid."""
        return self._loader.feed(chunk)

    def finish(self, known_level: int = LEVEL) -> Fold:
        """Raises SnapshotInvalid, NewerVersion."""
        fold = Fold(self._loader.finish(), known_level)
        fold.level.check_known()
        record = _decode(self._loader.engine)
        fold.number, fold.link, fold.time = record.number, record.link, record.time
        fold.sessions.restore(record.sessions)
        fold.check = StateCheck(record.check, record.number)
        fold.level.above_since = record.above_since
        return fold
