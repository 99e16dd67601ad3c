"""The command `plainmq token`."""

from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .. import settings
from .options import duration
from .terminal import end_on_signals, report, write

if TYPE_CHECKING:
    from ..access.claims import Rights

SIGNED_LIFETIME = 3_600.0  # seconds by default: a signed token cannot be revoked


F = TypeVar("F", bound=Callable[..., Any])


def _right(name: str, topics: str) -> Callable[[F], F]:
    return click.option(f"--{name}", multiple=True, metavar="PATTERN", help=f"{topics}; can be given several times.")


@click.command("token")
@click.argument("name")
@_right("publish", "Topics to publish to")
@_right("subscribe", "Topics to subscribe to and to read")
@_right("consume", "Topics to consume from in groups")
@_right("admin", "Topics to list, change and delete")
@_right("view", "Topics whose names, state and figures to see, but no message")
@click.option("--all", "everything", is_flag=True, help="All rights on all topics.")
@click.option("--expires", type=duration, help="How long it is valid.  [for ever; 1h with --key]")
@click.option("--key", metavar="ALGORITHM:PATH", help="Sign a JSON Web Token with this secret or private key instead.")
@click.option("--tokens", metavar="PATH", help="The server's file of tokens.  [PLAINMQ_TOKENS]")
@click.option("--data-dir", metavar="PATH", help="The server's data directory.  [PLAINMQ_DATA_DIR]")
@click.option("--engine", metavar="ENGINE", help="The server's engine, whose folder has the tokens.  [PLAINMQ_ENGINE]")
@click.option("--jwt-audience", metavar="TEXT", help="The audience of the JSON Web Token.  [PLAINMQ_JWT_AUDIENCE]")
@click.option("--jwt-issuer", metavar="TEXT", help="The issuer of the JSON Web Token.  [PLAINMQ_JWT_ISSUER]")
def make_token(*, name: str, everything: bool, expires: float | None, key: str | None, **options: Any) -> None:
    """Make a token for NAME, and print it. It cannot be printed again.

    A line with the token's hash is added to the server's file of tokens. To revoke the token, delete the line. A server
    that has tokens reads the file again by itself; a server that was started without tokens must be restarted.

    With --key nothing is stored: the token is signed and contains its rights. Every server accepts it that has the same
    secret, or the public key, in --jwt-keys.

    \b
    Exit status:
      0    made
      1    not made; a sentence says why
      2    wrong usage
      130  Ctrl-C
      143  SIGTERM
    """
    end_on_signals()
    from ..access import claims
    from ..access import grant as access

    rights = claims.Rights(**{right: list(options.pop(right)) for right in access.Right})
    if everything:
        rights = claims.every_right()
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


def _signed(key: str, name: str, rights: "Rights", expires: float | None, loaded: settings.Settings) -> str:
    from ..access import jwt_keys

    expected = jwt_keys.Expected(loaded.jwt_audience, loaded.jwt_issuer)
    return jwt_keys.sign(
        jwt_keys.read_key(key, private=True), name, rights, time() + (expires or SIGNED_LIFETIME), expected
    )
