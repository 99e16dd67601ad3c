"""The state of groups."""

from typing import Literal

import msgspec

from .messages import Gap
from .records import Records

GroupSort = Literal["name", "-lag", "-leased", "-delayed", "-dead", "-rate"]


class Oldest(msgspec.Struct, frozen=True):
    """The oldest message that is not acked, and when the server accepted it."""

    id: str
    time: str


class DeadLetters(msgspec.Struct, frozen=True):
    """How much a dead-letter topic stores and may store. `waiting`: dead messages of the group that wait for space."""

    kept: int
    bytes: int
    max_messages: int
    max_bytes: int
    waiting: int


class GroupState(msgspec.Struct, frozen=True):
    """The state of a group: its messages in each state (`lag`: ready, leased and delayed together; `dead`: in the
    dead-letter topic now), and its settings. `acked`, `dead_total` and `skipped` count from its creation. `ack_timeout`
    is a duration such as `30s`, and `rate` the number of acks a second."""

    topic: str
    group: str
    lag: int
    ready: int
    leased: int
    delayed: int
    acked: int
    dead: int
    dead_total: int
    skipped: int
    position: str
    paused: bool
    oldest: Oldest | None
    gap: Gap | None
    workers: int
    start: str
    ack_timeout: str
    max_deliveries: int
    dead_letter: str
    dead_letters: DeadLetters
    rate: float = 0.0


class GroupPage(Records[GroupState], frozen=True):
    """Groups, to iterate over. `next` is the `after` of the page that follows; None if there is none. `total`: how many
    all pages have together."""

    groups: list[GroupState]
    next: str | None
    total: int = 0
