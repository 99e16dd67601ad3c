"""Static tokens: random strings, and the file with the rights of each. The file has only their hashes.

    {"name":"sensors","sha256":"9f86d081884c7d65...","publish":["rooms.**"],"expires":"2027-01-01T00:00:00Z"}

One line is one token; removing the line revokes the token. Unlike a password, a token needs no slow hash: it has 256
random bits, which cannot be guessed however fast the hash is.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from secrets import token_urlsafe
from types import MappingProxyType
from typing import Annotated, Final

import msgspec

from ..errors import PlainmqError, Refused, TokenExists, TokenLimit
from ..errors.wording import json_in_words, quoted
from ..messages.json_keys import repeated_key
from .claims import ClaimsInvalid, Name, Rights, checked
from .grant import Grant
from .private_files import (
    PRIVATE,
    FileInvalid,
    append_line,
    check_mode,
    check_place,
    locked,
    read_with_mode,
    rewrite,
)

PREFIX: Final = "pmq_"  # so that people and secret scanners recognise a token
MAX_TOKENS: Final = 10_000
MAX_FILE: Final = 4 << 20  # bytes: 10,000 lines of 400; with short patterns, the memory of 17 times as many
MAX_LINES: Final = 4 * MAX_TOKENS  # line ends, also of blank lines: each may take 40 bytes in a list
PART_BYTES: Final = 16 << 10  # of new lines, parsed at once: a few milliseconds of work, then other tasks run
KNOWN_DISCOUNT: Final = 64  # known lines cost this many times less per byte than new ones
FORGOTTEN_AT_ONCE: Final = 500  # tokens: the memory of 10,000 with 64 patterns each takes 20 ms to release
_RANDOM: Final = 32  # bytes

Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


def check_path_segments(name: str) -> None:
    """`DELETE /tokens/NAME` has the name in its path. Browsers and proxies remove the segments `.`, `..` and empty ones
    from a path, also encoded ones (RFC 3986, section 5.2.4), and would name another token. Raises ClaimsInvalid."""
    if not {"", ".", ".."}.isdisjoint(name.split("/")):
        raise ClaimsInvalid(
            f"the name {name!r} has an empty segment or one of dots, so no browser can revoke the token by its path: "
            f"choose another name (in the file of tokens, edit it in its line: the token stays valid)"
        )


class Entry(Rights, forbid_unknown_fields=True):
    """One line of the file."""

    name: Name
    sha256: Hash
    expires: Annotated[datetime, msgspec.Meta(tz=True)] | None = None

    def read(self) -> Grant:
        """Raises TopicInvalid, OptionInvalid."""
        check_path_segments(self.name)
        grant = self.grant(self.name, self.expires.timestamp() if self.expires else None)
        return msgspec.structs.replace(grant, stored=True, origin=self.digest)

    @property
    def digest(self) -> bytes:
        return bytes.fromhex(self.sha256)


class TokenFile:
    """The tokens of a file, which may change while they are in use.

    A change is applied in this order. First, tokens whose line is gone are removed, whatever is wrong with the rest.
    Then, if the file is private and every line is valid, new tokens are added. So an invalid file can only remove
    tokens, and a file that cannot be read removes all. A missing file counts as empty if it was empty or missing when
    it was last valid, and as unreadable otherwise.

    A long file is read in parts: while `reading`, call read_on() for the next part."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.error: FileInvalid | None = None  # why the file is not in force as it is now
        self.unreadable = False  # until the file is valid again: tokens are refused that may be valid
        self.grants: frozenset[Grant] = frozenset()
        self._grants: dict[bytes, Grant] = {}  # by the hash of the token
        self._names: dict[str, Grant] = {}  # of the file's tokens
        self._by_line: dict[bytes, Grant] = {}  # lines that stay are not parsed again: 10,000 take long
        self._old: list[dict[bytes, Grant]] = []  # lines that are not in force any more, and are to be forgotten
        self._unstored: dict[bytes, Grant] = {}  # of tokens that are in no file
        self._last_state: object = ()  # of the file, at the last attempt to read it
        self._retry = True
        self._unchanged = False  # the file has not changed since it was read the last time
        self._readable = False  # at the last attempt
        self._had_tokens = False  # when the file was last valid
        self._parts: Generator[None, None, FileInvalid | None] | None = None

    def __bool__(self) -> bool:
        return bool(self._grants)

    @property
    def summary(self) -> str:
        """In words: how many tokens there are, and where."""
        more = f", and {len(self._unstored)} until this server ends" if self._unstored else ""
        return f"{len(self._names)} in {self.path}{more}"

    def find(self, token: str) -> Grant | None:
        """The grant of a token. The look-up is by hash, so its timing reveals nothing about other tokens."""
        return self._grants.get(sha256(token.encode()).digest())

    def named(self, name: str) -> list[Grant]:
        """The grants of this name: one of the file, and one that is in no file."""
        return [grant for grant in (self._names.get(name), *self._unstored.values()) if grant and grant.name == name]

    def add_unstored(self, entry: Entry) -> None:
        """Accept a token that is in no file, until this process ends."""
        self._unstored[entry.digest] = entry.read()
        self._set_grants()

    def is_stored(self, grant: Grant) -> bool:
        """False for a token that is in no file."""
        return grant.origin not in self._unstored

    def remove_unstored(self, name: str) -> None:
        """No longer accept tokens of this name that are in no file."""
        self._unstored = {digest: grant for digest, grant in self._unstored.items() if grant.name != name}
        self._set_grants()

    @property
    def known(self) -> Mapping[bytes, Grant]:
        """The parsed lines; it never changes, so other threads may read it."""
        return self._by_line

    def refresh(self, retry: bool = True) -> None:
        """Read the file if it has changed; `error` says what is wrong with it. The grant of an unchanged line stays the
        same object.

        `retry`: also read a file again that could not be read, and each new file a second time: file times are coarse,
        so two changes within some milliseconds look like one."""
        state = _state(self.path)
        if state == self._last_state and (self.reading or not (retry and self._retry)):
            return
        self._unchanged = state == self._last_state and self._readable
        self._last_state, self._retry = state, True  # until the file is known to be in force
        self._parts = self._read(has_none=state is None and not self._had_tokens)
        self.read_on()

    def read_whole(self) -> None:
        """Read the whole file in one go. Raises FileInvalid."""
        self.refresh()
        while self.reading:
            self.read_on()
        if self.error is not None:
            raise self.error

    @property
    def reading(self) -> bool:
        """True while parts of the file are still to be read."""
        return self._parts is not None

    def read_on(self) -> None:
        """Read the next part of the file."""
        if self._parts is None:
            return
        try:
            next(self._parts)
        except StopIteration as end:
            self._parts, self.error = None, end.value
            self._retry = not (self._readable and self._unchanged)

    def _read(self, has_none: bool) -> Generator[None, None, FileInvalid | None]:
        """Read the file in parts and apply it. Returns what is wrong with it."""
        error = yield from self._all_lines(has_none)
        yield from self._forget()
        return error

    def _all_lines(self, has_none: bool) -> Generator[None, None, FileInvalid | None]:
        try:
            lines, mode = ([], PRIVATE) if has_none else _read_lines(self.path)
        except FileInvalid as error:
            self.unreadable, self._readable = True, False
            self._apply({})
            return error
        self._readable = True
        self._apply((yield from _known_lines(lines, self._by_line)))
        yield from self._forget()  # before the new lines take their place
        found: dict[bytes, Grant] = {}
        try:
            check_mode(self.path, mode)
            yield from _all_lines(self.path, lines, self._by_line, found)
            self._apply(found)
        except FileInvalid as error:
            return error
        finally:
            if found is not self._by_line:
                self._old.append(found)
        self.unreadable, self._had_tokens = False, bool(self._by_line)
        return None

    def _apply(self, lines: dict[bytes, Grant]) -> None:
        if lines == self._by_line:
            return
        self._old.append({line: grant for line, grant in self._by_line.items() if line not in lines})
        self._by_line = lines
        self._names = {grant.name: grant for grant in lines.values()}
        self._set_grants()

    def _set_grants(self) -> None:
        self._grants = self._unstored | {grant.origin: grant for grant in self._by_line.values()}
        self.grants = frozenset(self._grants.values())

    def _forget(self) -> Generator[None, None, None]:
        """Release the memory of lines that are not in force any more. Runs in parts."""
        left = FORGOTTEN_AT_ONCE
        while self._old:
            while lines := self._old[-1]:
                lines.popitem()
                left -= 1
                if left <= 0:
                    yield
                    left = FORGOTTEN_AT_ONCE
            self._old.pop()


