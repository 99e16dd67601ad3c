"""One file, one server: by whatever name it comes, and for as long as the file is the one that was opened."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from app.client import Client, Unavailable
from tests import forked
from tests.cli.commands import run
from tests.harness import DEADLINE, ROOT, ServerProcess, start_server

Name = Callable[[Path, Path], str]
"""Makes another name for a file, which is in a folder of its own; answers what comes behind `--engine sqlite:`."""


def refusal(engine: str, *, cwd: Path = ROOT, status: int = 1) -> str:
    """What `plainmq serve` says before it gives up."""
    command = [sys.executable, "-m", "app", "serve", "--port", "0", "--tcp-port", "0", "--engine", engine]
    ended = forked.run(command, cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=DEADLINE)
    said: str = ended.stderr.decode(errors="replace")
    assert (ended.returncode, ended.stdout) == (status, b""), said
    assert "Traceback" not in said
    return said.splitlines()[-1]


def link(real: Path, elsewhere: Path) -> str:
    (elsewhere / "link.db").symlink_to(real)
    return str(elsewhere / "link.db")


def link_to_a_link(real: Path, elsewhere: Path) -> str:
    (elsewhere / "second.db").symlink_to("first.db")
    (elsewhere / "first.db").symlink_to(os.path.relpath(real, elsewhere))
    return str(elsewhere / "second.db")


def linked_folder(real: Path, elsewhere: Path) -> str:
    (elsewhere / "folder").symlink_to(real.parent)
    return f"//{elsewhere}/folder/{real.name}"


def hard_link(real: Path, elsewhere: Path) -> str:
    os.link(real, elsewhere / "other.db")
    return str(elsewhere / "other.db")


def dots(real: Path, elsewhere: Path) -> str:
    return f"{elsewhere}/../{real.parent.name}/./{real.name}"


def relative(real: Path, _elsewhere: Path) -> str:
    return os.path.relpath(real, ROOT)


def through_proc(real: Path, _elsewhere: Path) -> str:
    return f"/proc/self/root{real}"


NAMES: tuple[Name, ...] = (link, link_to_a_link, linked_folder, hard_link, dots, relative, through_proc)


@pytest.fixture
def real(tmp_path: Path) -> Path:
    (tmp_path / "real").mkdir()
    return tmp_path / "real" / "log.db"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere"


@pytest.fixture
def server(real: Path) -> Iterator[ServerProcess]:
    with start_server("--engine", f"sqlite:{real}", tcp_port=0) as process:
        yield process


def publish(server: ServerProcess, body: str = "x") -> httpx.Response:
    return httpx.post(f"{server.url}/topics/a/messages", content=body, headers={"Content-Type": "text/plain"})


def bodies(server: ServerProcess) -> list[str]:
    page = httpx.get(f"{server.url}/topics/a/messages", params={"limit": 1_000}).raise_for_status()
    return [message["data"] for message in page.json()["messages"]]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.__name__)
def test_a_second_server_is_refused_by_every_name_of_the_file(
    server: ServerProcess, real: Path, elsewhere: Path, name: Name
) -> None:
    other = name(real, elsewhere)
    assert "is in use by another plainmq" in refusal(f"sqlite:{other}")
    restored = run("restore", str(real), "--replace", "--engine", f"sqlite:{other}")
    assert b"is in use by another plainmq" in restored.stderr
    publish(server).raise_for_status()


@pytest.mark.parametrize("name", [link, link_to_a_link, linked_folder, dots, relative], ids=lambda name: name.__name__)
def test_what_a_killed_server_confirmed_is_there_by_every_name(real: Path, elsewhere: Path, name: Name) -> None:
    with start_server("--engine", f"sqlite:{real}", tcp_port=0) as first:
        publish(first, "kept").raise_for_status()
        first.stop(signal.SIGKILL)
    with start_server("--engine", f"sqlite:{name(real, elsewhere)}", tcp_port=0) as second:
        assert bodies(second) == ["kept"]


def test_a_link_to_a_file_that_is_not_there_yet_makes_that_one(real: Path, elsewhere: Path) -> None:
    with start_server("--engine", f"sqlite:{link(real, elsewhere)}", tcp_port=0) as server:
        publish(server).raise_for_status()
        assert "is in use by another plainmq" in refusal(f"sqlite:{real}")
    assert real.stat().st_mode & 0o777 == 0o600


def test_a_restored_copy_takes_the_place_of_the_file_that_a_link_leads_to(
    server: ServerProcess, real: Path, elsewhere: Path
) -> None:
    publish(server, "in the copy").raise_for_status()
    name = link(real, elsewhere)
    run("backup", str(elsewhere / "copy"), "--engine", f"sqlite:{name}")
    server.stop()
    assert run("restore", str(elsewhere / "copy"), "--replace", "--engine", f"sqlite:{name}").returncode == 0
    assert Path(name).is_symlink()
    with start_server("--engine", f"sqlite:{real}", tcp_port=0) as again:
        assert bodies(again) == ["in the copy"]


def test_a_file_with_two_hard_links_is_refused_before_one_name_hides_what_the_other_has(
    real: Path, elsewhere: Path
) -> None:
    """SQLite keeps what is newest beside one of the names: by the other, what was confirmed would be gone."""
    with start_server("--engine", f"sqlite:{real}", tcp_port=0) as first:
        publish(first, "kept").raise_for_status()
        first.stop(signal.SIGKILL)
    other = hard_link(real, elsewhere)
    for name in (real, other):
        assert "has 2 names (hard links)" in refusal(f"sqlite:{name}")
    assert "has 2 names (hard links)" in run("backup", f"{other}.copy", "--engine", f"sqlite:{other}").stderr.decode()
    Path(other).unlink()
    with start_server("--engine", f"sqlite:{real}", tcp_port=0) as second:
        assert bodies(second) == ["kept"]


@pytest.fixture
def bind() -> Iterator[Callable[[Path, Path], None]]:
    """Show one file or folder in another's place."""
    places: list[Path] = []

    def mount(source: Path, place: Path) -> None:
        command = ["mount", "--bind", str(source), str(place)]
        if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("nothing can be mounted here")
        places.append(place)

    yield mount
    for place in places:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_folder_that_is_mounted_twice_leads_to_one_file(
    server: ServerProcess, real: Path, elsewhere: Path, bind: Callable[[Path, Path], None]
) -> None:
    bind(real.parent, elsewhere)
    publish(server, "kept").raise_for_status()
    assert "is in use by another plainmq" in refusal(f"sqlite:{elsewhere / real.name}")
    server.stop(signal.SIGKILL)
    with start_server("--engine", f"sqlite:{elsewhere / real.name}", tcp_port=0) as second:
        assert bodies(second) == ["kept"]


