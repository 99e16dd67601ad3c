"""Relative paths. They start in the current folder, which may have been deleted."""

from pathlib import Path


def unreachable(path: str) -> str:
    """Why a relative path leads nowhere, as a sentence; empty if it may lead somewhere."""
    try:
        Path(path).absolute()
    except OSError:
        return f"{path} starts in the current folder, which no longer exists: expected a path that starts with /"
    return ""
