"""What every record of a snapshot is, and what the records share while they are restored."""

import msgspec

from ...messages.message import Envelope
from ..groups.jobs import Jobs
from ..state import LogStateMachine
from ..topic_log import TopicLog


class Restored(msgspec.Struct):
    """The state so far. `topics`: by their number in the snapshot. `envelopes`: the last one of each topic. `jobs`: for
    the group that follows. `engine`: what the engine has to know."""

    core: LogStateMachine
    topics: list[TopicLog] = msgspec.field(default_factory=list)
    envelopes: list[Envelope] = msgspec.field(default_factory=list)
    jobs: Jobs = msgspec.field(default_factory=lambda: Jobs(0))
    engine: bytes = b""


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A part of the state. Its encoding is an array: the tag, then the fields in their order. A new field goes to the
    end and has a default; another change takes another FORMAT."""

    def restore(self, restored: Restored) -> None:
        raise NotImplementedError
