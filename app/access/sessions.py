"""The streams and connections that depend on tokens: they end when their token is revoked."""

from asyncio import TimerHandle, get_running_loop
from collections.abc import Callable, Collection
from typing import Protocol

from .grant import Grant
from .token_watch import CHECK_INTERVAL


class AuthSession(Protocol):
    """A stream or a connection that depends on a token."""

    def revoke(self) -> None:
        """The token is no longer valid: end."""


class Sessions:
    def __init__(self, check: Callable[[], None]) -> None:
        """`check` is called about once a second while there are sessions."""
        self._grants: dict[AuthSession, Grant] = {}
        self._check = check
        self._timer: TimerHandle | None = None

    @property
    def grants(self) -> set[Grant]:
        return {*self._grants.values()}

    def add(self, session: AuthSession, grant: Grant) -> None:
        self._grants[session] = grant
        self._timer = self._timer or get_running_loop().call_later(CHECK_INTERVAL, self._check_now)

    def discard(self, session: AuthSession) -> None:
        """Idempotent."""
        self._grants.pop(session, None)

    def of(self, grants: Collection[Grant]) -> list[AuthSession]:
        """The sessions that depend on these grants."""
        return [session for session, grant in self._grants.items() if grant in grants]

    def _check_now(self) -> None:
        self._timer = get_running_loop().call_later(CHECK_INTERVAL, self._check_now) if self._grants else None
        self._check()
