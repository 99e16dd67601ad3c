"""Who may do what. Every door asks authorise(), the only place that decides, before it calls the broker.

A grant is what a token is worth: for each right, the topics and patterns it holds for. What no grant names is denied.
A pattern may be subscribed to when one of the grant's own covers it entirely.
"""

from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from typing import Final, assert_never

import msgspec

from ..errors import Forbidden, NotFound, OptionInvalid, Refused, TokenMissing
from ..messages.topic import TopicFilter, covers, dead_letter_of, parse_pattern

MAX_PATTERNS: Final = 64  # of one right: each is looked at for every topic that is new to a token
EVERYTHING: Final = "**"
UNAUTHORISED: Final = "this needs a token: send Authorization: Bearer TOKEN, or `auth TOKEN` to the line port"


class Right(StrEnum):
    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"  # to messages as they come, and to what is kept
    CONSUME = "consume"  # to work in groups: to take messages and to settle them
    ADMIN = "admin"  # to see what there is, to change settings, to delete


class Patterns:
    """The topics and patterns that a right holds for."""

    __slots__ = ("names",)

    def __init__(self, names: Iterable[str] = ()) -> None:
        """Raises TopicInvalid, OptionInvalid."""
        self.names = tuple(parse_pattern(name) for name in names)
        if len(self.names) > MAX_PATTERNS:
            raise OptionInvalid(f"a right holds for at most {MAX_PATTERNS} patterns, not for {len(self.names)}")

    def cover(self, name: str) -> bool:
        return self is _ALL or _cover(self, name)


@lru_cache(maxsize=16_384)
def _cover(patterns: Patterns, name: str) -> bool:
    return any(covers(wide, name) for wide in patterns.names)


_NONE: Final = Patterns()
_ALL: Final = Patterns([EVERYTHING])


class Grant(msgspec.Struct, frozen=True, eq=False):
    """`name` is whose it is, for logs and rates: never a secret. `expires` is in Unix seconds; None is never. `stored`:
    the token is one of the server's own, and is not signed with a key. `origin`: what the token is known by, its hash
    or the fingerprint of the key."""

    name: str
    publish: Patterns = _NONE
    subscribe: Patterns = _NONE
    consume: Patterns = _NONE
    admin: Patterns = _NONE
    expires: float | None = None
    stored: bool = False
    origin: bytes = b""

    def allows(self, right: Right, name: str) -> bool:
        """Whether it holds for this topic, or for all of this pattern, both parsed."""
        patterns: Patterns = getattr(self, right)
        return patterns.cover(name)

    def allows_all(self, right: Right, names: Iterable[str]) -> bool:
        patterns: Patterns = getattr(self, right)
        return patterns is _ALL or all(map(patterns.cover, names))

    def may_make_group(self, topic: str, dead_letter: str | None = None) -> bool:
        """A group decides what its topic must keep, and that strangers' messages go to its dead-letter topic (None: the
        usual one): so who makes one needs the right to admin on both."""
        return self.allows_all(Right.ADMIN, (topic, dead_letter or dead_letter_of(topic)))


UNAUTHENTICATED: Final = Grant("nobody")  # has shown no token
ANONYMOUS: Final = Grant("anybody", _ALL, _ALL, _ALL, _ALL)  # where nobody is asked for one


def authorise(grant: Grant, right: Right, what: str | TopicFilter) -> None:
    """`what`: a topic or pattern, parsed; or several of them.

    Raises TokenMissing when there is none, and for one that does not hold for all of `what`: Forbidden, or, where
    something would be read, the NotFound that a topic gets that is not there. The name alone decides, so neither says
    whether there is such a topic.
    """
    if grant is ANONYMOUS:
        return
    names = (what,) if isinstance(what, str) else (*what.topics, *what.patterns)
    for name in names:
        if not grant.allows(right, name):
            raise _denied(grant, right, name)


def _denied(grant: Grant, right: Right, name: str) -> Refused:
    if grant is UNAUTHENTICATED:
        return TokenMissing(UNAUTHORISED)
    match right:
        case Right.PUBLISH | Right.ADMIN:
            return Forbidden(f"this token has no right to {right} on {name!r}")
        case Right.SUBSCRIBE | Right.CONSUME:
            return NotFound(f"there is no topic {name!r}, or this token has no right to {right} on it")
        case _:
            assert_never(right)
