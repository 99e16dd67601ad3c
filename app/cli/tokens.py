"""The commands `plainmq token` and `plainmq tokens`, which change and read the file of a server."""

from collections.abc import Callable
from functools import partial
from time import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from .. import settings
from ..errors import NotFound
from .operations import json_option
from .options import duration, exit_status
from .terminal import end_on_signals, report, terminal, write

if TYPE_CHECKING:
    from ..access.claims import Rights
    from ..access.grant import Grant
    from ..client.table import Column

SIGNED_LIFETIME = 3_600.0  # seconds by default: a signed token cannot be revoked


F = TypeVar("F", bound=Callable[..., Any])


def _right(name: str, topics: str) -> Callable[[F], F]:
    return click.option(f"--{name}", multiple=True, metavar="PATTERN", help=f"{topics}; can be given several times.")


_FILE: Final = (
    click.option("--tokens", metavar="PATH", help="The server's file of tokens.  [PLAINMQ_TOKENS]"),
    click.option("--data-dir", metavar="PATH", help="The server's data directory.  [PLAINMQ_DATA_DIR]"),
    click.option(
        "--engine", metavar="ENGINE", help="The server's engine, whose folder has the tokens.  [PLAINMQ_ENGINE]"
    ),
)


def _file_options(command: F) -> F:
    for option in reversed(_FILE):
        command = option(command)
    return command


@click.command("token")
@click.argument("name")
@click.option("--revoke", is_flag=True, help="Take the token of this name out of the file instead.")
@_right("publish", "Topics to publish to")
@_right("subscribe", "Topics to subscribe to and to read")
@_right("consume", "Topics to consume from in groups")
@_right("admin", "Topics to list, change and delete")
@_right("view", "Topics whose names, state and figures to see, but no message")
@click.option("--all", "everything", is_flag=True, help="All rights on all topics.")
@click.option("--expires", type=duration, help="How long it is valid.  [for ever; 1h with --key]")
@click.option("--key", metavar="ALGORITHM:PATH", help="Sign a JSON Web Token with this secret or private key instead.")
@_file_options
@click.option("--jwt-audience", metavar="TEXT", help="The audience of the JSON Web Token.  [PLAINMQ_JWT_AUDIENCE]")
@click.option("--jwt-issuer", metavar="TEXT", help="The issuer of the JSON Web Token.  [PLAINMQ_JWT_ISSUER]")
@exit_status({0: "made, or revoked", 1: "not made, or not revoked; a sentence says why", 3: None})
def make_token(
    *, name: str, revoke: bool, everything: bool, expires: float | None, key: str | None, **options: Any
) -> None:
    """Make a token for NAME, and print it. It cannot be printed again.

    A line with the token's hash is added to the server's file of tokens. With --revoke, that line is taken out. A
    server that has tokens reads the file again by itself; a server that was started without tokens must be restarted.

    With --key nothing is stored: the token is signed and contains its rights. Every server accepts it that has the same
    secret, or the public key, in --jwt-keys.
    """
    end_on_signals()
    from ..access import claims
    from ..access import grant as access

    rights = claims.Rights(**{right: list(options.pop(right)) for right in access.Right})
    if everything:
        rights = claims.every_right()
    if revoke:
        if rights != claims.Rights() or expires is not None or key:
            raise click.UsageError("--revoke takes no rights, no --expires and no --key")
        _revoke(name, settings.load(options))
        return
    if rights == claims.Rights():
        raise click.UsageError(
            "the token would have no rights: give --publish, --subscribe, --consume, --admin, --view or --all"
        )
    loaded = settings.load(options)
    if key:
        _print(_signed(key, name, rights, expires, loaded))
    else:
        _store(name, rights, expires, loaded)


def _print(token: str) -> None:
    write(token.encode() + b"\n")


def _store(name: str, rights: "Rights", expires: float | None, loaded: settings.Settings) -> None:
    from ..access import tokens
    from ..server import places

    path = places.token_path(loaded)
    tokens.show_token(path, name, rights, None if expires is None else time() + expires, _print)
    report(f"its hash is in {path}")


def _revoke(name: str, loaded: settings.Settings) -> None:
    from ..access import tokens
    from ..server import places

    path = places.token_path(loaded)
    if not tokens.remove_token(path, name):
        raise NotFound(f"there is no token {name!r} in {path}")
    report(f"{name} is no longer in {path}")


def _signed(key: str, name: str, rights: "Rights", expires: float | None, loaded: settings.Settings) -> str:
    from ..access import jwt_keys

    expected = jwt_keys.Expected(loaded.jwt_audience, loaded.jwt_issuer)
    return jwt_keys.sign(
        jwt_keys.read_key(key, private=True), name, rights, time() + (expires or SIGNED_LIFETIME), expected
    )


@click.command("tokens", short_help="List the tokens in a server's file.")
@_file_options
@json_option
@exit_status({0: "listed", 1: "not listed; a sentence says why", 3: None})
def list_tokens(*, as_json: bool, **options: Any) -> None:
    """List the tokens in the server's file by name, with their rights and the time when they expire."""
    end_on_signals()
    import msgspec

    from ..access import tokens
    from ..client.table import table
    from ..server import places

    file = tokens.TokenFile(places.token_path(settings.load(options)))
    file.read_whole()
    grants = sorted(file.grants, key=lambda grant: grant.name)
    if as_json:
        write(msgspec.json.Encoder().encode_lines(map(_record, grants)))
    else:
        terminal().show(table(_columns(), grants))
    if not grants:
        report(f"there are no tokens in {file.path}")


def _columns() -> "list[Column[Grant]]":
    from ..access.grant import Right
    from ..client.table import Column, Kind

    return [
        Column("NAME", Kind.ID, lambda grant: grant.name),
        *(Column(right.value.upper(), Kind.TEXT, partial(_patterns, right)) for right in Right),
        Column("EXPIRES", Kind.TIME, _expires),
    ]


def _patterns(right: str, grant: "Grant") -> str | None:
    return " ".join(getattr(grant, right).names) or None


def _expires(grant: "Grant") -> str | None:
    from ..messages.message import rfc3339

    return None if grant.expires is None else rfc3339(grant.expires)


def _record(grant: "Grant") -> dict[str, Any]:
    from ..access.grant import Right

    rights = {right.value: getattr(grant, right).names for right in Right}
    return {"name": grant.name, **rights, "expires": _expires(grant)}
