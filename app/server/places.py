"""Whether the places that the settings name can be used, as far as that can be known before anything is written."""

import os
from pathlib import Path
from tempfile import TemporaryFile

from ..errors.denied import reason
from ..messages.units import ByteSize
from ..settings import SettingInvalid, Settings, named


def check_data_dir(settings: Settings) -> None:
    """Raises SettingInvalid when the folder is none, or what has to be written there cannot be."""
    if not settings.data_dir:
        return
    folder = Path(settings.data_dir)
    there = _nearest(folder)
    wrong = f"{named('data_dir')} is {settings.data_dir!r}"
    if not there.is_dir():
        raise SettingInvalid(f"{wrong}: expected a folder, and {there} is none")
    if settings.auth == "none":  # nothing is written there
        return
    try:
        with TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise SettingInvalid(f"{wrong}: expected a folder that can be written: {reason(folder, error)}") from None


def check_disk(path: Path, settings: Settings) -> None:
    """Raises SettingInvalid when what is to stay free on the disk of that file is more than it has."""
    there = _nearest(path.parent)
    if not there.is_dir():  # who opens the file will say so
        return
    disk = os.statvfs(there)
    size = ByteSize(disk.f_blocks * disk.f_frsize)
    if settings.min_free_disk >= size > 0:
        raise SettingInvalid(
            f"{named('min_free_disk')} is {settings.min_free_disk}: expected less than the disk of {path} has in all, "
            f"{size}, or nothing could ever be stored"
        )


def _nearest(path: Path) -> Path:
    """Itself, or the nearest folder above it that is there."""
    return next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))
