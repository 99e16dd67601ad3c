"""A message: as a publisher submits it (Draft), as a subscriber gets it (Message), and the publisher's Receipt.

The endpoints validate everything that goes into a Draft. The layers below do not validate it again.
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
from .ordering import Ordering
from .printable import printable

MAX_EVENT: Final = 128
MAX_IDEMPOTENCY_KEY: Final = 128
MAX_PUBLISH_DELAY: Final = 31_622_400.0  # seconds, a leap year: what is due later is a mistake in most cases
TEXT: Final = "text/plain; charset=utf-8"
BYTES: Final = "application/octet-stream"
# Event names that the server sends itself (place, gap, busy, bye) or that EventSource dispatches (open, error).
RESERVED_EVENTS: Final = frozenset({"place", "gap", "busy", "bye", "open", "error"})
BODY_PLACEHOLDER: Final = b"\0"  # in an Envelope's line, where no other NUL occurs

_FIRST_SECOND = datetime(1, 1, 1, tzinfo=UTC).timestamp()
_LAST_SECOND = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
ID_MARK: Final = "~"  # separates an id from the pass that a ticket's stream appends to it (app/access/tickets.py)
_ID = re.compile(rf"([a-z0-9]{{1,16}})-(0|[1-9][0-9]{{0,17}})({ID_MARK}[A-Za-z0-9_-]{{1,64}})?")


class Delivery(StrEnum):
    ALL = "all"
    ONE = "one"  # to exactly one subscriber; without any, the message waits in the log for the first


ONE: Final = Delivery.ONE  # looking up an enum's member is slow


class Id(msgspec.Struct, frozen=True):
    """`<epoch>-<seq>`: a position in the log. `epoch` names one life of the log, `seq` counts its messages from 1."""

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"


def parse_id(text: str) -> Id:
    """`k3f9a2-42`, or `k3f9a2-42~pass`, → Id("k3f9a2", 42). Raises OptionInvalid for any other text."""
    if match := _ID.fullmatch(text):
        return Id(match[1], int(match[2]))
    raise OptionInvalid(f"{text[:60]!a} is not a message id: expected <epoch>-<number>, such as k3f9a2-42")


class Death(msgspec.Struct, frozen=True, gc=False):
    """Why a message is in a dead-letter topic: its original id and topic, the group that gave up after `attempts`, the
    reason of the last failure, and the times of the first and the last failure (Unix seconds)."""

    id: str
    topic: str
    group: str
    attempts: int
    reason: str
    first_failure: float
    last_failure: float


class Redrive(msgspec.Struct, frozen=True, gc=False):
    """A dead message that came back to its topic, for the one `group` that had given it up. `original`: the id of the
    message that died first."""

    group: str
    original: str


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A message without its body and its position. `topic` comes from parse_topic, `event` from parse_event; `ttl` is
    in seconds.

    `line`: the complete line of the original protocol that published the message, for subscribers of that protocol.
    BODY_PLACEHOLDER stands for the body, if the line contains the body verbatim. `headers` comes from parse_headers,
    `ordering` from make_ordering.
    """

    topic: str
    content_type: str = TEXT
    event: str | None = None
    delivery: Delivery = Delivery.ALL
    retain: bool = True
    ttl: float | None = None
    line: bytes | None = None
    death: Death | None = None
    headers: bytes | None = None
    redrive: Redrive | None = None
    ordering: Ordering | None = None


class Draft(msgspec.Struct, frozen=True, gc=False):
    """At least one message that the log has not accepted yet: one envelope, and a body for each. It enters the log at
    once, after a `delay` in seconds, or `at` a time of the wall clock (Unix seconds)."""

    envelope: Envelope
    bodies: Sequence[bytes]
    delay: float | None = None
    idempotency_key: str | None = msgspec.field(default=None, name="key")  # the name in files and journals
    at: float | None = None


def count_messages(drafts: Iterable[Draft]) -> int:
    return sum([len(draft.bodies) for draft in drafts])


