"""What is written of the state costs as much as it is, not as much as there is."""

import sqlite3
from collections.abc import Iterator

import pytest

from app.log.changes import Kind
from app.log.epochs import Epochs
from app.log.state import LogStateMachine
from app.log.store import MemoryMessageStore
from app.log.topic_log import Limits
from app.storage.sqlite.state import StateRecords

FEW, MANY = 1_000, 20_000  # records of each kind
GONE = 100  # of them
STEP = 10  # instructions of SQLite


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(":memory:")
    yield db
    db.close()


def steps_to_delete(db: sqlite3.Connection, count: int) -> int:
    """The work of removing GONE records of each of two kinds, of which there are so many."""
    records = StateRecords(db)
    records.core = LogStateMachine(Limits(), Epochs("e"), MemoryMessageStore())
    kinds: dict[Kind, str] = {"job": '["t","g",{}]', "buried": '["t","h",{}]'}
    db.execute("CREATE TABLE note (kind TEXT, key TEXT, value BLOB NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID")
    for kind, key in kinds.items():
        db.executemany("INSERT INTO note VALUES (?, ?, x'c0')", [(kind, key.format(seq)) for seq in range(count)])
    for seq in range(count // 2, count // 2 + GONE):
        records.changed("job", ("t", "g", seq))
        records.changed("buried", ("t", "h", seq))
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    db.set_progress_handler(step, STEP)
    records.write()
    db.set_progress_handler(None, STEP)
    assert db.execute("SELECT count(*) FROM note WHERE kind != 'log'").fetchone() == (2 * (count - GONE),)
    db.execute("DROP TABLE note")
    return steps


def test_records_are_removed_without_looking_at_the_others(db: sqlite3.Connection) -> None:
    assert steps_to_delete(db, MANY) <= 2 * steps_to_delete(db, FEW)
