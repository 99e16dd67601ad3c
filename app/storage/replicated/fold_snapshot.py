"""The snapshot of a fold: the state that it has led to, and the entry after which it goes on."""

from collections.abc import Iterator

import msgspec

from ...log.slices import Slices
from ...log.snapshot import snapshot
from ...log.snapshot.snapshot import Loader
from ...log.topic_log import Limits
from .fold import Fold
from .sessions import SessionsRecord


class FoldRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The fields are those of Fold."""

    number: int
    link: bytes
    time: float
    sessions: SessionsRecord


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(FoldRecord).decode


def take(fold: Fold) -> Iterator[bytes]:
    """The chunks of a snapshot. Nothing may be carried out before the last; the outbox must have been taken."""
    return snapshot.take(fold.core, _record(fold))


def digest(fold: Fold) -> str:
    """Equal for all nodes that have carried out the same entries."""
    return snapshot.digest(fold.core, _record(fold))


def _record(fold: Fold) -> bytes:
    return _encode(FoldRecord(fold.number, fold.link, fold.time, fold.sessions.record()))


class FoldLoader:
    """Restores a fold chunk by chunk."""

    def __init__(self) -> None:
        self._loader = Loader(Limits())

    def feed(self, chunk: bytes) -> Slices[None]:
        """Raises SnapshotInvalid."""
        return self._loader.feed(chunk)

    def finish(self) -> Fold:
        """Raises SnapshotInvalid."""
        fold = Fold(self._loader.finish())
        record = _decode(self._loader.engine)
        fold.number, fold.link, fold.time = record.number, record.link, record.time
        fold.sessions.restore(record.sessions)
        return fold
