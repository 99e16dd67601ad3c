"""The state of a group as clients see it."""

import msgspec

from ...messages.position import Gap
from .records import GroupSettings


class DeadLetterTopic(msgspec.Struct, frozen=True):
    """The state of a group's dead-letter topic: the messages and bytes that it holds (`kept`), and its bounds. At the
    bounds, dead messages stay in the group: `waiting` is their number."""

    kept: int
    bytes: int
    max_messages: int
    max_bytes: int
    waiting: int


class GroupState(msgspec.Struct, frozen=True):
    """The number of messages in each stage of their life.

    `ready`, `leased` and `delayed` together are the lag: the messages that are not acked. `dead` are those that are in
    the dead-letter topic now. `acked`, `dead_total` and `skipped` count from the group's creation, and `rate` is the
    number of acks a second, now. `oldest` is the id of the oldest unacked message, `oldest_time` its time (Unix
    seconds). `gap`: the messages that were already removed when the group was created or last sought.
    `position`: the id up to which every message was handed out once.
    """

    topic: str
    group: str
    ready: int
    leased: int
    delayed: int
    acked: int
    dead: int
    dead_total: int
    skipped: int
    position: str
    paused: bool
    oldest: str | None
    oldest_time: float | None
    gap: Gap | None
    dead_letters: DeadLetterTopic
    settings: GroupSettings
    rate: float

    @property
    def lag(self) -> int:
        return self.ready + self.leased + self.delayed
