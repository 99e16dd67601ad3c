"""A message: what a publisher hands in (Draft), what a reader gets (Message), what the publisher is told (Receipt).

What goes into a Draft is checked at the door; nothing further in asks again.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import Final

import msgspec

from ..errors import OptionInvalid, Refused

MAX_EVENT: Final = 128
MAX_KEY: Final = 128
MAX_PUBLISH_DELAY: Final = 604_800.0  # seconds, a week: what waits takes room, and no retention ever frees it
TEXT: Final = "text/plain; charset=utf-8"
BYTES: Final = "application/octet-stream"
# What the server itself says in an event stream, and what an EventSource dispatches by itself: no message is called so.
RESERVED_EVENTS: Final = frozenset({"place", "gap", "busy", "bye", "open", "error"})
BODY_PLACEHOLDER: Final = b"\0"  # in an Envelope's line, in which nothing else is one

_FIRST_SECOND = datetime(1, 1, 1, tzinfo=UTC).timestamp()
_LAST_SECOND = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
_PRINTABLE = re.compile(r"[ -~]+")
ID_MARK: Final = "~"  # behind an id: what a stream that was opened with a ticket adds (app/access/tickets.py)
_ID = re.compile(rf"([a-z0-9]{{1,16}})-(0|[1-9][0-9]{{0,17}})({ID_MARK}[A-Za-z0-9_-]{{1,64}})?")


class Delivery(StrEnum):
    ALL = "all"
    ONE = "one"  # to exactly one subscriber; it waits in the log for the first one


ONE: Final = Delivery.ONE  # an enum's member is dear to look up


class Id(msgspec.Struct, frozen=True):
    """`<epoch>-<seq>`: a place in the log. `epoch` names one life of it, `seq` counts its messages from 1."""

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"


def parse_id(text: str) -> Id:
    """`k3f9a2-42`, or with a mark `k3f9a2-42~x`, → Id("k3f9a2", 42). Raises OptionInvalid, whatever the bytes."""
    if match := _ID.fullmatch(text):
        return Id(match[1], int(match[2]))
    raise OptionInvalid(f"{text[:60]!a} is not a message id: expected <epoch>-<number>, such as k3f9a2-42")


class Death(msgspec.Struct, frozen=True, gc=False):
    """Why a message is in a dead-letter topic: the message it was, the group that gave it up after so many attempts,
    the reason of the last failure, and when (Unix seconds) it failed first and last."""

    id: str
    topic: str
    group: str
    attempts: int
    reason: str
    first_failure: float
    last_failure: float


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """All of a message but its body and its place. `topic` comes from parse_topic, `event` from parse_event; `ttl` is
    in seconds.

    `line` is the whole line of the original protocol it came in, for those who listen in that protocol; HERE stands in
    it for the body, if that was in it as it is.
    """

    topic: str
    content_type: str = TEXT
    event: str | None = None
    delivery: Delivery = Delivery.ALL
    retain: bool = True
    ttl: float | None = None
    line: bytes | None = None
    death: Death | None = None


class Draft(msgspec.Struct, frozen=True, gc=False):
    """Messages before the log has accepted them, at least one: they differ in nothing but their bodies. `delay` is in
    seconds, `key` comes from parse_key."""

    envelope: Envelope
    bodies: Sequence[bytes]
    delay: float | None = None
    key: str | None = None


def count_messages(drafts: Iterable[Draft]) -> int:
    """Messages."""
    return sum([len(draft.bodies) for draft in drafts])


def join_drafts(drafts: Sequence[Draft]) -> Sequence[Draft]:
    """The same messages, with those of neighbours whose envelopes are equal in one draft. Their key and their delay are
    the same."""
    if len(drafts) == 1:
        return drafts
    return [
        Draft(envelope, [body for draft in alike for body in draft.bodies], drafts[0].delay, drafts[0].key)
        for envelope, alike in groupby(drafts, attrgetter("envelope"))
    ]


def newest(drafts: Sequence[Draft], most: int) -> list[Draft]:
    """The last messages of these, at most so many; the newest drafts come first."""
    last: list[Draft] = []
    for draft in reversed(drafts):
        if most > 0:
            last.append(Draft(draft.envelope, draft.bodies[-most:]))
            most -= len(draft.bodies)
    return last


def guess_content_type(body: bytes) -> str:
    """What a body is of which nobody has said it."""
    return TEXT if body.isascii() or is_utf8(body) else BYTES


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def parse_event(text: str) -> str:
    """Itself. Raises OptionInvalid."""
    if is_reserved(text):
        raise OptionInvalid(
            f"event {text[:60]!a} is a name of the server's own: {', '.join(sorted(RESERVED_EVENTS))} are reserved"
        )
    return _printable("event", text, MAX_EVENT)


def is_reserved(event: str) -> bool:
    """Also where only a reader that is less than exact would take it for one of ours."""
    return event.strip().lower() in RESERVED_EVENTS


def parse_key(text: str) -> str:
    """Itself. Raises OptionInvalid."""
    return _printable("Idempotency-Key", text, MAX_KEY)


def _printable(name: str, value: str, limit: int) -> str:
    if len(value) > limit or not _PRINTABLE.fullmatch(value):
        raise OptionInvalid(f"{name} {value[:60]!a} is not 1 to {limit} characters of printable ASCII")
    return value


class Message(msgspec.Struct, frozen=True, gc=False):
    """An accepted message. `seq` is its place in the log, `index` its place in its topic (from 0).

    `time` is what the wall clock said, in Unix seconds, or that of a message before it, if that is later. `at` is the
    same moment on the log's own clock, on which it also `expires`. Order never depends on them.
    """

    epoch: str
    seq: int
    index: int
    topic: str
    data: bytes
    content_type: str
    event: str | None
    time: float
    delivery: Delivery
    expires: float | None = None
    line: bytes | None = None
    retained: bool = True
    death: Death | None = None
    at: float = 0.0

    @property
    def id(self) -> str:
        return f"{self.epoch}-{self.seq}"

    def expired(self, now: float) -> bool:
        """Its ttl is over: nobody gets it any more, whether or not it was given up yet."""
        return self.expires is not None and self.expires <= now


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What an accepted publish is told: the place of its first and last message, how many live subscribers were handed
    them, and whether its Idempotency-Key had been seen before (then nothing was stored now)."""

    id: str
    topic: str
    index: int
    subscribers: int
    last: str
    count: int = 1
    duplicate: bool = False


PublishResult = Receipt | list[Receipt | Refused]
"""What those are told who publish together: of all their drafts at once, or of each."""


class Scheduled(msgspec.Struct, frozen=True, gc=False):
    """What a delayed publish is told: how many messages, and when (Unix seconds) they take their place in the log."""

    count: int
    due: float
    duplicate: bool = False


@lru_cache(maxsize=256)  # the leases of one pull end together
def rfc3339(time: float) -> str:
    """Unix seconds → `2026-11-22T13:40:17.123Z` (RFC 3339, milliseconds, UTC), within the years that it can write."""
    return (
        datetime.fromtimestamp(min(max(time, _FIRST_SECOND), _LAST_SECOND), UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
