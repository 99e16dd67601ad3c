"""The lifetime of a stream or a waiting request: what it asks for, and at most the life of its token."""

from contextlib import AbstractContextManager
from math import inf
from typing import Final, Protocol

import msgspec
from starlette.requests import Request

from ...access.authenticator import Authenticator
from ...access.grant import Grant
from ...access.sessions import AuthSession
from ...access.tickets import TicketClaims
from ..authentication import grant_of, resume_id_of, ticket_of

TIMEOUT: Final = "timeout"
EXPIRED: Final = "expired"
REVOKED: Final = "revoked"  # the token was taken out of the server's file


class Stream(Protocol):
    def end_in(self, seconds: float, reason: str) -> None: ...


class StreamLifetime(msgspec.Struct, frozen=True):
    """The lifetime of one stream. `timeout`: the option, in seconds. `ticket`: what the stream spends, if anything.
    `resume_id`: the last event id for a client that reconnects before it has received another; empty without a
    ticket."""

    authenticator: Authenticator
    grant: Grant
    timeout: float | None
    ticket: TicketClaims | None = None
    resume_id: str = ""

    def spending(self, session: AuthSession) -> AbstractContextManager[None]:
        """The block in which the stream is subscribed: a stream that is refused spends nothing. Raises Unauthorised."""
        return self.authenticator.spending(self.ticket, session)

    def begin(self, session: AuthSession, stream: Stream) -> None:
        """Schedule the end of the stream, and register the session for revocation. The caller unregisters it."""
        self.authenticator.register(session, self.grant)
        left = _left(self.authenticator, self.grant)
        if self.timeout is not None and self.timeout <= left:
            stream.end_in(self.timeout, TIMEOUT)
        elif left != inf:
            stream.end_in(left, EXPIRED)


def lifetime_of(request: Request, timeout: float | None) -> StreamLifetime:
    authenticator = request.app.state.authenticator
    return StreamLifetime(authenticator, grant_of(request), timeout, ticket_of(request), resume_id_of(request))


def limited_to_token(request: Request, seconds: float) -> float:
    """This number of seconds, or less if the token expires before."""
    return min(seconds, _left(request.app.state.authenticator, grant_of(request)))


def _left(authenticator: Authenticator, grant: Grant) -> float:
    left = authenticator.seconds_left(grant)
    return inf if left is None else left
