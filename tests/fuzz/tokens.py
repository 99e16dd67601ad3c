"""Tokens: only a valid token authenticates, and its grant has the rights of its claims and no more.

The first byte of an input chooses what the rest is: a token, the head and the claims of a token with a valid signature
(a line each), a ticket, an `Authorization` header, or a line of a file of tokens.
"""

import json
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any, Final

from app.access.authenticator import Authenticator
from app.access.grant import Grant, Right
from app.access.tokens import parse_entry
from app.errors import PlainmqError, Unauthorised
from app.messages.topic import parse_pattern
from tests.fuzz.keys import KEYS, signed

NOW: Final = 1.8e9
GOOD: Final = signed(b'{"alg":"HS256"}', b'{"sub":"good","exp":99999999999,"publish":["a.*"]}')


def tokens(data: bytes) -> None:
    authenticator = Authenticator(keys=KEYS, clock=lambda: NOW)
    _KINDS[data[0] % len(_KINDS) if data else 0](authenticator, data[1:])


def _authenticate(authenticator: Authenticator, token: str) -> Grant | None:
    try:
        return authenticator.authenticate(token, "127.0.0.1")
    except Unauthorised as error:
        reason = str(error)
    assert len(reason) < 1_000
    assert "\n" not in reason
    return None


def _token(authenticator: Authenticator, data: bytes) -> None:
    """A token that authenticates is GOOD: the fuzzer cannot sign others. Seeds may contain it."""
    token = data.decode("utf-8", "surrogateescape")
    if (grant := _authenticate(authenticator, token)) is not None:
        assert token.rpartition(".")[0] == GOOD.rpartition(".")[0]
        assert grant.name == "good"


def _claims(authenticator: Authenticator, data: bytes) -> None:
    head, _, claims = data.partition(b"\n")
    grant = _authenticate(authenticator, signed(head, claims))
    if grant is None:
        return
    expected: dict[str, Any] = json.loads(claims)
    assert json.loads(head)["alg"] == "HS256"
    assert grant.name == expected["sub"]
    assert grant.expires is not None
    assert isfinite(grant.expires)
    assert grant.expires > NOW
    for right in Right:
        names = getattr(grant, right).names
        assert list(names) == expected.get(right, [])
        assert all(parse_pattern(name) == name for name in names)


class _Stream:
    def revoke(self) -> None:
        raise AssertionError("nobody took the token out")


def _ticket(authenticator: Authenticator, data: bytes) -> None:
    """Half of the input as a ticket and half as its pass; then a valid ticket with any pass, and with its own."""
    text = data.decode("latin-1")
    guess, stream_pass = text[: len(text) // 2], text[len(text) // 2 :]
    ticket = authenticator.make_ticket(authenticator.authenticate(GOOD, "")).ticket
    for ticket_guess in (text, guess, f"{ticket}{text}" if text else ""):
        try:
            authenticator.redeem_ticket(ticket_guess, "/a", stream_pass, "127.0.0.1")
        except Unauthorised:
            pass
        else:
            raise AssertionError("a ticket was guessed")
    grant, own_pass, opening = authenticator.redeem_ticket(ticket, "/a", stream_pass, "127.0.0.1")
    assert grant.name == "good"
    with authenticator.spending(opening, _Stream()):
        pass
    assert authenticator.redeem_ticket(ticket, "/a", own_pass, "127.0.0.1").grant.name == "good"
    for path, guess in (("/a", stream_pass), ("/b", own_pass), ("/a", own_pass + text)):
        if (path, guess) != ("/a", own_pass):
            try:
                authenticator.redeem_ticket(ticket, path, guess, "127.0.0.1")
            except Unauthorised:
                continue
            raise AssertionError("a pass was guessed")


def _authorization(authenticator: Authenticator, data: bytes) -> None:
    """The cache of grants has only tokens that were authenticated."""
    assert authenticator.cached_grant(data, Right.PUBLISH, ("a.b",)) is None
    assert authenticator.authenticate(GOOD, "").name == "good"
    assert (authenticator.cached_grant(data, Right.PUBLISH, ("a.b",)) is not None) == (
        data == b"Bearer " + GOOD.encode()
    )
    assert authenticator.cached_grant(data, Right.PUBLISH, ("a.b", "b")) is None


def _line_of_a_file(_authenticator: Authenticator, data: bytes) -> None:
    try:
        grant = parse_entry(Path("tokens"), 1, data)
    except PlainmqError as error:
        str(error).encode()
    else:
        assert grant.name.isascii()


_KINDS: Final[list[Callable[[Authenticator, bytes], None]]] = [
    _token, _claims, _ticket, _authorization, _line_of_a_file
]  # fmt: skip
