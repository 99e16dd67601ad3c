"""The commands of `plainmq`, run as processes, and what they published."""

import os
import pty
import select
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import httpx

from tests import forked
from tests.harness import DEADLINE, ROOT, ServerProcess

PROGRAM = [sys.executable, "-m", "app"]


def run(
    *arguments: str | bytes, stdin: bytes | None = None, url: str | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run the command to its end."""
    return forked.run([*PROGRAM, *arguments], input=stdin or b"", timeout=DEADLINE, cwd=ROOT, env=environment(url))


_OF_A_TERMINAL = ("COLUMNS", "LINES")  # a worker of pytest-xdist sets them, and they come before a terminal's own size


def environment(url: str | None) -> dict[str, str]:
    """The environment of this process without settings of plainmq and without the size of a terminal."""
    foreign = (name for name in os.environ if name not in _OF_A_TERMINAL and not name.startswith("PLAINMQ_"))
    clean = {name: os.environ[name] for name in foreign}
    return clean | ({"PLAINMQ_URL": url} if url else {})


class Running:
    """A running command."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._watchdog = threading.Timer(DEADLINE, process.kill)
        self._watchdog.start()

    def line(self, stream: IO[bytes] | None = None) -> bytes:
        """The next line of standard output, or of another stream. Empty if none arrives before the deadline."""
        stream = stream or self.process.stdout
        assert stream
        return stream.readline()

    def send(self, *lines: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(b"".join(line + b"\n" for line in lines))
        self.process.stdin.flush()

    def stop(self, number: int) -> tuple[int, bytes]:
        """Send the signal. Returns the exit status and the output on standard error."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, bytes]:
        _, errors = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, errors

    def close(self) -> None:
        self._watchdog.cancel()
        self.process.kill()
        self.process.wait(DEADLINE)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                stream.close()


@contextmanager
def running(*arguments: str, url: str, **popen: Any) -> Iterator[Running]:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | popen
    command = Running(forked.Popen[bytes]([*PROGRAM, *arguments], cwd=ROOT, env=environment(url), bufsize=0, **pipes))
    try:
        yield command
    finally:
        command.close()


def messages(server: ServerProcess, topic: str) -> list[dict[str, Any]]:
    """The messages that the topic retains."""
    answer = httpx.get(f"{server.url}/topics/{topic}/messages", params={"limit": 1000})
    found: list[dict[str, Any]] = answer.json()["messages"]
    return found


def texts(server: ServerProcess, topic: str) -> list[str]:
    return [message["data"] for message in messages(server, topic)]


def post(url: str, topic: str, body: str) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.post(f"{url}/topics/{topic}/messages", content=body).json()
    return answer


def post_when_subscribed(url: str, topic: str, body: str, subscribers: int = 1) -> None:
    """Publish until so many subscribers have received it."""
    deadline = time.monotonic() + DEADLINE
    while post(url, topic, body)["subscribers"] < subscribers:
        assert time.monotonic() < deadline, "there is no subscriber"


def seen_on_a_terminal(*arguments: str, url: str, env: dict[str, str] | None = None, columns: int = 80) -> bytes:
    """All that the command shows to a person, on both streams."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    process = forked.Popen[bytes](
        [*PROGRAM, *arguments], cwd=ROOT, env=environment(url) | (env or {}), stdin=subprocess.DEVNULL, stdout=theirs,
        stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown, end = b"", time.monotonic() + DEADLINE
    try:
        while select.select([ours], [], [], max(end - time.monotonic(), 0))[0]:
            shown += os.read(ours, 65_536)
    except OSError:  # EIO: the last who had the terminal open has left
        process.wait(DEADLINE)
        return shown
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    raise AssertionError(f"it does not end: {shown!r}")
