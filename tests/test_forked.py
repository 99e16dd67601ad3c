"""A forked process of plainmq is like one that was started."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import forked
from tests.harness import DEADLINE, ROOT

PROGRAM = [sys.executable, "-m", "app"]
COMMANDS = {
    "output": ["--version"],
    "an error": ["publish", "a..b", "x", "--retry-for", "0"],
    "wrong usage": ["nonsense"],
    "help": ["serve", "--help"],
}


def outcome(
    start: Callable[..., Any], *arguments: str, command: Sequence[str] = PROGRAM, **options: Any
) -> tuple[int, bytes, bytes]:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start([*command, *arguments], **{"cwd": ROOT} | pipes | options) as process:
        stdout, stderr = process.communicate(timeout=DEADLINE)
    return process.returncode, stdout, stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_it_prints_and_ends_the_same(command: str) -> None:
    assert outcome(forked.Popen, *COMMANDS[command]) == outcome(subprocess.Popen, *COMMANDS[command])


FORKED = """
import sys, tests.conftest
from pathlib import Path
from tests import forked
with forked.Popen([sys.executable, "-m", "app", "serve", "--port", "0", "--tcp-port", "0"]) as process:
    print(Path(f"/proc/{process.pid}/cmdline").read_text())
    process.kill()
"""


@pytest.mark.parametrize("variables", [{}, {"PYTHONDONTWRITEBYTECODE": "1"}])
def test_it_is_forked_where_no_bytecode_shall_be_written_too(variables: dict[str, str]) -> None:
    status, command, _ = outcome(subprocess.Popen, env=os.environ | variables, command=[sys.executable, "-c", FORKED])
    assert status == 0
    assert b"tests.forked" in command


def test_it_says_at_its_end_that_its_output_could_not_be_written() -> None:
    with Path("/dev/full").open("wb") as full:
        ended = [outcome(start, "--version", stdout=full) for start in (forked.Popen, subprocess.Popen)]
    assert ended[0] == ended[1]
    assert ended[0][0] != 0


def test_it_has_the_folder_the_environment_and_the_streams_that_are_given(tmp_path: Path) -> None:
    (tmp_path / "line").write_text("x\n")
    environment = os.environ | {"PLAINMQ_NONSENSE": "1", "PYTHONPATH": str(ROOT)}
    with (tmp_path / "line").open("rb") as line:
        options: dict[str, Any] = {"cwd": tmp_path, "stdin": line, "env": environment}
        ended = [outcome(start, "export", **options) for start in (forked.Popen, subprocess.Popen)]
    assert ended[0] == ended[1]
    assert b"PLAINMQ_NONSENSE" in ended[0][2]


def test_a_variable_of_the_linker_that_this_process_has_got_meanwhile_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcome(forked.Popen, "--version")[2] == b""
    monkeypatch.setenv("LD_PRELOAD", "/nowhere.so")
    ended = [outcome(start, "--version") for start in (forked.Popen, subprocess.Popen)]
    assert ended[0] == ended[1]
    assert b"/nowhere.so" in ended[0][2]


@pytest.mark.parametrize("where", [subprocess.PIPE, None])
def test_a_child_is_known_by_its_pid_and_its_signal(where: int | None) -> None:
    command = [*PROGRAM, "serve", "--port", "0", "--tcp-port", "0"]
    with forked.Popen[str](command, cwd=ROOT, stdout=where, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        while "  subscribe" not in process.stderr.readline():
            pass
        assert Path(f"/proc/{process.pid}/stat").read_text().split()[3] == str(os.getpid())
        process.kill()
        assert process.wait(DEADLINE) == -9
