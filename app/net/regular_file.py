"""Reading files that somebody else may replace. A pipe or a device would block the event loop, or never end."""

import os
from errno import EFBIG, EINVAL, EISDIR
from pathlib import Path
from stat import S_IMODE, S_ISDIR, S_ISREG
from typing import Final

USUAL: Final = 1 << 20  # bytes: far more than certificates, keys and settings have


def read_regular(path: Path, most: int = USUAL) -> tuple[bytes, int]:
    """The contents and the mode of a regular file. Raises OSError, also for anything else, and for more than `most`
    bytes."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(number).st_mode
        if not S_ISREG(mode):
            code, text = (EISDIR, os.strerror(EISDIR)) if S_ISDIR(mode) else (EINVAL, "it is a pipe or a device")
            raise OSError(code, text)
        with open(number, "rb", closefd=False) as file:  # a number, not a path
            content = file.read(most + 1)
        if len(content) > most:
            raise OSError(EFBIG, f"it has more than {most >> 10} KiB")
        return content, S_IMODE(mode)
    finally:
        os.close(number)
