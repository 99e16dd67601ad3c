"""Static tokens: random words, and the file that says what each is worth. The file has their hashes only.

    {"name":"sensors","sha256":"9f86d081884c7d65...","publish":["rooms.**"],"expires":"2027-01-01T00:00:00Z"}

A line a token; a line that is taken out is a token that is no longer good. One SHA-256 is enough, where passwords would
need a slow hash: a token has 256 random bits, and nobody can try them all, however fast.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from secrets import token_urlsafe
from typing import Annotated, Final

import msgspec

from ..denied import reason
from ..errors import PlainmqError
from ..wording import in_words
from .claims import Name, Rights, checked
from .files import FileInvalid, append_private, read_private
from .grant import Grant

PREFIX: Final = "pmq_"  # so that people, and programs that look for leaks, know one when they see it
MAX_TOKENS: Final = 10_000
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
        return msgspec.structs.replace(grant, stored=True)


class TokenFile:
    """The tokens of a file, which may change while they are used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._grants: dict[bytes, Grant] = {}  # by the hash of their token
        self._entries: dict[bytes, Entry] = {}
        self._lines: dict[bytes, Entry] = {}  # those that stay are not read again: ten thousand take long
        self._read: object = None
        self.grants: frozenset[Grant] = frozenset()

    def __bool__(self) -> bool:
        return bool(self._grants)

    def find(self, token: str) -> Grant | None:
        """What is looked up are the bytes of a hash: how long that takes says nothing of any token."""
        return self._grants.get(sha256(token.encode()).digest())

    def refresh(self) -> bool:
        """Read the file again if it has changed; False when it has not. A file that is not there has no tokens. What a
        line gives stays the same grant while the line does.

        Raises FileInvalid with the number of the line that is wrong; what was known before stays."""
        state = _state(self.path)
        if state == self._read:
            return False
        self._read = state
        self._lines = {} if state is None else _entries(self.path, self._lines)
        entries = {bytes.fromhex(entry.sha256): entry for entry in self._lines.values()}
        kept = {digest: grant for digest, grant in self._grants.items() if self._entries[digest] == entries.get(digest)}
        self._grants = {digest: kept.get(digest) or entry.read() for digest, entry in entries.items()}
        self._entries = entries
        self.grants = frozenset(self._grants.values())
        return True


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise FileInvalid(f"{path} cannot be read: {reason(path, error)}") from None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode


def _entries(path: Path, known: Mapping[bytes, Entry]) -> dict[bytes, Entry]:
    """By their lines; what is known already is not read again. Raises FileInvalid."""
    lines = [(number, line) for number, line in enumerate(read_private(path).splitlines(), 1) if line.strip()]
    if len(lines) > MAX_TOKENS:
        raise FileInvalid(f"{path} has {len(lines)} tokens: expected at most {MAX_TOKENS}")
    entries = {line: known.get(line) or _entry(path, number, line) for number, line in lines}
    if len({entry.name for entry in entries.values()}) < len(lines):
        raise FileInvalid(f"{path} has two tokens of the same name: each needs its own")
    return entries


def _entry(path: Path, number: int, line: bytes) -> Entry:
    try:
        entry = msgspec.json.decode(line, type=Entry)
        entry.read()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, PlainmqError) as error:
        raise FileInvalid(f"line {number} of {path} is not a token: {in_words(error)}") from None
    return entry


def make_token(path: Path, name: str, rights: Rights, expires: float | None = None) -> str:
    """A new one; its hash is added to the file. `expires` is in Unix seconds. Raises FileInvalid, ClaimsInvalid."""
    token = PREFIX + token_urlsafe(_RANDOM)
    held = msgspec.structs.asdict(rights)
    until = None if expires is None else datetime.fromtimestamp(int(expires), UTC)
    entry = checked(Entry(name=name, sha256=sha256(token.encode()).hexdigest(), expires=until, **held))
    if _state(path) is not None and name in {found.name for found in _entries(path, {}).values()}:
        raise FileInvalid(f"{path} has a token {name!r} already: choose another name, or take its line out")
    append_private(path, msgspec.json.encode(entry))
    return token
