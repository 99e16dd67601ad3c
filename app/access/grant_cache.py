"""The cache of grants: checking a token again costs a look-up, and no cryptography."""

from collections.abc import Collection
from typing import Final, Generic, TypeVar

from .grant import Grant

MAX_MEMORY: Final = 6 << 20  # bytes, of tokens and again of headers: 5,000 signed tokens of the usual size, or more
ENTRY: Final = 600  # bytes: a key and a grant besides their texts

T = TypeVar("T", str, bytes)


class KnownGrants(Generic[T]):
    """Grants by their tokens or headers. The oldest make room for others."""

    def __init__(self) -> None:
        self.grants: dict[T, Grant] = {}
        self._memory = 0  # bytes

    def add(self, key: T, grant: Grant) -> None:
        self.discard(key)
        self.grants[key] = grant
        self._memory += _memory(key, grant)
        while self._memory > MAX_MEMORY:
            self.discard(next(iter(self.grants)))

    def discard(self, key: T) -> None:
        """Idempotent."""
        grant = self.grants.pop(key, None)
        if grant is not None:
            self._memory -= _memory(key, grant)

    def remove(self, gone: Collection[Grant]) -> None:
        for key in [key for key, grant in self.grants.items() if grant in gone]:
            self.discard(key)


class GrantCache:
    """`by_header`: by the whole Authorization header."""

    def __init__(self) -> None:
        self.by_token = KnownGrants[str]()
        self.by_header = KnownGrants[bytes]()

    @property
    def grants(self) -> set[Grant]:
        return {*self.by_token.grants.values(), *self.by_header.grants.values()}

    def of_token(self, token: str, now: float) -> Grant | None:
        """The grant of a cached token that has not expired."""
        grant = self.by_token.grants.get(token)
        if grant is not None and grant.expires is not None and grant.expires <= now:
            self.by_token.discard(token)
            return None
        return grant

    def remove(self, gone: Collection[Grant]) -> None:
        self.by_token.remove(gone)
        self.by_header.remove(gone)


def _memory(key: str | bytes, grant: Grant) -> int:
    """Bytes. The grants of stored tokens are in memory anyway."""
    return ENTRY + len(key) + (0 if grant.stored else grant.memory)
