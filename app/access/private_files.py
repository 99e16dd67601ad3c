"""Files that are nobody else's business: made with mode 0600, and not read when others may."""

import os
from contextlib import suppress
from pathlib import Path
from stat import S_IMODE
from typing import Final

from ..errors import PlainmqError
from ..errors.denied import reason

PRIVATE: Final = 0o600
_OTHERS: Final = 0o077


class FileInvalid(PlainmqError):
    code = "file_invalid"


def read_private(path: Path) -> bytes:
    """Raises FileInvalid when there is none, or when others may read or write it."""
    data, mode = read_with_mode(path)
    check_mode(path, mode)
    return data


def read_with_mode(path: Path) -> tuple[bytes, int]:
    """What is in it, and who may use it. Raises FileInvalid."""
    try:
        with path.open("rb") as file:
            return file.read(), S_IMODE(os.fstat(file.fileno()).st_mode)
    except OSError as error:
        raise FileInvalid(f"{path} cannot be read: {reason(path, error)}") from None


def check_mode(path: Path, mode: int) -> None:
    """Raises FileInvalid when others may read or write it."""
    if mode & _OTHERS:
        raise FileInvalid(f"{path} has the mode {mode:04o}, so others may use it: chmod 600 {path}")


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


def write_private(path: Path, data: bytes, replace: bool) -> None:
    """All of it or nothing, in place of what there was, or else only if there is none. Its folder is made if it is not
    there. Raises FileInvalid."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            new.replace(path)
        else:
            with suppress(FileExistsError):
                os.link(new, path)
            new.unlink()
    except OSError as error:
        with suppress(OSError):
            new.unlink()
        raise FileInvalid(f"{path} cannot be written: {reason(path, error)}") from None
