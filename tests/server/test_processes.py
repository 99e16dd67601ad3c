"""plainmq serves in one process: a second one on the same socket does not start, and says why."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer

import pytest

from tests.harness import DEADLINE, ROOT

CLEAN = {name: value for name, value in os.environ.items() if not name.upper().startswith("PLAINMQ_")}
NOT_STARTED = re.compile(r"error not started code=\w+ detail=(.*)")
RUNNING = "Uvicorn running"


@contextmanager
def uvicorn(here: Path, *flags: str, given: socket.socket | None = None, **variables: str) -> Iterator[Iterator[str]]:
    """What it says, line by line. `given`: its standard input."""
    own = {"PYTHONPATH": str(ROOT), "HOME": str(here), "PLAINMQ_TCP_PORT": "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "app.main:app", *flags], cwd=here, env=CLEAN | own | variables,
        stdin=given.fileno() if given else subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    late = Timer(DEADLINE, os.killpg, (process.pid, signal.SIGKILL))
    late.start()
    try:
        assert process.stderr
        yield iter(process.stderr)
    finally:
        late.cancel()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # workers outlive a server that is killed
        process.communicate(timeout=DEADLINE)


def reasons(lines: Iterator[str]) -> list[str]:
    """Why a server did not start that ends by itself."""
    said = "".join(lines)
    assert "Traceback" not in said
    assert "Stopping parent process" in said or "startup failed" in said
    return NOT_STARTED.findall(said)


@pytest.mark.parametrize("engine", ["memory", "sqlite:log.db"])
@pytest.mark.parametrize("flags", [["--workers", "2"], []])
def test_a_server_of_several_workers_does_not_start(tmp_path: Path, engine: str, flags: list[str]) -> None:
    many = "1" if flags else "2"  # a flag overrides the variable
    with uvicorn(tmp_path, "--port", "0", *flags, PLAINMQ_ENGINE=engine, WEB_CONCURRENCY=many) as lines:
        (reason,) = reasons(lines)
    assert re.search(r"runs in one process, .* the same socket \(127\.0\.0\.1:\d+\)", reason)
    assert "--workers 1, or WEB_CONCURRENCY=1" in reason


def test_no_worker_is_started_again_and_again_for_a_wrong_setting(tmp_path: Path) -> None:
    with uvicorn(tmp_path, "--port", "0", "--workers", "2", PLAINMQ_AUTH="requierd") as lines:
        told = reasons(lines)
    assert told
    assert all("--auth (PLAINMQ_AUTH)" in reason for reason in told)


def test_a_process_that_was_given_the_socket_of_another_one_is_refused_while_that_serves(tmp_path: Path) -> None:
    """As supervisors do it that start a command several times."""
    with socket.create_server(("127.0.0.1", 0)) as sock, socket.create_server(("127.0.0.1", 0)) as another:
        with uvicorn(tmp_path, "--fd", "0", given=sock) as first:
            assert any(RUNNING in line for line in first)
            with uvicorn(tmp_path, "--fd", "0", given=sock) as second:
                (reason,) = reasons(second)
            assert f"(127.0.0.1:{sock.getsockname()[1]})" in reason
            with uvicorn(tmp_path, "--fd", "0", given=another) as third:
                assert any(RUNNING in line for line in third)
        with uvicorn(tmp_path, "--fd", "0", given=sock) as fourth:
            assert any(RUNNING in line for line in fourth)
