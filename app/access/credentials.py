"""Which tokens there are when the server starts, and what it does when there are none.

| tokens | can be reached from | `auth`     | who is let in                                           |
|--------|---------------------|------------|---------------------------------------------------------|
| some   |                     |            | who has one                                             |
| none   | this machine only   | `auto`     | anybody, but nobody through a proxy                     |
| none   | elsewhere, or so it | `auto`     | who has the token that is made now and shown this once  |
|        | seems: by a proxy   |            |                                                         |
| none   |                     | `required` | the same                                                |
|        |                     | `none`     | anybody, with a warning                                 |
"""

from collections.abc import Callable, Iterable
from enum import Enum, auto
from pathlib import Path
from typing import Final

from ..net.sockets import is_loopback
from ..settings import SettingInvalid, Settings
from .claims import every_right
from .doorkeeper import Doorkeeper, Keys, Openness
from .tokens import TokenFile, make_token

FIRST: Final = "admin"  # the name of the token that is made when there is none


class Reach(Enum):
    """Where the HTTP door can be reached from: what the settings say, or another server knows."""

    SETTINGS = auto()
    UNKNOWN = auto()


def doorkeeper(settings: Settings, path: Path, reach: Reach, announce: Callable[[str], None]) -> Doorkeeper:
    """The doorkeeper of these settings. `path`: of the tokens. `announce` gets what a person must know.

    Raises FileInvalid, KeyInvalid, SettingInvalid.
    """
    if settings.auth == "none":
        announce("WARNING: --auth is none: whoever reaches the server can read, publish and delete everything.")
        return Doorkeeper(Openness.ANYBODY)
    if settings.tokens and not path.exists():
        raise SettingInvalid(f"--tokens is {settings.tokens!r}: there is no such file; `plainmq token` makes one")
    keys = read_keys(settings) if settings.jwt_keys else None
    file = TokenFile(path)
    keeper = Doorkeeper(Openness.NOBODY, file, keys)
    if file or keys is not None:
        return keeper
    if settings.auth == "auto" and _stays_here(settings, reach):
        return Doorkeeper(Openness.HERE if reach is Reach.SETTINGS else Openness.LOOPBACK, file)
    if reach is Reach.UNKNOWN:
        raise SettingInvalid("there is no token, and the server is open to others: make one with `plainmq token`")
    token = make_token(path, FIRST, every_right())
    announce(_first(token, path))
    return Doorkeeper(Openness.NOBODY, file, keys)


def read_keys(settings: Settings) -> Keys:
    """What tokens may be signed with. Raises KeyInvalid, FileInvalid."""
    from . import signed

    return signed.read_keys(settings.jwt_keys, signed.Expected(settings.jwt_audience, settings.jwt_issuer))


def _stays_here(settings: Settings, reach: Reach) -> bool:
    """Who has a public URL or proxies has users elsewhere, though they all come from this machine."""
    behind = settings.public_url or settings.trusted_proxies
    return not behind and all(is_loopback(host) for host in _hosts(settings, reach))


def _hosts(settings: Settings, reach: Reach) -> Iterable[str]:
    if reach is Reach.SETTINGS:
        yield settings.host
    if settings.tcp_port:
        yield settings.tcp_host


def _first(token: str, path: Path) -> str:
    return (
        f"There was no token, so one was made that may do everything. It is shown only now; {path} has its hash.\n"
        f"  export PLAINMQ_TOKEN={token}"
    )
