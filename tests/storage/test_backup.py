"""`plainmq backup` and `plainmq restore`, run as a shell runs them, on stores that real servers have written."""

import os
import pty
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from app.storage.sqlite.backup import backup
from tests.cli.commands import PROGRAM, messages, post, run, texts
from tests.harness import DEADLINE, ROOT, ServerProcess, start_server
from tests.storage.stored_messages import kept


@contextmanager
def served(path: Path, *flags: str) -> Iterator[ServerProcess]:
    with start_server("--engine", f"sqlite:{path}", *flags, tcp_port=0) as server:
        yield server
        if server.process.poll() is None:
            assert server.stop() == 0


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with two messages, not served."""
    path = tmp_path / "log.db"
    with served(path) as server:
        for text in ("one", "two"):
            post(server.url, "t", text)
    return path


@pytest.fixture
def copy(store: Path) -> Path:
    path = store.with_name("copy.db")
    assert run("backup", str(path), "--engine", f"sqlite:{store}").returncode == 0
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"}


def sequences(copy: Path) -> list[int]:
    """The places of the messages in a copy, after a look at all of it."""
    with closing(sqlite3.connect(copy)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [message.seq for message in kept(db)]


# Backup


def at_a_terminal(*arguments: str) -> tuple[int, str]:
    """The exit status of a command, and what its terminal shows."""
    ours, terminal = pty.openpty()
    try:
        done = subprocess.run(
            [*PROGRAM, *arguments], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal,
            timeout=DEADLINE, check=False,
        )  # fmt: skip
        os.write(terminal, b"\0")
        shown = b""
        while not shown.endswith(b"\0"):
            shown += os.read(ours, 65_536)
    finally:
        os.close(ours)
        os.close(terminal)
    return done.returncode, shown.rstrip(b"\0").decode()


def test_a_terminal_shows_a_refusal_and_no_progress(store: Path, copy: Path) -> None:
    engine = f"sqlite:{store}"
    for refused in (
        ["backup", f"{store}.new", "--engine", "memory"], ["backup", f"{store}.new", "--engine", f"{engine}.none"],
        ["backup", str(copy), "--engine", engine], ["restore", str(copy), "--engine", engine],
        ["restore", f"{copy}.none", "--engine", engine, "--replace"],
    ):  # fmt: skip
        status, shown = at_a_terminal(*refused)
        assert status == 1
        assert shown.startswith("Error: ")
        assert "\x1b" not in shown
    status, shown = at_a_terminal("backup", f"{store}.new", "--engine", engine)
    assert (status, "bytes" in shown, "messages copied" in shown) == (0, True, True)


def test_a_copy_made_while_messages_are_published_is_the_whole_log_of_one_moment(tmp_path: Path) -> None:
    store, batch = tmp_path / "log.db", 7
    confirmed, ended = [0], threading.Event()
    with served(store, "--max-messages", "1000000", "--max-bytes", "1GiB") as server:  # so that retention takes none

        def publish() -> None:
            with httpx.Client(base_url=server.url, headers={"Content-Type": "application/x-ndjson"}) as client:
                while not ended.is_set():
                    answer = client.post("/topics/t/messages", content=b"\n".join([b"x" * 1_000] * batch)).json()
                    confirmed[0] = int(answer["last"].split("-")[1])

        publisher = threading.Thread(target=publish)
        publisher.start()
        try:
            for number in range(3):
                copy, known = tmp_path / f"copy{number}.db", confirmed[0]
                done = run("backup", str(copy), "--engine", f"sqlite:{store}")
                found = sequences(copy)
                assert (done.returncode, done.stderr.decode()) == (0, f"messages copied to {copy}: {len(found)}\n")
                assert found == list(range(1, len(found) + 1))
                assert len(found) >= known, "a confirmed message is missing"
                assert len(found) % batch == 0, "half a batch was copied"
        finally:
            ended.set()
            publisher.join(DEADLINE)


def test_a_commit_between_two_steps_neither_starts_the_copy_anew_nor_gets_into_it(tmp_path: Path) -> None:
    store, steps = tmp_path / "log.db", list[int]()
    with served(store) as server:
        for _ in range(4):
            post(server.url, "t", "x" * 1_000_000)

        def step(done: int, total: int) -> None:
            assert done <= total
            steps.append(done)
            post(server.url, "t", "later")

        assert backup(store, tmp_path / "copy.db", step) == 4
    assert len(steps) > 3
    assert steps == sorted(set(steps))
    assert sequences(tmp_path / "copy.db") == [1, 2, 3, 4]


def test_a_copy_is_one_file_for_the_owner_alone_and_leaves_the_store_as_it_was(store: Path) -> None:
    before = files(store.parent)["log.db"]
    copy = store.with_name("copy.db")
    assert run("backup", str(copy), "--engine", f"sqlite:{store}").returncode == 0
    assert copy.stat().st_mode & 0o777 == 0o600
    assert {name for name in files(store.parent) if "copy" in name} == {"copy.db"}
    assert files(store.parent)["log.db"] == before


def test_a_store_that_was_killed_is_copied_with_what_it_confirmed(tmp_path: Path) -> None:
    with served(tmp_path / "log.db") as server:
        post(server.url, "t", "x")
        server.process.kill()
        server.process.wait(DEADLINE)
    assert run("backup", str(tmp_path / "copy.db"), "--engine", f"sqlite:{tmp_path / 'log.db'}").returncode == 0
    assert sequences(tmp_path / "copy.db") == [1]


def test_a_copy_that_is_broken_off_leaves_nothing(store: Path) -> None:
    before = set(files(store.parent))

    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backup(store, store.with_name("copy.db"), interrupt)
    assert {name for name in files(store.parent) if not name.startswith("log.db")} == before - {"log.db"}


def test_what_is_there_already_is_not_overwritten(store: Path) -> None:
    other = store.with_name("other")
    other.write_text("precious")
    done = run("backup", str(other), "--engine", f"sqlite:{store}")
    assert (done.returncode, done.stderr.decode()) == (
        1,
        f"Error: {other} exists already: choose another name for the copy\n",
    )
    assert other.read_text() == "precious"


def test_the_engine_comes_from_the_environment(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = store.with_name("copy.db")
    done = run("backup", str(copy))
    assert (done.returncode, copy.exists()) == (1, False)
    assert done.stderr.startswith(b"Error: --engine (PLAINMQ_ENGINE) is 'memory': expected sqlite:///PATH")
    monkeypatch.setattr("tests.cli.commands.environment", lambda _: {"PLAINMQ_ENGINE": f"sqlite:{store}"})
    assert run("backup", str(copy)).returncode == 0
    assert sequences(copy) == [1, 2]


# Restore


def test_a_restored_log_goes_on_in_a_new_epoch_and_knows_the_ids_up_to_the_copy(store: Path) -> None:
    copy = store.with_name("copy.db")
    with served(store) as server:
        first, second = messages(server, "t")
        assert run("backup", str(copy), "--engine", f"sqlite:{store}").returncode == 0
        lost = post(server.url, "t", "lost")
    done = run("restore", str(copy), "--engine", f"sqlite:{store}", "--replace")
    assert (done.returncode, done.stderr.decode()) == (0, f"messages restored to {store}: 2\n")
    with served(store) as server:
        url = f"{server.url}/topics/t/messages"
        assert httpx.get(url, params={"since": first["id"]}).json()["messages"] == [second]
        assert "gap" not in httpx.get(url, params={"since": second["id"]}).json()
        assert httpx.get(url, params={"since": lost["id"]}).json()["gap"]["reason"] == "epoch"
        new = post(server.url, "t", "new")
        assert new["id"] != lost["id"], "two messages have had one id"
        assert texts(server, "t") == ["one", "two", "new"]
    with served(store) as server:
        assert post(server.url, "t", "x")["id"].split("-")[0] == new["id"].split("-")[0], "an epoch more than one fork"


def test_a_copy_becomes_the_store_where_there_was_none_and_begins_an_epoch(copy: Path) -> None:
    path = copy.parent / "new" / "log.db"
    assert run("restore", str(copy), "--engine", f"sqlite:{path}").returncode == 0
    with served(path) as server:
        assert texts(server, "t") == ["one", "two"]
        old, new = messages(server, "t")[0]["id"], post(server.url, "t", "three")["id"]
        assert old.split("-")[0] != new.split("-")[0]


def test_a_store_that_is_served_is_not_replaced(copy: Path) -> None:
    store = copy.with_name("log.db")
    with served(store) as server:
        done = run("restore", str(copy), "--engine", f"sqlite:{store}", "--replace")
        assert (done.returncode, b"in use by another plainmq" in done.stderr) == (1, True)
        post(server.url, "t", "three")
        assert texts(server, "t") == ["one", "two", "three"]


def test_a_store_is_replaced_only_on_request(copy: Path) -> None:
    before = files(copy.parent)
    done = run("restore", str(copy), "--engine", f"sqlite:{copy.with_name('log.db')}")
    assert (done.returncode, b"give --replace" in done.stderr) == (1, True)
    assert files(copy.parent) == before


def test_what_a_killed_server_left_beside_its_store_is_not_written_into_the_restored_one(copy: Path) -> None:
    store = copy.with_name("log.db")
    with served(store) as server:
        for number in range(50):
            post(server.url, "t", f"gone {number}")
        server.process.kill()
        server.process.wait(DEADLINE)
    assert Path(f"{store}-wal").stat().st_size
    assert run("restore", str(copy), "--engine", f"sqlite:{store}", "--replace").returncode == 0
    assert not Path(f"{store}-wal").exists()
    with served(store) as server:
        assert texts(server, "t") == ["one", "two"]


def test_a_damaged_store_is_replaced(copy: Path) -> None:
    store = copy.with_name("log.db")
    store.write_bytes(b"SQLite format 3\0" + b"\xff" * 5_000)
    Path(f"{store}-wal").write_bytes(b"\xff" * 5_000)
    assert run("restore", str(copy), "--engine", f"sqlite:{store}", "--replace").returncode == 0
    with served(store) as server:
        assert texts(server, "t") == ["one", "two"]


def of_another_program(copy: Path) -> None:
    copy.unlink()
    with closing(sqlite3.connect(copy)) as db:
        db.execute("CREATE TABLE songs (title)")


def cut(copy: Path) -> None:
    copy.write_bytes(copy.read_bytes()[:20_000])


def damage(copy: Path) -> None:
    copy.write_bytes(copy.read_bytes()[:-4_096] + b"\xff" * 4_096)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (Path.unlink, "does not exist: expected the file of a store"),
        (lambda copy: copy.write_bytes(b""), "contains no log: it is empty"),
        (lambda copy: copy.write_text("hello" * 1_000), "cannot be copied"),
        (of_another_program, "is a database of another program"),
        (cut, "cannot be copied"),
        (damage, "cannot be copied"),
    ],
    ids=["missing", "empty", "text", "of another program", "cut", "damaged"],
)
def test_what_is_no_copy_is_refused_and_the_store_stays(
    copy: Path, spoil: Callable[[Path], object], sentence: str
) -> None:
    spoil(copy)
    before = files(copy.parent)
    done = run("restore", str(copy), "--engine", f"sqlite:{copy.with_name('log.db')}", "--replace")
    said = done.stderr.decode()
    assert (done.returncode, said.startswith(f"Error: {copy} "), sentence in said) == (1, True, True), said
    after = files(copy.parent)
    assert {name: after.get(name) for name in before} == before
    assert {name for name in after if "copy" not in name} == {name for name in before if "copy" not in name}


def test_a_plain_copy_of_a_stopped_store_is_a_copy_too(store: Path) -> None:
    plain = store.with_name("plain.db")
    plain.write_bytes(store.read_bytes())
    with served(store) as server:
        epoch = post(server.url, "t", "x")["id"].split("-")[0]
    assert run("restore", str(plain), "--engine", f"sqlite:{store}", "--replace").returncode == 0
    with served(store) as server:
        assert post(server.url, "t", "y")["id"].split("-")[0] != epoch
