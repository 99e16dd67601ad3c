"""GET, POST and DELETE /tokens: the tokens in the server's file."""

from time import time
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from ...access import token_admin
from ...access.authenticator import Authenticator
from ...access.claims import Name, Rights
from ...access.grant import Right
from ...access.token_admin import ListedToken
from ...errors import OptionInvalid
from ...messages.message import rfc3339
from ...telemetry.log import log_event
from ..authentication import grant_of, holder
from ..body import read_json
from ..query import Parser, boolean, choice, duration, read_options
from ..responses import NEVER_STORED, json_answer, list_answer
from .lists import PAGE_LIMIT, USUAL

_LIST_OPTIONS: Final[dict[str, Parser]] = {"after": str, "limit": PAGE_LIMIT}
_DELETE_OPTIONS: Final[dict[str, Parser]] = {"own": choice("own", boolean)}
_EXAMPLE: Final = 'a name and rights such as {"name":"sensors","publish":["rooms.**"]}'
_lifetime: Final = duration("expires", token_admin.LONGEST, least=1.0)


class NewToken(Rights, forbid_unknown_fields=True):
    """The body of a POST. `expires`: a duration."""

    name: Name
    expires: str | None = None


async def list_tokens(request: Request) -> Response:
    """A page, by name."""
    options = read_options(request, _LIST_OPTIONS)
    page = await token_admin.list_tokens(
        _authenticator(request), grant_of(request), options.get("after", ""), options.get("limit", USUAL)
    )
    return await list_answer("tokens", page.tokens, _record, page.next)


async def post_token(request: Request) -> Response:
    """The answer is the only place where the token is shown."""
    read_options(request, {})
    body = await read_json(request, NewToken, _EXAMPLE)
    rights = Rights(**{right: getattr(body, right) for right in Right})
    if rights == Rights():
        raise OptionInvalid(f"the token would have no rights: expected one of {', '.join(Right)}")
    expires = None if body.expires is None else time() + _lifetime(body.expires)
    token, listed = await token_admin.make_token(_authenticator(request), grant_of(request), body.name, rights, expires)
    log_event("token made", name=body.name, by=holder(request))
    return json_answer({"token": token} | _record(listed), 201, NEVER_STORED)


async def delete_token(request: Request) -> Response:
    options, name = read_options(request, _DELETE_OPTIONS), request.path_params["name"]
    await token_admin.revoke_token(_authenticator(request), grant_of(request), name, own=options.get("own", False))
    log_event("token revoked", name=name, by=holder(request))
    return Response(status_code=204)


def _authenticator(request: Request) -> Authenticator:
    authenticator: Authenticator = request.app.state.authenticator
    return authenticator


def _record(token: ListedToken) -> dict[str, Any]:
    grant = token.grant
    return {
        "name": grant.name,
        **{right.value: getattr(grant, right).names for right in Right},
        "expires": None if grant.expires is None else rfc3339(grant.expires),
        "stored": token.stored,
        "own": token.own,
    }