def test_a_file_that_is_mounted_alone_is_refused_since_what_is_newest_would_lie_elsewhere(
    server: ServerProcess, real: Path, elsewhere: Path, bind: Callable[[Path, Path], None]
) -> None:
    alone = elsewhere / "alone of its folder.db"
    alone.touch()
    bind(real, alone)
    assert "is in use by another plainmq" in refusal(f"sqlite:{alone}")
    server.stop(signal.SIGKILL)
    assert "is mounted as a single file: mount its folder" in refusal(f"sqlite:{alone}")


# While it serves


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    shutil.copy(path, f"{path}.new")
    Path(f"{path}.new").replace(path)


def move(path: Path) -> None:
    path.rename(f"{path}.moved")


def until(server: ServerProcess, status: int) -> httpx.Response:
    end = time.monotonic() + DEADLINE
    while (answer := httpx.get(f"{server.url}/readyz")).status_code != status:
        assert time.monotonic() < end, answer.text
    return answer


@pytest.mark.parametrize("suffix", ["", ".lock", "-wal", "-shm"])
@pytest.mark.parametrize("how", [remove, replace, move], ids=lambda how: how.__name__)
def test_a_replaced_file_is_noticed_without_a_publish(
    server: ServerProcess, real: Path, suffix: str, how: Callable[[Path], None]
) -> None:
    publish(server, "before").raise_for_status()
    how(Path(f"{real}{suffix}"))
    answer = until(server, 503)
    assert answer.json()["code"] == "storage_failed"
    assert f"{real}{suffix} is not the file that was opened" in answer.json()["detail"]
    refused = publish(server)
    assert (refused.status_code, refused.json()["code"]) == (503, "storage_failed")
    assert f"{real}{suffix} is not the file that was opened" in refused.json()["detail"]
    assert bodies(server) == ["before"]
    assert httpx.get(f"{server.url}/livez").status_code == 200
    assert server.stop() == 0


