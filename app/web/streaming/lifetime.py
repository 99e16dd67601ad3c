"""The lifetime of a stream or a waiting request: what it asks for, and at most the life of its token."""

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
    """The lifetime of one stream. `timeout`: the option, in seconds."""

    authenticator: Authenticator
    grant: Grant
    timeout: float | None

    def begin(self, session: AuthSession, stream: Stream) -> None:
        """Schedule the end of the stream, and register the session for revocation. The caller unregisters it."""
        self.authenticator.register(session, self.grant)
        left = _left(self.authenticator, self.grant)
        if self.timeout is not None and self.timeout <= left:
            stream.end_in(self.timeout, TIMEOUT)
        elif left != inf:
            stream.end_in(left, EXPIRED)


def at_most(request: Request, seconds: float) -> float:
    """So many seconds, or less if the token expires before."""
    return min(seconds, _left(request.app.state.authenticator, grant_of(request)))


def _left(authenticator: Authenticator, grant: Grant) -> float:
    left = authenticator.seconds_left(grant)
    return inf if left is None else left
