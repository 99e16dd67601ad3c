"""When a request must end by itself: at the time that it asks for, and never later than its token expires."""

from math import inf
from typing import Final, NamedTuple

from starlette.requests import Request

from ..doorkeeper import Doorkeeper
from .visitor import grant_of

EXPIRED: Final = "expired"


class Ending(NamedTuple):
    """After so many seconds, with this reason."""

    seconds: float
    reason: str


def ending(request: Request, timeout: float | None) -> Ending | None:
    """`timeout`: seconds that were asked for."""
    left = _left(request)
    if timeout is not None and timeout <= left:
        return Ending(timeout, "timeout")
    return None if left == inf else Ending(left, EXPIRED)


def at_most(request: Request, seconds: float) -> float:
    """As long as was asked for, or until the token expires."""
    return min(seconds, _left(request))


def _left(request: Request) -> float:
    keeper: Doorkeeper = request.app.state.keeper
    left = keeper.left(grant_of(request))
    return inf if left is None else left
