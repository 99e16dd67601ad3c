"""Why a file cannot be used, for people: what the system says, and whose it is."""

import errno
import os
from pathlib import Path
from typing import Final

_DENIED: Final = (errno.EACCES, errno.EPERM)


def reason(path: Path, error: OSError) -> str:
    """`Permission denied`, and if it is another user's: `... (/data belongs to user 0, and this is user 10001: chown
    10001 /data)`. A container's users have numbers, and often no names."""
    said = error.strerror or type(error).__name__
    return f"{said}{_whose(path)}" if error.errno in _DENIED else said


def _whose(path: Path) -> str:
    """Of the file, or else of the nearest folder that is there."""
    us = os.geteuid()
    for place in (path, *path.absolute().parents):
        try:
            owner = place.stat().st_uid
        except OSError:
            continue
        return f" ({place} belongs to user {owner}, and this is user {us}: chown {us} {place})" if owner != us else ""
    return ""
