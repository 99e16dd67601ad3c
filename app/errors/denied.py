"""Why a file cannot be used, for people: the error of the system, and the owner of the file."""

import errno
import os
from pathlib import Path
from typing import Final

_DENIED: Final = (errno.EACCES, errno.EPERM)


def reason(path: Path, error: OSError) -> str:
    """`Permission denied`, or, if the file has another owner, `Permission denied (/data belongs to user 0, and this is
    user 10001: chown 10001 /data)`. Users have numbers, because in a container they often have no names."""
    text = error.strerror or type(error).__name__
    return f"{text}{_owner_hint(path)}" if error.errno in _DENIED else text


def _owner_hint(path: Path) -> str:
    """Names the owner of the file, or of the nearest folder above it that is known to exist."""
    user = os.geteuid()
    for existing in (path, *path.absolute().parents):
        try:
            owner = existing.stat().st_uid
        except OSError:
            continue
        if owner == user:
            return ""
        whose = f"{existing} belongs to user {owner}, and this is user {user}"
        is_private = existing.is_dir() and not os.access(existing, os.X_OK)  # such as the home of root: it stays theirs
        return f" ({whose})" if is_private else f" ({whose}: chown {user} {existing})"
    return ""
