"""Publishes that are not due yet."""

import msgspec

from .records import Records


class Scheduled(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a delayed publish: `scheduled` messages are appended to the log at `due`."""

    scheduled: int
    due: str
    topic: str
    durability: str
    duplicate: bool = False
    id: str = ""


class ScheduledMessage(msgspec.Struct, frozen=True):
    """One message of a publish: its `number` there, from 1, and the `size` of its body in bytes. `text` or `binary`: if
    the token may read it; of a long body (`truncated`) the beginning."""

    number: int
    size: int
    text: str | None = msgspec.field(default=None, name="data")
    binary: bytes | None = msgspec.field(default=None, name="data_base64")
    truncated: bool = False


class ScheduledPublish(msgspec.Struct, frozen=True):
    """What is scheduled, and can be published now or cancelled: `scheduled` messages, of `size` bytes, that are
    published at `due`. `text`, `binary` and `headers` are those of the first message, if the token may read them; of a
    long body (`truncated`) they are the beginning. A list leaves `messages` out; otherwise they are the first page of
    them, and `next` says after which number there are more."""

    id: str
    topic: str
    due: str
    scheduled: int
    size: int
    event: str | None
    content_type: str
    delivery: str
    ttl: str | None
    headers: dict[str, str] = {}
    priority: int = 0
    key: str | None = None
    text: str | None = msgspec.field(default=None, name="data")
    binary: bytes | None = msgspec.field(default=None, name="data_base64")
    truncated: bool = False
    messages: list[ScheduledMessage] = []
    next: int | None = None


class ScheduledMessagePage(Records[ScheduledMessage], frozen=True):
    """Messages of a scheduled publish, in their order, to iterate over. `next` is the `after` of the page that follows;
    None if there is none."""

    messages: list[ScheduledMessage]
    next: int | None


class ScheduledPage(Records[ScheduledPublish], frozen=True):
    """What is scheduled, by its due time, to iterate over. `next` is the `after` of the page that follows; None if
    there is none."""

    scheduled: list[ScheduledPublish]
    next: str | None
