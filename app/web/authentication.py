"""Whose a request is. It shows a token (`Authorization: Bearer`), or, from a browser, a cookie that holds one
(POST /session) or a ticket (POST /tickets). The grant is kept in the request's scope, under GRANT, for who answers the
request, limits it or writes of it.
"""

from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request

from ..access.authenticator import SCHEME, Authenticator
from ..access.grant import ANONYMOUS, UNAUTHENTICATED, Grant
from ..errors import OptionInvalid, TokenMissing, Unauthorised
from ..limits.quotas import client_of
from ..messages.message import ID_MARK
from .middleware.forwarded import SIGNS

GRANT: Final = "plainmq.grant"  # the key of the scope
TICKET: Final = "ticket"  # the option of a stream
WAY_BACK: Final = "plainmq.way_back"  # the key of the scope: the pass of who came in by a ticket
COOKIE: Final = "plainmq"
SECURE_COOKIE: Final = "__Host-plainmq"  # no other site can set a cookie of this name (RFC 6265bis, section 4.1.3.2)

_IN_URLS: Final = ("token", "access_token", "auth", "jwt")  # how clients of other servers write one there


def grant_of(request: Request) -> Grant:
    """What was found out when the request came in."""
    grant: Grant = request.scope[GRANT]
    return grant


def client(request: Request) -> str | None:
    """Who it is from, as quotas know it."""
    return known_as(grant_of(request), request.client.host if request.client else None)


def known_as(grant: Grant, address: str | None) -> str | None:
    """The same for who holds this grant and comes from that address."""
    return client_of(None if grant is ANONYMOUS or grant is UNAUTHENTICATED else grant.name, address)


def identify(request: Request, takes_tickets: bool) -> Grant:
    """NOBODY when it shows nothing. Raises Unauthorised when that is not good, OptionInvalid for a token in the URL."""
    authenticator: Authenticator = request.app.state.authenticator
    if authenticator.is_anonymous_allowed((request.scope.get("server") or (None,))[0]):
        if authenticator.wary and (signs := [name for name, _ in request.headers.raw if name in SIGNS]):
            authenticator.refuse_passed_on(signs[0].decode())
        return ANONYMOUS
    for name in _IN_URLS:
        if name in request.query_params:
            raise OptionInvalid(
                f"{name}= is not an option here: logs keep what is in a URL. Send Authorization: Bearer, or for an "
                f"EventSource a ticket (POST /tickets)"
            )
    address = request.client.host if request.client else ""
    if (token := shown_token(request)) is not None:
        return authenticator.authenticate(token, address)
    if takes_tickets and (ticket := request.query_params.get(TICKET)) is not None:
        grant, request.scope[WAY_BACK] = authenticator.redeem_ticket(
            ticket, _stream_of(request), _pass_of(request), address, spend=request.method != "HEAD"
        )
        return grant
    if (token := _cookie(request)) is not None:
        return authenticator.authenticate(token, address)
    return UNAUTHENTICATED


def _stream_of(request: Request) -> str:
    """Its address: who comes back with a pass, comes back to that."""
    return "\n".join([request.scope["path"], *request.query_params.getlist("topic")])


def _pass_of(request: Request) -> str:
    """That of its last id, which is no pass in the query: logs keep what is in a URL."""
    return request.headers.get("last-event-id", "").strip(" \t").partition(ID_MARK)[2]


def mark_of(request: Request) -> str:
    """What stands behind the ids of its stream, so that its reader can come back; empty unless it has a ticket."""
    way_back: str = request.scope.get(WAY_BACK, "")
    return way_back and ID_MARK + way_back


def place_of(request: Request) -> str:
    """What its reader shall come back with before it is told an id: the place it has come with, and the pass."""
    mark, last = mark_of(request), request.headers.get("last-event-id", "").strip(" \t").partition(ID_MARK)[0]
    return mark and last + mark


def shown_token(request: Request) -> str | None:
    """That of its Authorization. Raises Unauthorised when it has another."""
    shown = request.headers.getlist("authorization")
    if not shown:
        return None
    scheme, _, token = shown[0].partition(" ")
    if len(shown) > 1:
        raise Unauthorised("expected one Authorization: Bearer TOKEN")
    if scheme.lower() != SCHEME.decode().strip().lower():  # so no token is shown
        raise TokenMissing("expected Authorization: Bearer TOKEN")
    return token.strip(" ")


def _cookie(request: Request) -> str | None:
    """A page of another site that is allowed here is not allowed to speak for whoever sits before it."""
    return request.cookies.get(cookie_name(request)) if _from_ourselves(request.headers) else None


def _from_ourselves(headers: Headers) -> bool:
    origin, host = headers.get("origin"), headers.get("host", "")
    same = origin is None or origin.partition("://")[2].lower() == host.lower()
    return same and headers.get("sec-fetch-site", "none") in {"none", "same-origin"}


def cookie_name(request: Request) -> str:
    return SECURE_COOKIE if is_secure(request) else COOKIE


def is_secure(request: Request) -> bool:
    """Whether users reach the server by https, as far as it knows."""
    return request.url.scheme == "https" or bool(request.app.state.rules.secure)
