"""What a server answers its clients, as types: read from the wire and from nothing of the server's code, so that they
also understand an older or newer server. Times are RFC 3339: `datetime.fromisoformat` reads them."""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

Result = Literal["done", "expired", "unknown"]


class Published(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a publish: the message's id, its place in its topic, how many live subscribers were handed it, and
    how durable it is (`memory`, `disk` or `disk:relaxed`). `last` and `count` are a batch's; `duplicate`: its key was
    known, and nothing was stored now."""

    id: str
    topic: str
    index: int
    subscribers: int
    durability: str
    last: str | None = None
    count: int | None = None
    duplicate: bool = False


class Scheduled(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a delayed publish: how many messages get their place in the log at `due`."""

    scheduled: int
    due: str
    topic: str
    durability: str
    duplicate: bool = False


class Death(msgspec.Struct, frozen=True):
    """What a message in a dead-letter topic was, and why its group gave it up."""

    id: str
    topic: str
    group: str
    attempts: int
    reason: str
    first_failure: str
    last_failure: str


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message as it was received. `data` is the body's bytes, `text` the same when it is UTF-8; `index` its place in
    its topic; `time` when it was accepted; `dead` what it was, in a dead-letter topic."""

    id: str
    topic: str
    index: int
    time: str
    event: str | None
    content_type: str
    text: str | None = msgspec.field(default=None, name="data")
    binary: bytes | None = msgspec.field(default=None, name="data_base64")
    dead: Death | None = None

    @property
    def data(self) -> bytes:
        return self.text.encode() if self.text is not None else self.binary or b""

    def json(self) -> Any:
        """The body, read as JSON. Raises ValueError."""
        return msgspec.json.decode(self.data)


class Job(Message, frozen=True, kw_only=True):
    """A message that is leased to one worker of a group. `attempt` counts how often it was handed out; `lease` is the
    lease's id, good until `lease_expires`."""

    attempt: int
    lease: str
    lease_expires: str


class Gap(msgspec.Struct, frozen=True):
    """Messages after `requested` are gone: `trimmed`, another `epoch` of the log, or an id `ahead` of it. `missed` of
    them (None: not known); it goes on at `resumes_at` (None: nothing older is retained)."""

    requested: str
    reason: str
    missed: int | None
    resumes_at: str | None

    @property
    def sentence(self) -> str:
        many = "messages" if self.missed is None else f"{self.missed} messages"
        goes_on = f"it goes on at {self.resumes_at}" if self.resumes_at else "nothing older is retained"
        return f"{many} after {self.requested} are gone ({self.reason}); {goes_on}"


class Page(msgspec.Struct, frozen=True):
    """Messages of a topic or pattern, oldest first, to iterate over. `next` is the `since` of the page that follows;
    `gap`: what had been asked for and is gone."""

    messages: list[Message]
    next: str
    gap: Gap | None = None

    def __iter__(self) -> Iterator[Message]:
        return iter(self.messages)

    def __len__(self) -> int:
        return len(self.messages)


class Jobs(msgspec.Struct, frozen=True):
    """Jobs that were pulled, to iterate over. `gap`: what was gone of the topic when the group was made."""

    messages: list[Job]
    gap: Gap | None = None

    def __iter__(self) -> Iterator[Job]:
        return iter(self.messages)

    def __len__(self) -> int:
        return len(self.messages)


class Settled(msgspec.Struct, frozen=True):
    """What became of each id."""

    results: dict[str, Result]


class Retention(msgspec.Struct, frozen=True):
    """How much of a topic is kept. `max_age` is a duration such as `1d`."""

    max_messages: int
    max_bytes: int
    max_age: str


class TopicState(msgspec.Struct, frozen=True):
    """What of a topic is kept: `first` and `last` are ids, `bytes` those of the bodies, `delayed` how many are to come
    later, `groups` their names."""

    topic: str
    messages: int
    bytes: int
    delayed: int
    first: str | None
    last: str | None
    subscribers: int
    groups: list[str]
    retention: Retention


class TopicList(msgspec.Struct, frozen=True):
    topics: list[TopicState]


class Oldest(msgspec.Struct, frozen=True):
    """The oldest message that is not acked, and when it was accepted."""

    id: str
    time: str


class DeadLetters(msgspec.Struct, frozen=True):
    """How much a dead-letter topic keeps and may keep, and how many of the group's dead wait for room there."""

    kept: int
    bytes: int
    max_messages: int
    max_bytes: int
    waiting: int


class GroupState(msgspec.Struct, frozen=True):
    """How many messages of a group are in each stage of their life (`lag`: ready, leased and delayed together), and
    how it works. `ack_timeout` is a duration such as `30s`."""

    topic: str
    group: str
    lag: int
    ready: int
    leased: int
    delayed: int
    acked: int
    dead: int
    oldest: Oldest | None
    gap: Gap | None
    workers: int
    start: str
    ack_timeout: str
    max_deliveries: int
    dead_letter: str
    dead_letters: DeadLetters


class Ticket(msgspec.Struct, frozen=True):
    """Opens one stream without a token, in the query `ticket`, until `expires`: for an EventSource in a browser."""

    ticket: str
    expires: str


class Line(msgspec.Struct, frozen=True):
    """A retained message as the server wrote it: JSON, without a line end."""

    id: str
    text: bytes
