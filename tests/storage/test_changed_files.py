"""Another program writes to the files of a served store, in place or through SQLite: nothing is confirmed then."""

import os
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.cli.commands import run
from tests.harness import DEADLINE, ServerProcess, start_server

Change = Callable[[Path], Path]
"""Changes a served store, and returns the file that is named in the sentence."""

SENTENCE = "was changed by another program while the server used it"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def server(path: Path) -> Iterator[ServerProcess]:
    """A server on a file that has been checkpointed, so that the file itself has messages."""
    with start_server("--engine", f"sqlite:{path}", tcp_port=0) as first:
        publish(first).raise_for_status()
        first.stop()
    assert run("backup", f"{path}.copy", "--engine", f"sqlite:{path}").returncode == 0
    with start_server("--engine", f"sqlite:{path}", tcp_port=0) as process:
        publish(process).raise_for_status()
        yield process


def publish(server: ServerProcess) -> httpx.Response:
    return httpx.post(f"{server.url}/topics/a/messages", content=b"x" * 1_000, timeout=DEADLINE)


def truncate_file(path: Path) -> Path:
    os.truncate(path, 0)
    return path


def truncate_wal(path: Path) -> Path:
    wal = Path(f"{path}-wal")
    os.truncate(wal, 0)
    return wal


def copy_over(path: Path) -> Path:
    with Path(f"{path}.copy").open("rb") as copy, path.open("wb") as file:
        shutil.copyfileobj(copy, file)
    return path


def delete_through_sqlite(path: Path) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("DELETE FROM message")
    return path


CHANGES: tuple[Change, ...] = (truncate_file, truncate_wal, copy_over, delete_through_sqlite)


def until_unready(server: ServerProcess) -> str:
    end = time.monotonic() + DEADLINE
    while (answer := httpx.get(f"{server.url}/readyz")).status_code != 503:
        assert time.monotonic() < end, answer.text
    assert answer.json()["code"] == "storage_failed"
    return str(answer.json()["detail"])


@contextmanager
def traffic(server: ServerProcess, answers: list[int]) -> Iterator[None]:
    """A client that publishes without a pause."""
    ended = threading.Event()

    def publish_on() -> None:
        while not ended.is_set():
            answers.append(publish(server).status_code)

    thread = threading.Thread(target=publish_on)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(DEADLINE)


def not_confirmed(answer: httpx.Response) -> bool:
    """Unknown, if its transaction was committed after the last check of the files; otherwise refused."""
    return (answer.status_code, answer.json()["code"]) in {(503, "storage_failed"), (504, "outcome_unknown")}


def nothing_is_confirmed(server: ServerProcess, changed: Path) -> None:
    assert not_confirmed(publish(server))
    refused = publish(server)
    assert (refused.status_code, refused.json()["code"]) == (503, "storage_failed")
    assert f"{changed} {SENTENCE}" in refused.json()["detail"]
    assert "plainmq restore" in refused.json()["detail"]
    read = httpx.get(f"{server.url}/topics/a/messages", timeout=DEADLINE)
    assert (read.status_code, read.json()["code"]) == (503, "storage_failed")
    assert httpx.get(f"{server.url}/livez").status_code == 200


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_changed_file_is_noticed_without_a_publish(server: ServerProcess, path: Path, change: Change) -> None:
    changed = change(path)
    assert f"{changed} {SENTENCE}" in until_unready(server)
    nothing_is_confirmed(server, changed)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_publish_after_the_change_is_not_confirmed(server: ServerProcess, path: Path, change: Change) -> None:
    changed = change(path)
    nothing_is_confirmed(server, changed)
    until_unready(server)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_under_traffic_ends_the_confirmations(server: ServerProcess, path: Path, change: Change) -> None:
    answers: list[int] = []
    with traffic(server, answers):
        while len(answers) < 20:
            time.sleep(0)
        changed = change(path)
        assert f"{changed} {SENTENCE}" in until_unready(server)
        noticed = len(answers) + 1  # one may be under way
        while len(answers) < noticed + 20:
            time.sleep(0)
    assert {*answers[noticed:]} == {503}
    assert answers.count(504) <= 1
    assert {*answers} <= {201, 503, 504}
    nothing_is_confirmed(server, changed)


def test_a_server_whose_file_was_changed_writes_nothing_to_it_when_it_ends(server: ServerProcess, path: Path) -> None:
    copy_over(path)
    until_unready(server)
    before = path.read_bytes()
    assert server.stop() == 0
    assert path.read_bytes() == before
    restored = run("restore", f"{path}.copy", "--replace", "--engine", f"sqlite:{path}")
    assert restored.returncode == 0, restored.stderr
    with start_server("--engine", f"sqlite:{path}", tcp_port=0) as second:
        publish(second).raise_for_status()


def test_checkpoints_are_not_taken_for_changes(server: ServerProcess, path: Path) -> None:
    """Enough for several, and for the -wal to begin again."""
    lines = b'{"data":"%s"}\n' % (b"x" * 10_000) * 100
    headers = {"Content-Type": "application/x-ndjson"}
    for _ in range(30):
        httpx.post(f"{server.url}/topics/b/messages", content=lines, headers=headers).raise_for_status()
    assert path.stat().st_size > 4_000_000
    assert httpx.delete(f"{server.url}/topics/b").status_code == 204
    publish(server).raise_for_status()
    assert httpx.get(f"{server.url}/readyz").status_code == 200


def test_reading_through_sqlite_is_no_change(server: ServerProcess, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        for _ in range(3):
            assert other.execute("SELECT count(*) FROM message").fetchone()
            publish(server).raise_for_status()
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        publish(server).raise_for_status()
    assert run("backup", f"{path}.second", "--engine", f"sqlite:{path}").returncode == 0
    publish(server).raise_for_status()
    assert httpx.get(f"{server.url}/readyz").status_code == 200


def test_a_store_that_lost_messages_through_sqlite_is_refused_at_the_next_start(
    server: ServerProcess, path: Path
) -> None:
    delete_through_sqlite(path)
    until_unready(server)
    assert server.stop() == 0
    told = run("serve", "--port", "0", "--tcp-port", "0", "--engine", f"sqlite:{path}")
    assert told.returncode == 1
    assert b"is damaged" in told.stderr


def test_what_was_confirmed_is_there_after_the_index_was_emptied(server: ServerProcess, path: Path) -> None:
    """SQLite has the index in its memory, so the system ends the server when it is used next."""
    confirmed = [publish(server).raise_for_status().json()["id"] for _ in range(3)]
    os.truncate(f"{path}-shm", 0)
    try:
        while (answer := publish(server)).status_code == 201:
            confirmed.append(answer.json()["id"])
        server.stop(signal.SIGKILL)
    except httpx.TransportError:
        assert server.process.wait(DEADLINE) < 0
    with start_server("--engine", f"sqlite:{path}", tcp_port=0) as second:
        page = httpx.get(f"{second.url}/topics/a/messages", timeout=DEADLINE).raise_for_status().json()
        assert {*confirmed} <= {message["id"] for message in page["messages"]}
