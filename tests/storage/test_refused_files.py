"""A file that cannot be served is refused at start: one sentence, a status that says so, and the file as it was."""

import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests import forked
from tests.harness import DEADLINE, ROOT, ServerProcess, start_server

Spoil = Callable[[Path], None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A store with 400 messages, closed in good order."""
    path = tmp_path_factory.mktemp("sound") / "log.db"
    with start_server("--engine", f"sqlite:{path}", tcp_port=0) as server:
        lines = b'{"data":"%s"}\n' % (b"x" * 1_000) * 400
        httpx.post(
            f"{server.url}/topics/a/messages", content=lines, headers={"Content-Type": "application/x-ndjson"}
        ).raise_for_status()
        assert server.stop() == 0
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, sound: bytes) -> Path:
    path = tmp_path / "log.db"
    path.write_bytes(sound)
    return path


def refusal(path: Path) -> str:
    """What `plainmq serve` says about the file before it gives up."""
    command = [sys.executable, "-m", "app", "serve", "--port", "0", "--tcp-port", "0", "--engine", f"sqlite:{path}"]
    ended = forked.run(command, cwd=ROOT, text=True, timeout=DEADLINE)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    said: str = ended.stderr
    begun, *told = said.splitlines()
    assert " info starting " in begun
    assert len(told) == 1, ended.stderr
    assert str(path) in told[0]
    return told[0]


def scribble(place: int) -> Spoil:
    def spoil(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"\xa5" * 4_096)

    return spoil


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4_096 * 4_096)


def execute(script: str) -> Spoil:
    def spoil(path: Path) -> None:
        with closing(sqlite3.connect(path)) as db:
            db.executescript(script)

    return spoil


def become_anothers(path: Path) -> None:
    path.unlink()
    execute("CREATE TABLE accounts (name TEXT); INSERT INTO accounts VALUES ('me')")(path)


def become_text(path: Path) -> None:
    path.write_text("Dear diary, today I was mistaken for a database. " * 100)


SPOILED: dict[str, tuple[Spoil, str]] = {
    "its header is scribbled over": (scribble(0), "is damaged"),
    "a page in its middle is scribbled over": (scribble(50 * 4_096), "is damaged"),
    "its end is missing": (cut, "is damaged"),
    "it is a text": (become_text, "is damaged"),
    "it is a database of another program": (become_anothers, "of another program: give plainmq a file of its own"),
    "it is of a newer schema": (execute("PRAGMA user_version = 99"), "newer plainmq (schema 99): use that one"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_file_that_cannot_be_served_is_refused_and_left_as_it_is(path: Path, how: str) -> None:
    spoil, sentence = SPOILED[how]
    spoil(path)
    before = path.read_bytes()
    assert sentence in refusal(path)
    assert path.read_bytes() == before


def test_what_a_damaged_file_had_not_taken_in_yet_is_left_as_it_is_too(path: Path) -> None:
    """The -wal of a dirty stop belongs to a file that somebody may still want to repair."""
    execute("UPDATE state SET value = 'x'")(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO state VALUES ('more', 'x')")
        db.commit()
        wal = Path(f"{path}-wal")
        crashed = path.read_bytes(), wal.read_bytes()
    path.write_bytes(crashed[0])
    wal.write_bytes(crashed[1])
    scribble(50 * 4_096)(path)
    before = path.read_bytes()
    assert "is damaged" in refusal(path)
    assert (path.read_bytes(), wal.read_bytes()) == (before, crashed[1])


def test_a_file_whose_notes_cannot_be_read_is_refused(path: Path) -> None:
    """To SQLite it is sound: the check of its pages does not see this."""
    execute("UPDATE note SET value = x'c1' WHERE kind = 'topic'; UPDATE state SET value = 'relaxed'")(path)
    assert "is damaged" in refusal(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT value FROM state WHERE name = 'running'").fetchone() == ("relaxed",)


MIXED = {
    "a topic lost messages": "DELETE FROM message WHERE seq = (SELECT min(seq) FROM message)",
    "a topic has no record": "DELETE FROM note WHERE kind = 'topic'",
    "a message is newer than the log": "UPDATE message SET seq = 1000000 WHERE seq = (SELECT max(seq) FROM message)",
}


@pytest.mark.parametrize("how", MIXED)
def test_a_file_whose_messages_are_not_those_of_its_records_is_refused(path: Path, how: str) -> None:
    """To SQLite it is sound. A copy that was written over a served file looks like this."""
    execute(MIXED[how])(path)
    told = refusal(path)
    assert "is damaged (topic 'a' has " in told
    assert "plainmq restore" in told


@pytest.fixture
def killed(path: Path) -> Path:
    """The store after a server on it was killed: its newest message is in the -wal."""
    with start_server("--engine", f"sqlite:{path}", tcp_port=0) as server:
        httpx.post(f"{server.url}/topics/a/messages", content=b"newest", timeout=DEADLINE).raise_for_status()
        server.stop(signal.SIGKILL)
    return path


def empty(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("how", [empty, Path.unlink], ids=lambda how: how.__name__)
def test_a_file_that_is_gone_though_its_wal_has_messages_is_refused_and_the_wal_stays(
    killed: Path, how: Callable[[Path], None]
) -> None:
    how(killed)
    wal = Path(f"{killed}-wal").read_bytes()
    told = refusal(killed)
    assert f"{killed}-wal shows that there was a log: restore a backup with `plainmq restore`" in told
    assert Path(f"{killed}-wal").read_bytes() == wal


@pytest.mark.parametrize("how", [empty, Path.unlink], ids=lambda how: how.__name__)
def test_a_log_whose_wal_was_lost_before_a_checkpoint_is_refused(tmp_path: Path, how: Callable[[Path], None]) -> None:
    """Until then, the file itself has no tables."""
    path = tmp_path / "new.db"
    with start_server("--engine", f"sqlite:{path}", tcp_port=0) as server:
        httpx.post(f"{server.url}/topics/a/messages", content=b"x", timeout=DEADLINE).raise_for_status()
        server.stop(signal.SIGKILL)
    how(Path(f"{path}-wal"))
    for _ in range(2):
        assert f"{path}.lock shows that there was a log" in refusal(path)


def test_what_is_no_file_in_the_place_of_the_lock_is_named(path: Path) -> None:
    lock = Path(f"{path}.lock")
    os.mkfifo(lock)
    assert f"{lock} is a device or a pipe, not a file" in refusal(path)
    lock.unlink()
    lock.mkdir()
    assert f"{lock} is a folder, not a file" in refusal(path)


def test_a_file_that_was_emptied_while_the_server_was_stopped_is_refused(path: Path) -> None:
    with start_server("--engine", f"sqlite:{path}", tcp_port=0) as server:
        assert server.stop() == 0
    empty(path)
    told = refusal(path)
    assert f"{path}.lock shows that there was a log" in told
    assert "to begin a new log" in told
    for suffix in ("", "-wal", ".lock"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    with start_server("--engine", f"sqlite:{path}", tcp_port=0) as server:
        httpx.post(f"{server.url}/topics/a/messages", content=b"x", timeout=DEADLINE).raise_for_status()


def test_an_empty_file_that_never_had_a_log_is_served(tmp_path: Path) -> None:
    """As `mktemp` makes it."""
    path = tmp_path / "new.db"
    path.touch()
    for _ in range(2):
        with start_server("--engine", f"sqlite:{path}", tcp_port=0) as server:
            httpx.post(f"{server.url}/topics/a/messages", content=b"x", timeout=DEADLINE).raise_for_status()
            assert server.stop() == 0


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert "is a folder, not a file: choose a file that can be written" in refusal(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(path: Path) -> None:
    """Nothing can be made inside a file, whoever one is."""
    assert "cannot be used" in refusal(path / "log.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused(path: Path) -> None:
    path.parent.chmod(0o500)
    try:
        assert "Permission denied; choose a file in a folder that can be written" in refusal(path)
    finally:
        path.parent.chmod(0o700)


def test_a_second_server_on_the_same_file_is_refused_and_the_first_goes_on(path: Path) -> None:
    with start_server("--engine", f"sqlite:{path}", tcp_port=0) as server:
        assert "in use by another plainmq: stop that one, or choose another file" in refusal(path)
        httpx.post(f"{server.url}/topics/a/messages", content=b"x").raise_for_status()


def test_a_file_that_another_program_has_locked_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        assert "no other program has it open" in refusal(path)


def test_the_files_of_the_log_are_private_to_their_owner(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with start_server("--engine", f"sqlite:{path}", tcp_port=0):
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert set(modes) == {"log.db", "log.db-wal", "log.db-shm", "log.db.lock"}
    assert set(modes.values()) == {0o600}


def test_a_log_that_fails_answers_every_question_with_503(path: Path) -> None:
    """A damage that no check at the start sees, and that the first trim meets, which may be before the first client."""
    execute("UPDATE message SET redrive = x'c1' WHERE seq = (SELECT seq FROM message ORDER BY seq LIMIT 1 OFFSET 5)")(
        path
    )
    with start_server("--engine", f"sqlite:{path}", "--max-messages", "1", tcp_port=0) as server:
        until_unready(server)
        with httpx.Client(base_url=server.url, timeout=DEADLINE) as http:
            answers = [
                http.get("/topics/a"),
                http.get("/topics/a/messages", params={"since": "earliest"}),
                http.get("/topics"),
                http.post("/topics/a/messages", content=b"x"),
                http.post("/topics/a/groups/g/pull"),
                http.delete("/topics/a"),
            ]
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "storage_failed")}
        assert server.stop() == 0


def until_unready(server: ServerProcess) -> None:
    end = time.monotonic() + DEADLINE
    while (answer := httpx.get(f"{server.url}/readyz", timeout=DEADLINE)).status_code != 503:
        assert time.monotonic() < end, answer.text
