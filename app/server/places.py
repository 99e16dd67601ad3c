"""The files and folders that the settings name, and what can be checked of them before anything is written."""

import os
import re
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from ..errors.denied import reason
from ..messages.units import ByteSize
from ..settings import SettingInvalid, Settings, named

STORE_EXAMPLE: Final = "sqlite:///var/lib/plainmq/log.db"
_NOT_A_PATH: Final = {
    r"(^|/):memory:$": "SQLite stores that in memory (for a log in memory, use `memory`)",
    r"^(?i:file):": "a path is expected, not a URI",
    r"\?": "options after a `?` are not supported",
    r"^\s*$": "it is blank",
    r"[\ud800-\udfff]": "it is not UTF-8",
    r"(^|/)\.{0,2}$": "that is a folder",
}  # pattern → why it is refused


def store_path(engine: str) -> Path:
    """`sqlite:///var/lib/plainmq/log.db` → an absolute path; `sqlite:log.db` → a relative one. Raises SettingInvalid,
    also for a text that SQLite, or a person, would not read as a path."""
    match = re.fullmatch(r"sqlite:(?://(?=/))?((?!//[^/]).+)", engine, re.DOTALL)
    if match is None:
        raise SettingInvalid(f"{named('engine')} is {engine!r}: expected sqlite:///PATH, such as {STORE_EXAMPLE}")
    for pattern, why in _NOT_A_PATH.items():
        if re.search(pattern, match[1]):
            raise SettingInvalid(f"{named('engine')} is {engine!r}: {why}; expected a file, such as {STORE_EXAMPLE}")
    return Path(match[1])


def token_path(settings: Settings) -> Path:
    """The token file. Raises SettingInvalid."""
    return Path(settings.tokens) if settings.tokens else _data_dir(settings) / "tokens"


def _data_dir(settings: Settings) -> Path:
    if settings.data_dir:
        return Path(settings.data_dir)
    if settings.engine.startswith("sqlite:"):
        return store_path(settings.engine).parent
    try:
        return Path.home() / ".local" / "state" / "plainmq"
    except RuntimeError:
        raise SettingInvalid(
            f"{named('data_dir')} is not set, and the user has no home: name a folder for tokens"
        ) from None


def check_data_dir(settings: Settings) -> None:
    """Raises SettingInvalid if the path is not a folder, or if the server has to write there and cannot."""
    if not settings.data_dir:
        return
    folder = Path(settings.data_dir)
    existing = _nearest_existing(folder)
    wrong = f"{named('data_dir')} is {settings.data_dir!r}"
    if not existing.is_dir():
        raise SettingInvalid(f"{wrong}: expected a folder, and {existing} is not a folder")
    if settings.auth == "none":  # then nothing is written there
        return
    try:
        with TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise SettingInvalid(f"{wrong}: expected a folder that can be written: {reason(folder, error)}") from None


def check_disk(path: Path, settings: Settings) -> None:
    """Raises SettingInvalid if `min_free_disk` is not less than the size of the file's disk."""
    existing = _nearest_existing(path.parent)
    if not existing.is_dir():  # opening the file reports that
        return
    disk = os.statvfs(existing)
    size = ByteSize(disk.f_blocks * disk.f_frsize)
    if settings.min_free_disk >= size > 0:
        raise SettingInvalid(
            f"{named('min_free_disk')} is {settings.min_free_disk}: expected less than {size}, the size of the disk of "
            f"{path}, or nothing could ever be stored"
        )


def _nearest_existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    return next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))