def count_bytes(drafts: Iterable[Draft]) -> int:
    """Of the bodies."""
    return sum([len(body) for draft in drafts for body in draft.bodies])


def join_drafts(drafts: Sequence[Draft]) -> Sequence[Draft]:
    """Join neighbouring drafts whose envelopes are equal. All must have the same idempotency key, delay and time."""
    if len(drafts) == 1:
        return drafts
    return [
        Draft(
            envelope,
            [body for draft in alike for body in draft.bodies],
            drafts[0].delay,
            drafts[0].idempotency_key,
            drafts[0].at,
        )
        for envelope, alike in groupby(drafts, attrgetter("envelope"))
    ]


def newest(drafts: Sequence[Draft], limit: int) -> list[Draft]:
    """The last `limit` messages of the drafts; the newest draft comes first."""
    last: list[Draft] = []
    for draft in reversed(drafts):
        if limit > 0:
            last.append(Draft(draft.envelope, draft.bodies[-limit:]))
            limit -= len(draft.bodies)
    return last


def guess_content_type(body: bytes) -> str:
    """The content type of a body that was published without one."""
    return TEXT if body.isascii() or is_utf8(body) else BYTES


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def parse_event(text: str) -> str:
    """Return the event name unchanged. Raises OptionInvalid."""
    if is_reserved(text):
        raise OptionInvalid(
            f"event {text[:60]!a} is a name of the server's own: {', '.join(sorted(RESERVED_EVENTS))} are reserved"
        )
    return printable("event", text, MAX_EVENT)


def is_reserved(event: str) -> bool:
    """Ignores case and outer whitespace, since a lenient client may do so too."""
    return event.strip().lower() in RESERVED_EVENTS


def parse_idempotency_key(text: str) -> str:
    """Return the key unchanged. Raises OptionInvalid."""
    return printable("Idempotency-Key", text, MAX_IDEMPOTENCY_KEY)


class Message(msgspec.Struct, frozen=True, gc=False):
    """An accepted message. `seq` is its position in the log, `index` its position in its topic (from 0).

    `time`: when it was accepted, in Unix seconds by the wall clock, but never earlier than the message before it. `at`:
    the same moment by the log's own clock, which also applies to `expires`. The order of messages depends on neither.
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
    headers: bytes | None = None
    redrive: Redrive | None = None
    ordering: Ordering | None = None

    @property
    def id(self) -> str:
        return f"{self.epoch}-{self.seq}"

    def expired(self, now: float) -> bool:
        """True when the ttl is over. No subscriber gets the message then, even if the log has not removed it yet."""
        return self.expires is not None and self.expires <= now


def republished(
    message: Message, topic: str, *, death: Death | None = None, redrive: Redrive | None = None
) -> Envelope:
    """The envelope of a copy of the message. The copy is stored, is for all subscribers, and has no ttl."""
    return Envelope(
        topic, message.content_type, message.event, death=death, headers=message.headers, redrive=redrive,
        ordering=message.ordering,
    )  # fmt: skip


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """The result of an accepted publish: the id (`last`: that of the last message) and index of its first message, and
    the number of live subscribers that got it. `duplicate`: its Idempotency-Key is known, and nothing was stored."""

    id: str
    topic: str
    index: int
    subscribers: int
    last: str
    count: int = 1
    duplicate: bool = False


PublishResult = Receipt | list[Receipt | Refused]
"""The result of drafts that were published together: one receipt for all of them, or one result for each."""


class Scheduled(msgspec.Struct, frozen=True, gc=False):
    """The result of a delayed publish: how many messages, when they enter the log (`due`, Unix seconds), and the id of
    the publish (empty in results of before there were ids)."""

    count: int
    due: float
    duplicate: bool = False
    id: str = ""


@lru_cache(maxsize=256)  # the leases of one pull end together
def rfc3339(time: float) -> str:
    """Unix seconds → `2026-11-22T13:40:17.123Z` (RFC 3339, milliseconds, UTC); limited to the years 1 to 9999."""
    return (
        datetime.fromtimestamp(min(max(time, _FIRST_SECOND), _LAST_SECOND), UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
