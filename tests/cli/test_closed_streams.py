"""Commands whose standard streams are closed, broken or full: they do their work, or say in a sentence why not, and
never end by a signal or with a traceback."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import httpx
import pytest

from tests.cli.commands import PROGRAM, environment, run
from tests.harness import DEADLINE, ROOT, ServerProcess, free_port, start_server

CLOSED = [tuple(number for number, closed in enumerate(which) if closed) for which in product((False, True), repeat=3)]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with start_server(tcp_port=0) as process:
        httpx.post(f"{process.url}/topics/full/messages", content=b"x")
        yield process


def shell(redirections: str, *arguments: str) -> list[str]:
    return ["/bin/sh", "-c", f'exec "$@" {redirections}', "sh", *PROGRAM, *arguments]


def closing(closed: tuple[int, ...]) -> str:
    return " ".join(f"{number}{'<' if number == 0 else '>'}&-" for number in closed)


def ended(redirections: str, *arguments: str, url: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        shell(redirections, *arguments), input=b"line\n", capture_output=True, timeout=DEADLINE, cwd=ROOT, check=False,
        env=environment(url) | {"PLAINMQ_DATA_DIR": str(folder)},
    )  # fmt: skip


# What each command needs: its words, whether it reads standard input, whether it writes results
COMMANDS: dict[str, tuple[tuple[str, ...], bool, bool]] = {
    "publish": (("publish", "a", "x"), False, True),
    "publish lines": (("publish", "a"), True, False),
    "publish file": (("publish", "a", "--file", "-"), True, True),
    "subscribe": (("subscribe", "full", "--since", "earliest", "--count", "1"), False, True),
    "export": (("export", "--topic", "full"), False, True),
    "import": (("import",), True, False),
    "topics": (("topics",), False, True),
    "peek --json": (("peek", "full", "--json"), False, True),
    "completion": (("completion", "bash"), False, True),
    "token": (("token", "NAME", "--all"), False, True),
    "--help": (("--help",), False, True),
    "--version": (("--version",), False, True),
    "serve --help": (("serve", "--help"), False, True),
    "backup": (("backup", "/nowhere/copy", "--engine", "sqlite:/nowhere/log.db"), False, False),
}
FAILS = {"backup": 1, "import": 1}  # there is no such file; the line is no message


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_with_closed_streams_does_its_work_or_says_why_not(
    server: ServerProcess, command: str, tmp_path: Path
) -> None:
    arguments, reads, writes = COMMANDS[command]
    for closed in CLOSED:
        words = [word.replace("NAME", "n" + "".join(map(str, closed))) for word in arguments]
        done = ended(closing(closed), *words, url=server.url, folder=tmp_path)
        fails = (reads and 0 in closed) or (writes and 1 in closed)
        assert done.returncode == (1 if fails else FAILS.get(command, 0)), (closed, done)
        assert b"Traceback" not in done.stderr
        assert b"Exception ignored" not in done.stderr
        if fails and 2 not in closed:
            assert b"Error: " in done.stderr
        if writes and not fails:
            assert done.stdout


@pytest.mark.parametrize("command", ["publish", "subscribe", "export", "topics", "token", "--help", "serve --help"])
def test_a_full_disk_is_a_sentence_and_a_pipe_that_nobody_reads_is_none(
    server: ServerProcess, command: str, tmp_path: Path
) -> None:
    arguments = COMMANDS[command][0]
    full = ended(">/dev/full", *arguments, url=server.url, folder=tmp_path)
    assert (full.returncode, full.stdout) == (1, b"")
    assert full.stderr.splitlines()[-1].startswith(b"Error: ")
    assert b"No space left on device" in full.stderr
    both = ended(">/dev/full 2>/dev/full", *[f"{word}2" if word == "NAME" else word for word in arguments],
                 url=server.url, folder=tmp_path)  # fmt: skip
    assert both.returncode == 1
    reader, writer = os.pipe()
    os.close(reader)
    broken = subprocess.run(
        [*PROGRAM, *[f"{word}3" if word == "NAME" else word for word in arguments]], stdout=writer,
        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=DEADLINE, cwd=ROOT, check=False,
        env=environment(server.url) | {"PLAINMQ_DATA_DIR": str(tmp_path)},
    )  # fmt: skip
    os.close(writer)
    assert broken.returncode in (0, 1)
    assert b"Traceback" not in broken.stderr
    assert b"Exception ignored" not in broken.stderr


@pytest.mark.parametrize("arguments", [("publish",), ("nonsense",), ("subscribe", "a..b"), ("publish", "a", "x")])
@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-"])
def test_log_lines_that_cannot_be_written_change_nothing(
    server: ServerProcess, arguments: tuple[str, ...], where: str, tmp_path: Path
) -> None:
    silent = ended(where, *arguments, url=server.url, folder=tmp_path)
    assert silent.returncode in (0, 1, 2)
    assert silent.returncode == 0 or arguments != ("publish", "a", "x")


@pytest.mark.parametrize("arguments", [("publish", "a"), ("publish", "a", "--file", "-"), ("import",)])
def test_an_input_that_cannot_be_read_is_a_sentence(server: ServerProcess, arguments: tuple[str, ...]) -> None:
    done = ended("0>/dev/null", *arguments, url=server.url, folder=Path("/"))
    assert done.returncode == 1
    assert b"the input cannot be read: " in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("closed", CLOSED)
def test_a_server_with_closed_streams_serves_and_stops_in_good_order(closed: tuple[int, ...], tmp_path: Path) -> None:
    port, line_port = free_port(), free_port()
    flags = ("serve", "--port", str(port), "--tcp-port", str(line_port), "--data-dir", str(tmp_path))
    with serving(closing(closed), *flags) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for(url)
        assert run("publish", "a", "x", url=url).returncode == 0
        assert run("subscribe", "a", "--since", "earliest", "--count", "1", url=url).stdout == b"x\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0
        assert process.stdout
        assert process.stderr
        assert process.stdout.read() == b""
        said = process.stderr.read()
        assert (b"stopped" in said) is (2 not in closed)
        assert b"Traceback" not in said


@pytest.mark.parametrize("where", ["2>/dev/full", ">/dev/full 2>/dev/full"])
def test_a_server_whose_words_find_no_room_serves(where: str, tmp_path: Path) -> None:
    port = free_port()
    with serving(where, "serve", "--port", str(port), "--tcp-port", "0", "--data-dir", str(tmp_path)) as process:
        wait_for(f"http://127.0.0.1:{port}")
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0


@contextmanager
def serving(redirections: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        shell(redirections, *arguments), cwd=ROOT, env=environment(None), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(url: str) -> None:
    end = time.monotonic() + DEADLINE
    while True:
        try:
            assert httpx.get(f"{url}/livez").status_code == 200
        except httpx.TransportError:
            assert time.monotonic() < end, "it does not serve"
            time.sleep(0.05)
        else:
            return


# What nobody was told


@pytest.mark.parametrize("where", [">&-", ">/dev/full"])
@pytest.mark.parametrize("there", [True, False], ids=["beside others", "the first"])
def test_a_token_that_could_not_be_printed_is_in_no_file(where: str, there: bool, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    tokens = folder / "tokens"
    if there:
        ended("", "token", "other", "--all", url="", folder=folder)
    before = tokens.read_bytes() if there else None
    unseen = ended(where, "token", "unseen", "--all", url="", folder=folder)
    assert unseen.returncode == 1
    assert b"Error: the output cannot be written: " in unseen.stderr
    assert b"its hash is in" not in unseen.stderr
    assert (tokens.read_bytes() if there else None) == before
    assert folder.exists() is there
    seen = ended("", "token", "unseen", "--all", url="", folder=folder)
    assert (seen.returncode, seen.stdout[:4]) == (0, b"pmq_")


def test_a_token_whose_output_is_not_read_is_in_no_file(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    broken = subprocess.run(
        [*PROGRAM, "token", "unseen", "--all"], stdout=writer, stderr=subprocess.PIPE, timeout=DEADLINE, cwd=ROOT,
        env=environment("") | {"PLAINMQ_DATA_DIR": str(tmp_path)}, check=False,
    )  # fmt: skip
    os.close(writer)
    assert broken.returncode == 1
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("place", ["file/state", "folder"])
def test_a_token_that_cannot_be_kept_is_not_shown(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "tokens").mkdir(parents=True)
    kept = ended("", "token", "unkept", "--all", url="", folder=tmp_path / place)
    assert (kept.returncode, kept.stdout) == (1, b"")
    assert kept.stderr.startswith(b"Error: ")


@pytest.mark.parametrize("where", [">&-", ">/dev/full"])
def test_a_message_whose_id_cannot_be_printed_is_said_to_be_stored(
    server: ServerProcess, where: str, tmp_path: Path
) -> None:
    """Or somebody would publish it again."""
    topic = f"unseen{len(where)}"
    done = ended(where, "publish", topic, "x", url=server.url, folder=tmp_path)
    (stored,) = httpx.get(f"{server.url}/topics/{topic}/messages").json()["messages"]
    assert done.returncode == 1
    assert f"The message is published: {stored['id']}\nError: the output cannot be written: " in done.stderr.decode()
    done = ended(where, "publish", topic, "--json", url=server.url, folder=tmp_path)
    assert done.returncode == 1
    assert b"Messages published: 1\nError: the output cannot be written: " in done.stderr
