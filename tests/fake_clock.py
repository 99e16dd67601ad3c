"""libfaketime (Debian: `apt install faketime`) sets the clock of a process, also meanwhile."""

import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

# The library for processes of several threads: the other one shows a thread the real clock now and then, while another
# thread reads the file.
LIBRARY: Final = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


def works_with(program: str) -> bool:
    """It hangs or complains with some allocators, such as jemalloc in Debian's Redis."""
    with TemporaryDirectory() as folder, suppress(subprocess.TimeoutExpired):
        environment = os.environ | {**FakeClock(Path(folder)).environment}
        run = subprocess.run([program, "--version"], env=environment, capture_output=True, timeout=5, check=False)
        return LIBRARY is not None and not run.returncode and not run.stderr
    return False


class FakeClock:
    """`environment`: variables of the processes that see it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.environment: Mapping[str, str] = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        self.step(0.0)

    def step(self, seconds: float) -> None:
        """It is wrong by so many from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+}")
        new.replace(self._file)
