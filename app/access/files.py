"""Files that are nobody else's business: made with mode 0600, and not read when others may."""

import os
from pathlib import Path
from stat import S_IMODE
from typing import Final

from ..denied import reason
from ..errors import PlainmqError

PRIVATE: Final = 0o600
_OTHERS: Final = 0o077


class FileInvalid(PlainmqError):
    code = "file_invalid"


def read_private(path: Path) -> bytes:
    """Raises FileInvalid when there is none, or when others may read or write it."""
    try:
        with path.open("rb") as file:
            mode = S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & _OTHERS:
                raise FileInvalid(f"{path} has the mode {mode:04o}, so others may use it: chmod 600 {path}")
            return file.read()
    except OSError as error:
        raise FileInvalid(f"{path} cannot be read: {reason(path, error)}") from None


def append_private(path: Path, line: bytes) -> None:
    """In one write; the file and its folder are made if they are not there. Raises FileInvalid."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, PRIVATE), "rb+", buffering=0) as file:
            whole = not file.seek(0, os.SEEK_END) or os.pread(file.fileno(), 1, file.tell() - 1) == b"\n"
            file.write(line + b"\n" if whole else b"\n" + line + b"\n")
            os.fsync(file.fileno())
    except OSError as error:
        raise FileInvalid(f"{path} cannot be written: {reason(path, error)}") from None
