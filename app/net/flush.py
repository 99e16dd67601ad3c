"""Flushing: what is written survives a loss of power."""

import os
from pathlib import Path


def flush_to_disk(path: Path) -> None:
    """Write a file's bytes, or a folder's names, to the disk. Raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
