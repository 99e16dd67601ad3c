"""A job: a message that a group has handed out, and that is neither acked nor dead."""

from enum import StrEnum
from typing import Final

import msgspec

from ...messages.lease import reason_cost

BACKOFF: Final = (0.0, 1.0, 5.0, 30.0, 60.0)  # seconds until the next attempt, after the first failure, the second, ...
JOB_COST: Final = 400  # bytes of memory that a job takes besides its message, at most; a test measures it
KEY_COST: Final = 192  # likewise a job that holds a key, besides the bytes of the key


class JobState(StrEnum):
    """Where a message of a group is in its life, as clients ask for it."""

    READY = "ready"
    LEASED = "leased"
    DELAYED = "delayed"
    DEAD = "dead"


class InFlight(msgspec.Struct, gc=False):
    """A job: a message that was handed out and is neither acked nor dead. `expires` is the end of its lease. Without a
    lease (None), it becomes ready again, or dead, at `due`."""

    attempt: int = 0
    excused: int = 0  # attempts that the server itself ended: they do not count against max_deliveries
    bound: str = ""  # the run of the server whose connection holds the lease; empty: the lease survives a restart
    expires: float | None = None
    due: float = 0.0
    first_failure: float | None = None
    last_failure: float = 0.0
    reason: str = ""
    holder: str = ""  # the consumer that has the lease: the name of its token, or its address
    since: float = 0.0  # when it was handed out
    redriven: bool = False  # its message came back from a dead-letter topic
    key: str = ""  # of its message, from its first lease on: no other job with it is handed out
    settled: bool = False  # only in a record: the group is done with the message, which is after its cursor

    @property
    def tries(self) -> int:
        """The attempts that count against max_deliveries."""
        return self.attempt - self.excused

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the job takes besides JOB_COST."""
        return reason_cost(self.reason) + (KEY_COST + len(self.key) if self.key else 0)


SETTLED: Final = InFlight(settled=True)
