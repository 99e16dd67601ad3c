"""The cache of grants: checking a token again costs a look-up, and no cryptography."""

from collections.abc import Collection
from typing import Final, TypeVar

from .grant import Grant

MAX_KNOWN: Final = 4_096  # tokens, and headers: the oldest entry makes room for another

T = TypeVar("T", str, bytes)


class GrantCache:
    """`by_header`: by the whole Authorization header."""

    def __init__(self) -> None:
        self.by_token: dict[str, Grant] = {}
        self.by_header: dict[bytes, Grant] = {}

    def of_token(self, token: str, now: float) -> Grant | None:
        """The grant of a cached token that has not expired."""
        grant = self.by_token.get(token)
        if grant is not None and grant.expires is not None and grant.expires <= now:
            del self.by_token[token]
            return None
        return grant

    def add_token(self, token: str, grant: Grant) -> None:
        _add(self.by_token, token, grant)

    def add_header(self, header: bytes, grant: Grant) -> None:
        _add(self.by_header, header, grant)

    def remove(self, gone: Collection[Grant]) -> None:
        self.by_token = {token: grant for token, grant in self.by_token.items() if grant not in gone}
        self.by_header = {header: grant for header, grant in self.by_header.items() if grant not in gone}


def _add(known: dict[T, Grant], key: T, grant: Grant) -> None:
    if len(known) >= MAX_KNOWN:
        del known[next(iter(known))]
    known[key] = grant
