"""The totals of a log over all topics and groups."""

from typing import Final

import msgspec

from .groups.troubles import Troubles

OPERATIONS: Final = ("redriven", "released", "skipped", "purged", "cancelled")


class Totals(msgspec.Struct):
    """`bytes` counts bodies. `cost` is what counts against the log's limit, which is `cost_limit` (bytes). `held` are
    the bytes of memory for what must be in memory, of `held_limit`. `ready`, `leased` and `delayed` are messages in
    these stages of their life in a group. `dead` are the dead messages that topics retain, and `postponed` those that
    wait in their groups for room in the dead-letter topic. `acked_total` and `dead_total` count from the server's
    start, and so do `operations`: messages, by what an operator did with them. `troubles`: the groups that need
    attention."""

    cost: int
    cost_limit: int
    topics: int
    held: int = 0
    held_limit: int = 0
    messages: int = 0
    bytes: int = 0
    groups: int = 0
    ready: int = 0
    leased: int = 0
    delayed: int = 0
    dead: int = 0
    postponed: int = 0
    acked_total: int = 0
    dead_total: int = 0
    troubles: Troubles = msgspec.field(default_factory=Troubles)
    paused_topics: int = 0
    paused_groups: int = 0
    operations: dict[str, int] = msgspec.field(default_factory=dict)
    topics_limit: int = 0
