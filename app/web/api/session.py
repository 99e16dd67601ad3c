"""For browsers: POST /session keeps the token in a cookie that no script can read, DELETE /session forgets it; POST
/tickets is for an EventSource of a page that has a token and cannot have the cookie.
"""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from ...access.authenticator import Authenticator
from ...access.grant import ANONYMOUS
from ...messages.message import rfc3339
from ..authentication import cookie_name, grant_of, is_secure, shown_token
from ..query import read_options
from ..responses import json_answer

_NEVER_STORED: Final = {"Cache-Control": "no-store"}


async def post_session(request: Request) -> Response:
    """The cookie lasts as long as the token, or, when that does not expire, as long as the browser runs."""
    read_options(request, {})
    authenticator: Authenticator = request.app.state.authenticator
    response = Response(status_code=204, headers=_NEVER_STORED)
    grant = grant_of(request)
    if grant is not ANONYMOUS and (token := shown_token(request)):
        left = authenticator.left(grant)
        response.set_cookie(
            cookie_name(request), token, max_age=None if left is None else int(left), secure=is_secure(request),
            httponly=True, samesite="strict",
        )  # fmt: skip
    return response


async def delete_session(request: Request) -> Response:
    read_options(request, {})
    response = Response(status_code=204, headers=_NEVER_STORED)
    response.delete_cookie(cookie_name(request), secure=is_secure(request), httponly=True, samesite="strict")
    return response


async def post_ticket(request: Request) -> Response:
    """One stream may be begun with it, as whoever asks."""
    read_options(request, {})
    authenticator: Authenticator = request.app.state.authenticator
    made = authenticator.make_ticket(grant_of(request))
    return json_answer({"ticket": made.ticket, "expires": rfc3339(made.expires)}, 201, _NEVER_STORED)
