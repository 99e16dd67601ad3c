"""Which tokens there are when the server starts, and what it does when there are none.

| tokens | can be reached from | `auth`     | who is let in                                           |
|--------|---------------------|------------|---------------------------------------------------------|
| some   |                     |            | who has one                                             |
| none   | this machine only   | `auto`     | anybody, but nobody through a proxy                     |
| none   | elsewhere, or so it | `auto`     | who has the token that is made now and shown this once; |
|        | seems: by a proxy   |            | one that keeps nothing on a disk makes one each time    |
| none   |                     | `required` | the same                                                |
|        |                     | `none`     | anybody, with a warning                                 |
"""

from collections.abc import Callable, Iterable, MutableMapping
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from typing import Final

from ..errors import PlainmqError
from ..net.sockets import is_loopback
from ..settings import SettingInvalid, Settings, named, naming
from .authenticator import AnonymousAccess, Authenticator, JwtKeys
from .claims import every_right
from .private_files import write_private
from .tickets import Tickets
from .tokens import TokenFile, add_token, new_token

FIRST: Final = "admin"  # the name of the token that is made when there is none
FIRST_SHOWN: Final = "first-token"  # beside the file of tokens: it, where there is no terminal to show it on
TICKETS: Final = "tickets.key"  # there too: what tickets are signed with


class BindScope(Enum):
    """Where the HTTP door can be reached from: what the settings say, or another server knows."""

    SETTINGS = auto()
    UNKNOWN = auto()


def _check_together(settings: Settings) -> None:
    """Raises SettingInvalid for one that goes unheard because of another: who set it counts on it, and the server would
    be more open than it seems."""
    for unheard, is_so, why in (
        (("tokens", "jwt_keys"), settings.auth == "none", "would not be looked at: --auth is none, which asks nobody"),
        (("jwt_audience", "jwt_issuer"), not settings.jwt_keys, "is for JSON Web Tokens: expected --jwt-keys too"),
    ):
        if is_so and (given := [name for name in unheard if getattr(settings, name)]):
            raise SettingInvalid(f"{named(given[0])} {why}")


def build_authenticator(
    settings: Settings, path: Path, reach: BindScope, announce: Callable[[str], None],
    stale: MutableMapping[str, int] | None = None,
) -> Authenticator:  # fmt: skip
    """The authenticator of these settings: one that is shut wants a first token. `path`: of the tokens. `announce` gets
    what a person must know; `stale`: whether the file is in force as it is. Nothing is written.

    Raises FileInvalid, KeyInvalid, SettingInvalid.
    """
    _check_together(settings)
    if settings.auth == "none":
        announce("WARNING: --auth is none: whoever reaches the server can read, publish and delete everything.")
        return Authenticator(AnonymousAccess.ANONYMOUS)
    if settings.tokens and not path.exists():
        raise SettingInvalid(
            f"{named('tokens')} is {settings.tokens!r}: there is no such file; `plainmq token` makes one"
        )
    with naming("jwt_keys"):
        keys = read_keys(settings) if settings.jwt_keys else None
    stays = keeps_tokens(settings) or settings.jwt_keys or path.exists()  # a token, for whom a ticket is made
    tickets = Tickets(path.parent / TICKETS if stays else None)
    file = TokenFile(path)
    with naming(place_of_tokens(settings)):
        authenticator = Authenticator(AnonymousAccess.UNAUTHENTICATED, file, keys, tickets=tickets, stale=stale)
    if not authenticator.locked_out:
        return authenticator
    if settings.auth == "auto" and _stays_here(settings, reach):
        openness = AnonymousAccess.HERE if reach is BindScope.SETTINGS else AnonymousAccess.LOOPBACK
        return Authenticator(openness, file, tickets=tickets, stale=stale)
    return authenticator


def make_first(authenticator: Authenticator, path: Path, keeps: bool, show: Callable[[str], None] | None) -> str | None:
    """A first token, for whoever has started the server; answers what may be said to everybody. `keeps`: its hash goes
    into the file, or else it is good as long as this server runs. `show` shows it to a person, once; where nobody looks
    (None) it goes into a file of its owner's. Raises FileInvalid."""
    token, entry = new_token(FIRST, every_right())
    shown, said = path.with_name(FIRST_SHOWN), "There was no token, so one was made that may do everything."
    if show is None:
        write_private(shown, token.encode() + b"\n", replace=True)
        said = f"{said} It is in {shown}, which is yours to read: take it, and delete the file."
    else:
        show(f"{said} It is shown only now.\n  export PLAINMQ_TOKEN={token}")
    if keeps:  # last: one that nobody has seen would shut the door
        add_token(path, entry)
        authenticator.check_file()
    else:
        authenticator.add_unstored(entry)
    return said if show is None else None


def place_of_tokens(settings: Settings) -> str:
    """The setting that says where tokens are."""
    return "tokens" if settings.tokens else "data_dir"


def forget_first(authenticator: Authenticator, path: Path) -> None:
    """Take away the file in which a first token was shown that ends with this server; another's stays."""
    shown = path.with_name(FIRST_SHOWN)
    with suppress(OSError, ValueError, PlainmqError):
        authenticator.authenticate(shown.read_text("ascii").strip(), "")
        shown.unlink()


def keeps_tokens(settings: Settings) -> bool:
    """Whether a server leaves the token behind that it makes: not if it keeps nothing else."""
    return bool(settings.tokens or settings.data_dir or settings.engine != "memory")


def read_keys(settings: Settings) -> JwtKeys:
    """What tokens may be signed with. Raises KeyInvalid, FileInvalid."""
    from . import jwt_keys

    return jwt_keys.read_keys(settings.jwt_keys, jwt_keys.Expected(settings.jwt_audience, settings.jwt_issuer))


def read_usable_keys(settings: Settings) -> tuple[JwtKeys, PlainmqError | None]:
    """The same, of those that can be used now; and what is wrong with another."""
    from . import jwt_keys

    return jwt_keys.read_usable_keys(settings.jwt_keys, jwt_keys.Expected(settings.jwt_audience, settings.jwt_issuer))


def _stays_here(settings: Settings, reach: BindScope) -> bool:
    """Who has a public URL or proxies has users elsewhere, though they all come from this machine."""
    behind = settings.public_url or settings.trusted_proxies
    return not behind and all(is_loopback(host) for host in _hosts(settings, reach))


def _hosts(settings: Settings, reach: BindScope) -> Iterable[str]:
    if reach is BindScope.SETTINGS:
        yield settings.host
    if settings.tcp_port:
        yield settings.tcp_host
