"""Authorisation. Both endpoints call authorise(), the only place that decides, before they call the broker.

A grant holds, for each right, the topics and patterns that it applies to. Everything else is denied. A pattern may be
subscribed to if one of the grant's patterns covers it entirely.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Final, assert_never

import msgspec

from ..errors import Forbidden, NotFound, OptionInvalid, Refused, TokenMissing
from ..messages.topic import TopicFilter, covers, dead_letter_of, parse_pattern

MAX_PATTERNS: Final = 64  # of one right: all are tried for each topic that a token uses for the first time
NAME: Final = 64  # bytes of a pattern besides its text
EVERYTHING: Final = "**"
UNAUTHORISED: Final = "this needs a token: send Authorization: Bearer TOKEN, or `auth TOKEN` to the line port"


class Right(StrEnum):
    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"  # to live and stored messages
    CONSUME = "consume"  # to lease messages in groups, and to settle them
    ADMIN = "admin"  # to list, configure and delete topics and groups
    VIEW = "view"  # to see names, state and figures, but no message


class Patterns(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The topics and patterns that a right applies to. The garbage collector does not track it: a server may have
    50,000."""

    names: tuple[str, ...] = ()

    @classmethod
    def parse(cls, names: Iterable[str]) -> "Patterns":
        """Raises TopicInvalid, OptionInvalid."""
        parsed = tuple([parse_pattern(name) for name in names])
        if len(parsed) > MAX_PATTERNS:
            raise OptionInvalid(f"a right holds for at most {MAX_PATTERNS} patterns, not for {len(parsed)}")
        return cls(parsed) if parsed else _NONE

    @property
    def memory(self) -> int:
        """Bytes that the names take."""
        return sum(map(len, self.names)) + NAME * len(self.names)

    def cover(self, name: str) -> bool:
        return self is _ALL or _cover(self, name)


@lru_cache(maxsize=1_024)  # each may keep the patterns of a token that is gone: 8 KiB, with a long topic
def _cover(patterns: Patterns, name: str) -> bool:
    return any(covers(wide, name) for wide in patterns.names)


_NONE: Final = Patterns()
_ALL: Final = Patterns.parse([EVERYTHING])


class Grant(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What a token allows. `name`: its owner, for logs and quotas; not a secret. `expires`: in Unix seconds; None:
    never. `stored`: the token is in the server's file, not signed with a key. `origin`: the token's hash, or the
    fingerprint of the key."""

    name: str
    publish: Patterns = _NONE
    subscribe: Patterns = _NONE
    consume: Patterns = _NONE
    admin: Patterns = _NONE
    view: Patterns = _NONE
    expires: float | None = None
    stored: bool = False
    origin: bytes = b""

    @property
    def memory(self) -> int:
        """Bytes that the patterns take."""
        return sum(patterns.memory for patterns in (self.publish, self.subscribe, self.consume, self.admin, self.view))

    def allows(self, right: Right, name: str) -> bool:
        """True if the right applies to this parsed topic, or to everything that this parsed pattern matches."""
        patterns: Patterns = getattr(self, right)
        return patterns.cover(name)

    def allows_all(self, right: Right, names: Iterable[str]) -> bool:
        patterns: Patterns = getattr(self, right)
        return patterns is _ALL or all(map(patterns.cover, names))

    def may_make_group(self, topic: str, dead_letter: str | None = None) -> bool:
        """True with the right `admin` on the topic and on the dead-letter topic (None: the default). A group decides
        what its topic must keep, and sends other clients' messages to its dead-letter topic."""
        return self.allows_all(Right.ADMIN, (topic, dead_letter or dead_letter_of(topic)))


UNAUTHENTICATED: Final = Grant("nobody")  # a client that presented no token
ANONYMOUS: Final = Grant("anybody", _ALL, _ALL, _ALL, _ALL, _ALL)  # a client of a server that requires no token


def authorise(grant: Grant, right: Right | Sequence[Right], what: str | TopicFilter) -> None:
    """Check a right; of several rights, any one is enough for each name. `what`: a parsed topic or pattern, or several.

    Raises TokenMissing without a token. Otherwise raises Forbidden, or for a read the same NotFound as for a topic that
    does not exist. Only the name counts, so neither reveals whether the topic exists.
    """
    if grant is ANONYMOUS:
        return
    names = (what,) if isinstance(what, str) else (*what.topics, *what.patterns)
    rights = (right,) if isinstance(right, Right) else right
    for name in names:
        if not any(grant.allows(each, name) for each in rights):
            raise _denied(grant, rights, name)


def _denied(grant: Grant, rights: Sequence[Right], name: str) -> Refused:
    """The first of the rights says how the client is refused."""
    if grant is UNAUTHENTICATED:
        return TokenMissing(UNAUTHORISED)
    right = " or ".join(rights)
    match rights[0]:
        case Right.PUBLISH | Right.ADMIN | Right.VIEW:
            return Forbidden(f"this token has no right to {right} on {name!r}")
        case Right.SUBSCRIBE | Right.CONSUME:
            return NotFound(f"there is no topic {name!r}, or this token has no right to {right} on it")
        case _:
            assert_never(rights[0])
