"""A snapshot: a head with the format, the records of the state, and an end with the digest of all before.

The state must not change between the first chunk and the last. Two states that decide the same have the same bytes:
heaps and sets are written in ascending order, everything else in the order in which it was.
"""

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import chain
from typing import Final

import msgspec

from ..epochs import Epochs
from ..slices import Slices
from ..state import LogStateMachine
from ..store import MemoryMessageStore
from ..topic_log import Limits
from .frames import FrameDamaged, FrameReader, in_chunks
from .groups import BoundRecord, GroupSnapshot, JobsRecord
from .log import DueRecord, EngineRecord, LogRecord, TrimMarksRecord
from .messages import InTransitRecord, RunsRecord
from .publishes import DelayedRecord, KeysRecord
from .record import Record, Restored
from .topics import TopicRecord

NAME: Final = "plainmq snapshot"
FORMAT: Final = 1
_DIGEST_BYTES: Final = 16


class SnapshotInvalid(Exception):
    """The bytes are no snapshot that this version can read. The text says why."""


class Head(msgspec.Struct, frozen=True, array_like=True):
    """The same in every format."""

    name: str
    format: int


class End(Record, frozen=True, array_like=True, gc=False, tag="end"):
    digest: str


AnyRecord = (
    EngineRecord | LogRecord | TrimMarksRecord | TopicRecord | JobsRecord | GroupSnapshot | BoundRecord | RunsRecord
    | InTransitRecord | DelayedRecord | KeysRecord | DueRecord | End
)  # fmt: skip

_encode = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(Head).decode
_decode = msgspec.msgpack.Decoder(AnyRecord).decode


def take(core: LogStateMachine, engine: bytes = b"") -> Iterator[bytes]:
    """The chunks of a snapshot. The outbox must have been taken, and all slices of all commands carried out. `engine`:
    what the engine has to know besides."""
    return in_chunks(_frames(core, engine))


def digest(core: LogStateMachine, engine: bytes = b"") -> str:
    """That of a snapshot, without its bytes: equal if and only if two states decide the same."""
    for frame in _frames(core, engine):
        end = frame
    return _digest_of(end)


def load(chunks: Iterable[bytes], limits: Limits) -> LogStateMachine:
    """`limits`: for a snapshot without any. Raises SnapshotInvalid."""
    loader = Loader(limits)
    for chunk in chunks:
        for _ in loader.feed(chunk):
            pass
    return loader.finish()


def _records(core: LogStateMachine, engine: bytes) -> Iterator[Record]:
    """Topics come before their groups and their messages, and the messages before what is in transit."""
    return chain(
        (EngineRecord(engine), LogRecord.of(core)), TrimMarksRecord.all(core), TopicRecord.all(core),
        GroupSnapshot.all(core), BoundRecord.all(core), RunsRecord.all(core), (InTransitRecord.of(core),),
        DelayedRecord.all(core), KeysRecord.all(core), (DueRecord.of(core),),
    )  # fmt: skip


def _frames(core: LogStateMachine, engine: bytes) -> Iterator[bytes]:
    assert not core.has_outbox
    digest = blake2b(digest_size=_DIGEST_BYTES)
    for record in chain((Head(NAME, FORMAT),), _records(core, engine)):
        frame = _encode(record)
        digest.update(frame)
        yield frame
    yield _encode(End(digest.hexdigest()))


def _digest_of(end: bytes) -> str:
    record = _decode(end)
    assert isinstance(record, End)
    return record.digest


class Loader:
    """Restores a state machine chunk by chunk."""

    def __init__(self, limits: Limits) -> None:
        self._frames = FrameReader()
        self._restored = Restored(LogStateMachine(limits, Epochs(""), MemoryMessageStore()))
        self._digest = blake2b(digest_size=_DIGEST_BYTES)
        self._has_head = False
        self.digest = ""  # of the snapshot, when all of it is there

    @property
    def engine(self) -> bytes:
        """What take() was given for the engine."""
        return self._restored.engine

    def feed(self, chunk: bytes) -> Slices[None]:
        """Raises SnapshotInvalid."""
        try:
            for frame in self._frames.feed(chunk):
                self._restore(frame)
                yield
        except (FrameDamaged, msgspec.DecodeError) as error:
            raise SnapshotInvalid(f"the snapshot is damaged: {error}") from error

    def finish(self) -> LogStateMachine:
        """Raises SnapshotInvalid."""
        if not self.digest or not self._frames.is_empty:
            raise SnapshotInvalid("the snapshot has no end: a part of it is missing")
        return self._restored.core

    def _restore(self, frame: bytes) -> None:
        if not self._has_head:
            _check_head(frame)
            self._has_head = True
        elif isinstance(record := _decode(frame), End):
            self._check_digest(record)
        else:
            record.restore(self._restored)
        self._digest.update(frame)

    def _check_digest(self, end: End) -> None:
        if end.digest != self._digest.hexdigest():
            raise SnapshotInvalid("the snapshot is damaged: its digest is not that of its contents")
        self.digest = end.digest


def _check_head(frame: bytes) -> None:
    try:
        head = _decode_head(frame)
    except msgspec.DecodeError as error:
        raise SnapshotInvalid("this is not a snapshot of plainmq") from error
    if head.name != NAME:
        raise SnapshotInvalid("this is not a snapshot of plainmq")
    if head.format != FORMAT:
        raise SnapshotInvalid(
            f"the snapshot has format {head.format}, and this version of plainmq reads format {FORMAT} only: start a "
            f"version that reads it"
        )
