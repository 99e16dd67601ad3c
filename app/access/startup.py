"""The authenticator of a server that starts, and its first token.

| tokens exist | reachable from    | `auth`     | accepted                                           |
|--------------|-------------------|------------|----------------------------------------------------|
| yes          |                   |            | clients with a token                               |
| no           | this machine only | `auto`     | all clients, but no request through a proxy        |
| no           | elsewhere         | `auto`     | clients with the first token, which is created now |
| no           |                   | `required` | the same                                           |
|              |                   | `none`     | all clients, with a warning                        |

A server with a public URL or proxies counts as reachable from elsewhere. The first token is shown once. A server that
stores nothing on a disk creates a new one at each start.
"""

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from enum import Enum, auto
from pathlib import Path
from typing import Final

from ..errors import PlainmqError
from ..net.sockets import is_loopback
from ..settings import SettingInvalid, Settings, named, naming
from .authenticator import AnonymousAccess, Authenticator, JwtKeys
from .claims import every_right
from .private_files import held, remove_abandoned, write_private
from .tickets import Tickets
from .tokens import TokenFile, add_token, is_there, new_token

FIRST_NAME: Final = "admin"  # the name of the first token
FIRST_TOKEN_FILE: Final = "first-token"  # noqa: S105  # beside the token file: the first token, if no terminal can show it
TICKET_KEY_FILE: Final = "tickets.key"  # beside the token file: the key that signs tickets


class BindScope(Enum):
    """How the server knows where HTTP can be reached from. UNKNOWN: another ASGI server listens, and only it knows."""

    SETTINGS = auto()
    UNKNOWN = auto()


def _check_together(settings: Settings) -> None:
    """Raises SettingInvalid for a setting that another one would disable: the server would be more open than the user
    expects."""
    for disabled, is_so, why in (
        (("tokens", "jwt_keys"), settings.auth == "none", "would have no effect: --auth none needs no token"),
        (("jwt_audience", "jwt_issuer"), not settings.jwt_keys, "is for JSON Web Tokens: expected --jwt-keys too"),
    ):
        if is_so and (given := [name for name in disabled if getattr(settings, name)]):
            raise SettingInvalid(f"{named(given[0])} {why}")


def build_authenticator(
    settings: Settings, path: Path, scope: BindScope, announce: Callable[[str], None],
    stale: MutableMapping[str, int] | None = None,
) -> Authenticator:  # fmt: skip
    """The authenticator of these settings. If it is `locked_out`, it needs a first token.

    `path`: the token file. `announce` gets warnings for the user. `stale["tokens"]` is set to 1 while the newest state
    of the file is not in force. Writes nothing. Raises FileInvalid, KeyInvalid, SettingInvalid.
    """
    _check_together(settings)
    if settings.auth == "none":
        announce("WARNING: --auth is none: every client can read, publish and delete everything.")
        return Authenticator(AnonymousAccess.ANONYMOUS)
    if settings.tokens and not is_there(path):
        raise SettingInvalid(
            f"{named('tokens')} is {settings.tokens!r}: there is no such file; `plainmq token` creates one"
        )
    with naming("jwt_keys"):
        keys = read_keys(settings) if settings.jwt_keys else None
    outlives_server = stores_tokens(settings) or settings.jwt_keys or is_there(path)  # tokens do, so tickets may too
    tickets = Tickets(path.parent / TICKET_KEY_FILE if outlives_server else None)
    file = TokenFile(path)
    with naming(tokens_setting(settings)):
        authenticator = Authenticator(AnonymousAccess.UNAUTHENTICATED, file, keys, tickets=tickets, stale=stale)
    if not authenticator.locked_out:
        return authenticator
    if settings.auth == "auto" and _is_local_only(settings, scope):
        access = AnonymousAccess.HERE if scope is BindScope.SETTINGS else AnonymousAccess.LOOPBACK
        return Authenticator(access, file, tickets=tickets, stale=stale)
    return authenticator


def create_first_token(
    authenticator: Authenticator, path: Path, store: bool, show: Callable[[str], None] | None
) -> str | None:
    """Create a token with all rights, for the user who has started the server.

    `show` shows it on the user's terminal; if there is none (None), it is written to a private file, and a sentence
    without the token is returned. `store`: whether its hash goes into the token file; otherwise it is valid while this
    server runs. Raises FileInvalid.
    """
    token, entry = new_token(FIRST_NAME, every_right())
    file, sentence = path.with_name(FIRST_TOKEN_FILE), "There was no token, so one with all rights was created."
    if show is None:
        write_private(file, token.encode() + b"\n", replace=True)
        sentence = f"{sentence} It is in {file}, which only you can read: copy it, and delete the file."
    else:
        show(f"{sentence} It is shown only now.\n  export PLAINMQ_TOKEN={token}")
    if store:  # last: a stored token that nobody has seen would lock everybody out
        add_token(path, entry)
        authenticator.check_file()
    else:
        authenticator.add_unstored(entry)
    return sentence if show is None else None


def tokens_setting(settings: Settings) -> str:
    """The setting that determines where tokens are."""
    return "tokens" if settings.tokens else "data_dir"


@contextmanager
def unstored_first_token(authenticator: Authenticator, path: Path) -> Iterator[None]:
    """The file of the first token of a server that does not store it: it is held while the server runs, and deleted at
    its end. If the server is killed, the next one finds the file abandoned."""
    with held(path.with_name(FIRST_TOKEN_FILE)):
        yield
        _delete_first_token_file(authenticator, path)


def delete_abandoned_first_token(authenticator: Authenticator, path: Path) -> None:
    """Delete the file of a first token that ended with its server: the token is not in force, and no server holds the
    file."""
    file = path.with_name(FIRST_TOKEN_FILE)
    try:
        authenticator.authenticate(file.read_text("ascii").strip(), "")
    except (OSError, ValueError, PlainmqError):
        remove_abandoned(file)


def _delete_first_token_file(authenticator: Authenticator, path: Path) -> None:
    """Delete the file of the first token if it is this server's, and so becomes invalid now."""
    file = path.with_name(FIRST_TOKEN_FILE)
    with suppress(OSError, ValueError, PlainmqError):
        authenticator.authenticate(file.read_text("ascii").strip(), "")
        file.unlink()


def stores_tokens(settings: Settings) -> bool:
    """True if the first token outlives the server: not if the server stores nothing else."""
    return bool(settings.tokens or settings.data_dir or settings.engine != "memory")


def read_keys(settings: Settings) -> JwtKeys:
    """The keys that may sign tokens. Raises KeyInvalid, FileInvalid."""
    from . import jwt_keys

    return jwt_keys.read_keys(settings.jwt_keys, jwt_keys.Expected(settings.jwt_audience, settings.jwt_issuer))


def read_usable_keys(settings: Settings) -> tuple[JwtKeys, PlainmqError | None]:
    """The keys that can be read now, and the error of one that cannot."""
    from . import jwt_keys

    return jwt_keys.read_usable_keys(settings.jwt_keys, jwt_keys.Expected(settings.jwt_audience, settings.jwt_issuer))


def _is_local_only(settings: Settings, scope: BindScope) -> bool:
    """True if only this machine can reach the server. With a public URL or proxies, clients elsewhere can, though all
    connections come from this machine."""
    proxied = settings.public_url or settings.trusted_proxies
    return not proxied and all(is_loopback(host) for host in _hosts(settings, scope))


def _hosts(settings: Settings, scope: BindScope) -> Iterable[str]:
    if scope is BindScope.SETTINGS:
        yield settings.host
    if settings.tcp_port:
        yield settings.tcp_host
