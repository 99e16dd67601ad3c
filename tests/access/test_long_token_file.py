"""A long file of tokens is read in parts, so that nobody waits for ten thousand lines: what is counted are bytes."""

from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
import pytest

from app.access.tokens import KNOWN_DISCOUNT, PART_BYTES, TokenFile

TOKENS: Final = 2_000
WIDE: Final = 64  # patterns in the widest lines


def line(number: int, generation: int, patterns: int = 1) -> bytes:
    rights = [f"rooms.{generation}.{n}.*.b.**" for n in range(patterns)]
    digest = sha256(b"%d" % number).hexdigest()
    return msgspec.json.encode({"name": f"n{number}", "sha256": digest, "publish": rights})


def put(path: Path, *lines: bytes) -> None:
    new = path.with_suffix(".new")
    new.touch(0o600)
    new.write_bytes(b"\n".join(lines) + b"\n")
    new.replace(path)


def parts_of(file: TokenFile) -> int:
    file.refresh()
    parts = 1
    while file.reading:
        file.read_on()
        parts += 1
    assert file.error is None
    return parts


@pytest.mark.parametrize("patterns", [1, WIDE])
def test_no_part_has_more_new_lines_than_take_milliseconds(tmp_path: Path, patterns: int) -> None:
    path = tmp_path / "tokens"
    put(path, *(line(number, 0, patterns) for number in range(TOKENS)))
    file = TokenFile(path)
    longest = len(line(TOKENS, 0, patterns))
    assert parts_of(file) >= path.stat().st_size // (PART_BYTES + longest)
    assert len(file.grants) == TOKENS
    put(path, *(line(number, 1, patterns) for number in range(TOKENS)))
    assert parts_of(file) >= path.stat().st_size // (PART_BYTES + longest)


def test_lines_that_are_known_cost_little(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    lines = [line(number, 0) for number in range(TOKENS)]
    put(path, *lines)
    file = TokenFile(path)
    parts_of(file)
    before = file.grants
    put(path, *lines, line(TOKENS, 0))
    assert parts_of(file) <= 2 + 2 * path.stat().st_size // (KNOWN_DISCOUNT * PART_BYTES)
    assert before < file.grants
    assert file.find(str(TOKENS)) is not None


def test_what_is_taken_out_is_gone_before_what_is_new_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    put(path, line(1, 0), line(2, 0))
    file = TokenFile(path)
    parts_of(file)
    put(path, line(2, 0), *(line(number, 0) for number in range(3, TOKENS)))
    file.refresh()
    assert file.reading
    assert (file.find("1"), file.find("3")) == (None, None)
    assert file.find("2") is not None
    put(path, line(3, 0))  # it changes while it is read
    parts_of(file)
    assert [file.find(str(number)) is not None for number in (1, 2, 3, 4)] == [False, False, True, False]


def test_a_long_file_with_a_wrong_line_changes_nothing_but_what_it_has_no_more(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    put(path, line(1, 0), line(2, 0))
    file = TokenFile(path)
    parts_of(file)
    put(path, line(2, 0), *(line(number, 0) for number in range(3, TOKENS)), b"{broken")
    file.refresh()
    while file.reading:
        file.read_on()
    assert file.error is not None
    assert f"line {TOKENS - 1} of" in str(file.error)
    assert [file.find(str(number)) is not None for number in (1, 2, 3)] == [False, True, False]
