"""Authentication of a request: by a token (`Authorization: Bearer`), or for browsers by a cookie that holds a token
(POST /session) or by a ticket (POST /tickets). The grant is stored in the request's scope under GRANT, for the handler,
the quotas and the log.
"""

from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request

from ..access.authenticator import SCHEME, Authenticator
from ..access.grant import ANONYMOUS, UNAUTHENTICATED, Grant
from ..access.tickets import TicketClaims
from ..errors import OptionInvalid, TokenMissing, Unauthorised
from ..limits.quotas import client_of, holder_name
from ..messages.message import ID_MARK
from .middleware.forwarded import SIGNS

GRANT: Final = "plainmq.grant"  # the key of the scope
TICKET: Final = "ticket"  # the option of stream routes
STREAM_PASS: Final = "plainmq.stream_pass"  # noqa: S105 # of the scope: the pass of a stream
UNSPENT: Final = "plainmq.unspent_ticket"  # of the scope: the ticket that the stream spends when it begins
COOKIE: Final = "plainmq"
SECURE_COOKIE: Final = "__Host-plainmq"  # no other site can set a cookie of this name (RFC 6265bis, section 4.1.3.2)

_IN_URLS: Final = ("token", "access_token", "auth", "jwt")  # where clients of other servers put a token


def grant_of(request: Request) -> Grant:
    """The grant that identify() found."""
    grant: Grant = request.scope[GRANT]
    return grant


def client(request: Request) -> str | None:
    """The owner of the request in quotas."""
    return rate_limit_key(grant_of(request), request.client.host if request.client else None)


def holder(request: Request) -> str:
    """Who asks, for people: as the holder of leases."""
    return who_is(grant_of(request), request.client.host if request.client else None)


def who_is(grant: Grant, address: str | None) -> str:
    """The name of a client for people."""
    return holder_name(_token_name(grant), address)


def rate_limit_key(grant: Grant, address: str | None) -> str | None:
    """The owner in quotas for this grant and address."""
    return client_of(_token_name(grant), address)


def _token_name(grant: Grant) -> str | None:
    return None if grant is ANONYMOUS or grant is UNAUTHENTICATED else grant.name


def identify(request: Request, takes_tickets: bool) -> Grant:
    """The grant of the request; UNAUTHENTICATED if it presents nothing. Raises Unauthorised for an invalid token,
    OptionInvalid for a token in the URL."""
    authenticator: Authenticator = request.app.state.authenticator
    if authenticator.is_anonymous_allowed(_own_address(request)):
        if authenticator.refuses_forwarded and (signs := [name for name, _ in request.headers.raw if name in SIGNS]):
            authenticator.refuse_forwarded(signs[0].decode())
        return ANONYMOUS
    for name in _IN_URLS:
        if name in request.query_params:
            raise OptionInvalid(
                f"{name}= is not an option here: logs keep what is in a URL. Send Authorization: Bearer, or for an "
                f"EventSource a ticket (POST /tickets)"
            )
    address = request.client.host if request.client else ""
    if (token := presented_token(request)) is not None:
        return authenticator.authenticate(token, address)
    if takes_tickets and (ticket := request.query_params.get(TICKET)) is not None:
        redeemed = authenticator.redeem_ticket(ticket, _stream_of(request), _pass_of(request), address)
        request.scope[STREAM_PASS], request.scope[UNSPENT] = redeemed.stream_pass, redeemed.ticket
        return redeemed.grant
    if (token := _cookie(request)) is not None:
        return authenticator.authenticate(token, address)
    return UNAUTHENTICATED


def asks_for_token(request: Request) -> bool:
    """Whether a client that comes as this one does needs a token."""
    authenticator: Authenticator = request.app.state.authenticator
    return not authenticator.is_anonymous_allowed(_own_address(request))


def _own_address(request: Request) -> str | None:
    """The address of the server that the client connected to; None: unknown."""
    address: str | None = (request.scope.get("server") or (None,))[0]
    return address


def _stream_of(request: Request) -> str:
    """The address of the stream: a pass is valid for this address only."""
    return "\n".join([request.scope["path"], *request.query_params.getlist("topic")])


def _pass_of(request: Request) -> str:
    """The pass behind the last event id in the header. In the query it does not count: logs keep URLs."""
    return request.headers.get("last-event-id", "").strip(" \t").partition(ID_MARK)[2]


def mark_of(request: Request) -> str:
    """The suffix of the stream's ids, with which its client can come back; empty unless it was opened with a ticket."""
    stream_pass: str = request.scope.get(STREAM_PASS, "")
    return stream_pass and ID_MARK + stream_pass


def ticket_of(request: Request) -> TicketClaims | None:
    """The ticket that the stream of this request spends."""
    ticket: TicketClaims | None = request.scope.get(UNSPENT)
    return ticket


def resume_id_of(request: Request) -> str:
    """The last event id for a client that reconnects before it has received an event: the position that it came with,
    and the pass. Empty unless the stream was opened with a ticket."""
    mark, last = mark_of(request), request.headers.get("last-event-id", "").strip(" \t").partition(ID_MARK)[0]
    return mark and last + mark


def presented_token(request: Request) -> str | None:
    """The Bearer token of the request, if any. Raises Unauthorised for another scheme, or for two tokens."""
    values = request.headers.getlist("authorization")
    if not values:
        return None
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1:
        raise Unauthorised("expected one Authorization: Bearer TOKEN")
    if scheme.lower() != SCHEME.decode().strip().lower():  # no token was presented
        raise TokenMissing("expected Authorization: Bearer TOKEN")
    return token.strip(" ")


def _cookie(request: Request) -> str | None:
    """The token in the cookie. For a page of another site, even an allowed one, the cookie does not count."""
    return request.cookies.get(cookie_name(request)) if _is_same_origin(request.headers) else None


def _is_same_origin(headers: Headers) -> bool:
    origin, host = headers.get("origin"), headers.get("host", "")
    same = origin is None or origin.partition("://")[2].lower() == host.lower()
    return same and headers.get("sec-fetch-site", "none") in {"none", "same-origin"}


def cookie_name(request: Request) -> str:
    return SECURE_COOKIE if is_secure(request) else COOKIE


def is_secure(request: Request) -> bool:
    """True if clients reach the server by https, as far as it knows."""
    return request.url.scheme == "https" or bool(request.app.state.rules.secure)