NOT_CONFIRMED = {(503, "storage_failed"), (504, "outcome_unknown")}
"""Refused; or, if its transaction was committed after the last check of the files, unknown."""


@pytest.mark.parametrize("suffixes", [[""], ["-wal"], ["-shm"], ["", "-wal", "-shm", ".lock"]], ids=str)
def test_no_publish_is_confirmed_after_the_files_were_removed(
    server: ServerProcess, real: Path, suffixes: list[str]
) -> None:
    for number in range(20):
        publish(server, str(number)).raise_for_status()
    for suffix in suffixes:
        Path(f"{real}{suffix}").unlink()
    refused = publish(server, "lost")
    assert (refused.status_code, refused.json()["code"]) in NOT_CONFIRMED
    assert f"{real}{suffixes[0]} is not the file that was opened" in refused.json()["detail"]


def test_a_message_that_is_not_confirmed_is_not_delivered_either(server: ServerProcess, real: Path) -> None:
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE) as reader:
        reader.sendall(b"GET /topics/a/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        publish(server, "seen").raise_for_status()
        Path(f"{real}-wal").unlink()
        lost = publish(server, "lost")
        assert (lost.status_code, lost.json()["code"]) in NOT_CONFIRMED
        server.stop()
        content = b"".join(iter(lambda: reader.recv(1 << 16), b""))
    assert b"seen" in content
    assert b"lost" not in content


def test_a_file_that_is_back_in_its_place_is_served_again(server: ServerProcess, real: Path) -> None:
    publish(server, "before").raise_for_status()
    moved = real.with_name("moved")
    real.rename(moved)
    until(server, 503)
    assert publish(server).status_code == 503
    with Client(server.url, retry_for=0) as client:
        with pytest.raises(Unavailable, match="is not the file that was opened"):
            client.check_ready()
        moved.rename(real)
        until(server, 200)
        client.check_ready()
    end = time.monotonic() + DEADLINE
    while (answer := publish(server, "after")).status_code == 503:
        assert time.monotonic() < end, answer.text
    assert bodies(server) == ["before", "after"]


def test_a_server_whose_file_was_replaced_leaves_the_new_one_alone_when_it_ends(
    server: ServerProcess, real: Path, elsewhere: Path
) -> None:
    publish(server, "old").raise_for_status()
    for path in (real, Path(f"{real}.lock"), Path(f"{real}-wal"), Path(f"{real}-shm")):
        path.rename(elsewhere / path.name)
    with start_server("--engine", f"sqlite:{real}", tcp_port=0) as second:
        publish(second, "new").raise_for_status()
        assert server.stop() == 0
        publish(second, "newer").raise_for_status()
        second.stop(signal.SIGKILL)
    with start_server("--engine", f"sqlite:{real}", tcp_port=0) as third:
        assert bodies(third) == ["new", "newer"]
    with start_server("--engine", f"sqlite:{elsewhere / real.name}", tcp_port=0) as old:
        assert bodies(old) == ["old"]


def test_what_was_confirmed_before_the_wal_was_removed_is_in_the_file_after_a_stop(
    server: ServerProcess, real: Path
) -> None:
    publish(server, "before").raise_for_status()
    Path(f"{real}-wal").unlink()
    until(server, 503)
    assert server.stop() == 0
    with start_server("--engine", f"sqlite:{real}", tcp_port=0) as second:
        assert bodies(second) == ["before"]


# What is no path of a file


@pytest.mark.parametrize(
    ("engine", "sentence"),
    [
        ("sqlite:", "expected sqlite:///PATH"),
        ("sqlite::memory:", "SQLite stores that in memory"),
        ("sqlite:///:memory:", "SQLite stores that in memory"),
        ("sqlite:./:memory:", "SQLite stores that in memory"),
        ("sqlite:file:log.db", "a path is expected, not a URI"),
        ("sqlite:file:///tmp/log.db?vfs=memdb", "a path is expected, not a URI"),
        ("sqlite:FILE:log.db", "a path is expected, not a URI"),
        ("sqlite:log.db?mode=memory", "options after a `?` are not supported"),
        ("sqlite:///log.db?", "options after a `?` are not supported"),
        ("sqlite: ", "without blanks around it"),
        ("sqlite:log\n.db", "expected a text of one line"),
        ("sqlite:log\udcff.db", "it is not UTF-8"),
        ("sqlite:folder/", "a folder"),
        ("sqlite:.", "a folder"),
        ("sqlite:folder/..", "a folder"),
        ("sqlite://", "a folder"),
        ("sqlite:///", "a folder"),
        ("sqlite://host/log.db", "expected sqlite:///PATH"),
    ],
)
def test_what_sqlite_would_read_in_another_way_is_refused_and_nothing_is_made(
    tmp_path: Path, engine: str, sentence: str
) -> None:
    said = refusal(engine, cwd=tmp_path)
    assert sentence in said
    assert re.match(r"Error: --engine (\(PLAINMQ_ENGINE\) )?is .*: ", said)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal", ".lock"])
def test_a_file_that_belongs_to_another_store_is_not_served(
    server: ServerProcess, real: Path, elsewhere: Path, suffix: str
) -> None:
    """A start on it would remove the newest messages of that store."""
    publish(server, "kept").raise_for_status()
    before = {*real.parent.iterdir()}
    name = f"{real}{suffix}"
    sentence = f"{name} is a file that belongs to {real.name}: choose one that does not end in {suffix}"
    assert sentence in refusal(f"sqlite:{name}")
    (elsewhere / "link.db").symlink_to(name)
    assert sentence in refusal(f"sqlite:{elsewhere / 'link.db'}")
    assert {*real.parent.iterdir()} == before
    server.stop(signal.SIGKILL)
    with start_server("--engine", f"sqlite:{real}", tcp_port=0) as second:
        assert bodies(second) == ["kept"]


def test_what_is_there_and_is_no_file_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    (tmp_path / "circle").symlink_to("circle")
    before = {*tmp_path.iterdir()}
    for name in ("folder", "pipe", "null"):
        assert "not a file" in refusal(f"sqlite:{tmp_path / name}")
    assert "Too many levels of symbolic links" in refusal(f"sqlite:{tmp_path / 'circle'}")
    assert {*tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["with space.db", "100%.db", "a%3Fb.db", "snow ☃.db", "a#b.db", "-wal", "a:b"])
def test_a_path_is_a_path(tmp_path: Path, name: str) -> None:
    with start_server("--engine", f"sqlite:{tmp_path / name}", tcp_port=0) as server:
        publish(server, "kept").raise_for_status()
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        server.stop(signal.SIGKILL)
    with start_server("--engine", f"sqlite:{tmp_path / name}", tcp_port=0) as again:
        assert bodies(again) == ["kept"]
