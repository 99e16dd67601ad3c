"""Reading files that somebody else may replace. A pipe or a device would block the event loop, or never end."""

import os
from errno import EINVAL, EISDIR
from pathlib import Path
from stat import S_IMODE, S_ISDIR, S_ISREG


def read_regular(path: Path) -> tuple[bytes, int]:
    """The contents and the mode of a regular file. Raises OSError, also for anything else."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(number).st_mode
        if not S_ISREG(mode):
            code, text = (EISDIR, os.strerror(EISDIR)) if S_ISDIR(mode) else (EINVAL, "it is a pipe or a device")
            raise OSError(code, text)
        with open(number, "rb", closefd=False) as file:  # a number, not a path
            return file.read(), S_IMODE(mode)
    finally:
        os.close(number)
