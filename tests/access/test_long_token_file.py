"""A long file of tokens is read in parts, so that nobody waits for ten thousand lines: what is counted are bytes."""

import gc
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Final

import msgspec
import pytest

from app.access.grant import Right
from app.access.tokens import FORGOTTEN_AT_ONCE, KNOWN_DISCOUNT, PART_BYTES, TokenFile

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


def whole(file: TokenFile) -> int:
    """Read it. Returns the number of parts."""
    file.refresh()
    parts = 1
    while file.reading:
        file.read_on()
        parts += 1
    return parts


def parts_of(file: TokenFile) -> int:
    parts = whole(file)
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


def test_tokens_that_are_gone_are_forgotten_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    put(path, *(line(number, 0, WIDE) for number in range(TOKENS)))
    file = TokenFile(path)
    parts_of(file)
    put(path, line(1, 1))
    assert parts_of(file) >= TOKENS // FORGOTTEN_AT_ONCE
    assert parts_of(file) <= 2


def test_tokens_that_never_were_in_force_are_forgotten_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    file = TokenFile(path)
    lines = [line(number, 0) for number in range(TOKENS)]
    put(path, *lines, b"{broken")
    assert whole(file) >= sum(map(len, lines)) // (PART_BYTES + len(lines[-1])) + TOKENS // FORGOTTEN_AT_ONCE
    assert (file.error is not None, file.grants) == (True, frozenset())
    put(path, *lines)  # and it changes when all but the last part has been read
    file.refresh()
    for _ in range(sum(map(len, lines)) // PART_BYTES - 1):
        file.read_on()
    assert (file.reading, file.grants) == (True, frozenset())
    put(path, line(1, 1))
    assert parts_of(file) >= TOKENS * 3 // 4 // FORGOTTEN_AT_ONCE
    assert [grant.name for grant in file.grants] == ["n1"]


def test_the_garbage_collector_visits_none_of_the_tokens(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    put(path, *(line(number, 0, WIDE) for number in range(TOKENS)))
    file = TokenFile(path)
    gc.collect()
    before = len(gc.get_objects())
    parts_of(file)
    gc.collect()
    assert len(file.grants) == TOKENS
    assert len(gc.get_objects()) - before < TOKENS // 10


def test_a_file_that_has_changed_often_says_the_same_as_one_that_is_read_anew(tmp_path: Path) -> None:
    path, chance = tmp_path / "tokens", Random(5)
    file = TokenFile(path)
    kept: dict[bytes, object] = {}
    for _ in range(12):
        numbers = chance.sample(range(300), chance.randrange(1, 300))
        lines = [line(number, chance.randrange(2)) for number in numbers]
        put(path, *lines)
        parts_of(file)
        new = TokenFile(path)
        new.read_whole()
        assert _said(file) == _said(new)
        assert all((file.find(str(number)) is None) == (new.find(str(number)) is None) for number in range(300))
        now = {each: file.find(str(number)) for each, number in zip(lines, numbers, strict=True)}
        assert all(now[each] is kept[each] for each in now.keys() & kept.keys())
        kept = dict(now)


def _said(file: TokenFile) -> set[tuple[object, ...]]:
    """What the tokens of the file say."""
    rights = {grant: tuple(getattr(grant, right).names for right in Right) for grant in file.grants}
    return {(grant.name, grant.origin, grant.expires, *rights[grant]) for grant in file.grants}
