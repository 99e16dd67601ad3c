"""A server of somebody else as a child process, on a free port of this machine and in a folder of its own."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.harness import DEADLINE, free_port

STEP: Final = 0.02  # seconds between two looks at a server


class ChildServer:
    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def signal(self, number: int) -> None:
        assert self._process
        self._process.send_signal(number)

    def kill(self) -> None:
        """Idempotent."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEADLINE)
            self._process = None

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, f"{type(self).__name__} did not get there"
            time.sleep(STEP)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self.signal(signal.SIGSTOP)
        self.until(self._has_stopped)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def _has_stopped(self) -> bool:
        """All of its threads have."""
        assert self._process
        threads = Path(f"/proc/{self._process.pid}/task").iterdir()
        return all((thread / "stat").read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)
