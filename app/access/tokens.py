"""Static tokens: random words, and the file that says what each is worth. The file has their hashes only.

    {"name":"sensors","sha256":"9f86d081884c7d65...","publish":["rooms.**"],"expires":"2027-01-01T00:00:00Z"}

A line a token; a line that is taken out is a token that is no longer good. One SHA-256 is enough, where passwords would
need a slow hash: a token has 256 random bits, and nobody can try them all, however fast.
"""

from collections.abc import Generator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from secrets import token_urlsafe
from typing import Annotated, Final, NamedTuple

import msgspec

from ..errors import PlainmqError
from ..errors.wording import in_words
from .claims import Name, Rights, checked
from .grant import Grant
from .private_files import PRIVATE, FileInvalid, append_private, check_mode, read_with_mode

PREFIX: Final = "pmq_"  # so that people, and programs that look for leaks, know one when they see it
MAX_TOKENS: Final = 10_000
PART: Final = 16 << 10  # bytes of new lines that are read at once: some milliseconds, then others get their turn
KNOWN: Final = 64  # bytes of known lines that cost as much as one of a new line
_RANDOM: Final = 32  # bytes

Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Entry(Rights, forbid_unknown_fields=True):
    """A line of the file."""

    name: Name
    sha256: Hash
    expires: Annotated[datetime, msgspec.Meta(tz=True)] | None = None

    def read(self) -> Grant:
        """Raises TopicInvalid, OptionInvalid."""
        grant = self.grant(self.name, self.expires.timestamp() if self.expires else None)
        return msgspec.structs.replace(grant, stored=True, origin=self.digest)

    @property
    def digest(self) -> bytes:
        return bytes.fromhex(self.sha256)


class AnyToken(NamedTuple):
    """A line that was read."""

    digest: bytes
    entry: Entry
    grant: Grant


class TokenFile:
    """The tokens of a file, which may change while they are used.

    What is in force follows the file in this order: first goes what the file has no more, whatever is wrong with the
    rest of it; then, if it can be trusted and every line is right, comes what is new. So a file that is not right can
    only take away, and one that cannot be read takes away everything. One that is not there has no tokens; but if there
    were some when it was last right, it is one that cannot be read.

    A long file is read in parts: while it is `reading`, go_on() reads the next."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.error: FileInvalid | None = None  # why the file is not in force as it is
        self.unreadable = False  # and has not been right since: tokens are refused that may be good
        self.grants: frozenset[Grant] = frozenset()
        self._grants: dict[bytes, Grant] = {}  # by the hash of their token
        self._names: dict[str, Grant] = {}  # those of the file
        self._lines: dict[bytes, AnyToken] = {}  # those that stay are not read again: ten thousand take long
        self._held: dict[bytes, Grant] = {}  # of tokens that no file has
        self._tried: object = ()  # the file's state when it was read last, or could not be read
        self._again = True
        self._settled = False  # the file was as it is when it was read the last time
        self._was_read = False  # when that was tried last
        self._had_tokens = False  # when it was last right
        self._parts: Generator[None, None, FileInvalid | None] | None = None

    def __bool__(self) -> bool:
        return bool(self._grants)

    @property
    def summary(self) -> str:
        """How many there are, and where."""
        more = f", and {len(self._held)} until this server ends" if self._held else ""
        return f"{len(self._names)} in {self.path}{more}"

    def find(self, token: str) -> Grant | None:
        """What is looked up are the bytes of a hash: how long that takes says nothing of any token."""
        return self._grants.get(sha256(token.encode()).digest())

    def named(self, name: str) -> list[Grant]:
        """Those of that name: one of the file, and one that no file has."""
        return [grant for grant in (self._names.get(name), *self._held.values()) if grant and grant.name == name]

    def hold(self, entry: Entry) -> None:
        """A token that is good as long as we are, and that no file has."""
        self._held[entry.digest] = entry.read()
        self._put_in_force(self._lines, anew=True)

    def refresh(self, again: bool = True) -> None:
        """Read the file if it has changed; what is wrong with it is in `error` then. What a line gives stays the same
        grant while the line does.

        `again`: also read a file once more that could not be read; and each new one a second time, since the clock of a
        file system stands still for some milliseconds, and two changes within them look like one."""
        state = _state(self.path)
        if state == self._tried and (self.reading or not (again and self._again)):
            return
        self._settled = state == self._tried and self._was_read
        self._tried, self._again = state, True  # until it is known to be in force
        self._parts = self._follow(has_none=state is None and not self._had_tokens)
        self.go_on()

    def read_whole(self) -> None:
        """Read the file, however long that takes. Raises FileInvalid."""
        self.refresh()
        while self.reading:
            self.go_on()
        if self.error is not None:
            raise self.error

    @property
    def reading(self) -> bool:
        """There is more of the file to be read."""
        return self._parts is not None

    def go_on(self) -> None:
        """Read another part of the file."""
        if self._parts is None:
            return
        try:
            next(self._parts)
        except StopIteration as end:
            self._parts, self.error = None, end.value
            self._again = not (self._was_read and self._settled)

    def _follow(self, has_none: bool) -> Generator[None, None, FileInvalid | None]:
        """Put in force what the file says; what is wrong with it."""
        try:
            data, mode = (b"", PRIVATE) if has_none else read_with_mode(self.path)
        except FileInvalid as error:
            self.unreadable, self._was_read = True, False
            self._put_in_force({})
            return error
        self._was_read = True
        lines = data.splitlines()
        self._put_in_force((yield from _known(lines, self._lines)))
        try:
            check_mode(self.path, mode)
            self._put_in_force((yield from _read(self.path, lines, self._lines)))
        except FileInvalid as error:
            return error
        self.unreadable, self._had_tokens = False, bool(self._lines)
        return None

    def _put_in_force(self, lines: dict[bytes, AnyToken], anew: bool = False) -> None:
        if lines == self._lines and not anew:
            return
        before = {known.digest: known for known in self._lines.values()}
        self._lines = {line: _same(before.get(known.digest), known) for line, known in lines.items()}
        self._names = {known.grant.name: known.grant for known in self._lines.values()}
        self._grants = self._held | {known.digest: known.grant for known in self._lines.values()}
        self.grants = frozenset(self._grants.values())


def _same(before: AnyToken | None, known: AnyToken) -> AnyToken:
    """What was there before, if that says the same: a grant stays while its line does."""
    return before if before is not None and before.entry == known.entry else known


def _state(path: Path) -> object:
    """What is different whenever the file is; None when there is none."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return error.errno
    # Of these only the time of the change cannot be set by whoever writes the file:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode


