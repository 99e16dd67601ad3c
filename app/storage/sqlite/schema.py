"""The tables of the file, and the migrations from older versions."""

import sqlite3
from collections.abc import Callable
from typing import Any, Final

import msgspec

APPLICATION: Final = 0x706D7131  # "pmq1", in the file's header (PRAGMA application_id)
_MIGRATIONS: Final = (
    """
    CREATE TABLE epoch (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, last INTEGER) STRICT;
    CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE note (kind TEXT, key TEXT, value BLOB NOT NULL, PRIMARY KEY (kind, key)) STRICT, WITHOUT ROWID;
    CREATE TABLE message (
        seq INTEGER PRIMARY KEY, topic TEXT NOT NULL, position INTEGER NOT NULL, time REAL NOT NULL,
        one INTEGER NOT NULL, expires REAL, content_type TEXT NOT NULL, event TEXT, data BLOB NOT NULL,
        line BLOB, death BLOB
    ) STRICT;
    CREATE INDEX message_topic ON message (topic, seq);
    CREATE INDEX message_waiting ON message (topic, seq) WHERE one;
    CREATE INDEX message_expires ON message (seq, expires) WHERE expires IS NOT NULL;
    """,
    """
    ALTER TABLE message ADD COLUMN sizes BLOB;
    """,
    """-- a row may have fewer messages than it says: the note `left` has their number
    """,
    """-- delayed drafts are in envelopes, and a message with a ttl counts for 160 bytes
    UPDATE note SET value = dearer(value, 160 * (
        (SELECT count(*) FROM message WHERE expires IS NOT NULL
            AND NOT is_gone(seq, (SELECT value FROM note WHERE kind = 'left')))
        + (SELECT coalesce(sum(with_ttl(value)), 0) FROM note WHERE kind = 'delayed')
    )) WHERE kind = 'log';
    UPDATE note SET value = in_envelopes(value) WHERE kind = 'delayed';
    """,
    """-- a line may have a NUL in place of the data
    """,
    """-- the time of acceptance on the log's own clock, if it is not `time`
    ALTER TABLE message ADD COLUMN at REAL;
    """,
    """
    CREATE INDEX IF NOT EXISTS message_dead ON message (topic, seq) WHERE death IS NOT NULL;
    """,
    """-- a group counts for 1,536 bytes
    UPDATE note SET value = dearer(value, 1536 * (SELECT count(*) FROM note WHERE kind = 'group')) WHERE kind = 'log';
    """,
    """
    ALTER TABLE message ADD COLUMN headers BLOB;
    """,
    """-- a topic counts for 1,088 bytes
    UPDATE note SET value = dearer(value, 64 * (SELECT count(*) FROM note WHERE kind = 'topic')) WHERE kind = 'log';
    """,
    """-- what came back from a dead-letter topic (`one` is 2 then); a group counts for 1,664 bytes
    ALTER TABLE message ADD COLUMN redrive BLOB;
    UPDATE note SET value = dearer(value, 128 * (SELECT count(*) FROM note WHERE kind = 'group')) WHERE kind = 'log';
    """,
    """-- the priority and the key of a message
    ALTER TABLE message ADD COLUMN ordering BLOB;
    CREATE INDEX message_ordering ON message (seq) WHERE ordering IS NOT NULL;
    """,
)  # each leads to the next version; PRAGMA user_version is the number of migrations that a file has had
NEWEST: Final = len(_MIGRATIONS)

_NOT_IN_ENVELOPE: Final = ("delay", "key")  # fields of a draft
_decode = msgspec.msgpack.decode
_encode = msgspec.msgpack.encode


def migrate(db: sqlite3.Connection) -> None:
    """Apply all migrations. Raises sqlite3.Error; the migrations before the failed one stay applied."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    for name, (arity, function) in _FUNCTIONS.items():
        db.create_function(name, arity, function, deterministic=True)
    for number, script in enumerate(_MIGRATIONS[version:], version + 1):
        db.executescript(
            f"BEGIN; {script} PRAGMA user_version = {number}; PRAGMA application_id = {APPLICATION}; COMMIT"
        )


def _dearer(value: bytes, nbytes: int) -> bytes:
    note = _decode(value)
    return _encode(note | {"cost": note["cost"] + nbytes})


def _is_gone(seq: int, left: bytes | None) -> bool:
    """A message with a ttl is alone in its row: if the note says that the row has less, it is empty."""
    return left is not None and seq in _decode(left, type=dict[int, int])


def _with_ttl(value: bytes) -> int:
    return sum(draft["ttl"] is not None for draft in _decode(value)["drafts"])


def _in_envelopes(value: bytes) -> bytes:
    note = _decode(value)
    return _encode(note | {"drafts": [_in_envelope(**draft) for draft in note["drafts"]]})


def _in_envelope(data: bytes, **others: Any) -> dict[str, Any]:
    outside = {name: others.pop(name) for name in _NOT_IN_ENVELOPE}
    return {"envelope": others, "bodies": [data], **outside}


_FUNCTIONS: Final[dict[str, tuple[int, Callable[..., bytes | int]]]] = {
    "dearer": (2, _dearer), "is_gone": (2, _is_gone), "with_ttl": (1, _with_ttl), "in_envelopes": (1, _in_envelopes),
}  # fmt: skip
