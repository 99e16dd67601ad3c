"""Tokens: nobody gets in who should not, and who gets in has what the token says and no more.

The first byte chooses what the rest is: a token as it is shown, the head and the claims of one with a good signature
(a line each), a ticket, an `Authorization`, or a line of a file of tokens.
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


def _admitted(authenticator: Authenticator, token: str) -> Grant | None:
    try:
        return authenticator.authenticate(token, "127.0.0.1")
    except Unauthorised as error:
        reason = str(error)
    assert len(reason) < 1_000
    assert "\n" not in reason
    return None


def _shown(authenticator: Authenticator, data: bytes) -> None:
    """Without the key nobody can make a good one; seeds that have one may be there."""
    token = data.decode("utf-8", "surrogateescape")
    if (grant := _admitted(authenticator, token)) is not None:
        assert token.rpartition(".")[0] == GOOD.rpartition(".")[0]
        assert grant.name == "good"


def _claimed(authenticator: Authenticator, data: bytes) -> None:
    head, _, claims = data.partition(b"\n")
    grant = _admitted(authenticator, signed(head, claims))
    if grant is None:
        return
    said: dict[str, Any] = json.loads(claims)
    assert json.loads(head)["alg"] == "HS256"
    assert grant.name == said["sub"]
    assert grant.expires is not None
    assert isfinite(grant.expires)
    assert grant.expires > NOW
    for right in Right:
        names = getattr(grant, right).names
        assert list(names) == said.get(right, [])
        assert all(parse_pattern(name) == name for name in names)


def _ticket(authenticator: Authenticator, data: bytes) -> None:
    """Half of it as a ticket and half as a pass; then a good ticket with any pass, and with its own."""
    text = data.decode("latin-1")
    shown, passed = text[: len(text) // 2], text[len(text) // 2 :]
    ticket = authenticator.make_ticket(authenticator.authenticate(GOOD, "")).ticket
    for each in (text, shown, f"{ticket}{text}" if text else ""):
        try:
            authenticator.redeem_ticket(each, "/a", passed, "127.0.0.1")
        except Unauthorised:
            pass
        else:
            raise AssertionError("a ticket was guessed")
    grant, way_back = authenticator.redeem_ticket(ticket, "/a", passed, "127.0.0.1")
    assert grant.name == "good"
    assert authenticator.redeem_ticket(ticket, "/a", way_back, "127.0.0.1").grant.name == "good"
    for stream, again in (("/a", passed), ("/b", way_back), ("/a", way_back + text)):
        if (stream, again) != ("/a", way_back):
            try:
                authenticator.redeem_ticket(ticket, stream, again, "127.0.0.1")
            except Unauthorised:
                continue
            raise AssertionError("a way back was guessed")


def _authorization(authenticator: Authenticator, data: bytes) -> None:
    """The short way lets in only whom the long way has let in."""
    assert authenticator.cached_grant(data, Right.PUBLISH, ("a.b",)) is None
    assert authenticator.authenticate(GOOD, "").name == "good"
    assert (authenticator.cached_grant(data, Right.PUBLISH, ("a.b",)) is not None) == (
        data == b"Bearer " + GOOD.encode()
    )
    assert authenticator.cached_grant(data, Right.PUBLISH, ("a.b", "b")) is None


def _line_of_a_file(_keeper: Authenticator, data: bytes) -> None:
    try:
        grant = parse_entry(Path("tokens"), 1, data).grant
    except PlainmqError as error:
        str(error).encode()
    else:
        assert grant.name.isascii()


_KINDS: Final[list[Callable[[Authenticator, bytes], None]]] = [
    _shown, _claimed, _ticket, _authorization, _line_of_a_file
]  # fmt: skip