def is_there(path: Path) -> bool:
    """Whether there is a file, or something that keeps us from looking: then reading it says what."""
    return _state(path) is not None


def _state(path: Path) -> object:
    """A value that changes whenever the file does; None if it is missing."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return error.errno
    # The writer of a file can set all of these but the time of the change (ctime):
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode


def _known_lines(lines: Sequence[bytes], known: Mapping[bytes, Grant]) -> Generator[None, None, dict[bytes, Grant]]:
    """The tokens of the lines that are known already. Runs in parts."""
    found: dict[bytes, Grant] = {}
    left = PART_BYTES
    for line in lines:
        if line in known:
            found[line] = known[line]
        left -= 1 + len(line) // KNOWN_DISCOUNT
        if left <= 0:
            yield
            left = PART_BYTES
    return found


def _all_lines(
    path: Path, lines: Sequence[bytes], known: Mapping[bytes, Grant], found: dict[bytes, Grant]
) -> Generator[None, None, None]:
    """Put the tokens of all lines into `found`; known lines are not parsed again. Runs in parts. Raises FileInvalid
    with the number of an invalid line."""
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if len(numbered) > MAX_TOKENS:
        raise FileInvalid(f"{path} has {len(numbered)} tokens: expected at most {MAX_TOKENS}")
    left = PART_BYTES
    for number, line in numbered:
        found[line] = known.get(line) or parse_entry(path, number, line)
        left -= 1 + (len(line) // KNOWN_DISCOUNT if line in known else len(line))
        if left <= 0:
            yield
            left = PART_BYTES
    if len({grant.name for grant in found.values()}) < len(numbered):
        raise FileInvalid(f"{path} has two tokens of the same name: each needs its own")


def parse_entry(path: Path, number: int, line: bytes) -> Grant:
    try:
        entry, repeated = msgspec.json.decode(line, type=Entry), repeated_key(line)
        grant = entry.read()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, PlainmqError) as error:
        raise FileInvalid(f"line {number} of {path} is not a token: {json_in_words(error, line)}") from None
    if repeated is not None:
        raise FileInvalid(f"line {number} of {path} is not a token: {quoted(repeated)} is given twice")
    return grant


def new_token(name: str, rights: Rights, expires: float | None = None) -> tuple[str, Entry]:
    """A new random token, and its entry for the file. `expires`: in Unix seconds. Raises ClaimsInvalid."""
    token = PREFIX + token_urlsafe(_RANDOM)
    held = msgspec.structs.asdict(rights)
    until = None if expires is None else datetime.fromtimestamp(int(expires), UTC)
    check_path_segments(name)
    return token, checked(Entry(name=name, sha256=sha256(token.encode()).hexdigest(), expires=until, **held))


def make_token(path: Path, name: str, rights: Rights, expires: float | None = None) -> str:
    """Make a token and add its entry to the file. `expires`: in Unix seconds. Raises FileInvalid, ClaimsInvalid."""
    token, entry = new_token(name, rights, expires)
    add_token(path, entry)
    return token


def show_token(path: Path, name: str, rights: Rights, expires: float | None, show: Callable[[str], object]) -> None:
    """Make a token, show it, and then add it to the file: a token that could not be shown is not in the file. Raises
    what make_token() and `show` raise."""
    token, entry = new_token(name, rights, expires)
    _check_new(path, entry, {})
    check_place(path)
    show(token)
    try:
        add_token(path, entry)
    except (FileInvalid, Refused) as error:
        raise FileInvalid(f"{error}; the token that was shown is not good") from None


def add_token(path: Path, entry: Entry, known: Mapping[bytes, Grant] = MappingProxyType({})) -> None:
    """Add an entry to the file. `known`: lines that need not be parsed. Raises FileInvalid, TokenExists, TokenLimit."""
    with locked(path) as file:
        _check_new(path, entry, known)
        append_line(path, file, msgspec.json.encode(entry))


def remove_token(path: Path, name: str, known: Mapping[bytes, Grant] = MappingProxyType({})) -> bool:
    """Take the token of this name out of the file. False if there is none. Raises FileInvalid."""
    if _state(path) is None:
        return False
    with locked(path) as file:
        tokens = _read(path, known)
        kept = [line + b"\n" for line, token in tokens.items() if token.name != name]
        if len(kept) < len(tokens):
            rewrite(path, file, b"".join(kept))
        return len(kept) < len(tokens)


def _check_new(path: Path, entry: Entry, known: Mapping[bytes, Grant]) -> None:
    tokens = {} if _state(path) is None else _read(path, known)
    if any(token.name == entry.name for token in tokens.values()):
        raise TokenExists(f"{path} has a token {entry.name!r} already: choose another name, or take its line out")
    if len(tokens) >= MAX_TOKENS:
        raise TokenLimit(f"{path} has {len(tokens)} tokens already, and may have no more")
    size = path.stat().st_size if path.exists() else 0
    length = len(msgspec.json.encode(entry))
    if size + length + 2 > MAX_FILE:  # with a line end behind it, and perhaps one before it
        raise TokenLimit(f"{path} has no room for {length} more bytes: it may have {MAX_FILE >> 10} KiB")


def _read(path: Path, known: Mapping[bytes, Grant]) -> dict[bytes, Grant]:
    """The tokens of all lines. Raises FileInvalid."""
    lines, mode = _read_lines(path)
    check_mode(path, mode)
    found: dict[bytes, Grant] = {}
    for _ in _all_lines(path, lines, known, found):
        pass
    return found


def _read_lines(path: Path) -> tuple[list[bytes], int]:
    """The lines and the mode. Raises FileInvalid, also if the file is too long: nothing is known of its lines then."""
    data, mode = read_with_mode(path, MAX_FILE)
    if data.count(b"\n") + data.count(b"\r") > MAX_LINES:
        raise FileInvalid(f"{path} cannot be read: it has more than {MAX_LINES} line ends")
    return data.splitlines(), mode
