"""The command that makes tokens."""

from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .. import settings
from .options import duration
from .terminal import end_on_signals, tell, write

if TYPE_CHECKING:
    from ..access.claims import Rights

SHORT = 3_600.0  # seconds that a signed token is good, which nobody can take back


F = TypeVar("F", bound=Callable[..., Any])


def _right(name: str, what: str) -> Callable[[F], F]:
    return click.option(f"--{name}", multiple=True, metavar="PATTERN", help=f"{what}; can be given several times.")


@click.command("token")
@click.argument("name")
@_right("publish", "Topics to publish to")
@_right("subscribe", "Topics to subscribe to and to read")
@_right("consume", "Topics in whose groups to work")
@_right("admin", "Topics to list, to change and to delete")
@click.option("--all", "everything", is_flag=True, help="Every right on every topic.")
@click.option("--expires", type=duration, help="How long it is good.  [for ever; 1h with --key]")
@click.option("--key", metavar="ALGORITHM:PATH", help="Sign a JSON Web Token with this secret or private key instead.")
@click.option("--tokens", metavar="PATH", help="The server's file of tokens.  [PLAINMQ_TOKENS]")
@click.option("--data-dir", metavar="PATH", help="The server's data directory.  [PLAINMQ_DATA_DIR]")
@click.option("--engine", metavar="ENGINE", help="The server's engine, in whose folder they are.  [PLAINMQ_ENGINE]")
@click.option("--jwt-audience", metavar="TEXT", help="Whom the JSON Web Token is for.  [PLAINMQ_JWT_AUDIENCE]")
@click.option("--jwt-issuer", metavar="TEXT", help="Whom it is from.  [PLAINMQ_JWT_ISSUER]")
def make_token(*, name: str, everything: bool, expires: float | None, key: str | None, **given: Any) -> None:
    """Make a token for NAME, and print it this one time.

    The server's file of tokens gets its hash, as a line; take the line out, and the token is no longer good. A server
    that has tokens reads the file anew by itself; one that was started without any must be started again.

    With --key nothing is stored: the token says itself what it is worth, to every server that has the same secret, or
    the public key, in --jwt-keys.

    \b
    Exit status:
      0    made
      1    not made; the sentence says why
      2    wrong usage
      130  Ctrl-C
      143  SIGTERM
    """
    end_on_signals()
    from ..access import claims
    from ..access import grant as access

    rights = claims.Rights(**{right: list(given.pop(right)) for right in access.Right})
    if everything:
        rights = claims.every_right()
    if rights == claims.Rights():
        raise click.UsageError("it would have no right: give --publish, --subscribe, --consume, --admin or --all")
    chosen = settings.load(given)
    if key:
        _print(_signed(key, name, rights, expires, chosen))
    else:
        _store(name, rights, expires, chosen)


def _print(token: str) -> None:
    write(token.encode() + b"\n")


def _store(name: str, rights: "Rights", expires: float | None, chosen: settings.Settings) -> None:
    from ..access import tokens
    from ..server import build

    path = build.token_path(chosen)
    tokens.show_token(path, name, rights, None if expires is None else time() + expires, _print)
    tell(f"its hash is in {path}")


def _signed(key: str, name: str, rights: "Rights", expires: float | None, chosen: settings.Settings) -> str:
    from ..access import jwt_keys

    expected = jwt_keys.Expected(chosen.jwt_audience, chosen.jwt_issuer)
    return jwt_keys.sign(jwt_keys.read_key(key, private=True), name, rights, time() + (expires or SHORT), expected)