def _known(lines: Sequence[bytes], known: Mapping[bytes, AnyToken]) -> Generator[None, None, dict[bytes, AnyToken]]:
    """Those lines that are known, in parts."""
    found: dict[bytes, AnyToken] = {}
    left = PART
    for line in lines:
        if line in known:
            found[line] = known[line]
        left -= 1 + len(line) // KNOWN
        if left <= 0:
            yield
            left = PART
    return found


def _read(
    path: Path, lines: Sequence[bytes], known: Mapping[bytes, AnyToken]
) -> Generator[None, None, dict[bytes, AnyToken]]:
    """All of them, in parts; what is known already is not read again. Raises FileInvalid with the number of the line
    that is wrong."""
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if len(numbered) > MAX_TOKENS:
        raise FileInvalid(f"{path} has {len(numbered)} tokens: expected at most {MAX_TOKENS}")
    found: dict[bytes, AnyToken] = {}
    left = PART
    for number, line in numbered:
        found[line] = known.get(line) or _entry(path, number, line)
        left -= 1 + (len(line) // KNOWN if line in known else len(line))
        if left <= 0:
            yield
            left = PART
    if len({each.entry.name for each in found.values()}) < len(numbered):
        raise FileInvalid(f"{path} has two tokens of the same name: each needs its own")
    return found


def _entry(path: Path, number: int, line: bytes) -> AnyToken:
    try:
        entry = msgspec.json.decode(line, type=Entry)
        grant = entry.read()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, PlainmqError) as error:
        raise FileInvalid(f"line {number} of {path} is not a token: {in_words(error)}") from None
    return AnyToken(grant.origin, entry, grant)


def new_token(name: str, rights: Rights, expires: float | None = None) -> tuple[str, Entry]:
    """A new one, and what is to be known of it. `expires` is in Unix seconds. Raises ClaimsInvalid."""
    token = PREFIX + token_urlsafe(_RANDOM)
    held = msgspec.structs.asdict(rights)
    until = None if expires is None else datetime.fromtimestamp(int(expires), UTC)
    return token, checked(Entry(name=name, sha256=sha256(token.encode()).hexdigest(), expires=until, **held))


def make_token(path: Path, name: str, rights: Rights, expires: float | None = None) -> str:
    """A new one; its hash is added to the file. `expires` is in Unix seconds. Raises FileInvalid, ClaimsInvalid."""
    token, entry = new_token(name, rights, expires)
    add_token(path, entry)
    return token


def add_token(path: Path, entry: Entry) -> None:
    """Raises FileInvalid."""
    if _state(path) is not None:
        file = TokenFile(path)
        file.read_whole()
        if file.named(entry.name):
            raise FileInvalid(f"{path} has a token {entry.name!r} already: choose another name, or take its line out")
    append_private(path, msgspec.json.encode(entry))
