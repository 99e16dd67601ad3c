"""The state of topics."""

from typing import Literal

import msgspec

from .records import Records

TopicSort = Literal["name", "-messages", "-bytes", "-delayed", "-rate"]


class Retention(msgspec.Struct, frozen=True):
    """How much of a topic is retained. `max_age` is a duration such as `1d`."""

    max_messages: int
    max_bytes: int
    max_age: str


class TopicState(msgspec.Struct, frozen=True):
    """The state of a topic. `first` and `last` are ids of retained messages, `bytes` is the size of their bodies,
    `delayed` the number of delayed messages, `groups` the names of the groups, and `rate` the messages accepted a
    second."""

    topic: str
    messages: int
    bytes: int
    delayed: int
    first: str | None
    last: str | None
    subscribers: int
    groups: list[str]
    retention: Retention
    rate: float = 0.0
    paused: bool = False


class TopicPage(Records[TopicState], frozen=True):
    """Topics, to iterate over. `next` is the `after` of the page that follows; None if there is none. `total`: how many
    all pages have together."""

    topics: list[TopicState]
    next: str | None = None
    total: int = 0


class Purged(msgspec.Struct, frozen=True):
    """How many messages were deleted."""

    purged: int
