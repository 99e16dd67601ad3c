"""Tokens are listed, made and revoked by clients of a server. The file of tokens is the store, as for `plainmq token`;
no hash is shown.

A client gives no right that it does not have. It cannot lock itself out by mistake: the first token in the file may
make others, and a token revokes itself only when it is told to.
"""

from asyncio import to_thread
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import msgspec

from ..errors import Forbidden, Lockout, NotFound, TokenExists, TokensUnreadable, TokensUnused
from .authenticator import Authenticator
from .claims import Rights
from .grant import EVERYTHING, Grant, Right
from .private_files import FileInvalid
from .tokens import TokenFile, add_token, new_token, remove_token

LONGEST: Final = 36_500 * 86_400.0  # seconds that a token may be given

T = TypeVar("T")


class ListedToken(msgspec.Struct, frozen=True):
    """`stored`: false for one that ends with the server. `own`: it is the token of the client that asks."""

    grant: Grant
    stored: bool
    own: bool


class TokenPage(msgspec.Struct, frozen=True):
    """`next`: the name behind which the next page begins."""

    tokens: list[ListedToken]
    next: str | None


async def list_tokens(authenticator: Authenticator, client: Grant, after: str, limit: int) -> TokenPage:
    """At most `limit` tokens behind that name, by name. Raises TokensUnreadable."""
    file = await authenticator.newest_file()
    if file is None:
        return TokenPage([], None)
    grants = sorted((grant for grant in file.grants if grant.name > after), key=lambda grant: grant.name)
    page = [ListedToken(grant, file.is_stored(grant), grant is client) for grant in grants[:limit]]
    return TokenPage(page, page[-1].grant.name if len(grants) > limit else None)


async def make_token(
    authenticator: Authenticator, client: Grant, name: str, rights: Rights, expires: float | None
) -> tuple[str, ListedToken]:
    """A new token, which is valid now. `expires`: in Unix seconds. Raises Forbidden, ClaimsInvalid, TokensUnused,
    TokenExists, Lockout, TokenLimit, TokensUnreadable."""
    token, entry = new_token(name, rights, expires)
    grant = entry.read()
    _check_gift(client, grant)
    file = await authenticator.newest_file()
    if file is None:
        raise TokensUnused("this server asks nobody for a token (--auth none), so a token would have no effect")
    if file.named(name):
        raise TokenExists(f"there is a token {name!r} already: choose another name, or revoke it")
    _check_first(authenticator, file, grant)
    await _change(partial(add_token, file.path, entry, file.known))
    await authenticator.newest_file()
    return token, ListedToken(grant, stored=True, own=False)


async def revoke_token(authenticator: Authenticator, client: Grant, name: str, *, own: bool) -> None:
    """Revoke the token of this name: its streams end, and its requests are refused. `own`: also if it is the client's.
    Raises NotFound, Lockout, TokensUnreadable."""
    file = await authenticator.newest_file()
    found = [] if file is None else file.named(name)
    if file is None or not found:
        raise NotFound(f"there is no token {name!r} in the file of tokens")
    if client in found and not own:
        raise Lockout(f"{name!r} is the token of this request: to revoke it, add ?own=true")
    await _change(partial(remove_token, file.path, name, file.known))
    authenticator.remove_unstored(name)
    await authenticator.newest_file()


def _check_gift(client: Grant, grant: Grant) -> None:
    for right in Right:
        for pattern in getattr(grant, right).names:
            if not client.allows(right, pattern):
                raise Forbidden(f"this token has no right to {right} on {pattern!r}, so it cannot give it")


def _check_first(authenticator: Authenticator, file: TokenFile, grant: Grant) -> None:
    """Once there is a token, every client needs one: somebody must be able to make another."""
    now = authenticator.clock()
    others = (other for other in file.grants if file.is_stored(other) and (other.expires or now + 1) > now)
    if not authenticator.has_keys and not any(map(_is_admin, (grant, *others))):
        raise Lockout(
            f"no token could make another one: expected the right to admin on {EVERYTHING!r}, since this is the first "
            f"token in the file"
        )


def _is_admin(grant: Grant) -> bool:
    return grant.allows(Right.ADMIN, EVERYTHING)


async def _change(change: Callable[[], T]) -> T:
    """Change the file, in a thread: it may be long, and its disk slow. Raises TokensUnreadable."""
    try:
        return await to_thread(change)
    except FileInvalid as error:
        raise TokensUnreadable(str(error)) from None
