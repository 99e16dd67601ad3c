"""When a request must end by itself: at the time that it asks for, and never later than its token expires."""

from math import inf
from typing import Final, NamedTuple

from starlette.requests import Request

from ..access.doorkeeper import Doorkeeper
from ..access.grant import Grant
from .visitor import grant_of

EXPIRED: Final = "expired"


class Ending(NamedTuple):
    """After so many seconds, with this reason."""

    seconds: float
    reason: str


def ending(keeper: Doorkeeper, grant: Grant, timeout: float | None) -> Ending | None:
    """`timeout`: seconds that were asked for."""
    left = _left(keeper, grant)
    if timeout is not None and timeout <= left:
        return Ending(timeout, "timeout")
    return None if left == inf else Ending(left, EXPIRED)


def at_most(request: Request, seconds: float) -> float:
    """As long as was asked for, or until the token expires."""
    return min(seconds, _left(request.app.state.keeper, grant_of(request)))


def _left(keeper: Doorkeeper, grant: Grant) -> float:
    left = keeper.left(grant)
    return inf if left is None else left
