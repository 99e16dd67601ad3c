"""What a log holds, all topics and groups together."""

import msgspec


class Totals(msgspec.Struct):
    """`bytes` are those of bodies; `cost` is what all of it counts for against the log's limit. `ready` to `dead` are
    the stages of a message's life in a group, as in GroupState; `buried` are the dead that topics keep,
    `unburied` those that wait in their groups for room."""

    cost: int
    topics: int
    messages: int = 0
    bytes: int = 0
    groups: int = 0
    ready: int = 0
    leased: int = 0
    delayed: int = 0
    acked: int = 0
    dead: int = 0
    buried: int = 0
    unburied: int = 0
