"""How long a request may last: as long as it asks for, and no longer than its token is good."""

from math import inf
from typing import Final, Protocol

import msgspec
from starlette.requests import Request

from ...access.authenticator import Authenticator, AuthSession
from ...access.grant import Grant
from ..authentication import grant_of

TIMEOUT: Final = "timeout"
EXPIRED: Final = "expired"
REVOKED: Final = "revoked"  # the token was taken out of the server's file


class Stream(Protocol):
    def end_in(self, seconds: float, reason: str) -> None: ...


class StreamLifetime(msgspec.Struct, frozen=True):
    """That of a stream. `timeout`: seconds that were asked for."""

    authenticator: Authenticator
    grant: Grant
    timeout: float | None

    def begin(self, guest: AuthSession, stream: Stream) -> None:
        """The stream ends in time; it is told if its token is taken out, and has to be unregistered from the
        authenticator."""
        self.authenticator.register(guest, self.grant)
        left = _left(self.authenticator, self.grant)
        if self.timeout is not None and self.timeout <= left:
            stream.end_in(self.timeout, TIMEOUT)
        elif left != inf:
            stream.end_in(left, EXPIRED)


def at_most(request: Request, seconds: float) -> float:
    """As long as was asked for, or until the token expires."""
    return min(seconds, _left(request.app.state.authenticator, grant_of(request)))


def _left(authenticator: Authenticator, grant: Grant) -> float:
    left = authenticator.left(grant)
    return inf if left is None else left
