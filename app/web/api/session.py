"""Who a client is, and what helps browsers.

GET /session says who is asking and what they may do. POST /session puts the token into a cookie that no script can
read, and DELETE /session removes it. POST /tickets is for the EventSource of a page that has a token and cannot use the
cookie.
"""

from starlette.requests import Request
from starlette.responses import Response

from ...access.authenticator import Authenticator
from ...access.grant import ANONYMOUS, Right
from ...messages.message import rfc3339
from ..authentication import cookie_name, grant_of, is_secure, presented_token
from ..query import read_options
from ..responses import NEVER_STORED, json_answer


async def get_session(request: Request) -> Response:
    read_options(request, {})
    grant = grant_of(request)
    record = {
        "name": None if grant is ANONYMOUS else grant.name,
        "anonymous": grant is ANONYMOUS,
        "expires": None if grant.expires is None else rfc3339(grant.expires),
        "rights": {right.value: getattr(grant, right).names for right in Right},
    }
    return json_answer(record, headers=NEVER_STORED)


async def post_session(request: Request) -> Response:
    """The cookie expires with the token. If the token does not expire, the cookie lasts until the browser is closed."""
    read_options(request, {})
    authenticator: Authenticator = request.app.state.authenticator
    response = Response(status_code=204, headers=NEVER_STORED)
    grant = grant_of(request)
    if grant is not ANONYMOUS and (token := presented_token(request)):
        left = authenticator.seconds_left(grant)
        response.set_cookie(
            cookie_name(request), token, max_age=None if left is None else int(left), secure=is_secure(request),
            httponly=True, samesite="strict",
        )  # fmt: skip
    return response


async def delete_session(request: Request) -> Response:
    read_options(request, {})
    response = Response(status_code=204, headers=NEVER_STORED)
    response.delete_cookie(cookie_name(request), secure=is_secure(request), httponly=True, samesite="strict")
    return response


async def post_ticket(request: Request) -> Response:
    """Make a ticket, which opens one stream with the rights of this request's token."""
    read_options(request, {})
    authenticator: Authenticator = request.app.state.authenticator
    made = authenticator.make_ticket(grant_of(request))
    return json_answer({"ticket": made.ticket, "expires": rfc3339(made.expires)}, 201, NEVER_STORED)
