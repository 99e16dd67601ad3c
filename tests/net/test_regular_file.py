"""Files that somebody else may replace are read up to a bound."""

import tracemalloc
from errno import EFBIG
from pathlib import Path

import pytest

from app.access.jwt_keys import KeyInvalid, read_key
from app.access.private_files import FileInvalid, read_private
from app.net.regular_file import USUAL, read_regular


def large(path: Path, size: int) -> Path:
    path.touch(0o600)
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    assert len(read_regular(large(tmp_path / "file", 4_096), 4_096)[0]) == 4_096
    with pytest.raises(OSError, match="it has more than 4 KiB") as raised:
        read_regular(large(tmp_path / "file", 4_097), 4_096)
    assert raised.value.errno == EFBIG


def test_a_large_file_in_place_of_a_key_is_a_sentence_and_is_not_read_as_a_whole(tmp_path: Path) -> None:
    path = large(tmp_path / "key", 1 << 30)
    tracemalloc.start()
    with pytest.raises(FileInvalid, match="key cannot be read: it has more than 1024 KiB"):
        read_private(path)
    with pytest.raises(KeyInvalid, match="key cannot be read: it has more than 1024 KiB"):
        read_key(f"RS256:{path}")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * USUAL
