"""A terminal of a given size in which a command runs, and what it shows there."""

import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.cli.commands import PROGRAM, environment
from tests.harness import DEADLINE, ROOT


class Window:
    """A terminal in which a command runs. The screen is what was drawn last."""

    def __init__(self, ours: int, process: subprocess.Popen[bytes]) -> None:
        self.ours = ours
        self.process = process
        self.drawn = b""

    def until(self, holds: Callable[[list[str]], object]) -> list[str]:
        """The lines of the first screen for which that holds."""
        deadline = time.monotonic() + DEADLINE
        while not holds(lines := self.lines()):
            left = deadline - time.monotonic()
            assert left > 0, f"it never showed that: {lines}"
            if select.select([self.ours], [], [], left)[0]:
                self.drawn += os.read(self.ours, 65_536)
        return lines

    def lines(self) -> list[str]:
        """Of the last screen that was drawn wholly."""
        screens = self.drawn.split(b"\x1b[H")[:-1]
        return re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", screens[-1]).decode().splitlines() if len(screens) > 1 else []

    def shows(self, text: str) -> None:
        """Wait until that was written."""
        deadline = time.monotonic() + DEADLINE
        while text.encode() not in self.drawn:
            left = deadline - time.monotonic()
            assert left > 0, f"it never showed that: {self.drawn!r}"
            if select.select([self.ours], [], [], left)[0]:
                self.drawn += os.read(self.ours, 65_536)

    def resize(self, rows: int, columns: int) -> None:
        termios.tcsetwinsize(self.ours, (rows, columns))
        self.process.send_signal(signal.SIGWINCH)


@contextmanager
def window(*arguments: str, url: str, rows: int = 24, columns: int = 80, **variables: str) -> Iterator[Window]:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (rows, columns))
    env = environment(url) | {"TERM": "xterm", "LC_ALL": "C.UTF-8"} | variables
    process = subprocess.Popen(
        [*PROGRAM, *arguments], cwd=ROOT, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    try:
        yield Window(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)
