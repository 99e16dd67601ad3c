"""State records: all state besides the messages, by kind, and how each kind is stored."""

import sqlite3
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from ...log.changes import Key, Kind, Records
from ...log.delayed import Postponed
from ...log.groups.job import InFlight
from ...log.groups.records import GroupRecord
from ...log.idempotency import Remembered
from ...log.log import LogRecord
from ...log.state import LogStateMachine
from ...log.topic_log import TopicRecord
from ...log.trims import TrimMark
from .parts import parts
from .row import COUNT


class _Sort(msgspec.Struct, frozen=True):
    """The type of a kind's records, and how to find one in the state machine by its key (None: removed)."""

    type: Any
    find: Callable[..., Any]


SORTS: Final[dict[Kind, _Sort]] = {
    "log": _Sort(LogRecord, lambda core: core.log.record()),
    "topic": _Sort(TopicRecord, lambda core, name: core.log.topic_record(name)),
    "forgotten": _Sort(TrimMark, lambda core, name: core.log.trim_marks.record(name)),
    "group": _Sort(GroupRecord, lambda core, topic, name: core.groups.group_record(topic, name)),
    "job": _Sort(InFlight, lambda core, topic, name, seq: core.groups.job_record(topic, name, seq)),
    "buried": _Sort(bool, lambda core, topic, name, seq: core.groups.dead_record(topic, name, seq)),
    "key": _Sort(Remembered, lambda core, topic, key: core.idempotency.record(topic, key)),
    "delayed": _Sort(Postponed, lambda core, number: core.delayed.record(number)),
    "left": _Sort(dict[int, int], lambda core: core.log.store.remaining),
}


class StateRecords:
    """Collects the keys of changed state, and writes the final state of each."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.core: LogStateMachine  # set by the caller, which makes it with changed()
        self._db = db
        self._changed: dict[tuple[Kind, Key], None] = {}

    def changed(self, kind: Kind, key: Key) -> None:
        self._changed[kind, key] = None

    def write(self) -> bool:
        """Write all changes. False if there are none."""
        if not self._changed:
            return False
        self._changed["log", ()] = None
        keys, self._changed = [*self._changed], {}
        found = [(kind, key, SORTS[kind].find(self.core, *key)) for kind, key in keys]
        self._put([(kind, _text(key), _encode(value)) for kind, key, value in found if value is not None])
        removed: dict[Kind, list[str]] = {}
        for kind, key, value in found:
            if value is None:
                removed.setdefault(kind, []).append(_text(key))
        for kind, texts in removed.items():
            self._delete(kind, texts)
        return True

    def _put(self, rows: Sequence[tuple[str, str, bytes]]) -> None:
        for part in parts(rows):
            places = ", ".join(["(?, ?, ?)"] * len(part))
            self._db.execute(f"INSERT OR REPLACE INTO note VALUES {places}", [value for row in part for value in row])

    def _delete(self, kind: Kind, keys: Sequence[str]) -> None:
        """One kind at a time: for a list of pairs, SQLite would look at every record that there is."""
        for part in parts(keys):
            places = ", ".join("?" * len(part))
            self._db.execute(f"DELETE FROM note WHERE kind = ? AND key IN ({places})", (kind, *part))


def read_notes(db: sqlite3.Connection) -> Records:
    """All that was written down."""
    notes: Records = {kind: {} for kind in SORTS}
    for kind, key, value in db.execute("SELECT kind, key, value FROM note"):
        notes[kind][tuple(_decode_key(key))] = msgspec.msgpack.decode(value, type=SORTS[kind].type)
    return notes


def check_counts(db: sqlite3.Connection, notes: Records) -> None:
    """Raises sqlite3.DatabaseError if the messages are not those of the notes: the file is then a mixture of two."""
    head: LogRecord = notes["log"].get((), LogRecord())
    found: dict[str, int] = {}
    for topic, count, newest in db.execute(f"SELECT topic, sum({COUNT}), max(seq) FROM message GROUP BY topic"):
        found[topic] = count
        if newest > head.head:
            raise sqlite3.DatabaseError(f"topic {topic!r} has messages that are newer than the log")
    for seq, left in notes["left"].get((), {}).items():
        for topic, count in db.execute(f"SELECT topic, {COUNT} FROM message WHERE seq = ?", (seq,)):
            found[topic] -= count - left
    noted = {str(name): record.messages for (name,), record in notes["topic"].items()}
    for topic in found.keys() | noted.keys():
        if found.get(topic, 0) != noted.get(topic, 0):
            raise sqlite3.DatabaseError(
                f"topic {topic!r} has {found.get(topic, 0)} messages, and its record says {noted.get(topic, 0)}"
            )


def count_messages(db: sqlite3.Connection) -> int:
    """How many there are, by what is noted of the topics: a row may have fewer than it says."""
    notes = db.execute("SELECT value FROM note WHERE kind = 'topic'")
    return sum(msgspec.msgpack.decode(value, type=TopicRecord).messages for (value,) in notes)


_encode = msgspec.msgpack.Encoder().encode
_decode_key = msgspec.json.Decoder(list[str | int]).decode


@lru_cache(1_024)
def _text(key: Key) -> str:
    return msgspec.json.encode(key).decode()
