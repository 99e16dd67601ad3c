"""Private files: they are made with mode 0600, and refused if other users can use them."""

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..errors import PlainmqError
from ..errors.denied import reason
from ..net.regular_file import read_regular

PRIVATE: Final = 0o600
_OTHERS: Final = 0o077


class FileInvalid(PlainmqError):
    code = "file_invalid"


def read_private(path: Path) -> bytes:
    """Raises FileInvalid if the file is missing, or if other users may read or write it."""
    data, mode = read_with_mode(path)
    check_mode(path, mode)
    return data


def read_with_mode(path: Path) -> tuple[bytes, int]:
    """The contents and the mode. Raises FileInvalid."""
    try:
        return read_regular(path)
    except OSError as error:
        raise FileInvalid(f"{path} cannot be read: {reason(path, error)}") from None


def check_mode(path: Path, mode: int) -> None:
    """Raises FileInvalid if other users may read or write the file."""
    if mode & _OTHERS:
        raise FileInvalid(f"{path} has the mode {mode:04o}, so others may use it: chmod 600 {path}")


def check_place(path: Path) -> None:
    """Raises FileInvalid when it can be known beforehand that the file cannot be written. Nothing is made."""
    try:
        place = next(place for place in (path, *path.absolute().parents) if place.exists())
        if place == path and not path.is_file():
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if place != path and not place.is_dir():
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(place, os.W_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise FileInvalid(f"{path} cannot be written: {reason(path, error)}") from None


def append_private(path: Path, line: bytes) -> None:
    """Append a line in one write. The file and its folder are made if need be. Raises FileInvalid."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, PRIVATE), "rb+", buffering=0) as file:
            whole = not file.seek(0, os.SEEK_END) or os.pread(file.fileno(), 1, file.tell() - 1) == b"\n"
            file.write(line + b"\n" if whole else b"\n" + line + b"\n")
            os.fsync(file.fileno())
    except OSError as error:
        raise FileInvalid(f"{path} cannot be written: {reason(path, error)}") from None


def write_private(path: Path, data: bytes, replace: bool) -> None:
    """Write the file atomically. `replace`: overwrite an existing file, or else leave it as it is. The folder is made
    if need be. Raises FileInvalid."""
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
