"""How long a request may last: as long as it asks for, and no longer than its token is good."""

from math import inf
from typing import Final, Protocol

import msgspec
from starlette.requests import Request

from ..access.doorkeeper import Doorkeeper, Guest
from ..access.grant import Grant
from .visitor import grant_of

TIMEOUT: Final = "timeout"
EXPIRED: Final = "expired"
REVOKED: Final = "revoked"  # the token was taken out of the server's file


class Stream(Protocol):
    def end_in(self, seconds: float, reason: str) -> None: ...


class Stay(msgspec.Struct, frozen=True):
    """That of a stream. `timeout`: seconds that were asked for."""

    keeper: Doorkeeper
    grant: Grant
    timeout: float | None

    def begin(self, guest: Guest, stream: Stream) -> None:
        """The stream ends in time; the guest is told if its token is taken out, and has to leave the doorkeeper."""
        self.keeper.enter(guest, self.grant)
        left = _left(self.keeper, self.grant)
        if self.timeout is not None and self.timeout <= left:
            stream.end_in(self.timeout, TIMEOUT)
        elif left != inf:
            stream.end_in(left, EXPIRED)


def at_most(request: Request, seconds: float) -> float:
    """As long as was asked for, or until the token expires."""
    return min(seconds, _left(request.app.state.keeper, grant_of(request)))


def _left(keeper: Doorkeeper, grant: Grant) -> float:
    left = keeper.left(grant)
    return inf if left is None else left
